//! Settles a delivery.

use std::time::Duration;

use tokio::time::Instant;

use super::MemoryQueue;
use super::state::{MemoryQueueState, QueueKind, QueuedJob};
use crate::domain::decide::History;
use crate::domain::{Event, EventType, Timestamp};
use crate::ports::{QueueError, Settle};

/// A delivered job.
#[derive(Debug)]
pub struct MemoryHandle {
    queue: MemoryQueue,
    position: u64,
    worker: u32,
    life: u32,
    original: Box<QueuedJob>,
}

impl MemoryHandle {
    pub(super) fn new(queue: MemoryQueue, position: u64, worker: u32, life: u32, original: QueuedJob) -> Self {
        Self { queue, position, worker, life, original: Box::new(original) }
    }

    /// Changes the queue. The flag says whether the delivery is still this handle's: a broker accepts messages of a
    /// worker whose delivery it has taken back already.
    fn change(&self, change: impl FnOnce(&mut MemoryQueueState, bool)) -> Result<(), QueueError> {
        let mut state = self.queue.lock();
        let is_ours = state.life(self.worker) == self.life;
        if !is_ours && state.kind == QueueKind::Embedded {
            return Err(QueueError("the worker of this delivery has crashed".to_owned()));
        }
        change(&mut state, is_ours);
        drop(state);
        self.queue.shared.changed.notify_waiters();
        Ok(())
    }

    /// Changes the recorded intent, if the queue records intents.
    fn change_intent(&self, change: impl FnOnce(History) -> History) -> Result<(), QueueError> {
        self.change(|state, _| {
            if let Some(job) = state.jobs.get_mut(&self.position).filter(|_| state.kind == QueueKind::Embedded) {
                job.history = change(job.history);
            }
        })
    }
}

impl Settle for MemoryHandle {
    fn is_ours(&self) -> bool {
        let state = self.queue.lock();
        state.kind == QueueKind::Embedded || state.life(self.worker) == self.life
    }

    fn is_dated(&self) -> bool {
        self.original.is_dated || self.original.has_headers || !self.original.redelivered
    }

    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        self.change_intent(|history| history.with_send(now))
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.change_intent(|history| History { first_sent_at: None, last_sent_at: None, ..history })
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        self.change(|state, is_ours| {
            if event.event_type == EventType::Failed {
                state.dead.push(event.clone());
            }
            state.events.push(event.clone());
            state.reporters.push((self.worker, self.life));
            if is_ours {
                state.acknowledge(self.position);
            }
        })
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        let now = self.queue.shared.clock.now();
        self.change(|state, is_ours| {
            let due = Instant::now() + delay;
            let is_unchanged = delay.is_zero() && self.original.delivered_history(state.kind, now) == history;
            if state.kind == QueueKind::Embedded || is_unchanged {
                if let Some(job) = state.jobs.get_mut(&self.position).filter(|_| is_ours) {
                    if state.kind == QueueKind::Embedded {
                        job.history = history;
                    }
                    job.redelivered = true;
                    job.due = due;
                    job.holder = None;
                }
                return;
            }
            // A copy with the history in its headers. Then the original is acknowledged.
            state.append(QueuedJob {
                history,
                has_headers: true,
                redelivered: false,
                due,
                holder: None,
                ..(*self.original).clone()
            });
            if !is_ours || state.acknowledge(self.position) {
                state.duplicated.insert(self.original.body.clone());
            }
        })
    }
}
