//! From the rows of a file to jobs, or to problems.

use std::borrow::Cow;
use std::path::Path;

use serde_json::value::RawValue as RawJson;

use crate::adapters::csv::{EncodingOrigin, Header, Row, Scan};
use crate::domain::job::{Identity, InvalidJob, JobMessage};
use crate::domain::{Field, IdempotencyKey, Job, Problem, RawUser, RawValue, Source, User, Warning, validate};

/// A row that may be put on the queue.
pub(crate) struct ValidRow {
    /// The job.
    pub job: Job,
    /// Its message.
    pub body: String,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
}

/// What the rows of a file have in common.
#[derive(Debug)]
pub(crate) struct RowParser<'f> {
    /// File name without its folder.
    pub file: String,
    /// What the rows belong to.
    pub batch_id: String,
    /// Which cell is which.
    pub header: &'f Header,
    /// Longest message that a worker takes for a job.
    pub message_bytes_max: usize,
}

impl RowParser<'_> {
    /// Reads a row: a job and its message, or everything that is wrong with it.
    ///
    /// # Errors
    /// [`InvalidJob`] with every problem of the row.
    pub(crate) fn read(&self, row: &Row) -> Result<ValidRow, Box<InvalidJob>> {
        let identity = Identity {
            job_id: row.job_id(self.header).map(str::to_owned),
            batch_id: Some(self.batch_id.clone()),
            metadata: row.metadata(self.header).and_then(|json| RawJson::from_string(json).ok()),
            source: Some(Source { file: self.file.clone(), line: row.line }),
            email: None,
        };
        let own_key = row.idempotency_key(self.header);
        let user = row.to_raw_user(self.header);
        let (job, warnings) = Job::from_parts(identity, own_key, self.validate(row, &user), || self.email(row, &user))?;
        let body = message(&job, own_key);
        if body.len() > self.message_bytes_max {
            let problems = vec![too_large(body.len(), self.message_bytes_max)];
            return Err(Box::new(InvalidJob { identity: job.identity, key: Some(job.key), problems }));
        }
        Ok(ValidRow { job, body, warnings })
    }

    /// The email as it stands in the row: the event of a refused row carries it too. A row with a wrong number of
    /// cells has none, because nobody knows which cell is which.
    fn email(&self, row: &Row, user: &RawUser<'_>) -> Option<String> {
        if row.column_problem(self.header).is_some() {
            return None;
        }
        match user.get(Field::Email) {
            RawValue::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        }
    }

    fn validate<'r>(&self, row: &Row, user: &'r RawUser<'_>) -> Result<(User<'r>, Vec<Warning>), Vec<Problem>> {
        if let Some(problem) = row.column_problem(self.header) {
            return Err(vec![problem]);
        }
        if let Some(problem) = row.unmended_problem(self.header) {
            return Err(vec![problem]);
        }
        let unreadable = row.encoding_problems(self.header);
        if !unreadable.is_empty() {
            return Err(unreadable);
        }
        validate(user)
    }
}

fn message(job: &Job, own_key: Option<&str>) -> String {
    let identity = &job.identity;
    let message = JobMessage {
        job_id: identity.job_id.as_deref().map(Cow::Borrowed),
        batch_id: identity.batch_id.as_deref().map(Cow::Borrowed),
        idempotency_key: own_key.map(Cow::Borrowed),
        metadata: identity.metadata.as_deref(),
        source: identity.source.clone(),
        user: serde_json::from_slice(&job.body).unwrap_or_else(|_| unreachable!("the canonical form is JSON")),
    };
    serde_json::to_string(&message).unwrap_or_else(|_| unreachable!("a job message always serialises"))
}

fn too_large(bytes: usize, bytes_max: usize) -> Problem {
    let text = format!(
        "as a message the row has {bytes} bytes and may have {bytes_max} (queue.message_bytes_max): shorten its metadata columns"
    );
    Problem::whole("MESSAGE_TOO_LARGE", text)
}

/// The problem of a row whose email an earlier row has, with other data.
pub(crate) fn email_conflict(line: u64) -> Problem {
    Problem {
        field: Some("email".to_owned()),
        code: "EMAIL_IN_FILE_TWICE".to_owned(),
        message: format!("line {line} has the same email with other data: decide which is right and remove the other"),
    }
}

/// The problem of a row whose own key stands for another request.
pub(crate) fn key_conflict() -> Problem {
    Problem {
        field: Some("idempotencyKey".to_owned()),
        code: "IDEMPOTENCY_KEY_IN_USE".to_owned(),
        message: "stands for another person already: give each person a key of their own, or leave it empty".to_owned(),
    }
}

/// The key that stands in for a row without one, and the name of a job that has none.
pub(crate) fn surrogate_key(batch_id: &str, line: u64) -> IdempotencyKey {
    IdempotencyKey::for_invalid_row(batch_id, line)
}

/// What a person should know about how the text was read.
pub(crate) fn encoding_note(scan: &Scan) -> Option<String> {
    let encoding = scan.encoding.name();
    match scan.encoding_origin {
        EncodingOrigin::Guessed => Some(format!(
            "the file is read as {encoding}, which is a guess: if accents come out wrong, name another with --encoding"
        )),
        EncodingOrigin::Damaged => {
            Some("some characters of the file can't be read; rows with such fields are rejected".to_owned())
        }
        EncodingOrigin::Option | EncodingOrigin::ByteOrderMark | EncodingOrigin::Valid => None,
    }
}

/// A file's name without its folder.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Names a batch after its file and its content, so that the same file has the same batch id everywhere.
pub(crate) fn batch_id(path: &Path, fingerprint: &[u8; 32]) -> String {
    let stem = path.file_stem().map_or_else(|| "batch".to_owned(), |stem| stem.to_string_lossy().into_owned());
    // Room for the dash and the digits within the 255 bytes of an id.
    let mut stem: String = stem.chars().filter(|c| !c.is_control()).collect();
    while stem.len() > 200 {
        stem.pop();
    }
    format!("{stem}-{}", hex(&fingerprint[..4]))
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
