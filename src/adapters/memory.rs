//! A queue in memory, for tests and simulations: the same contract as the durable ones, without their disks.
//!
//! What a crash would leave behind is what [`MemoryQueue`] holds: dropping the sources and handles and taking
//! new sources is a worker's death and rebirth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{Event, EventType, Lane, Timestamp};
use crate::ports::{Delivery, JobSource, QueueError, Settle};

/// The queue. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// Raised at each rebirth; handles of earlier lives settle nothing.
    life: u32,
    events: Vec<Event>,
    dead: Vec<Event>,
}

struct Waiting {
    lane: Lane,
    body: Vec<u8>,
    history: History,
    due: Instant,
    in_hand: bool,
}

debug_redacted!(Waiting);

impl MemoryQueue {
    /// An empty queue.
    pub fn new(clock: Clock) -> Self {
        Self { shared: Arc::new(Shared { clock, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Puts a job in.
    pub fn push(&self, lane: Lane, body: impl Into<Vec<u8>>) {
        let history = History::new(self.shared.clock.now());
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, Waiting { lane, body: body.into(), history, due: Instant::now(), in_hand: false });
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// A source for a lane.
    pub fn source(&self, lane: Lane) -> MemorySource {
        MemorySource { queue: self.clone(), lane, ends: true }
    }

    /// The worker has died: what it had in hand waits again, and its handles settle nothing any more.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.life += 1;
        for waiting in state.waiting.values_mut() {
            waiting.in_hand = false;
        }
    }

    /// The events of finished jobs, in order.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// How many jobs are dead letters.
    pub fn dead(&self) -> usize {
        self.lock().dead.len()
    }

    /// What the jobs went through that are not over yet, in the order of their arrival.
    pub fn waiting(&self) -> Vec<History> {
        self.lock().waiting.values().map(|waiting| waiting.history).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The jobs of one lane; ends when none waits and none is in hand.
#[derive(Debug)]
pub struct MemorySource {
    queue: MemoryQueue,
    lane: Lane,
    ends: bool,
}

impl MemorySource {
    /// Waits for more jobs instead of ending.
    #[must_use]
    pub fn for_ever(self) -> Self {
        Self { ends: false, ..self }
    }
}

enum Next {
    Job(Delivery<MemoryHandle>),
    At(Instant),
    WhenChanged,
    Drained,
}

impl MemorySource {
    fn next(&self) -> Next {
        let mut state = self.queue.lock();
        let life = state.life;
        let lane = self.lane;
        let mut jobs = state.waiting.iter_mut().filter(|(_, waiting)| waiting.lane == lane).peekable();
        if jobs.peek().is_none() {
            return if self.ends { Next::Drained } else { Next::WhenChanged };
        }
        match jobs.filter(|(_, waiting)| !waiting.in_hand).min_by_key(|(id, waiting)| (waiting.due, **id)) {
            None => Next::WhenChanged,
            Some((_, waiting)) if waiting.due > Instant::now() => Next::At(waiting.due),
            Some((id, waiting)) => {
                waiting.in_hand = true;
                let handle = MemoryHandle { queue: self.queue.clone(), id: *id, life };
                Next::Job(Delivery {
                    lane,
                    body: waiting.body.clone(),
                    message_id: None,
                    history: waiting.history,
                    handle,
                })
            }
        }
    }
}

impl JobSource for MemorySource {
    type Handle = MemoryHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<MemoryHandle>>, QueueError> {
        loop {
            let changed = self.queue.shared.changed.notified();
            match self.next() {
                Next::Job(delivery) => return Ok(Some(delivery)),
                Next::Drained => return Ok(None),
                Next::WhenChanged => changed.await,
                Next::At(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = changed => {}
                },
            }
        }
    }
}

/// A job in hand.
#[derive(Debug)]
pub struct MemoryHandle {
    queue: MemoryQueue,
    id: u64,
    life: u32,
}

impl MemoryHandle {
    fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), QueueError> {
        let mut state = self.queue.lock();
        if state.life != self.life {
            return Err(QueueError("the worker of this delivery has died".to_owned()));
        }
        change(&mut state);
        drop(state);
        self.queue.shared.changed.notify_waiters();
        Ok(())
    }
}

impl Settle for MemoryHandle {
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        self.change(|state| {
            if let Some(waiting) = state.waiting.get_mut(&self.id) {
                waiting.history = waiting.history.with_send(now);
            }
        })
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.change(|state| {
            if let Some(waiting) = state.waiting.get_mut(&self.id) {
                waiting.history = History { first_sent_at: None, last_sent_at: None, ..waiting.history };
            }
        })
    }

    async fn finish(self, event: Event) -> Result<(), QueueError> {
        self.change(|state| {
            state.waiting.remove(&self.id);
            if event.event_type == EventType::Failed {
                state.dead.push(event.clone());
            }
            state.events.push(event);
        })
    }

    async fn put_back(self, history: History, delay: Duration) -> Result<(), QueueError> {
        self.change(|state| {
            if let Some(waiting) = state.waiting.get_mut(&self.id) {
                waiting.history = history;
                waiting.due = Instant::now() + delay;
                waiting.in_hand = false;
            }
        })
    }
}
