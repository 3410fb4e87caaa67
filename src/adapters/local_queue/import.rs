//! Putting jobs in: the rows of a file, in transactions of many rows, exactly once each.
//!
//! The ledger (`rows`) says which job every row became, so that an import that was killed goes on where it
//! stopped, and so that the rows can be accounted for at the end.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::LocalQueueError;
use crate::adapters::local_queue::{DONE, LAST_FINISHED, WAITING, lane_code, outcome_code};
use crate::domain::{Event, EventType, IdempotencyKey, Job, Lane, Timestamp};

/// Rows in a transaction while nobody works on the queue. Each row changes pages all over two indexes, and what a transaction
/// changes of a page is written once. Another process that puts jobs in waits for less than a second.
const ROWS_PER_COMMIT: usize = 20_000;

/// The same where the transaction's changed pages are kept in memory.
const ROWS_PER_COMMIT_IN_MEMORY: usize = 1_000;

/// The write-ahead log is written back to the file when it has so many pages (64 MiB): the longer it is, the more of a page's
/// changes are written back as one.
const LOG_PAGES: i64 = 16_384;

/// The same beside a worker, SQLite's own measure (4 MiB): writing back falls to whoever commits next, and then a worker's
/// jobs wait for it.
const LOG_PAGES_BESIDE_WORKER: i64 = 1_000;

/// A file, as the queue knows it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Names the batch in events.
    pub batch_id: String,
    /// SHA-256 of the file.
    pub fingerprint: [u8; 32],
    /// File name without its folder.
    pub file: String,
}

/// Whose the rows are. A queue holds one kind: a run accounts for every job on its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A run's: which job each row became is noted, so that it can be resumed and accounted for.
    Run,
    /// An import's, for a worker: its keys are enough.
    Import,
    /// None of this queue's: the rows go elsewhere, and only their keys and emails are kept, to find the rows that repeat
    /// or contradict each other.
    Index,
}

/// What the queue knows of a batch already.
#[derive(Debug, Clone)]
pub struct KnownBatch {
    /// Its row in the queue.
    pub id: i64,
    /// What was said of it.
    pub batch: Batch,
    /// Whether every row is in.
    pub is_complete: bool,
    /// The last record that is in; 0: none.
    pub last_record: u64,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// 1 is the first below the header.
    pub record: u64,
    /// The header is line 1.
    pub line: u64,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// A new job.
    New,
    /// The same request is on this queue, or was finished, from before this file.
    Known,
    /// The same request as an earlier row of this file.
    Repeat {
        /// That row's line.
        line: u64,
    },
    /// Not put in: another row of this file has the same email and other data.
    EmailConflict {
        /// That row's line.
        line: u64,
    },
    /// Not put in: the row gives an idempotency key that stands for another request.
    KeyConflict,
}

/// Puts the rows of one batch in.
#[derive(Debug)]
pub struct Importer {
    connection: Connection,
    path: PathBuf,
    batch: i64,
    kind: Kind,
    rows_per_commit: usize,
    has_company: bool,
    uncommitted: usize,
    finished: i64,
}

/// Every batch that the queue knows.
///
/// # Errors
/// [`LocalQueueError`] where the file can't be read.
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

impl Importer {
    /// Begins a new batch, or goes on with a known one.
    ///
    /// # Errors
    /// [`LocalQueueError::OtherUse`] where the queue holds batches of the other kind; [`LocalQueueError`] where the
    /// file can't be written.
    pub fn begin(
        mut connection: Connection,
        path: &Path,
        batch: &Batch,
        kind: Kind,
        known: Option<&KnownBatch>,
    ) -> Result<Self, LocalQueueError> {
        let mut begin = || -> rusqlite::Result<Option<(i64, i64)>> {
            // In one transaction, so that a run and an import that begin together don't both find it free.
            let connection = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let other: Option<i64> = connection
                .query_row("SELECT id FROM batches WHERE kind <> ?1 LIMIT 1", [kind as i64], |row| row.get(0))
                .optional()?;
            if other.is_some() {
                return Ok(None);
            }
            let id = match known {
                Some(known) => known.id,
                None => {
                    connection.execute(
                        "INSERT INTO batches (kind, batch_id, fingerprint, file) VALUES (?1, ?2, ?3, ?4)",
                        params![kind as i64, batch.batch_id, batch.fingerprint, batch.file],
                    )?;
                    connection.last_insert_rowid()
                }
            };
            let finished = connection.query_row(LAST_FINISHED, [], |row| row.get(0))?;
            connection.commit()?;
            Ok(Some((id, finished)))
        };
        let sqlite = |error| LocalQueueError::from_sqlite(path, &error);
        let Some((batch, finished)) = begin().map_err(sqlite)? else {
            return Err(LocalQueueError::OtherUse { path: path.to_owned() });
        };
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(sqlite)?;
        let rows_per_commit = if journal == "wal" { ROWS_PER_COMMIT } else { ROWS_PER_COMMIT_IN_MEMORY };
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(sqlite)?;
        let path = path.to_owned();
        Ok(Self { connection, path, batch, kind, rows_per_commit, has_company: false, uncommitted: 0, finished })
    }

    /// Whether others may want to write to the queue between two transactions.
    pub fn is_shared(&self) -> bool {
        self.kind == Kind::Import
    }

    /// Whether to commit after `rows` more: when the transaction is long enough, or a worker's jobs wait for its end.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the queue can't be used.
    pub fn should_commit_after(&mut self, rows: usize) -> Result<bool, LocalQueueError> {
        let has_company = self.is_shared() && WorkerLock::seems_held(&self.path);
        if has_company != self.has_company {
            self.has_company = has_company;
            let pages = if has_company { LOG_PAGES_BESIDE_WORKER } else { LOG_PAGES };
            self.connection
                .pragma_update(None, "wal_autocheckpoint", pages)
                .map_err(|error| LocalQueueError::from_sqlite(&self.path, &error))?;
        }
        Ok(has_company || self.uncommitted + rows >= self.rows_per_commit)
    }

    /// Puts a valid row's job in. `body` is the job message.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the file can't be written; rows since the last commit are not in.
    pub fn enqueue(
        &mut self,
        place: Place,
        job: &Job,
        body: &str,
        lane: Lane,
        now: Timestamp,
    ) -> Result<Enqueued, LocalQueueError> {
        self.in_transaction(|this| this.enqueue_row(place, job, body, lane, now))
    }

    /// Records a row that is over already: rejected here.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the file can't be written; rows since the last commit are not in.
    pub fn reject(
        &mut self,
        place: Place,
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
            this.note_row(place, seq, false)
        })
    }

    /// Commits what is left. `is_complete`: every row of the file is in.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the file can't be written; rows since the last commit are not in.
    pub fn finish(mut self, is_complete: bool) -> Result<(), LocalQueueError> {
        if is_complete {
            self.in_transaction(|this| {
                this.connection.execute("UPDATE batches SET complete = 1 WHERE id = ?1", [this.batch])?;
                this.forget_emails()
            })?;
        }
        self.commit()
    }

    /// Without a condition where it can be: SQLite then drops the pages instead of going through the rows.
    fn forget_emails(&self) -> rusqlite::Result<()> {
        let others: bool = self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM emails WHERE batch < ?1) OR EXISTS (SELECT 1 FROM emails WHERE batch > ?1)",
            [self.batch],
            |row| row.get(0),
        )?;
        match others {
            true => self.connection.execute("DELETE FROM emails WHERE batch = ?1", [self.batch])?,
            false => self.connection.execute("DELETE FROM emails", [])?,
        };
        Ok(())
    }

    fn in_transaction<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, LocalQueueError> {
        let begun = if self.uncommitted == 0 { self.connection.execute_batch("BEGIN IMMEDIATE") } else { Ok(()) };
        let written = match begun.and_then(|()| write(self)) {
            Ok(written) => written,
            Err(error) => {
                // The row may be half in. Where SQLite has taken everything back itself, there is nothing left to do.
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
    /// [`LocalQueueError`] where the file can't be written; rows since the last commit are not in.
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
        place: Place,
        job: &Job,
        body: &str,
        lane: Lane,
        now: Timestamp,
    ) -> rusqlite::Result<Enqueued> {
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO jobs (key, content, lane, state, due_ms, enqueued_ms, body)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6) ON CONFLICT (key) DO NOTHING",
            )?
            .execute(params![
                job.key.uuid().as_bytes(),
                (job.content != job.key).then(|| job.content.uuid().as_bytes()),
                lane_code(lane),
                WAITING,
                now.unix_ms(),
                (self.kind != Kind::Index).then_some(body),
            ])?
            == 1;
        let seq = if inserted { self.connection.last_insert_rowid() } else { self.job_with_key(job.key)? };
        // Written before it is looked up: nearly every row has an email of its own, and each is a walk through an index.
        let email = email_hash(&job.email);
        let is_first = self
            .connection
            .prepare_cached(
                "INSERT INTO emails (batch, email, line, seq) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![self.batch, email, place.line, seq])?
            == 1;
        let enqueued = match (inserted, is_first) {
            (true, true) => Enqueued::New,
            (true, false) => {
                self.connection.prepare_cached("DELETE FROM jobs WHERE seq = ?1")?.execute([seq])?;
                return Ok(Enqueued::EmailConflict { line: self.row_with_email(&email)?.0 });
            }
            (false, true) if self.content_of(seq)? != job.content => {
                self.connection
                    .prepare_cached("DELETE FROM emails WHERE batch = ?1 AND email = ?2")?
                    .execute(params![self.batch, email])?;
                return Ok(Enqueued::KeyConflict);
            }
            (false, true) => Enqueued::Known,
            (false, false) => {
                let (line, earlier) = self.row_with_email(&email)?;
                if earlier != seq || self.content_of(seq)? != job.content {
                    return Ok(Enqueued::EmailConflict { line });
                }
                Enqueued::Repeat { line }
            }
        };
        self.note_row(place, seq, matches!(enqueued, Enqueued::Repeat { .. }))?;
        Ok(enqueued)
    }

    fn job_with_key(&self, key: IdempotencyKey) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached("SELECT seq FROM jobs WHERE key = ?1")?
            .query_row([key.uuid().as_bytes()], |row| row.get(0))
    }

    /// The first row with this email: its line, and the job that it became.
    fn row_with_email(&self, email: &[u8; 16]) -> rusqlite::Result<(u64, i64)> {
        self.connection
            .prepare_cached("SELECT line, seq FROM emails WHERE batch = ?1 AND email = ?2")?
            .query_row(params![self.batch, email], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The key that a job's content gives.
    fn content_of(&self, seq: i64) -> rusqlite::Result<IdempotencyKey> {
        self.connection
            .prepare_cached("SELECT coalesce(content, key) FROM jobs WHERE seq = ?1")?
            .query_row([seq], |row| Ok(IdempotencyKey::from_bytes(row.get(0)?)))
    }

    fn note_row(&mut self, place: Place, seq: i64, is_repeat: bool) -> rusqlite::Result<()> {
        if self.kind != Kind::Run {
            return Ok(());
        }
        self.connection
            .prepare_cached("INSERT INTO rows (batch, record, line, seq, repeat) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.batch, place.record, place.line, seq, is_repeat])?;
        Ok(())
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        // An import that ends early keeps what it has; the rows are whole.
        let _ = self.commit();
    }
}

/// Takes a batch off the queue whose import was not completed: none of its jobs has ever been worked on.
///
/// # Errors
/// [`LocalQueueError`] where the file can't be written.
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

fn email_hash(email: &str) -> [u8; 16] {
    let digest = Sha256::digest(email.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}
