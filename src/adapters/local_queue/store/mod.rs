//! The worker's side of the queue: a thread that owns the connection and commits in groups.
//!
//! A commit takes milliseconds (fsync), a statement microseconds. So the thread commits all commands that arrived
//! during the last commit as one group, and answers them after the commit.

mod claim;
mod thread;

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub(super) use self::claim::{ClaimResult, ClaimedJob};
use self::thread::{GROUP_MAX, ReplySender, StoreCommand, StoreThread};
use crate::adapters::local_queue::LAST_FINISHED;
use crate::adapters::local_queue::error::LocalQueueError;
use crate::domain::decide::History;
use crate::domain::{Event, Lane, Timestamp};
use crate::ports::QueueError;

/// Sends commands to the thread. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct LocalQueueStore {
    commands: mpsc::Sender<StoreCommand>,
}

/// Called after each commit that finished jobs. Wakes the exporter of events.
pub type OnFinished = Box<dyn Fn() + Send>;

impl LocalQueueStore {
    /// Starts the thread on an open connection.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the file can't be read or the thread can't be started.
    pub fn start(connection: Connection, path: &Path, on_finished: OnFinished) -> Result<Self, LocalQueueError> {
        let finished: i64 = connection
            .query_row(LAST_FINISHED, [], |row| row.get(0))
            .map_err(|error| LocalQueueError::from_sqlite(path, &error))?;
        let (sender, commands) = mpsc::channel(GROUP_MAX);
        let thread = StoreThread::new(connection, path, finished);
        std::thread::Builder::new()
            .name("local-queue".to_owned())
            .spawn(move || thread.run(commands, &on_finished))
            .map_err(|error| LocalQueueError::from_io(path, &error))?;
        Ok(Self { commands: sender })
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

    pub(super) async fn finish(&self, seq: i64, event: &Event) -> Result<(), QueueError> {
        let Event { event_type, attempts, .. } = *event;
        let event_json = event.to_json();
        self.send(|reply| StoreCommand::Finish { seq, event_type, attempts, event_json, reply }).await
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
