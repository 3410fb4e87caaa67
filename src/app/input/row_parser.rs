//! Makes of each row of a customer file either a job with its message, or a list of problems.

use std::borrow::Cow;
use std::path::Path;

use serde_json::value::RawValue as RawJson;

use crate::adapters::csv::{CsvHeader, CsvRow, CsvScan, EncodingOrigin};
use crate::adapters::local_queue::import::Batch;
use crate::domain::job::{Identity, InvalidJob, JobMessage};
use crate::domain::{Field, IdempotencyKey, Job, Problem, RawUser, RawValue, Source, User, Warning, validate};

/// A row that passed validation.
pub(crate) struct ValidRow {
    pub job: Job,
    /// The job's message: JSON.
    pub body: String,
    /// Values that are sent as they are and may be wrong.
    pub warnings: Vec<Warning>,
}

/// Parses the rows of one file.
#[derive(Debug)]
pub(crate) struct RowParser<'f> {
    /// File name without its folder.
    pub file: String,
    pub batch_id: String,
    header: &'f CsvHeader,
    /// Longest message that a worker accepts (`queue.message_bytes_max`).
    message_bytes_max: usize,
}

impl<'f> RowParser<'f> {
    pub(crate) fn new(batch: &Batch, header: &'f CsvHeader, message_bytes_max: usize) -> Self {
        Self { file: batch.file.clone(), batch_id: batch.batch_id.clone(), header, message_bytes_max }
    }

    /// Parses and validates a row.
    ///
    /// # Errors
    /// [`InvalidJob`] with every problem of the row.
    pub(crate) fn parse(&self, row: &CsvRow) -> Result<ValidRow, Box<InvalidJob>> {
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

    /// The email as written in the row, for the event of a rejected row. `None` for a row with a wrong number of cells,
    /// where it isn't known which cell holds the email.
    fn email(&self, row: &CsvRow, user: &RawUser<'_>) -> Option<String> {
        if row.column_problem(self.header).is_some() {
            return None;
        }
        match user.get(Field::Email) {
            RawValue::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        }
    }

    fn validate<'r>(&self, row: &CsvRow, user: &'r RawUser<'_>) -> Result<(User<'r>, Vec<Warning>), Vec<Problem>> {
        if let Some(problem) = row.column_problem(self.header) {
            return Err(vec![problem]);
        }
        if let Some(problem) = row.uncorrected_problem(self.header) {
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
        "the row's message has {bytes} bytes, and {bytes_max} are allowed (queue.message_bytes_max): shorten its \
         metadata columns"
    );
    Problem::whole("MESSAGE_TOO_LARGE", text)
}

/// The problem of a row with the email of an earlier row and other data.
pub(crate) fn email_conflict(line: u64) -> Problem {
    Problem {
        field: Some("email".to_owned()),
        code: "EMAIL_IN_FILE_TWICE".to_owned(),
        message: format!("line {line} has the same email with other data: decide which is right and remove the other"),
    }
}

/// The problem of a row with the idempotency key of another job.
pub(crate) fn key_conflict() -> Problem {
    Problem {
        field: Some("idempotencyKey".to_owned()),
        code: "IDEMPOTENCY_KEY_IN_USE".to_owned(),
        message: "another person has this key already: give each person a key of their own, or leave the cell empty"
            .to_owned(),
    }
}

/// The idempotency key of a rejected row, which has no canonical form to derive it from.
pub(crate) fn surrogate_key(batch_id: &str, line: u64) -> IdempotencyKey {
    IdempotencyKey::surrogate(batch_id, line)
}

/// A note for the user where the file's encoding was guessed or some of its bytes can't be decoded.
pub(crate) fn encoding_note(scan: &CsvScan) -> Option<String> {
    let encoding = scan.encoding.name();
    match scan.encoding_origin {
        EncodingOrigin::Guessed => Some(format!(
            "the file is read as {encoding}, which is a guess: if accents come out wrong, set another with --encoding"
        )),
        EncodingOrigin::Damaged => {
            Some("some characters of the file can't be read; rows with these characters are rejected".to_owned())
        }
        EncodingOrigin::Option | EncodingOrigin::ByteOrderMark | EncodingOrigin::Valid => None,
    }
}

/// The batch of a file: its id is made of the file's name and content, so that it is the same wherever the file is
/// read.
pub(crate) fn batch_of(path: &Path, scan: &CsvScan) -> Batch {
    Batch { batch_id: batch_id(path, &scan.fingerprint), fingerprint: scan.fingerprint, file: file_name(path) }
}

/// A file's name without its folder.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn batch_id(path: &Path, fingerprint: &[u8; 32]) -> String {
    /// Leaves room for the dash and eight digits within the 255 bytes of an id.
    const STEM_BYTES_MAX: usize = 200;
    let stem = path.file_stem().map_or_else(|| "batch".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let mut stem: String = stem.chars().filter(|c| !c.is_control()).collect();
    stem.truncate(stem.floor_char_boundary(STEM_BYTES_MAX));
    format!("{stem}-{}", short_fingerprint(fingerprint))
}

/// The first eight hex digits of a file's SHA-256.
pub(crate) fn short_fingerprint(fingerprint: &[u8; 32]) -> String {
    hex::encode(&fingerprint[..4])
}
