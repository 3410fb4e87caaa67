//! A queue in memory, for tests and simulations: the same contract as the durable ones, without their disks.
//!
//! What a crash would leave behind is what [`MemoryQueue`] holds: dropping the sources and handles and taking
//! new sources is a worker's death and rebirth. It has the memory of the embedded queue, which records intents, or
//! that of RabbitMQ ([`MemoryQueue::like_a_broker`]), where a `redelivered` flag and headers are all there is.

use std::collections::{BTreeMap, BTreeSet};
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
    memory: Memory,
    /// By position: what comes back to a broker goes behind what nobody has touched.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// By worker: raised when its connection or itself is gone. Handles of earlier lives settle nothing.
    lives: BTreeMap<u32, u32>,
    /// By worker: most jobs that were in its hand at once.
    in_hand_max: BTreeMap<u32, usize>,
    /// Acknowledgements that get lost.
    lost_acks: Option<Dice>,
    acks_lost: Vec<Vec<u8>>,
    copied: BTreeSet<Vec<u8>>,
    events: Vec<Event>,
    dead: Vec<Event>,
}

#[derive(Debug)]
struct Dice {
    rng: fastrand::Rng,
    share: f64,
}

/// What a queue remembers of a job in hand.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// The intent, as the embedded queue does.
    #[default]
    Intent,
    /// That it was delivered before, as RabbitMQ does.
    Redelivered,
}

#[derive(Clone)]
struct Waiting {
    lane: Lane,
    body: Vec<u8>,
    history: History,
    due: Instant,
    /// The worker that has it in hand.
    holder: Option<u32>,
    redelivered: bool,
    /// Whether its publisher said when it was published.
    is_dated: bool,
    /// Whether a worker has put it back, so that headers tell its history.
    has_headers: bool,
}

/// How old a redelivered message is taken to be that carries no time, as on RabbitMQ.
const UNKNOWN_AGE: Duration = Duration::from_secs(86_400);

impl Waiting {
    /// What a delivery says that the job went through.
    fn history(&self, memory: Memory, now: Timestamp) -> History {
        if memory == Memory::Intent {
            return self.history;
        }
        // Whoever had it in hand may have sent it a moment ago.
        let redelivered_at = self.redelivered.then_some(now);
        if self.has_headers && self.history.first_sent_at.is_some() {
            return History { last_sent_at: redelivered_at.or(self.history.last_sent_at), ..self.history };
        }
        let enqueued_at = match (self.is_dated || self.has_headers, self.redelivered) {
            (true, _) => self.history.enqueued_at,
            (false, true) => now.minus(UNKNOWN_AGE),
            (false, false) => now,
        };
        let sent_at = self.redelivered.then_some(enqueued_at);
        History { enqueued_at, first_sent_at: sent_at, last_sent_at: redelivered_at, ..self.history }
    }
}

debug_redacted!(Waiting);

impl MemoryQueue {
    /// An empty queue.
    pub fn new(clock: Clock) -> Self {
        Self { shared: Arc::new(Shared { clock, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// The same, with the memory of RabbitMQ: no intent is recorded, and whoever was in hand at a crash comes back as
    /// redelivered, behind the others.
    pub fn like_a_broker(clock: Clock) -> Self {
        let queue = Self::new(clock);
        queue.lock().memory = Memory::Redelivered;
        queue
    }

    /// A broker loses this share of the acknowledgements, so that what was settled comes again.
    pub fn losing_acks(&self, share: f64, seed: u64) {
        self.lock().lost_acks = Some(Dice { rng: fastrand::Rng::with_seed(seed), share });
    }

    /// Puts a job in.
    pub fn push(&self, lane: Lane, body: impl Into<Vec<u8>>) {
        self.put(lane, body.into(), true);
    }

    /// Puts in a job whose publisher didn't say when.
    pub fn push_undated(&self, lane: Lane, body: impl Into<Vec<u8>>) {
        self.put(lane, body.into(), false);
    }

    fn put(&self, lane: Lane, body: Vec<u8>, is_dated: bool) {
        let mut state = self.lock();
        let mut now = self.shared.clock.now();
        if state.memory == Memory::Redelivered {
            // The timestamp of an AMQP message is in whole seconds.
            now = Timestamp::from_unix_ms(now.unix_ms() / 1_000 * 1_000);
        }
        let history = History::new(now);
        let (due, holder) = (Instant::now(), None);
        state.append(Waiting { lane, body, history, due, holder, redelivered: false, is_dated, has_headers: false });
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// A source for a lane.
    pub fn source(&self, lane: Lane) -> MemorySource {
        self.source_of(0, lane)
    }

    /// A source for a lane and one of several workers.
    pub fn source_of(&self, worker: u32, lane: Lane) -> MemorySource {
        MemorySource { queue: self.clone(), worker, lane, ends: true }
    }

    /// The only worker has died.
    pub fn crash(&self) {
        self.crash_of(0);
    }

    /// A worker has died, or its connection has: what it had in hand waits again, and its handles settle nothing any
    /// more. Returns the bodies of what it had in hand.
    pub fn crash_of(&self, worker: u32) -> Vec<Vec<u8>> {
        let mut state = self.lock();
        *state.lives.entry(worker).or_default() += 1;
        let memory = state.memory;
        let held = state.waiting.extract_if(.., |_, waiting| waiting.holder == Some(worker)).collect::<Vec<_>>();
        let bodies = held.iter().map(|(_, waiting)| waiting.body.clone()).collect();
        for (position, mut waiting) in held {
            waiting.holder = None;
            waiting.redelivered = true;
            match memory {
                Memory::Intent => drop(state.waiting.insert(position, waiting)),
                Memory::Redelivered => state.append(waiting),
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
        bodies
    }

    /// Whether no job waits or is in hand.
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Most jobs that any worker had in hand at once.
    pub fn in_hand_max(&self) -> usize {
        self.lock().in_hand_max.values().copied().max().unwrap_or(0)
    }

    /// The bodies of the jobs whose acknowledgement was lost, since the last call.
    pub fn take_acks_lost(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.lock().acks_lost)
    }

    /// The bodies of the jobs that were put back as a copy while the acknowledgement of the original was lost, so that
    /// they were on the queue twice.
    pub fn copied(&self) -> BTreeSet<Vec<u8>> {
        self.lock().copied.clone()
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

impl State {
    fn append(&mut self, waiting: Waiting) {
        self.waiting.insert(self.next, waiting);
        self.next += 1;
    }

    fn life(&self, worker: u32) -> u32 {
        self.lives.get(&worker).copied().unwrap_or(0)
    }

    /// Takes a job off the queue, unless the acknowledgement is lost: then it comes again. Says whether it does.
    fn acknowledge(&mut self, position: u64) -> bool {
        let is_lost = self.lost_acks.as_mut().is_some_and(|dice| dice.rng.f64() < dice.share);
        if let Some(mut waiting) = self.waiting.remove(&position)
            && is_lost
        {
            self.acks_lost.push(waiting.body.clone());
            waiting.holder = None;
            waiting.redelivered = true;
            self.append(waiting);
        }
        is_lost
    }
}

/// The jobs of one lane; ends when none waits and none is in hand.
#[derive(Debug)]
pub struct MemorySource {
    queue: MemoryQueue,
    worker: u32,
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
        let (worker, lane) = (self.worker, self.lane);
        let (life, memory, now) = (state.life(worker), state.memory, self.queue.shared.clock.now());
        let mut jobs = state.waiting.iter_mut().filter(|(_, waiting)| waiting.lane == lane).peekable();
        if jobs.peek().is_none() {
            return if self.ends { Next::Drained } else { Next::WhenChanged };
        }
        match jobs.filter(|(_, waiting)| waiting.holder.is_none()).min_by_key(|(id, waiting)| (waiting.due, **id)) {
            None => Next::WhenChanged,
            Some((_, waiting)) if waiting.due > Instant::now() => Next::At(waiting.due),
            Some((id, waiting)) => {
                waiting.holder = Some(worker);
                let handle = MemoryHandle {
                    queue: self.queue.clone(),
                    id: *id,
                    worker,
                    life,
                    original: Box::new(waiting.clone()),
                };
                let history = waiting.history(memory, now);
                let body = waiting.body.clone();
                let in_flight = state.waiting.values().filter(|waiting| waiting.holder == Some(worker)).count();
                let most = state.in_hand_max.entry(worker).or_default();
                *most = (*most).max(in_flight);
                Next::Job(Delivery { lane, body: body.into(), message_id: None, history, handle })
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
    worker: u32,
    life: u32,
    original: Box<Waiting>,
}

impl MemoryHandle {
    /// Changes the queue. `is_ours`: whether the delivery is still this handle's; a broker takes what is published by a
    /// worker whose delivery it has taken back already.
    fn change(&self, change: impl FnOnce(&mut State, bool)) -> Result<(), QueueError> {
        let mut state = self.queue.lock();
        let is_ours = state.life(self.worker) == self.life;
        if !is_ours && state.memory == Memory::Intent {
            return Err(QueueError("the worker of this delivery has died".to_owned()));
        }
        change(&mut state, is_ours);
        drop(state);
        self.queue.shared.changed.notify_waiters();
        Ok(())
    }

    /// Changes what is on record of the intent.
    fn change_intent(&self, change: impl FnOnce(History) -> History) -> Result<(), QueueError> {
        self.change(|state, _| {
            if let Some(waiting) = state.waiting.get_mut(&self.id).filter(|_| state.memory == Memory::Intent) {
                waiting.history = change(waiting.history);
            }
        })
    }
}

impl Settle for MemoryHandle {
    fn is_ours(&self) -> bool {
        let state = self.queue.lock();
        state.memory == Memory::Intent || state.life(self.worker) == self.life
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
            if is_ours {
                state.acknowledge(self.id);
            }
        })
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        let now = self.queue.shared.clock.now();
        self.change(|state, is_ours| {
            let mut waiting = (*self.original).clone();
            let is_untouched = delay.is_zero() && waiting.history(state.memory, now) == history;
            if state.memory == Memory::Intent || is_untouched {
                if let Some(waiting) = state.waiting.get_mut(&self.id).filter(|_| is_ours) {
                    if state.memory == Memory::Intent {
                        waiting.history = history;
                    }
                    waiting.redelivered = true;
                    waiting.due = Instant::now() + delay;
                    waiting.holder = None;
                }
                return;
            }
            // A copy with the history in its headers; then the original is acknowledged.
            waiting.history = history;
            waiting.has_headers = true;
            waiting.redelivered = false;
            waiting.due = Instant::now() + delay;
            waiting.holder = None;
            state.append(waiting);
            if !is_ours || state.acknowledge(self.id) {
                state.copied.insert(self.original.body.clone());
            }
        })
    }
}
