//! A queue in memory: the contract of the durable queues, without a disk.
//!
//! It holds what a crash leaves behind: a worker dies and restarts when its sources and handles are dropped and new
//! ones are made. It remembers what the embedded queue remembers, recorded intents, or only what RabbitMQ remembers
//! ([`MemoryQueue::like_a_broker`]): the `redelivered` flag and headers.
//!
//! | file | holds |
//! | --- | --- |
//! | this file | the queue, as tests see it |
//! | `state` | the jobs on the queue, and what a delivery reports about them |
//! | `source` | delivers the jobs of one lane |
//! | `handle` | settles a delivery |

mod handle;
mod source;
mod state;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::handle::MemoryHandle;
pub use self::source::MemorySource;
use self::state::{AckLoss, MemoryQueueState, QueueKind, QueuedJob};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, Lane, Timestamp};

/// A queue in memory. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    shared: Arc<MemoryQueueShared>,
}

#[derive(Debug)]
struct MemoryQueueShared {
    clock: Clock,
    state: Mutex<MemoryQueueState>,
    changed: Notify,
}

impl MemoryQueue {
    /// Returns an empty queue that records intents, like the embedded queue.
    pub fn new(clock: Clock) -> Self {
        let shared = MemoryQueueShared { clock, state: Mutex::default(), changed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Returns an empty queue like RabbitMQ: it records no intent, and jobs of a worker that crashed are redelivered
    /// behind the others.
    pub fn like_a_broker(clock: Clock) -> Self {
        let queue = Self::new(clock);
        queue.lock().kind = QueueKind::Broker;
        queue
    }

    /// Loses this share of the acknowledgements from now on, so that settled jobs are delivered again. A broker's only.
    pub fn lose_acks(&self, share: f64, seed: u64) {
        self.lock().ack_loss = Some(AckLoss { rng: fastrand::Rng::with_seed(seed), share });
    }

    /// Adds a job.
    pub fn push(&self, lane: Lane, body: impl Into<Vec<u8>>) {
        self.add(lane, body.into(), true);
    }

    /// Adds a job whose publisher didn't set a timestamp.
    pub fn push_undated(&self, lane: Lane, body: impl Into<Vec<u8>>) {
        self.add(lane, body.into(), false);
    }

    fn add(&self, lane: Lane, body: Vec<u8>, is_dated: bool) {
        let mut state = self.lock();
        let mut now = self.shared.clock.now();
        if state.kind == QueueKind::Broker {
            // The timestamp of an AMQP message is in whole seconds.
            now = Timestamp::from_unix_ms(now.unix_ms() / 1_000 * 1_000);
        }
        state.append(QueuedJob {
            lane,
            body,
            history: History::new(now),
            due: Instant::now(),
            holder: None,
            redelivered: false,
            is_dated,
            has_headers: false,
        });
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Returns a source for a lane of the only worker.
    pub fn source(&self, lane: Lane) -> MemorySource {
        self.source_of(0, lane)
    }

    /// Returns a source for a lane of one of several workers.
    pub fn source_of(&self, worker: u32, lane: Lane) -> MemorySource {
        MemorySource::new(self.clone(), worker, lane)
    }

    /// The only worker crashes.
    pub fn crash(&self) {
        self.crash_of(0);
    }

    /// A worker crashes, or its connection breaks: its jobs wait again, and its handles settle nothing any more.
    /// Returns the bodies of these jobs.
    pub fn crash_of(&self, worker: u32) -> Vec<Vec<u8>> {
        let bodies = self.lock().crash(worker);
        self.shared.changed.notify_waiters();
        bodies
    }

    /// Returns whether no job waits or is in progress.
    pub fn is_empty(&self) -> bool {
        self.lock().jobs.is_empty()
    }

    /// Returns the most jobs that any worker had in progress at once.
    pub fn in_progress_max(&self) -> usize {
        self.lock().in_progress_max.values().copied().max().unwrap_or(0)
    }

    /// Returns the bodies of jobs whose acknowledgement was lost since the last call.
    pub fn take_lost_acks(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.lock().lost_acks)
    }

    /// Returns the bodies of jobs that were requeued as a copy while the acknowledgement of the original was lost, so
    /// that they were on the queue twice.
    pub fn duplicated(&self) -> BTreeSet<Vec<u8>> {
        self.lock().duplicated.clone()
    }

    /// Returns the events of finished jobs, in order.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Returns for each event the worker that reported it, and how often that one had crashed before.
    pub fn reporters(&self) -> Vec<(u32, u32)> {
        self.lock().reporters.clone()
    }

    /// Returns the number of dead letters.
    pub fn dead(&self) -> usize {
        self.lock().dead.len()
    }

    /// Returns the histories of unfinished jobs, in the order of their arrival.
    pub fn waiting(&self) -> Vec<History> {
        self.lock().jobs.values().map(|job| job.history).collect()
    }

    fn lock(&self) -> MutexGuard<'_, MemoryQueueState> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
