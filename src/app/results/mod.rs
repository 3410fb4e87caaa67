//! What a run writes into its folder: one CSV file for each outcome (`tables`), `summary.json` and the text at the end
//! (`summary`), and `report.html` (`report`).
//!
//! **Invariant:** each file is replaced as a whole, and only its owner can read it.

pub(crate) mod folders;
pub(crate) mod report;
pub(crate) mod summary;
pub(crate) mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::adapters::csv::{CsvScan, ReadOptions};
use crate::adapters::local_queue::report::Tally;
use crate::app::error::AppError;
use crate::domain::answer::looks_like_a_code;
use crate::domain::link::LinkLossCounts;
use crate::domain::{EventType, Field, Problem, Timestamp};

/// The result of a run: the content of `summary.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunSummary {
    /// The input's name without its folder.
    pub file: String,
    /// The batch id in the run's events.
    pub batch_id: String,
    /// The API: its base URL, or `sandbox`.
    pub target: String,
    /// When the result files were written.
    pub written_at: Timestamp,
    /// Whether every row of the file has its outcome, and every event is in `results.ndjson`.
    pub is_complete: bool,
    /// Rows below the header, counted in the file.
    pub rows: u64,
    /// Rows by outcome. Their sum is `rows`.
    #[serde(flatten)]
    pub tally: Tally,
    /// Rows that repeat an earlier one.
    pub repeated: u64,
    /// Created rows without a usable link.
    pub without_link: u64,
    /// The same by reason.
    #[serde(default)]
    pub links_lost: LinkLossCounts,
    /// Failed rows whose user may have been created.
    pub may_have_been_created: u64,
    /// Problems of rejected and failed rows, by field and code.
    pub problems: ProblemCounts,
    /// Rows for which at least one request was sent.
    #[serde(default)]
    pub sent: u64,
    /// When the first of the sent rows had its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_ended_at: Option<Timestamp>,
    /// When the last of the sent rows had its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ended_at: Option<Timestamp>,
    /// When `purge` deleted the personal data and the other result files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<Timestamp>,
}

impl RunSummary {
    /// Whether the outcomes and the waiting rows add up to the rows of the file.
    pub(crate) const fn is_balanced(&self) -> bool {
        self.tally.total() == self.rows
    }
}

/// How often each problem occurred, by field and code.
///
/// **Invariant:** bounded, and without personal data: an upstream may name its fields after people.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ProblemCounts(BTreeMap<String, u64>);

/// Most pairs of field and code that are counted separately.
const PROBLEM_KINDS_MAX: usize = 100;

impl ProblemCounts {
    /// Counts a problem and returns the name it is counted under: field and code, as far as they are known.
    pub(crate) fn count(&mut self, problem: &Problem) -> String {
        let code = if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" };
        let kind = match problem.field.as_deref() {
            None => code.to_owned(),
            Some(field) if Field::from_name(field).is_some() || field == "idempotencyKey" || field == "jobId" => {
                format!("{field} {code}")
            }
            Some(_) => format!("(unknown field) {code}"),
        };
        let is_separate = self.0.len() < PROBLEM_KINDS_MAX || self.0.contains_key(&kind);
        let kind = if is_separate { kind } else { "OTHER".to_owned() };
        *self.0.entry(kind.clone()).or_default() += 1;
        kind
    }

    /// Names and counts, in the order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(kind, count)| (kind.as_str(), *count))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the result files of a run are made from.
#[derive(Debug)]
pub(crate) struct ResultSource<'r> {
    /// The input's path for error messages.
    pub file: &'r Path,
    /// The run's copy of the input.
    pub read_from: &'r Path,
    pub scan: &'r CsvScan,
    pub options: &'r ReadOptions,
    /// The queue's path for error messages and commands.
    pub queue: &'r Path,
    /// The batch's number in the queue.
    pub batch: i64,
    /// The batch id in the run's events.
    pub batch_id: &'r str,
    /// The API: its base URL, or `sandbox`.
    pub target: &'r str,
    /// Whether the events of all finished rows are in `results.ndjson`.
    pub has_all_events: bool,
}

/// Writes every result file and returns the summary.
///
/// # Errors
/// Where a file can't be read or written; an earlier version of it is left as it was.
pub(crate) fn write(
    source: &ResultSource<'_>,
    connection: &Connection,
    folder: &Path,
    now: Timestamp,
) -> Result<RunSummary, AppError> {
    let summary = tables::write(source, connection, folder, now)?;
    report::write(folder, &summary, source.queue)?;
    summary::write(folder, &summary)?;
    Ok(summary)
}

/// The name of an outcome's table: `created.csv`.
pub(crate) fn table_name(event_type: EventType) -> String {
    format!("{}.csv", event_type.short())
}

/// Result files that a finished run wrote and that have been deleted or moved since.
pub(crate) fn missing_files(folder: &Path) -> Vec<String> {
    let names = EventType::ALL.map(table_name).into_iter().chain(["results.ndjson".to_owned()]);
    names.filter(|name| !folder.join(name).exists()).collect()
}
