//! The result tables of a run: one CSV file for each outcome, with the input's rows in their order.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use crate::adapters::csv::{CsvRow, ERROR_TITLES, LINK_TITLES, ResultWriter, RowReader};
use crate::adapters::local_queue::report::{self, RowResult, Tally};
use crate::app::error::AppError;
use crate::app::input::row_parser::file_name;
use crate::app::results::{ProblemCounts, ResultSource, RunSummary};
use crate::domain::link::LinkLossCounts;
use crate::domain::{EventType, Problem, Timestamp};

/// Writes the tables and returns the summary, which isn't written yet.
///
/// # Errors
/// Where a file can't be read or written; earlier tables are left as they were.
pub(super) fn write(
    source: &ResultSource<'_>,
    connection: &Connection,
    folder: &Path,
    now: Timestamp,
) -> Result<RunSummary, AppError> {
    let mut tables = ResultTables::create(source, folder)?;
    let mut reader = RowReader::open(source.read_from, source.scan, source.options)?.named(source.file);
    let mut row = CsvRow::default();
    let mut rows = 0;
    report::each_row(connection, source.queue, source.batch, |result| -> Result<(), AppError> {
        while row.record < result.record {
            if !reader.read(&mut row)? {
                return Err(AppError::Usage(format!("{} has become shorter", source.file.display())));
            }
            rows += 1;
        }
        tables.add(&row, &result)
    })?;
    // Rows are counted in the file, not in the queue, so that a row which never reached the queue is noticed.
    while reader.read(&mut row)? {
        rows += 1;
    }
    tables.finish(source, rows, now)
}

struct ResultTables {
    writers: BTreeMap<&'static str, ResultWriter>,
    tally: Tally,
    repeated: u64,
    links_lost: LinkLossCounts,
    may_have_been_created: u64,
    problems: ProblemCounts,
    sent: u64,
    /// Times of the first and the last outcome of the sent rows.
    ended: Option<(Timestamp, Timestamp)>,
}

impl ResultTables {
    fn create(source: &ResultSource<'_>, folder: &Path) -> Result<Self, AppError> {
        let mut writers = BTreeMap::new();
        for event_type in EventType::ALL {
            let titles: &[&str] = match event_type {
                EventType::Created | EventType::Existing => &LINK_TITLES,
                EventType::Rejected | EventType::Failed => &ERROR_TITLES,
            };
            let name = event_type.short();
            writers.insert(name, ResultWriter::create(folder, name, source.scan, titles)?);
        }
        Ok(Self {
            writers,
            tally: Tally::default(),
            repeated: 0,
            links_lost: LinkLossCounts::default(),
            may_have_been_created: 0,
            problems: ProblemCounts::default(),
            sent: 0,
            ended: None,
        })
    }

    fn add(&mut self, row: &CsvRow, result: &RowResult) -> Result<(), AppError> {
        self.tally.add(result.event_type, 1);
        self.repeated += u64::from(result.is_repeat);
        let (Some(event_type), Some(event)) = (result.event_type, &result.event) else { return Ok(()) };
        for problem in &event.errors {
            self.problems.count(problem);
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
                if let (EventType::Created, Some(reason)) = (event_type, event.link_missing) {
                    self.links_lost.add(reason);
                }
                let expires_at = event.link_expires_at.map(|at| at.to_string());
                let cells = [&event.service_id, &event.verification_url, &expires_at];
                writer.write(row, &cells.map(|cell| cell.as_deref().unwrap_or_default()))?;
            }
            EventType::Rejected | EventType::Failed => {
                writer.write(row, &error_cells(&event.errors).each_ref().map(String::as_str))?
            }
        }
        Ok(())
    }

    fn finish(self, source: &ResultSource<'_>, rows: u64, now: Timestamp) -> Result<RunSummary, AppError> {
        for writer in self.writers.into_values() {
            writer.finish()?;
        }
        Ok(RunSummary {
            file: file_name(source.file),
            batch_id: source.batch_id.to_owned(),
            target: source.target.to_owned(),
            written_at: now,
            is_complete: source.has_all_events && self.tally.waiting == 0 && self.tally.total() == rows,
            rows,
            tally: self.tally,
            repeated: self.repeated,
            without_link: self.links_lost.total(),
            links_lost: self.links_lost,
            may_have_been_created: self.may_have_been_created,
            problems: self.problems,
            sent: self.sent,
            first_ended_at: self.ended.map(|(first, _)| first),
            last_ended_at: self.ended.map(|(_, last)| last),
            purged_at: None,
        })
    }
}

/// The cells below [`ERROR_TITLES`]. Several problems are separated by ` | ` in each cell.
pub(crate) fn error_cells(problems: &[Problem]) -> [String; 3] {
    let join = |part: fn(&Problem) -> &str| problems.iter().map(part).collect::<Vec<_>>().join(" | ");
    [
        join(|problem| problem.field.as_deref().unwrap_or_default()),
        join(|problem| &problem.code),
        join(|problem| &problem.message),
    ]
}
