//! Adds the rows of one batch.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::import::batch::{Batch, BatchKind, BegunBatch, KnownBatch, begin};
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::{DONE, WAITING, lane_code, outcome_code};
use crate::domain::{Event, EventType, IdempotencyKey, Job, Lane, Timestamp};

/// Rows in a transaction while no worker runs. Each row changes random pages of two indexes, and a transaction writes a
/// changed page once. Another importing process waits for less than a second.
const ROWS_PER_COMMIT: usize = 20_000;

/// Rows in a transaction whose changed pages are kept in memory.
const ROWS_PER_COMMIT_IN_MEMORY: usize = 1_000;

/// Pages in the write-ahead log (64 MiB) at which SQLite writes it back to the file. With a longer log, more changes of
/// a page are written back at once.
const LOG_PAGES: i64 = 16_384;

/// The same while a worker runs: SQLite's default (4 MiB). The next commit has to write the log back, and the worker's
/// jobs wait for it.
const LOG_PAGES_BESIDE_WORKER: i64 = 1_000;

/// Position of a row in its file.
#[derive(Debug, Clone, Copy)]
pub struct RowPosition {
    /// Number of the record; 1 is the first below the header.
    pub record: u64,
    /// Line on which it starts; the header is line 1.
    pub line: u64,
}

/// What was done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is a new job.
    New,
    /// The same request was on the queue, waiting or finished, before this file.
    Known,
    /// It is the same request as an earlier row of this file.
    Repeat {
        /// Line of that row.
        line: u64,
    },
    /// Not added: another row of this file has the same email and other data.
    EmailConflict {
        /// Line of that row.
        line: u64,
    },
    /// Not added: its idempotency key belongs to another request.
    KeyConflict,
}

/// Adds the rows of one batch. A dropped importer keeps the rows so far.
#[derive(Debug)]
pub struct Importer {
    connection: Connection,
    path: PathBuf,
    batch: i64,
    kind: BatchKind,
    rows_per_commit: usize,
    has_worker: bool,
    uncommitted: usize,
    /// Number of the last finished job.
    finished: i64,
}

impl Importer {
    /// Begins a new batch, or continues a known one.
    ///
    /// # Errors
    /// [`LocalQueueError::OtherUse`] if the queue has batches of another kind; [`LocalQueueError`] if the file can't be
    /// written.
    pub fn begin(
        mut connection: Connection,
        path: &Path,
        batch: &Batch,
        kind: BatchKind,
        known: Option<&KnownBatch>,
    ) -> Result<Self, LocalQueueError> {
        let sqlite = |error| LocalQueueError::from_sqlite(path, &error);
        let begun = begin(&mut connection, batch, kind, known).map_err(sqlite)?;
        let Some(BegunBatch { id: batch, finished }) = begun else {
            return Err(LocalQueueError::OtherUse { path: path.to_owned() });
        };
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(sqlite)?;
        let rows_per_commit = if journal == "wal" { ROWS_PER_COMMIT } else { ROWS_PER_COMMIT_IN_MEMORY };
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(sqlite)?;
        let path = path.to_owned();
        Ok(Self { connection, path, batch, kind, rows_per_commit, has_worker: false, uncommitted: 0, finished })
    }

    /// Whether other processes may write to the queue between two transactions.
    pub fn is_shared(&self) -> bool {
        self.kind == BatchKind::Import
    }

    /// Whether to commit after `rows` more rows: if the transaction is long enough, or a worker may wait for its end.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the queue can't be used.
    pub fn should_commit_after(&mut self, rows: usize) -> Result<bool, LocalQueueError> {
        let has_worker = self.is_shared() && WorkerLock::seems_held(&self.path);
        if has_worker != self.has_worker {
            self.has_worker = has_worker;
            let pages = if has_worker { LOG_PAGES_BESIDE_WORKER } else { LOG_PAGES };
            self.connection
                .pragma_update(None, "wal_autocheckpoint", pages)
                .map_err(|error| LocalQueueError::from_sqlite(&self.path, &error))?;
        }
        Ok(has_worker || self.uncommitted + rows >= self.rows_per_commit)
    }

    /// Adds the job of a valid row. `body` is the job message.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be written; rows since the last commit are not added.
    pub fn enqueue(
        &mut self,
        position: RowPosition,
        job: &Job,
        body: &str,
        lane: Lane,
        now: Timestamp,
    ) -> Result<Enqueued, LocalQueueError> {
        self.in_transaction(|this| this.enqueue_row(position, job, body, lane, now))
    }

    /// Adds a row that validation rejected, as a finished job.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be written; rows since the last commit are not added.
    pub fn reject(
        &mut self,
        position: RowPosition,
        surrogate_key: IdempotencyKey,
        event: &Event,
        lane: Lane,
        now: Timestamp,
    ) -> Result<(), LocalQueueError> {
        self.in_transaction(|this| {
            this.finished += 1;
            this.connection
                .prepare_cached(
                    "INSERT INTO jobs (key, lane, state, due_ms, enqueued_ms, finished, outcome, event)
                     VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    surrogate_key.uuid().as_bytes(),
                    lane_code(lane),
                    DONE,
                    now.unix_ms(),
                    this.finished,
                    outcome_code(EventType::Rejected),
                    event.to_json(),
                ])?;
            let seq = this.connection.last_insert_rowid();
            this.record_row(position, seq, false)
        })
    }

    /// Commits the rest. `is_complete`: every row of the file was added.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be written; rows since the last commit are not added.
    pub fn finish(mut self, is_complete: bool) -> Result<(), LocalQueueError> {
        if is_complete {
            self.in_transaction(|this| {
                this.connection.execute("UPDATE batches SET complete = 1 WHERE id = ?1", [this.batch])?;
                this.delete_emails()
            })?;
        }
        self.commit()
    }

    /// Deletes the emails of the batch, without a condition if possible: SQLite then drops whole pages.
    fn delete_emails(&self) -> rusqlite::Result<()> {
        let has_others: bool = self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM emails WHERE batch < ?1) OR EXISTS (SELECT 1 FROM emails WHERE batch > ?1)",
            [self.batch],
            |row| row.get(0),
        )?;
        if has_others {
            self.connection.execute("DELETE FROM emails WHERE batch = ?1", [self.batch])?;
        } else {
            self.connection.execute("DELETE FROM emails", [])?;
        }
        Ok(())
    }

    /// Writes a row within the current transaction, or a new one.
    fn in_transaction<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, LocalQueueError> {
        let begun = if self.uncommitted == 0 { self.connection.execute_batch("BEGIN IMMEDIATE") } else { Ok(()) };
        let written = match begun.and_then(|()| write(self)) {
            Ok(written) => written,
            Err(error) => {
                // The row may be written in part. If SQLite has rolled back already, this does nothing.
                let _ = self.connection.execute_batch("ROLLBACK");
                self.uncommitted = 0;
                return Err(LocalQueueError::from_sqlite(&self.path, &error));
            }
        };
        self.uncommitted += 1;
        Ok(written)
    }

    /// Commits the rows so far.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be written; rows since the last commit are not added.
    pub fn commit(&mut self) -> Result<(), LocalQueueError> {
        if std::mem::take(&mut self.uncommitted) > 0 {
            self.connection
                .execute_batch("COMMIT")
                .map_err(|error| LocalQueueError::from_sqlite(&self.path, &error))?;
        }
        Ok(())
    }

    fn enqueue_row(
        &mut self,
        position: RowPosition,
        job: &Job,
        body: &str,
        lane: Lane,
        now: Timestamp,
    ) -> rusqlite::Result<Enqueued> {
        let is_new = self.insert_job(job, body, lane, now)?;
        let seq = if is_new { self.connection.last_insert_rowid() } else { self.job_with_key(job.key)? };
        // Inserted without a look-up before: nearly every row has an email of its own, and each costs a search of the
        // index.
        let email = email_hash(&job.email);
        let is_first = self.insert_email(&email, position, seq)?;
        let enqueued = match (is_new, is_first) {
            (true, true) => Enqueued::New,
            (true, false) => {
                self.connection.prepare_cached("DELETE FROM jobs WHERE seq = ?1")?.execute([seq])?;
                return Ok(Enqueued::EmailConflict { line: self.row_with_email(&email)?.0 });
            }
            (false, true) if self.content_key_of(seq)? != job.content_key => {
                self.connection
                    .prepare_cached("DELETE FROM emails WHERE batch = ?1 AND email = ?2")?
                    .execute(params![self.batch, email])?;
                return Ok(Enqueued::KeyConflict);
            }
            (false, true) => Enqueued::Known,
            (false, false) => {
                let (line, earlier) = self.row_with_email(&email)?;
                if earlier != seq || self.content_key_of(seq)? != job.content_key {
                    return Ok(Enqueued::EmailConflict { line });
                }
                Enqueued::Repeat { line }
            }
        };
        self.record_row(position, seq, matches!(enqueued, Enqueued::Repeat { .. }))?;
        Ok(enqueued)
    }

    /// Inserts a waiting job. `false` if a job has its key already.
    fn insert_job(&self, job: &Job, body: &str, lane: Lane, now: Timestamp) -> rusqlite::Result<bool> {
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO jobs (key, content, lane, state, due_ms, enqueued_ms, body)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6) ON CONFLICT (key) DO NOTHING",
            )?
            .execute(params![
                job.key.uuid().as_bytes(),
                (job.content_key != job.key).then(|| job.content_key.uuid().as_bytes()),
                lane_code(lane),
                WAITING,
                now.unix_ms(),
                (self.kind != BatchKind::Index).then_some(body),
            ])?;
        Ok(inserted == 1)
    }

    /// Inserts the email of a row. `false` if an earlier row of the batch has it.
    fn insert_email(&self, email: &[u8; 16], position: RowPosition, seq: i64) -> rusqlite::Result<bool> {
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO emails (batch, email, line, seq) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![self.batch, email, position.line, seq])?;
        Ok(inserted == 1)
    }

    fn job_with_key(&self, key: IdempotencyKey) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached("SELECT seq FROM jobs WHERE key = ?1")?
            .query_row([key.uuid().as_bytes()], |row| row.get(0))
    }

    /// Returns the line and the job of the first row with this email.
    fn row_with_email(&self, email: &[u8; 16]) -> rusqlite::Result<(u64, i64)> {
        self.connection
            .prepare_cached("SELECT line, seq FROM emails WHERE batch = ?1 AND email = ?2")?
            .query_row(params![self.batch, email], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Returns the key that is derived from the content of a job.
    fn content_key_of(&self, seq: i64) -> rusqlite::Result<IdempotencyKey> {
        self.connection
            .prepare_cached("SELECT coalesce(content, key) FROM jobs WHERE seq = ?1")?
            .query_row([seq], |row| Ok(IdempotencyKey::from_bytes(row.get(0)?)))
    }

    fn record_row(&mut self, position: RowPosition, seq: i64, is_repeat: bool) -> rusqlite::Result<()> {
        if self.kind != BatchKind::Run {
            return Ok(());
        }
        self.connection
            .prepare_cached("INSERT INTO rows (batch, record, line, seq, repeat) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.batch, position.record, position.line, seq, is_repeat])?;
        Ok(())
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        // An interrupted import keeps the rows so far; each of them is complete.
        let _ = self.commit();
    }
}

fn email_hash(email: &str) -> [u8; 16] {
    let digest = Sha256::digest(email.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}
