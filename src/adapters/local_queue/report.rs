//! Outcomes of jobs and rows, for summaries and result files.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::outcome_of;
use crate::domain::{Event, EventType, Timestamp};

/// Number of jobs or rows by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// `user.created`.
    pub created: u64,
    /// `user.existing`.
    pub existing: u64,
    /// `user.rejected`.
    pub rejected: u64,
    /// `user.failed`.
    pub failed: u64,
    /// Not finished yet.
    pub waiting: u64,
}

impl Tally {
    /// Sum of all.
    pub const fn total(&self) -> u64 {
        self.created + self.existing + self.rejected + self.failed + self.waiting
    }

    /// Number with one outcome.
    pub const fn of(&self, event_type: EventType) -> u64 {
        match event_type {
            EventType::Created => self.created,
            EventType::Existing => self.existing,
            EventType::Rejected => self.rejected,
            EventType::Failed => self.failed,
        }
    }

    /// Adds to one outcome, or to `waiting` for `None`.
    pub fn add(&mut self, event_type: Option<EventType>, count: u64) {
        *match event_type {
            Some(EventType::Created) => &mut self.created,
            Some(EventType::Existing) => &mut self.existing,
            Some(EventType::Rejected) => &mut self.rejected,
            Some(EventType::Failed) => &mut self.failed,
            None => &mut self.waiting,
        } += count;
    }
}

/// Counts all jobs of the queue by outcome.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub fn jobs(connection: &Connection, path: &Path) -> Result<Tally, LocalQueueError> {
    // Each part uses an index, so this is fast with a million finished jobs.
    const QUERY: &str = "SELECT sum(outcome = 0), sum(outcome = 1), sum(outcome = 2), sum(outcome = 3),
        (SELECT count(*) FROM jobs WHERE state = 0 AND due_ms = 0)
        + (SELECT count(*) FROM jobs WHERE state = 0 AND due_ms > 0)
        FROM jobs WHERE finished IS NOT NULL";
    tally(connection, QUERY, &[]).map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// Counts the users that were created since then, or may have been by a request whose answer isn't known yet. Grouped
/// by the minute of the last request.
///
/// Reads every job, which takes seconds for a million. Called once at the start, and only for a limit per day.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub fn created_since(
    connection: &Connection,
    path: &Path,
    since: Timestamp,
) -> Result<Vec<(Timestamp, u64)>, LocalQueueError> {
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut statement = connection.prepare(
            "SELECT last_sent_ms / 60000, count(*) FROM jobs
             WHERE last_sent_ms >= ?1 AND (state = 0 OR outcome IN (0, 3)) GROUP BY 1",
        )?;
        let minute = |row: &rusqlite::Row<'_>| {
            let minute: i64 = row.get(0)?;
            Ok((Timestamp::from_unix_ms(minute * 60_000), row.get(1)?))
        };
        statement.query_map([since.unix_ms()], minute)?.collect()
    };
    read().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// Counts the rows of a batch by outcome. A row that repeats an earlier one counts as existing if that one was created.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub fn rows(connection: &Connection, path: &Path, batch: i64) -> Result<Tally, LocalQueueError> {
    const QUERY: &str = "SELECT sum(outcome = 0 AND repeat = 0), sum(outcome = 1 OR (outcome = 0 AND repeat = 1)),
        sum(outcome = 2), sum(outcome = 3), sum(outcome IS NULL)
        FROM rows JOIN jobs USING (seq) WHERE batch = ?1";
    tally(connection, QUERY, &[&batch]).map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// Reads the sums of a query. Sums are used because SQLite would sort all rows in memory for `GROUP BY`.
fn tally(connection: &Connection, query: &str, parameters: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Tally> {
    connection.query_row(query, parameters, |row| {
        let count = |index| -> rusqlite::Result<u64> { Ok(row.get::<_, Option<u64>>(index)?.unwrap_or(0)) };
        Ok(Tally {
            created: count(0)?,
            existing: count(1)?,
            rejected: count(2)?,
            failed: count(3)?,
            waiting: count(4)?,
        })
    })
}

/// Outcome of one row.
#[derive(Debug)]
pub struct RowResult {
    /// Number of the record; 1 is the first below the header.
    pub record: u64,
    /// Result file of the row: a repeat of a created row is in `existing`. `None`: still waiting.
    pub event_type: Option<EventType>,
    /// Whether an earlier row of the file is the same request.
    pub is_repeat: bool,
    /// Event of the job.
    pub event: Option<Event>,
}

/// Calls `visit` for each row of a batch, in the order of the file.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read or an event in it can't be parsed; any error of `visit`.
pub fn each_row<E: From<LocalQueueError>>(
    connection: &Connection,
    path: &Path,
    batch: i64,
    mut visit: impl FnMut(RowResult) -> Result<(), E>,
) -> Result<(), E> {
    let sqlite = |error: rusqlite::Error| E::from(LocalQueueError::from_sqlite(path, &error));
    let mut statement = connection
        .prepare(
            "SELECT record, repeat, outcome, event FROM rows JOIN jobs USING (seq) WHERE batch = ?1 ORDER BY record",
        )
        .map_err(sqlite)?;
    let mut rows = statement.query(params![batch]).map_err(sqlite)?;
    while let Some(row) = rows.next().map_err(sqlite)? {
        visit(row_result(row, path)?)?;
    }
    Ok(())
}

fn row_result(row: &rusqlite::Row<'_>, path: &Path) -> Result<RowResult, LocalQueueError> {
    let read = || -> rusqlite::Result<(u64, bool, Option<i64>, Option<String>)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let (record, is_repeat, outcome, event) = read().map_err(|error| LocalQueueError::from_sqlite(path, &error))?;
    let event_type = match outcome.and_then(outcome_of) {
        Some(EventType::Created) if is_repeat => Some(EventType::Existing),
        other => other,
    };
    let event =
        event.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| LocalQueueError::Damaged {
            path: path.to_owned(),
            why: format!("the event of record {record} can't be read at column {}", error.column()),
        })?;
    Ok(RowResult { record, event_type, is_repeat, event })
}

/// Returns the events of jobs that finished after the `finished`-th, in order, at most `max`, each with its number.
/// Deleted events are left out.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub fn events_after(
    connection: &Connection,
    path: &Path,
    finished: i64,
    max: usize,
) -> Result<Vec<(i64, String)>, LocalQueueError> {
    let read = || -> rusqlite::Result<Vec<(i64, String)>> {
        connection
            .prepare_cached(
                "SELECT finished, event FROM jobs WHERE finished > ?1 AND event IS NOT NULL ORDER BY finished LIMIT ?2",
            )?
            .query_map(params![finished, i64::try_from(max).unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    };
    read().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}
