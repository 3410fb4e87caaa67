//! Deletes the personal data of finished jobs, for `purge`.
//!
//! A finished job keeps its key (a hash), lane, outcome, number of attempts and times, so the same row is recognised if
//! it is imported again. Its message and event are deleted, and with them names, emails, links, and the ids and
//! metadata of the upstream.
//!
//! **Invariant:** afterwards no deleted byte is in the file, its free pages or the write-ahead log. Columns that are
//! set to NULL leave their text in free space, so the file is rewritten (`VACUUM`) and the log is checkpointed and
//! truncated.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::{DEAD, DONE};

/// Contents of a queue that matter for a purge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LocalQueueContents {
    /// Jobs that aren't finished.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Finished jobs, dead letters included.
    pub finished: u64,
    /// Finished jobs whose event is in no events file yet.
    pub unwritten: u64,
    /// Names of files whose import is incomplete.
    pub incomplete: Vec<String>,
    /// Names of imported files, without their folders.
    pub files: Vec<String>,
    /// Paths of events files that were written.
    pub events_files: Vec<String>,
    /// Whether the rows are those of a `run`, which writes result files at its end.
    pub is_run: bool,
    /// Whether any message, event or email is left.
    pub has_personal_data: bool,
}

/// Reads the contents of a queue.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub(crate) fn contents(connection: &Connection, path: &Path) -> Result<LocalQueueContents, LocalQueueError> {
    let read = || -> rusqlite::Result<LocalQueueContents> {
        let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, u64>(0));
        let names = |query: &str| -> rusqlite::Result<Vec<String>> {
            connection.prepare(query)?.query_map([], |row| row.get(0))?.collect()
        };
        Ok(LocalQueueContents {
            waiting: count("SELECT count(*) FROM jobs WHERE state = 0")?,
            dead: count("SELECT count(*) FROM jobs WHERE state = 2 AND body IS NOT NULL")?,
            finished: count("SELECT count(*) FROM jobs WHERE finished IS NOT NULL")?,
            unwritten: count(
                "SELECT count(*) FROM jobs WHERE event IS NOT NULL
                 AND finished > (SELECT coalesce(max(finished), 0) FROM exports)",
            )?,
            incomplete: names(
                // A file that was imported again completely isn't incomplete.
                "SELECT DISTINCT file FROM batches WHERE complete = 0
                 AND fingerprint NOT IN (SELECT fingerprint FROM batches WHERE complete = 1) ORDER BY file",
            )?,
            files: names("SELECT DISTINCT file FROM batches ORDER BY file")?,
            events_files: names("SELECT file FROM exports ORDER BY file")?,
            is_run: count("SELECT EXISTS (SELECT 1 FROM batches WHERE kind = 0)")? > 0,
            has_personal_data: count(
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE body IS NOT NULL OR event IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM emails)",
            )? > 0,
        })
    };
    read().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// Deletes the personal data of every finished job. If it was interrupted, a second call completes it.
///
/// The caller holds the worker's lock. Waiting jobs are not changed.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be written; [`LocalQueueError::Io`] if another process uses the write-ahead
/// log.
pub(crate) fn delete_personal_data(connection: &mut Connection, path: &Path) -> Result<(), LocalQueueError> {
    let mut delete = || -> rusqlite::Result<bool> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE jobs SET body = NULL, event = NULL, state = iif(state = ?1, ?2, state)
             WHERE finished IS NOT NULL AND (body IS NOT NULL OR event IS NOT NULL OR state = ?1)",
            [DEAD, DONE],
        )?;
        transaction.execute("DELETE FROM emails", [])?;
        transaction.commit()?;
        // VACUUM makes a copy that is as long as the file, so not in memory. It has no personal data any more.
        connection.pragma_update(None, "temp_store", "file")?;
        connection.execute_batch("VACUUM")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
    };
    match delete() {
        Ok(false) => Ok(()),
        Ok(true) => Err(LocalQueueError::Io {
            path: path.to_owned(),
            why: "another process reads it, so personal data may be left in the file that ends with -wal: stop that \
                 process and purge again"
                .to_owned(),
        }),
        Err(error) => Err(LocalQueueError::from_sqlite(path, &error)),
    }
}
