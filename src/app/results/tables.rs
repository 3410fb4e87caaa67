//! The result files of a run: one CSV for each outcome, in the order of the input, and a summary for programs and people.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::adapters::csv::{ReadOptions, ResultWriter, Row, RowReader, Scan};
use crate::adapters::local_queue::report::{self, RowResult, Tally};
use crate::app::console::error::AppError;
use crate::domain::answer::looks_like_a_code;
use crate::domain::{EventType, Field, Problem, Timestamp};

const LINK_TITLES: [&str; 2] = ["serviceId", "verificationUrl"];
/// Titles of the columns that say what is wrong with a row.
pub(crate) const ERROR_TITLES: [&str; 3] = ["errorField", "errorCode", "errorMessage"];

/// What the run came to; `summary.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// The input, without its folder.
    pub file: String,
    /// Names the run in its events.
    pub batch_id: String,
    /// The API it was for: base URL, or `sandbox`.
    pub target: String,
    /// When these files were written.
    pub written_at: Timestamp,
    /// Whether every row of the file has its outcome.
    pub is_complete: bool,
    /// Rows below the header, counted in the file.
    pub rows: u64,
    /// Rows by outcome. Their sum is `rows`.
    #[serde(flatten)]
    pub tally: Tally,
    /// Rows that repeat an earlier one.
    pub repeated: u64,
    /// Created rows without a link, because the answer was lost and the user was found by looking them up.
    pub without_link: u64,
    /// Failed rows whose user may have been created.
    pub may_have_been_created: u64,
    /// Problems of rejected and failed rows, by field and code.
    pub problems: BTreeMap<String, u64>,
    /// People for whom at least one request was sent.
    #[serde(default)]
    pub sent: u64,
    /// When the first of those had their outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_ended_at: Option<Timestamp>,
    /// When the last of them had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ended_at: Option<Timestamp>,
    /// When `purge` took the personal data away, and with it the other result files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<Timestamp>,
}

/// What is needed to write the files.
#[derive(Debug)]
pub(crate) struct Run<'r> {
    /// The input, for messages.
    pub file: &'r Path,
    /// The run's copy of it.
    pub read_from: &'r Path,
    /// What the input is.
    pub scan: &'r Scan,
    /// How it is read.
    pub options: &'r ReadOptions,
    /// The queue's file, for messages.
    pub queue: &'r Path,
    /// The batch's number in the queue.
    pub batch: i64,
    /// Names the run in its events.
    pub batch_id: &'r str,
    /// The API it was for.
    pub target: &'r str,
    /// Whether everything that is over was written to `results.ndjson`.
    pub has_all_events: bool,
}

/// Writes every file, each whole or not at all, and returns the summary.
///
/// # Errors
/// Where a file can't be read or written; the ones of an earlier time are still there.
pub(crate) fn write(
    run: &Run<'_>,
    connection: &Connection,
    folder: &Path,
    now: Timestamp,
) -> Result<Summary, AppError> {
    let mut files = ResultFiles::create(run, folder)?;
    let mut reader = RowReader::open(run.read_from, run.scan, run.options)?.named(run.file);
    let mut row = Row::default();
    let mut rows = 0;
    report::each_row(connection, run.queue, run.batch, |result| -> Result<(), AppError> {
        while row.record < result.record {
            if !reader.read(&mut row)? {
                return Err(AppError::Usage(format!("{} has become shorter", run.file.display())));
            }
            rows += 1;
        }
        files.add(&row, &result)
    })?;
    // Counted from the file itself, so that a row that the queue never got is noticed.
    while reader.read(&mut row)? {
        rows += 1;
    }
    let summary = files.finish(run, rows, now)?;
    crate::app::results::report::write(folder, &summary, run.queue)?;
    write_summary(folder, &summary)?;
    Ok(summary)
}

/// Makes a folder that only its owner can read. One that is there stays as it is.
///
/// # Errors
/// Where it can't be made.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), AppError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        let is_file = folder.is_file();
        let folder = folder.display();
        if is_file {
            return AppError::Usage(format!("{folder} is a file, not a folder for results: give another --out DIR"));
        }
        AppError::CannotContinue(format!(
            "no folder for results can be made at {folder}: {error}: give another --out DIR"
        ))
    })
}

struct ResultFiles {
    writers: BTreeMap<&'static str, ResultWriter>,
    tally: Tally,
    repeated: u64,
    without_link: u64,
    may_have_been_created: u64,
    problems: BTreeMap<String, u64>,
    sent: u64,
    /// Of the first and the last outcome of those.
    ended: Option<(Timestamp, Timestamp)>,
}

impl ResultFiles {
    fn create(run: &Run<'_>, folder: &Path) -> Result<Self, AppError> {
        let mut writers = BTreeMap::new();
        for event_type in EventType::ALL {
            let titles: &[&str] = match event_type {
                EventType::Created | EventType::Existing => &LINK_TITLES,
                EventType::Rejected | EventType::Failed => &ERROR_TITLES,
            };
            let name = event_type.short();
            writers.insert(name, ResultWriter::create(folder, name, run.scan, titles)?);
        }
        Ok(Self {
            writers,
            tally: Tally::default(),
            repeated: 0,
            without_link: 0,
            may_have_been_created: 0,
            problems: BTreeMap::new(),
            sent: 0,
            ended: None,
        })
    }

    fn add(&mut self, row: &Row, result: &RowResult) -> Result<(), AppError> {
        self.tally.add(result.event_type, 1);
        self.repeated += u64::from(result.is_repeat);
        let (Some(event_type), Some(event)) = (result.event_type, &result.event) else { return Ok(()) };
        for problem in &event.errors {
            count(&mut self.problems, problem);
        }
        if event.attempts > 0 && !result.is_repeat {
            self.sent += 1;
            let (first, last) = self.ended.unwrap_or((event.time, event.time));
            self.ended = Some((first.min(event.time), last.max(event.time)));
        }
        self.may_have_been_created += u64::from(event.may_have_been_created);
        let Some(writer) = self.writers.get_mut(event_type.short()) else { return Ok(()) };
        match event_type {
            EventType::Created | EventType::Existing => {
                self.without_link += u64::from(event_type == EventType::Created && event.verification_url.is_none());
                let cells =
                    [&event.service_id, &event.verification_url].map(|cell| cell.as_deref().unwrap_or_default());
                writer.write(row, &cells)?;
            }
            EventType::Rejected | EventType::Failed => {
                writer.write(row, &errors(&event.errors).each_ref().map(String::as_str))?
            }
        }
        Ok(())
    }

    fn finish(self, run: &Run<'_>, rows: u64, now: Timestamp) -> Result<Summary, AppError> {
        for writer in self.writers.into_values() {
            writer.finish()?;
        }
        Ok(Summary {
            file: crate::app::input::row_parser::file_name(run.file),
            batch_id: run.batch_id.to_owned(),
            target: run.target.to_owned(),
            written_at: now,
            is_complete: run.has_all_events && self.tally.waiting == 0 && self.tally.total() == rows,
            rows,
            tally: self.tally,
            repeated: self.repeated,
            without_link: self.without_link,
            may_have_been_created: self.may_have_been_created,
            problems: self.problems,
            sent: self.sent,
            first_ended_at: self.ended.map(|(first, _)| first),
            last_ended_at: self.ended.map(|(_, last)| last),
            purged_at: None,
        })
    }
}

/// Field, code and message of all problems, one after the other.
pub(crate) fn errors(problems: &[Problem]) -> [String; 3] {
    let join = |part: fn(&Problem) -> &str| problems.iter().map(part).collect::<Vec<_>>().join(" | ");
    [
        join(|problem| problem.field.as_deref().unwrap_or_default()),
        join(|problem| &problem.code),
        join(|problem| &problem.message),
    ]
}

/// Most kinds of problems that are counted apart.
const KINDS_MAX: usize = 100;

/// Counts a problem under its field and code, and says under what. Bounded, and without anything that might be personal: an upstream may
/// name its fields after people.
pub(crate) fn count(problems: &mut BTreeMap<String, u64>, problem: &Problem) -> String {
    let code = if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" };
    let kind = match problem.field.as_deref() {
        None => code.to_owned(),
        Some(field) if Field::from_name(field).is_some() || field == "idempotencyKey" || field == "jobId" => {
            format!("{field} {code}")
        }
        Some(_) => format!("(unknown field) {code}"),
    };
    let kind = if problems.len() < KINDS_MAX || problems.contains_key(&kind) { kind } else { "OTHER".to_owned() };
    *problems.entry(kind.clone()).or_default() += 1;
    kind
}

/// The summary of this run if it was finished; `None`: there is none yet, or it is another run's.
///
/// # Errors
/// Where it is there and can't be read.
pub(crate) fn read_summary(folder: &Path, batch_id: &str, target: &str) -> Result<Option<Summary>, AppError> {
    Ok(complete_summary(folder)?.filter(|summary| summary.batch_id == batch_id && summary.target == target))
}

/// The summary in a folder if it is of a finished run, whichever.
///
/// # Errors
/// Where it is there and can't be read.
pub(crate) fn complete_summary(folder: &Path) -> Result<Option<Summary>, AppError> {
    let path = folder.join("summary.json");
    match fs::read(&path) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok().filter(|summary: &Summary| summary.is_complete)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AppError::io(&path, &error)),
    }
}

/// The result files of a finished run that aren't there any more, or elsewhere.
pub(crate) fn missing(folder: &Path) -> Vec<String> {
    let tables = EventType::ALL.map(|event_type| format!("{}.csv", event_type.short()));
    let names = tables.into_iter().chain(["results.ndjson".to_owned()]);
    names.filter(|name| !folder.join(name).exists()).collect()
}

/// Puts a summary in the place of the earlier one, whole.
///
/// # Errors
/// Where it can't be written; the earlier one is still there.
pub(crate) fn write_summary(folder: &Path, summary: &Summary) -> Result<(), AppError> {
    let (path, part) = (folder.join("summary.json"), folder.join(".summary.json.part"));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        serde_json::to_writer_pretty(&mut file, summary)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&part, &path)
    };
    write().map_err(|error| AppError::io(&path, &error))
}
