//! Batches: the files that a queue knows.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::{LAST_FINISHED, outcome_code};
use crate::domain::EventType;

/// Identity of an imported file.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Name of the batch in events.
    pub batch_id: String,
    /// SHA-256 of the file.
    pub fingerprint: [u8; 32],
    /// File name without its folder.
    pub file: String,
}

/// Use of the rows. A queue has one kind, because a run accounts for every job on its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// Rows of a run. The job of each row is recorded, so that the run can be resumed and every row is accounted for.
    Run,
    /// Rows of an import for a worker. Only the jobs are stored.
    Import,
    /// Rows that are sent elsewhere. Only their keys and emails are stored, to find rows that repeat or contradict each
    /// other.
    Index,
}

/// A batch in the queue.
#[derive(Debug, Clone)]
pub struct KnownBatch {
    /// Id in the table `batches`.
    pub id: i64,
    /// Identity of the file.
    pub batch: Batch,
    /// Whether every row was added.
    pub is_complete: bool,
    /// Number of the last record that was added; 0: none.
    pub last_record: u64,
}

/// Returns every batch of the queue.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be read.
pub fn batches(connection: &Connection, path: &Path) -> Result<Vec<KnownBatch>, LocalQueueError> {
    let read = || -> rusqlite::Result<Vec<KnownBatch>> {
        connection
            .prepare(
                "SELECT id, batch_id, fingerprint, file, complete,
                 (SELECT coalesce(max(record), 0) FROM rows WHERE batch = id) FROM batches ORDER BY id",
            )?
            .query_map([], |row| {
                Ok(KnownBatch {
                    id: row.get(0)?,
                    batch: Batch { batch_id: row.get(1)?, fingerprint: row.get(2)?, file: row.get(3)? },
                    is_complete: row.get(4)?,
                    last_record: row.get(5)?,
                })
            })?
            .collect()
    };
    read().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}

/// A batch whose import begins or continues.
pub(super) struct BegunBatch {
    pub(super) id: i64,
    /// Number of the last finished job.
    pub(super) finished: i64,
}

/// Adds a batch, or continues a known one. `None` if the queue has batches of another kind.
pub(super) fn begin(
    connection: &mut Connection,
    batch: &Batch,
    kind: BatchKind,
    known: Option<&KnownBatch>,
) -> rusqlite::Result<Option<BegunBatch>> {
    // In one transaction, so that a run and an import that begin at the same time can't both find the queue unused.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let other: Option<i64> = transaction
        .query_row("SELECT id FROM batches WHERE kind <> ?1 LIMIT 1", [kind as i64], |row| row.get(0))
        .optional()?;
    if other.is_some() {
        return Ok(None);
    }
    let id = match known {
        Some(known) => known.id,
        None => {
            transaction.execute(
                "INSERT INTO batches (kind, batch_id, fingerprint, file) VALUES (?1, ?2, ?3, ?4)",
                params![kind as i64, batch.batch_id, batch.fingerprint, batch.file],
            )?;
            transaction.last_insert_rowid()
        }
    };
    let finished = transaction.query_row(LAST_FINISHED, [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(Some(BegunBatch { id, finished }))
}

/// Removes a batch whose import is incomplete, with its jobs. None of them was sent.
///
/// # Errors
/// [`LocalQueueError`] if the file can't be written.
pub fn discard(connection: &mut Connection, path: &Path, batch: i64) -> Result<(), LocalQueueError> {
    let mut discard = || -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "DELETE FROM jobs WHERE seq IN (SELECT seq FROM rows WHERE batch = ?1)
             AND first_sent_ms IS NULL AND (state = 0 OR outcome = ?2)",
            params![batch, outcome_code(EventType::Rejected)],
        )?;
        for table in ["rows", "emails"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE batch = ?1"), [batch])?;
        }
        transaction.execute("DELETE FROM batches WHERE id = ?1", [batch])?;
        transaction.commit()
    };
    discard().map_err(|error| LocalQueueError::from_sqlite(path, &error))
}
