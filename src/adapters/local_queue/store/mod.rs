//! The worker's side of the queue: a thread that owns the connection and commits in groups.
//!
//! A commit takes milliseconds (fsync), a statement microseconds. So the thread commits all commands that arrived
//! during the last commit as one group, and answers them after the commit.
//!
//! A commit that fails for a cause that can pass is repeated until it works. Meanwhile the outcomes wait in memory.
//!
//! | module | what it does |
//! | --- | --- |
//! | `thread` | the loop of the thread; waits until a failing commit works |
//! | `write` | the statements of a command |
//! | `claim` | takes waiting jobs |
//! | `log_room` | keeps room for outcomes in the write-ahead log |

mod claim;
mod command;
mod log_room;
mod thread;
mod write;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(super) use self::claim::{ClaimResult, ClaimedJob};
use self::command::{ReplySender, StoreCommand};
use self::thread::{GROUP_MAX, StoreThread};
pub(super) use self::write::write_outcome;
use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::storage::{StorageState, UnwrittenOutcome};
use crate::domain::decide::History;
use crate::domain::{Event, Lane, Timestamp};
use crate::ports::QueueError;

/// Sends commands to the thread. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct LocalQueueStore {
    commands: mpsc::Sender<StoreCommand>,
    storage: StorageState,
}

/// Called after each commit that finished jobs. Wakes the exporter of events.
pub type OnFinished = Box<dyn Fn() + Send>;

/// What a store needs beside its connection.
pub struct StoreConfig {
    /// Most jobs in progress at once. There is always room on the disk for their outcomes.
    pub jobs_max: usize,
    /// Called after each commit that finished jobs.
    pub on_finished: OnFinished,
    /// Cancelled when the worker stops. From then on, the room may be used for jobs that are requeued.
    pub stop: CancellationToken,
    /// Shows the outcomes that aren't committed yet.
    pub storage: StorageState,
}

impl Default for StoreConfig {
    /// Room for a few jobs; nothing is called and nothing is watched.
    fn default() -> Self {
        Self {
            jobs_max: 16,
            on_finished: Box::new(|| {}),
            stop: CancellationToken::new(),
            storage: StorageState::default(),
        }
    }
}

impl LocalQueueStore {
    /// Starts the thread on an open connection.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be read or the thread can't be started.
    pub fn start(connection: Connection, path: &Path, config: StoreConfig) -> Result<Self, LocalQueueError> {
        let (sender, commands) = mpsc::channel(GROUP_MAX);
        let storage = config.storage.clone();
        let thread =
            StoreThread::new(connection, path, config).map_err(|error| LocalQueueError::from_sqlite(path, &error))?;
        std::thread::Builder::new()
            .name("embedded-queue".to_owned())
            .spawn(move || thread.run(commands))
            .map_err(|error| LocalQueueError::from_io(path, &error))?;
        Ok(Self { commands: sender, storage })
    }

    /// Requests up to `max` jobs. They are in progress when the reply is sent, whether or not it is received.
    pub(super) async fn request_claim(
        &self,
        lane: Lane,
        now: Timestamp,
        max: usize,
    ) -> Result<oneshot::Receiver<Result<ClaimResult, QueueError>>, QueueError> {
        let (reply, receiver) = oneshot::channel();
        self.commands.send(StoreCommand::Claim { lane, now, max, reply }).await.map_err(|_| Self::gone())?;
        Ok(receiver)
    }

    pub(super) fn gone() -> QueueError {
        QueueError("the queue's thread has ended".to_owned())
    }

    pub(super) async fn record_intent(&self, seq: i64, now: Timestamp) -> Result<(), QueueError> {
        self.send(|reply| StoreCommand::RecordIntent { seq, now, reply }).await
    }

    pub(super) async fn retract_intent(&self, seq: i64) -> Result<(), QueueError> {
        self.send(|reply| StoreCommand::RetractIntent { seq, reply }).await
    }

    /// Finishes a job. From its first poll until the commit, the outcome is in the [`StorageState`].
    pub(super) async fn finish(&self, seq: i64, event: &Event) -> Result<(), QueueError> {
        let outcome = Arc::new(UnwrittenOutcome::new(seq, event));
        self.storage.add(&outcome);
        self.send(|reply| StoreCommand::Finish { outcome, reply }).await
    }

    pub(super) async fn requeue(&self, seq: i64, history: History, due: Timestamp) -> Result<(), QueueError> {
        self.send(|reply| StoreCommand::Requeue { seq, history, due, reply }).await
    }

    async fn send(&self, command: impl FnOnce(ReplySender<()>) -> StoreCommand) -> Result<(), QueueError> {
        let (reply, receiver) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Self::gone())?;
        receiver.await.map_err(|_| Self::gone())?
    }
}
