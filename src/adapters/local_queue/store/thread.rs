//! The thread of the store: carries out commands in groups, each group in one transaction.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::store::claim::{ClaimResult, ClaimState};
use crate::adapters::local_queue::{DEAD, DONE, outcome_code};
use crate::domain::decide::History;
use crate::domain::{EventType, Lane, Timestamp};
use crate::ports::QueueError;

/// Most commands in a group, and most commands that wait for the thread.
pub(super) const GROUP_MAX: usize = 512;

pub(super) type ReplySender<T> = oneshot::Sender<Result<T, QueueError>>;

/// A command for the thread.
pub(super) enum StoreCommand {
    Claim { lane: Lane, now: Timestamp, max: usize, reply: ReplySender<ClaimResult> },
    RecordIntent { seq: i64, now: Timestamp, reply: ReplySender<()> },
    RetractIntent { seq: i64, reply: ReplySender<()> },
    Finish { seq: i64, event_type: EventType, attempts: u32, event_json: String, reply: ReplySender<()> },
    Requeue { seq: i64, history: History, due: Timestamp, reply: ReplySender<()> },
}

/// State of the thread.
pub(super) struct StoreThread {
    connection: Connection,
    path: PathBuf,
    claims: ClaimState,
    /// Last number that was given to a finished job.
    finished: i64,
}

impl StoreThread {
    pub(super) fn new(connection: Connection, path: &Path, finished: i64) -> Self {
        Self { connection, path: path.to_owned(), claims: ClaimState::default(), finished }
    }

    /// Runs until the last sender of commands is dropped.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<StoreCommand>, on_finished: &dyn Fn()) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while commands.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            let finished_before = self.finished;
            match self.commit(&group) {
                Ok(()) => {
                    self.reply(&mut group);
                    if self.finished > finished_before {
                        on_finished();
                    }
                }
                Err(error) => {
                    // The transaction was rolled back, so no command of the group was carried out.
                    self.finished = finished_before;
                    reply_error(&mut group, &queue_error(&self.path, &error));
                }
            }
        }
        // Writes the write-ahead log back, so that a copy of the file alone is complete.
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "truncate");
    }

    /// Writes a group in one transaction.
    fn commit(&mut self, group: &[StoreCommand]) -> rusqlite::Result<()> {
        if group.iter().all(|command| matches!(command, StoreCommand::Claim { .. })) {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for command in group {
            if matches!(command, StoreCommand::Finish { .. }) {
                self.finished += 1;
            }
            write(&transaction, command, self.finished)?;
        }
        transaction.commit()
    }

    /// Replies to a group that was committed. Claims are carried out here, so that they find the jobs that were
    /// requeued in the same group. The receiver of a reply may be gone.
    fn reply(&mut self, group: &mut Vec<StoreCommand>) {
        for command in &*group {
            if let StoreCommand::Finish { seq, .. } | StoreCommand::Requeue { seq, .. } = command {
                self.claims.release(*seq);
            }
        }
        for command in group.drain(..) {
            match command {
                StoreCommand::Claim { lane, now, max, reply } => {
                    let claimed = self.claims.claim(&self.connection, lane, now, max);
                    let _ = reply.send(claimed.map_err(|error| queue_error(&self.path, &error)));
                }
                StoreCommand::RecordIntent { reply, .. }
                | StoreCommand::RetractIntent { reply, .. }
                | StoreCommand::Finish { reply, .. }
                | StoreCommand::Requeue { reply, .. } => {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }
}

/// Writes a command. `finished` is the number of the job if it finishes one.
fn write(connection: &Connection, command: &StoreCommand, finished: i64) -> rusqlite::Result<()> {
    match command {
        StoreCommand::Claim { .. } => {}
        StoreCommand::RecordIntent { seq, now, .. } => {
            connection
                .prepare_cached(
                    "UPDATE jobs SET first_sent_ms = coalesce(first_sent_ms, ?2), last_sent_ms = ?2 WHERE seq = ?1",
                )?
                .execute(params![seq, now.unix_ms()])?;
        }
        StoreCommand::RetractIntent { seq, .. } => {
            connection
                .prepare_cached("UPDATE jobs SET first_sent_ms = NULL, last_sent_ms = NULL WHERE seq = ?1")?
                .execute([seq])?;
        }
        StoreCommand::Finish { seq, event_type, attempts, event_json, .. } => {
            // A failed job keeps its message, because an operator may retry it.
            let is_dead = *event_type == EventType::Failed;
            connection
                .prepare_cached(
                    "UPDATE jobs SET state = ?2, body = iif(?3, body, NULL), attempts = ?4, finished = ?5,
                     outcome = ?6, event = ?7 WHERE seq = ?1",
                )?
                .execute(params![
                    seq,
                    if is_dead { DEAD } else { DONE },
                    is_dead,
                    attempts,
                    finished,
                    outcome_code(*event_type),
                    event_json,
                ])?;
        }
        StoreCommand::Requeue { seq, history, due, .. } => {
            connection
                .prepare_cached(
                    "UPDATE jobs SET due_ms = ?2, attempts = ?3, first_sent_ms = ?4, last_sent_ms = ?5 WHERE seq = ?1",
                )?
                .execute(params![
                    seq,
                    due.unix_ms().max(1),
                    history.attempts,
                    history.first_sent_at.map(Timestamp::unix_ms),
                    history.last_sent_at.map(Timestamp::unix_ms),
                ])?;
        }
    }
    Ok(())
}

fn reply_error(group: &mut Vec<StoreCommand>, error: &QueueError) {
    let error = || QueueError(error.0.clone());
    for command in group.drain(..) {
        match command {
            StoreCommand::Claim { reply, .. } => {
                let _ = reply.send(Err(error()));
            }
            StoreCommand::RecordIntent { reply, .. }
            | StoreCommand::RetractIntent { reply, .. }
            | StoreCommand::Finish { reply, .. }
            | StoreCommand::Requeue { reply, .. } => {
                let _ = reply.send(Err(error()));
            }
        }
    }
}

fn queue_error(path: &Path, error: &rusqlite::Error) -> QueueError {
    QueueError(LocalQueueError::from_sqlite(path, error).to_string())
}
