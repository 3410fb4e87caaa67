//! Taking the personal data out of a queue whose work is done, and keeping what recognises its rows.
//!
//! What stays of a finished job is its key (a hash), its lane, its outcome, its count of attempts and its times: the
//! same row, imported again, is known. Messages and events go, and with them names, emails, links, an upstream's ids and
//! its metadata.
//!
//! **Invariant:** afterwards no byte of what was taken out is in the file, its free pages or the log beside it. Setting
//! columns to NULL leaves the old text in the file's free space, so the file is written anew (`VACUUM`), and the
//! write-ahead log is folded in and cut to nothing.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::local_queue::open::LocalQueueError;
use crate::adapters::local_queue::{DEAD, DONE};

/// What speaks against emptying a queue, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Jobs that aren't over.
    pub waiting: u64,
    /// Jobs that were given up and kept with their message.
    pub dead: u64,
    /// Jobs that are over, dead ones included.
    pub finished: u64,
    /// Finished jobs that no events file has got yet.
    pub unwritten: u64,
    /// Files of which not every row was put in.
    pub incomplete: Vec<String>,
    /// Files that were put in, without their folders.
    pub files: Vec<String>,
    /// Events files that were written, with their folders.
    pub events_files: Vec<String>,
    /// Whether the rows are a `run`'s, which writes result files at its end.
    pub is_run: bool,
    /// Whether there is anything left to take out.
    pub has_personal_data: bool,
}

/// Looks at a queue.
///
/// # Errors
/// [`LocalQueueError`] where the file can't be read.
pub fn contents(connection: &Connection, path: &Path) -> Result<Contents, LocalQueueError> {
    let read = || -> rusqlite::Result<Contents> {
        let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, u64>(0));
        let names = |query: &str| -> rusqlite::Result<Vec<String>> {
            connection.prepare(query)?.query_map([], |row| row.get(0))?.collect()
        };
        Ok(Contents {
            waiting: count("SELECT count(*) FROM jobs WHERE state = 0")?,
            dead: count("SELECT count(*) FROM jobs WHERE state = 2 AND body IS NOT NULL")?,
            finished: count("SELECT count(*) FROM jobs WHERE finished IS NOT NULL")?,
            unwritten: count(
                "SELECT count(*) FROM jobs WHERE event IS NOT NULL
                 AND finished > (SELECT coalesce(max(finished), 0) FROM exports)",
            )?,
            incomplete: names(
                // One that was put in again from the start is whole.
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

/// Takes the personal data out of every finished job. Done again after it was cut short, it completes.
///
/// The caller holds the worker's lock. Jobs that wait are left whole.
///
/// # Errors
/// [`LocalQueueError`] where the file can't be written; [`LocalQueueError::Io`] where another process keeps the log
/// beside the file in use.
pub fn empty(connection: &mut Connection, path: &Path) -> Result<(), LocalQueueError> {
    let mut empty = || -> rusqlite::Result<bool> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE jobs SET body = NULL, event = NULL, state = iif(state = ?1, ?2, state)
             WHERE finished IS NOT NULL AND (body IS NOT NULL OR event IS NOT NULL OR state = ?1)",
            [DEAD, DONE],
        )?;
        transaction.execute("DELETE FROM emails", [])?;
        transaction.commit()?;
        // The copy that VACUUM makes is as long as the file: not in memory. It holds nothing personal any more.
        connection.pragma_update(None, "temp_store", "file")?;
        connection.execute_batch("VACUUM")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
    };
    match empty() {
        Ok(false) => Ok(()),
        Ok(true) => Err(LocalQueueError::Io {
            path: path.to_owned(),
            why:
                "another process reads it, so personal data may be left in the file beside it that ends with -wal: end \
                  that process and purge again"
                    .to_owned(),
        }),
        Err(error) => Err(LocalQueueError::from_sqlite(path, &error)),
    }
}
