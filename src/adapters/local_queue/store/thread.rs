//! The thread of the store: carries out commands in groups, each group in one transaction.
//!
//! | a group fails because | what happens |
//! | --- | --- |
//! | of a cause that can pass: full disk, I/O error, lock | it is held and repeated until it works; see [`StoreThread::wait_until_written`] |
//! | the file is damaged, or is no queue any more | its commands fail, and the worker stops |
//!
//! A commit that hangs is noticed from outside, by [`crate::adapters::local_queue::watch`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio_util::sync::CancellationToken;

use crate::adapters::local_queue::LAST_FINISHED;
use crate::adapters::local_queue::error::{LocalQueueError, can_pass};
use crate::adapters::local_queue::storage::StorageState;
use crate::adapters::local_queue::store::claim::ClaimState;
use crate::adapters::local_queue::store::command::StoreCommand;
use crate::adapters::local_queue::store::log_room::LogRoom;
use crate::adapters::local_queue::store::write::write;
use crate::adapters::local_queue::store::{OnFinished, StoreConfig};
use crate::ports::QueueError;

/// Most commands in a group, and most commands that wait for the thread.
pub(super) const GROUP_MAX: usize = 512;

/// First and longest delay before a failed commit is repeated.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Interval at which new commands are received between two attempts.
const RECEIVE_INTERVAL: Duration = Duration::from_millis(20);

/// State of the thread.
pub(super) struct StoreThread {
    connection: Connection,
    path: PathBuf,
    claims: ClaimState,
    /// Last number that was given to a finished job.
    finished: i64,
    room: LogRoom,
    on_finished: OnFinished,
    stop: CancellationToken,
    storage: StorageState,
}

/// Why commands could not be carried out.
enum StoreFailure {
    /// The cause can pass.
    Passing(String),
    /// The cause stays.
    Fatal(QueueError),
}

impl StoreThread {
    pub(super) fn new(connection: Connection, path: &Path, config: StoreConfig) -> rusqlite::Result<Self> {
        let StoreConfig { jobs_max, on_finished, stop, storage } = config;
        let finished = connection.query_row(LAST_FINISHED, [], |row| row.get(0))?;
        let room = LogRoom::new(&connection, jobs_max);
        let claims = ClaimState::default();
        Ok(Self { connection, path: path.to_owned(), claims, finished, room, on_finished, stop, storage })
    }

    /// Runs until the last sender of commands is dropped.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<StoreCommand>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        self.keep_room(&mut commands);
        while commands.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            match self.carry_out(&mut group) {
                Ok(()) => self.keep_room(&mut commands),
                Err(failure) => self.wait_until_written(failure, &mut group, &mut commands),
            }
        }
        // Writes the write-ahead log back, so that a copy of the file alone is complete.
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "truncate");
        self.storage.set_ended();
    }

    fn keep_room(&mut self, commands: &mut mpsc::Receiver<StoreCommand>) {
        if let Err(failure) = self.lengthen_log() {
            self.wait_until_written(failure, &mut Vec::new(), commands);
        }
    }

    /// Makes sure that there is room for outcomes, unless no more jobs follow.
    fn lengthen_log(&mut self) -> Result<(), StoreFailure> {
        if self.stop.is_cancelled() {
            return Ok(());
        }
        self.watched(|this| this.room.keep(&mut this.connection)).map_err(|error| self.failure(&error))
    }

    /// Repeats the commands in `held`, and those that arrive meanwhile, until they are written and there is room for
    /// further outcomes. Returns early when the last sender of commands is dropped: then the outcomes that are left
    /// are in the [`StorageState`].
    fn wait_until_written(
        &mut self,
        failure: StoreFailure,
        held: &mut Vec<StoreCommand>,
        commands: &mut mpsc::Receiver<StoreCommand>,
    ) {
        let mut delay = RETRY_DELAY.0;
        let mut result = Err(failure);
        loop {
            match result {
                Ok(true) => return self.storage.set_queue_failure(None),
                Ok(false) => {}
                Err(StoreFailure::Passing(reason)) => self.storage.set_queue_failure(Some(reason)),
                Err(StoreFailure::Fatal(error)) => return reply_error(held, &error),
            }
            let received = receive_for(delay, held, commands);
            result = self.repeat(held, received);
            if received == Received::Closed && result.is_err() {
                return;
            }
            if received == Received::Nothing {
                delay = delay.saturating_mul(2).min(RETRY_DELAY.1);
            }
        }
    }

    /// Repeats commands. Returns whether all are written and there is room for further outcomes.
    ///
    /// Outcomes are written first, at once, into the room that is kept for them: a lost link can't be had again. The
    /// other commands must leave that room, unless the worker stops.
    fn repeat(&mut self, held: &mut Vec<StoreCommand>, received: Received) -> Result<bool, StoreFailure> {
        let mut outcomes: Vec<_> =
            held.extract_if(.., |command| matches!(command, StoreCommand::Finish { .. })).collect();
        let written = self.carry_out(&mut outcomes);
        held.append(&mut outcomes);
        written?;
        match received {
            Received::Outcome => return Ok(false),
            Received::Nothing => self.lengthen_log()?,
            Received::Closed => {}
        }
        self.carry_out(held)?;
        Ok(true)
    }

    /// Carries out a group and replies to it. If that fails, `group` holds the commands that weren't carried out.
    fn carry_out(&mut self, group: &mut Vec<StoreCommand>) -> Result<(), StoreFailure> {
        let finished_before = self.finished;
        if let Err(error) = self.watched(|this| this.commit(group)) {
            // The transaction was rolled back, so no command of the group was carried out.
            self.finished = finished_before;
            return Err(self.failure(&error));
        }
        let replied = self.watched(|this| this.reply(group));
        if self.finished > finished_before {
            (self.on_finished)();
        }
        replied.map_err(|error| self.failure(&error))
    }

    /// Uses the file. If that hangs, it is noticed from outside.
    fn watched<T>(&mut self, use_file: impl FnOnce(&mut Self) -> T) -> T {
        self.storage.count_access();
        let result = use_file(self);
        self.storage.count_access();
        result
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
    ///
    /// # Errors
    /// Jobs can't be read. `group` holds the claims.
    fn reply(&mut self, group: &mut Vec<StoreCommand>) -> rusqlite::Result<()> {
        let mut claims = Vec::new();
        for command in group.drain(..) {
            let reply = match command {
                StoreCommand::Claim { .. } => {
                    claims.push(command);
                    continue;
                }
                StoreCommand::RecordIntent { reply, .. } | StoreCommand::RetractIntent { reply, .. } => reply,
                StoreCommand::Finish { outcome, reply } => {
                    self.storage.remove(outcome.seq);
                    self.claims.release(outcome.seq);
                    reply
                }
                StoreCommand::Requeue { seq, reply, .. } => {
                    self.claims.release(seq);
                    reply
                }
            };
            let _ = reply.send(Ok(()));
        }
        let mut result = Ok(());
        for command in claims {
            let StoreCommand::Claim { lane, now, max, reply } = command else { continue };
            match self.claims.claim(&self.connection, lane, now, max) {
                Ok(claimed) => {
                    let _ = reply.send(Ok(claimed));
                }
                Err(error) => {
                    group.push(StoreCommand::Claim { lane, now, max, reply });
                    result = Err(error);
                }
            }
        }
        result
    }

    fn failure(&self, error: &rusqlite::Error) -> StoreFailure {
        if can_pass(error) {
            StoreFailure::Passing(LocalQueueError::cause(&self.path, error))
        } else {
            StoreFailure::Fatal(QueueError(LocalQueueError::from_sqlite(&self.path, error).to_string()))
        }
    }
}

/// What was received while a failed commit waits to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    /// No outcome for the whole delay.
    Nothing,
    /// At least one outcome.
    Outcome,
    /// The last sender was dropped.
    Closed,
}

/// Receives commands for this long, or until outcomes are among them.
fn receive_for(delay: Duration, held: &mut Vec<StoreCommand>, commands: &mut mpsc::Receiver<StoreCommand>) -> Received {
    let (mut waited, mut has_outcome) = (Duration::ZERO, false);
    loop {
        match commands.try_recv() {
            Ok(command) => {
                has_outcome |= matches!(command, StoreCommand::Finish { .. });
                held.push(command);
            }
            Err(TryRecvError::Disconnected) => return Received::Closed,
            Err(TryRecvError::Empty) if has_outcome => return Received::Outcome,
            Err(TryRecvError::Empty) if waited >= delay => return Received::Nothing,
            Err(TryRecvError::Empty) => {
                #[expect(clippy::disallowed_methods, reason = "a file system doesn't notify when it can be written")]
                std::thread::sleep(RECEIVE_INTERVAL);
                waited += RECEIVE_INTERVAL;
            }
        }
    }
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
