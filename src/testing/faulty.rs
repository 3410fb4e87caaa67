//! Faults around any port, for simulations: delays, refusals, and the death of the process between any two steps.
//!
//! The wrappers know nothing of what they wrap. What goes wrong is decided by a [`Life`], whose chance is seeded. After
//! its death no step of it does anything any more: it waits for ever, as the steps of a dead process do, until whoever
//! runs the simulation drops it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::domain::decide::History;
use crate::domain::{Answer, Event, IdempotencyKey, Timestamp};
use crate::ports::{Delivery, JobSource, ListError, Page, PartnerApi, QueueError, Settle, UserList};

/// What may go wrong in one life of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Troubles {
    /// Seed of the chance.
    pub seed: u64,
    /// The step at which it dies; `None`: it doesn't.
    pub dies_at_step: Option<u64>,
    /// Share of the steps that take a while.
    pub delays: f64,
    /// Longest of these whiles.
    pub delay_max: Duration,
    /// Share of the steps of the queue that are refused.
    pub queue_errors: f64,
}

/// One life of a process. Clones are the same life.
#[derive(Debug, Clone)]
pub struct Life(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    troubles: Troubles,
    state: Mutex<State>,
    dead: CancellationToken,
}

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    steps: u64,
    /// The step at which it died, in words.
    last_step: &'static str,
    is_calm: bool,
}

impl Life {
    /// Begins a life.
    pub fn new(troubles: Troubles) -> Self {
        let rng = fastrand::Rng::with_seed(troubles.seed);
        let state = Mutex::new(State { rng, steps: 0, last_step: "", is_calm: false });
        Self(Arc::new(Shared { troubles, state, dead: CancellationToken::new() }))
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        self.lock().is_calm = true;
    }

    /// Kills it.
    pub fn kill(&self) {
        self.0.dead.cancel();
    }

    /// Waits for its death. Returns the step at which it died.
    pub async fn death(&self) -> &'static str {
        self.0.dead.cancelled().await;
        self.lock().last_step
    }

    /// One step: may take a while, and may be the last.
    pub async fn step(&self, name: &'static str) {
        let delay = {
            let mut state = self.lock();
            state.steps += 1;
            let Troubles { dies_at_step, delays, delay_max, .. } = self.0.troubles;
            let is_last = !state.is_calm && dies_at_step == Some(state.steps);
            if is_last {
                state.last_step = name;
                self.0.dead.cancel();
            }
            (!state.is_calm && state.rng.f64() < delays).then(|| delay_max.mul_f64(state.rng.f64()))
        };
        if let Some(delay) = delay
            && !self.0.dead.is_cancelled()
        {
            sleep(delay).await;
        }
        self.unless_dead().await;
    }

    async fn unless_dead(&self) {
        if self.0.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// A step of the queue, which may be refused: it has not happened then.
    async fn queue_step(&self, name: &'static str) -> Result<(), QueueError> {
        self.step(name).await;
        let mut state = self.lock();
        if !state.is_calm && state.rng.f64() < self.0.troubles.queue_errors {
            return Err(QueueError(format!("simulated: {name}")));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source with faults.
#[derive(Debug)]
pub struct FaultySource<S> {
    inner: S,
    life: Life,
    /// When the next job may come. Kept here, so that dropping the future of `receive` doesn't ask chance again.
    ready_at: Option<Instant>,
}

impl<S> FaultySource<S> {
    /// Wraps a source.
    pub fn new(inner: S, life: Life) -> Self {
        Self { inner, life, ready_at: None }
    }
}

impl<S: JobSource> JobSource for FaultySource<S> {
    type Handle = FaultyHandle<S::Handle>;

    async fn receive(&mut self) -> Result<Option<Delivery<Self::Handle>>, QueueError> {
        let ready_at = *self.ready_at.get_or_insert_with(|| {
            let Troubles { delays, delay_max, .. } = self.life.0.troubles;
            let mut state = self.life.lock();
            let is_late = !state.is_calm && state.rng.f64() < delays;
            Instant::now() + if is_late { delay_max.mul_f64(state.rng.f64()) } else { Duration::ZERO }
        });
        if ready_at > Instant::now() {
            sleep_until(ready_at).await;
        }
        self.life.unless_dead().await;
        let received = tokio::select! {
            biased;
            // Who dies while it waits on one lane takes nothing from the other either.
            () = self.life.0.dead.cancelled() => std::future::pending().await,
            received = self.inner.receive() => received?,
        };
        self.ready_at = None;
        // From here on nothing may be awaited but death: the job is in hand.
        self.life.step_at_once("received").await;
        Ok(received.map(|Delivery { lane, body, message_id, history, handle }| {
            let handle = FaultyHandle { inner: handle, life: self.life.clone() };
            Delivery { lane, body, message_id, history, handle }
        }))
    }
}

impl Life {
    /// A step that takes no time.
    async fn step_at_once(&self, name: &'static str) {
        {
            let mut state = self.lock();
            state.steps += 1;
            if !state.is_calm && self.0.troubles.dies_at_step == Some(state.steps) {
                state.last_step = name;
                self.0.dead.cancel();
            }
        }
        self.unless_dead().await;
    }
}

/// A handle with faults.
#[derive(Debug)]
pub struct FaultyHandle<H> {
    inner: H,
    life: Life,
}

impl<H: Settle> Settle for FaultyHandle<H> {
    fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }

    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        self.life.queue_step("before record_intent").await?;
        self.inner.record_intent(now).await?;
        self.life.step("after record_intent").await;
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.life.queue_step("before retract_intent").await?;
        self.inner.retract_intent().await?;
        self.life.step("after retract_intent").await;
        Ok(())
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        self.life.queue_step("before finish").await?;
        self.inner.finish(event).await?;
        self.life.step("after finish").await;
        Ok(())
    }

    fn nearest_delay(&self, delay: Duration) -> Duration {
        self.inner.nearest_delay(delay)
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        self.life.queue_step("before put_back").await?;
        self.inner.requeue(history, delay).await?;
        self.life.step("after put_back").await;
        Ok(())
    }
}

/// A partner with faults on our side of the wire.
#[derive(Debug)]
pub struct FaultyPartner<A> {
    inner: A,
    life: Life,
}

impl<A> FaultyPartner<A> {
    /// Wraps a partner.
    pub fn new(inner: A, life: Life) -> Self {
        Self { inner, life }
    }
}

impl<A: PartnerApi> PartnerApi for FaultyPartner<A> {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        // A delay here would bunch requests that left in time; only death may come between.
        self.life.step_at_once("before send").await;
        let answer = self.inner.create(key, body).await;
        self.life.step("after the answer").await;
        answer
    }
}

impl<A: UserList> UserList for FaultyPartner<A> {
    async fn page(&self, skip: u64) -> Result<Page, ListError> {
        self.life.step_at_once("before a page").await;
        let page = self.inner.page(skip).await;
        self.life.step("after a page").await;
        page
    }
}
