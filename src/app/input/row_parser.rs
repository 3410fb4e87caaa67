//! Makes of each row of a customer file either a job with its message, or a list of problems.

use std::borrow::Cow;
use std::path::Path;

use serde_json::value::RawValue as RawJson;

use crate::adapters::csv::{CsvHeader, CsvRow, CsvScan, EncodingOrigin};
use crate::adapters::local_queue::import::Batch;
use crate::app::input::questions::encoding_question;
use crate::domain::columns::RowFacts;
use crate::domain::job::{Identity, InvalidJob, JobMessage};
use crate::domain::validate::reference_problem;
use crate::domain::{
    Field, IdempotencyKey, Job, Problem, RawUser, RawValue, ReadingOptions, Source, User, Warning, validate_with,
};

/// A row that passed validation.
pub(crate) struct ValidRow {
    pub job: Job,
    /// The job's message: JSON.
    pub body: String,
    /// Values that are sent as they are and may be wrong.
    pub warnings: Vec<Warning>,
    /// For the survey of the columns.
    pub facts: RowFacts,
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
    reading: ReadingOptions,
}

impl<'f> RowParser<'f> {
    pub(crate) fn new(batch: &Batch, header: &'f CsvHeader, message_bytes_max: usize, reading: ReadingOptions) -> Self {
        Self { file: batch.file.clone(), batch_id: batch.batch_id.clone(), header, message_bytes_max, reading }
    }

    /// Parses and validates a row.
    ///
    /// # Errors
    /// [`InvalidJob`] with every problem of the row.
    pub(crate) fn parse(&self, row: &CsvRow) -> Result<ValidRow, Box<InvalidJob>> {
        if let Some(job) = &row.job {
            return self.parse_job(row, job);
        }
        let identity = Identity {
            job_id: row.job_id(self.header).map(str::to_owned),
            batch_id: Some(self.batch_id.clone()),
            metadata: row.metadata(self.header).and_then(|json| RawJson::from_string(json).ok()),
            source: Some(self.source(row)),
            email: None,
            replaces: None,
        };
        let user = row.to_raw_user(self.header);
        let validated = self.validate(row, &user);
        self.to_job(identity, row.idempotency_key(self.header), validated, &user, || self.email(row, &user))
    }

    /// Parses a line of a file of jobs.
    fn parse_job(&self, row: &CsvRow, job: &[u8]) -> Result<ValidRow, Box<InvalidJob>> {
        let in_file = |mut invalid: Box<InvalidJob>| {
            invalid.identity.batch_id.get_or_insert_with(|| self.batch_id.clone());
            invalid.identity.source = Some(self.source(row));
            invalid
        };
        if let Some(problem) = row.column_problem(self.header) {
            let identity = Identity::default();
            return Err(in_file(Box::new(InvalidJob { identity, key: None, problems: vec![problem] })));
        }
        let parsed = serde_json::from_slice(job)
            .and_then(|message: JobMessage<'_>| Ok((serde_json::from_str(message.user.get())?, message)));
        let Ok((user, message)): Result<(RawUser<'_>, _), serde_json::Error> = parsed else {
            let invalid = Job::parse(job).err();
            return Err(in_file(invalid.unwrap_or_else(|| unreachable!("a valid job is a message with a user"))));
        };
        let identity = Identity {
            job_id: message.job_id.map(Cow::into_owned),
            batch_id: Some(message.batch_id.map_or_else(|| self.batch_id.clone(), Cow::into_owned)),
            metadata: message.metadata.map(ToOwned::to_owned),
            source: Some(self.source(row)),
            email: None,
            replaces: message.replaces.map(Cow::into_owned),
        };
        let validated = validate_with(&user, self.reading);
        self.to_job(identity, message.idempotency_key.as_deref(), validated, &user, || email_in(&user))
    }

    fn to_job(
        &self,
        identity: Identity,
        own_key: Option<&str>,
        validated: Result<(User<'_>, Vec<Warning>), Vec<Problem>>,
        user: &RawUser<'_>,
        email_given: impl FnOnce() -> Option<String>,
    ) -> Result<ValidRow, Box<InvalidJob>> {
        let facts = validated.as_ref().ok().map(|(valid, _)| RowFacts::of(valid, user, identity.job_id.as_deref()));
        let (job, warnings) = Job::from_parts(identity, own_key, validated, email_given)?;
        let body = message(&job, own_key);
        if body.len() > self.message_bytes_max {
            let problems = vec![too_large(body.len(), self.message_bytes_max)];
            return Err(Box::new(InvalidJob { identity: job.identity, key: Some(job.key), problems }));
        }
        let facts = facts.unwrap_or_else(|| unreachable!("a job has a valid user"));
        Ok(ValidRow { job, body, warnings, facts })
    }

    fn source(&self, row: &CsvRow) -> Source {
        Source { file: self.file.clone(), line: row.line }
    }

    /// The email as written in the row, for the event of a rejected row. `None` for a row with a wrong number of cells,
    /// where it isn't known which cell holds the email.
    fn email(&self, row: &CsvRow, user: &RawUser<'_>) -> Option<String> {
        if row.column_problem(self.header).is_some() {
            return None;
        }
        email_in(user)
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
        let damaged = self.damaged_references(row);
        match validate_with(user, self.reading) {
            Ok(valid) if damaged.is_empty() => Ok(valid),
            Ok(_) => Err(damaged),
            Err(problems) => Err(damaged.into_iter().chain(problems).collect()),
        }
    }

    /// Problems of the references, which aren't fields of the API.
    fn damaged_references(&self, row: &CsvRow) -> Vec<Problem> {
        let references = [("jobId", row.job_id(self.header)), ("idempotencyKey", row.idempotency_key(self.header))];
        let problems = references.into_iter().filter_map(|(name, value)| {
            let (code, message) = reference_problem(value?)?;
            Some(Problem { field: Some(name.to_owned()), code: code.to_owned(), message })
        });
        problems.collect()
    }
}

fn email_in(user: &RawUser<'_>) -> Option<String> {
    match user.get(Field::Email) {
        RawValue::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    }
}

fn message(job: &Job, own_key: Option<&str>) -> String {
    let identity = &job.identity;
    let message = JobMessage {
        job_id: identity.job_id.as_deref().map(Cow::Borrowed),
        batch_id: identity.batch_id.as_deref().map(Cow::Borrowed),
        idempotency_key: own_key.map(Cow::Borrowed),
        replaces: identity.replaces.as_deref().map(Cow::Borrowed),
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
    match scan.encoding_origin {
        EncodingOrigin::Guessed => {
            let question = encoding_question(scan)?;
            Some(format!("{question}; if these aren't letters of your file, set another with --encoding"))
        }
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
