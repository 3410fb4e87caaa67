//! The worker's side of the file: one thread owns the connection, and commits whatever has come in since its
//! last commit as one group. A commit costs milliseconds (fsync), a statement microseconds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use crate::adapters::local_queue::open::LocalQueueError;
use crate::adapters::local_queue::{DEAD, DONE, LAST_FINISHED, WAITING, lane_code, outcome_code};
use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{Event, EventType, Lane, Timestamp};
use crate::ports::QueueError;

/// Most commands in a group, and most that wait for the thread.
const GROUP_MAX: usize = 512;

/// A job that was taken from the file.
pub(super) struct Claimed {
    pub(super) seq: i64,
    pub(super) body: String,
    pub(super) history: History,
}

debug_redacted!(Claimed);

/// What a lane holds for its source.
#[derive(Debug)]
pub(super) enum Claim {
    Jobs(Vec<Claimed>),
    /// Nothing to take now, but jobs are in hand or not due yet.
    Later,
    /// No job waits or is in hand.
    Drained,
}

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// What the thread is asked to do.
enum Command {
    Claim { lane: Lane, now: Timestamp, max: usize, reply: Reply<Claim> },
    Intent { seq: i64, now: Timestamp, reply: Reply<()> },
    Retract { seq: i64, reply: Reply<()> },
    Finish { seq: i64, event_type: EventType, attempts: u32, event_json: String, reply: Reply<()> },
    RequeueReason { seq: i64, history: History, due: Timestamp, reply: Reply<()> },
}

/// The way to the thread. The thread ends when the last of these is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
}

/// Told after each commit that finished jobs; the exporter listens.
pub type OnFinished = Box<dyn Fn() + Send>;

impl Store {
    /// Starts the thread on an open connection.
    ///
    /// # Errors
    /// [`LocalQueueError`] where the file can't be read or no thread can be started.
    pub fn start(connection: Connection, path: &Path, on_finished: OnFinished) -> Result<Self, LocalQueueError> {
        let finished: i64 = connection
            .query_row(LAST_FINISHED, [], |row| row.get(0))
            .map_err(|error| LocalQueueError::from_sqlite(path, &error))?;
        let (commands, prefetch_buffer) = mpsc::channel(GROUP_MAX);
        let state = State { finished, cursors: [0; 2], in_flight: HashSet::new(), path: path.to_owned() };
        thread::Builder::new()
            .name("local-queue".to_owned())
            .spawn(move || run(connection, state, prefetch_buffer, &on_finished))
            .map_err(|error| LocalQueueError::Io { path: path.to_owned(), why: error.to_string() })?;
        Ok(Self { commands })
    }

    /// Asks for up to `max` jobs. They are in hand when the answer is sent, whether or not it is read.
    pub(super) async fn ask_claim(
        &self,
        lane: Lane,
        now: Timestamp,
        max: usize,
    ) -> Result<oneshot::Receiver<Result<Claim, QueueError>>, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Claim { lane, now, max, reply }).await.map_err(|_| Self::gone())?;
        Ok(answer)
    }

    pub(super) fn gone() -> QueueError {
        QueueError("the queue's thread has ended".to_owned())
    }

    pub(super) async fn intent(&self, seq: i64, now: Timestamp) -> Result<(), QueueError> {
        self.ask(|reply| Command::Intent { seq, now, reply }).await
    }

    pub(super) async fn retract(&self, seq: i64) -> Result<(), QueueError> {
        self.ask(|reply| Command::Retract { seq, reply }).await
    }

    pub(super) async fn finish(&self, seq: i64, event: &Event) -> Result<(), QueueError> {
        let Event { event_type, attempts, .. } = *event;
        let event_json = event.to_json();
        self.ask(|reply| Command::Finish { seq, event_type, attempts, event_json, reply }).await
    }

    pub(super) async fn requeue(&self, seq: i64, history: History, due: Timestamp) -> Result<(), QueueError> {
        self.ask(|reply| Command::RequeueReason { seq, history, due, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Self::gone())?;
        answer.await.map_err(|_| Self::gone())?
    }
}

/// What the thread remembers between groups.
struct State {
    /// The last number given to a finished job.
    finished: i64,
    /// By lane: the last fresh job that was taken. Fresh jobs are taken in order, so what is in hand lies before.
    cursors: [i64; 2],
    /// Jobs in hand that are not fresh: their due time has passed and must not deliver them again.
    in_flight: HashSet<i64>,
    path: PathBuf,
}

fn run(
    mut connection: Connection,
    mut state: State,
    mut prefetch_buffer: mpsc::Receiver<Command>,
    on_finished: &OnFinished,
) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while prefetch_buffer.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        let has_finished = group.iter().any(|command| matches!(command, Command::Finish { .. }));
        let finished_before = state.finished;
        match state.commit(&mut connection, &group) {
            Ok(()) => {
                answer(&mut group, &mut state, &connection);
                if has_finished {
                    on_finished();
                }
            }
            Err(error) => {
                // The transaction was rolled back: nothing of the group has happened.
                state.finished = finished_before;
                let error = LocalQueueError::from_sqlite(&state.path, &error).to_string();
                refuse(&mut group, &error);
            }
        }
    }
    // Folds the write-ahead log into the file, so that it can be copied as it is.
    let _ = connection.pragma_update(None, "wal_checkpoint", "truncate");
}

impl State {
    /// Carries out what a group writes, in one transaction.
    fn commit(&mut self, connection: &mut Connection, group: &[Command]) -> rusqlite::Result<()> {
        let writes = group.iter().any(|command| !matches!(command, Command::Claim { .. }));
        if writes {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for command in group {
                self.write(&transaction, command)?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn write(&mut self, connection: &Connection, command: &Command) -> rusqlite::Result<()> {
        match command {
            Command::Claim { .. } => {}
            Command::Intent { seq, now, .. } => {
                connection
                    .prepare_cached(
                        "UPDATE jobs SET first_sent_ms = coalesce(first_sent_ms, ?2), last_sent_ms = ?2 WHERE seq = ?1",
                    )?
                    .execute(params![seq, now.unix_ms()])?;
            }
            Command::Retract { seq, .. } => {
                connection
                    .prepare_cached("UPDATE jobs SET first_sent_ms = NULL, last_sent_ms = NULL WHERE seq = ?1")?
                    .execute([seq])?;
            }
            Command::Finish { seq, event_type, attempts, event_json, .. } => {
                self.finished += 1;
                // A failed job keeps its message: a person may want to send it again.
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
                        self.finished,
                        outcome_code(*event_type),
                        event_json,
                    ])?;
                self.in_flight.remove(seq);
            }
            Command::RequeueReason { seq, history, due, .. } => {
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
                self.in_flight.remove(seq);
            }
        }
        Ok(())
    }

    /// Takes jobs that are due again first, then fresh ones in order.
    fn claim(&mut self, connection: &Connection, lane: Lane, now: Timestamp, max: usize) -> rusqlite::Result<Claim> {
        let mut jobs = Vec::new();
        let code = lane_code(lane);
        {
            let mut due = connection.prepare_cached(
                "SELECT seq, body, attempts, enqueued_ms, first_sent_ms, last_sent_ms FROM jobs
                 WHERE state = 0 AND lane = ?1 AND due_ms > 0 AND due_ms <= ?2 ORDER BY due_ms LIMIT ?3",
            )?;
            // Jobs in hand are still due in the file; ask for as many more.
            let limit = i64::try_from(max + self.in_flight.len()).unwrap_or(i64::MAX);
            let mut rows = due.query(params![code, now.unix_ms(), limit])?;
            while let Some(row) = rows.next()? {
                let job = claimed(row)?;
                if jobs.len() < max && self.in_flight.insert(job.seq) {
                    jobs.push(job);
                }
            }
        }
        if jobs.len() < max {
            let mut fresh = connection.prepare_cached(
                "SELECT seq, body, attempts, enqueued_ms, first_sent_ms, last_sent_ms FROM jobs
                 WHERE state = 0 AND lane = ?1 AND due_ms = 0 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?;
            let cursor = &mut self.cursors[lane as usize];
            let limit = i64::try_from(max - jobs.len()).unwrap_or(i64::MAX);
            let mut rows = fresh.query(params![code, *cursor, limit])?;
            while let Some(row) = rows.next()? {
                let job = claimed(row)?;
                *cursor = job.seq;
                jobs.push(job);
            }
        }
        if !jobs.is_empty() {
            return Ok(Claim::Jobs(jobs));
        }
        let waits = connection
            .prepare_cached(
                "SELECT 1 FROM jobs WHERE state = 0 AND lane = ?1 AND due_ms = 0
                 UNION ALL SELECT 1 FROM jobs WHERE state = 0 AND lane = ?1 AND due_ms > 0 LIMIT 1",
            )?
            .query_row([code], |_| Ok(()))
            .optional()?;
        Ok(if waits.is_some() { Claim::Later } else { Claim::Drained })
    }
}

fn claimed(row: &rusqlite::Row<'_>) -> rusqlite::Result<Claimed> {
    let time = |ms: Option<i64>| ms.map(Timestamp::from_unix_ms);
    Ok(Claimed {
        seq: row.get(0)?,
        body: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
        history: History {
            attempts: row.get(2)?,
            enqueued_at: Timestamp::from_unix_ms(row.get(3)?),
            first_sent_at: time(row.get(4)?),
            last_sent_at: time(row.get(5)?),
        },
    })
}

/// Answers a group that was committed. Jobs are taken only now, so that one that was put back in the same group is seen.
/// Whoever asked may be gone; that is no fault.
fn answer(group: &mut Vec<Command>, state: &mut State, connection: &Connection) {
    for command in group.drain(..) {
        match command {
            Command::Claim { lane, now, max, reply } => {
                let claim = state.claim(connection, lane, now, max);
                let path = &state.path;
                let _ = reply
                    .send(claim.map_err(|error| QueueError(LocalQueueError::from_sqlite(path, &error).to_string())));
            }
            Command::Intent { reply, .. }
            | Command::Retract { reply, .. }
            | Command::Finish { reply, .. }
            | Command::RequeueReason { reply, .. } => {
                let _ = reply.send(Ok(()));
            }
        }
    }
}

fn refuse(group: &mut Vec<Command>, why: &str) {
    let error = || QueueError(why.to_owned());
    for command in group.drain(..) {
        match command {
            Command::Claim { reply, .. } => {
                let _ = reply.send(Err(error()));
            }
            Command::Intent { reply, .. }
            | Command::Retract { reply, .. }
            | Command::Finish { reply, .. }
            | Command::RequeueReason { reply, .. } => {
                let _ = reply.send(Err(error()));
            }
        }
    }
}

const _: () = assert!(WAITING == 0, "the partial indexes of schema.sql say state = 0");
