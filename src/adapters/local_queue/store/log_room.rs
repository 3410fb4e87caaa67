//! Room for outcomes: keeps SQLite's write-ahead log longer than the commits so far need.
//!
//! SQLite appends each commit to the log. After a checkpoint it begins at the start again, and the file keeps its
//! length. Overwriting needs no new space on the disk (except on copy-on-write file systems such as btrfs and ZFS).
//! So the log is lengthened before it is needed: a full disk is noticed when that fails, while there is still room for
//! the outcome of every job in progress.
//!
//! The log is lengthened by a long transaction that is rolled back. SQLite writes its pages to the log when they exceed
//! the page cache, and forgets them. Only SQLite writes to the file.

use std::fs;
use std::path::PathBuf;

use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::local_queue::open::PAGE_BYTES;

/// Length of a page in the log, with its header, in bytes.
const FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// Pages that the outcome of a job changes: its row, two or three indexes, and a share of pages that are split. A
/// longer event takes pages of its own; jobs in progress are four times the requests in flight by default, so each
/// request in flight has room for 128 KiB.
const PAGES_PER_JOB: u64 = 8;

/// Limit of the room (64 MiB). Many jobs are committed together, and change the same pages of the indexes.
const PAGES_MAX: u64 = 16_384;

/// Pages of which the log grows in normal use: SQLite writes it back after 1,000 pages, and a group of commands may
/// come on top. With these pages ahead, the log is lengthened once, not at each commit.
const PAGES_IN_USE: u64 = 1_536;

/// Pages of a transaction that may stay in the page cache instead of the log.
const PAGES_IN_CACHE: u64 = 256;

/// Bytes of a row that one overflow page holds.
const PAGE_CONTENT_BYTES: u64 = PAGE_BYTES - 4;

/// Keeps room in the log.
pub(super) struct LogRoom {
    log: Option<PathBuf>,
    pages: u64,
}

impl LogRoom {
    /// `jobs_max`: most jobs in progress at once.
    pub(super) fn new(connection: &Connection, jobs_max: usize) -> Self {
        // The path that SQLite uses: without symbolic links.
        let log = connection.path().filter(|path| !path.is_empty()).map(|path| format!("{path}-wal").into());
        let pages = (jobs_max as u64).saturating_mul(PAGES_PER_JOB).clamp(PAGES_PER_JOB, PAGES_MAX);
        Self { log, pages }
    }

    /// Makes sure that the room is there.
    ///
    /// # Errors
    /// The log can't be lengthened: the disk is full, or can't be written. Part of the room may be there.
    pub(super) fn keep(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let used = used_pages(connection)?;
        let length = fs::metadata(log).map_or(0, |metadata| metadata.len() / FRAME_BYTES);
        if length.saturating_sub(used) >= self.pages {
            return Ok(());
        }
        lengthen(connection, self.pages + PAGES_IN_USE)
    }
}

/// Number of pages in the log that may not be overwritten.
fn used_pages(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| {
        // Negative if there is no log.
        let in_log: i64 = row.get(1)?;
        Ok(u64::try_from(in_log).unwrap_or(0))
    })
}

/// Writes this many pages to the log, and forgets them.
fn lengthen(connection: &mut Connection, pages: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch("CREATE TABLE log_room (filler BLOB)")?;
    let bytes = i64::try_from((pages + PAGES_IN_CACHE) * PAGE_CONTENT_BYTES).unwrap_or(i64::MAX);
    transaction.execute("INSERT INTO log_room VALUES (zeroblob(?1))", [bytes])?;
    transaction.rollback()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};

    fn log_pages(queue: &Path) -> u64 {
        let mut log = queue.as_os_str().to_owned();
        log.push("-wal");
        fs::metadata(log).unwrap().len() / FRAME_BYTES
    }

    #[test]
    fn there_is_always_room_behind_the_last_commit_and_the_log_stops_growing() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("q.db");
        let mut connection = open(&queue, IfMissing::Create, OpenPurpose::Work, 16).unwrap();
        let room = LogRoom::new(&connection, 32);
        let mut longest = 0;
        for round in 0..3_000 {
            room.keep(&mut connection).unwrap();
            assert!(log_pages(&queue) - used_pages(&connection).unwrap() >= 256, "{round}");
            connection
                .execute("INSERT INTO batches (kind, batch_id, fingerprint, file) VALUES (0, 'b', x'00', ?1)", [round])
                .unwrap();
            if round == 1_500 {
                longest = log_pages(&queue);
            }
        }
        assert_eq!(log_pages(&queue), longest);
        assert!(longest < 4_000, "{longest}");
        let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        assert!(pages < 100, "the file itself didn't grow: {pages}");
    }

    #[test]
    fn the_room_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("q.db"), IfMissing::Create, OpenPurpose::Work, 16).unwrap();
        for (jobs_max, pages) in [(0, 8), (256, 2_048), (usize::MAX, 16_384)] {
            assert_eq!(LogRoom::new(&connection, jobs_max).pages, pages);
        }
    }
}
