//! Faults around any port: delays, refusals, and the death of the process between any two steps.
//!
//! The wrappers know nothing of the adapter they wrap. A [`ProcessLife`] with seeded chance decides what goes wrong.
//! After its death no step does anything any more: it waits forever, like the steps of a process that is gone, until
//! the simulation drops it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::domain::answer::DeleteAnswer;
use crate::domain::decide::History;
use crate::domain::{Answer, Event, IdempotencyKey, ServiceId, Timestamp};
use crate::ports::{Delivery, JobSource, ListError, PartnerApi, QueueError, Settle, UserList, UserListPage};

/// What goes wrong in one life of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct LifeFaults {
    /// Seed of the chance.
    pub seed: u64,
    /// The step at which it dies; `None`: it doesn't.
    pub dies_at_step: Option<u64>,
    /// Share of the steps that are delayed.
    pub delays: f64,
    /// Longest delay.
    pub delay_max: Duration,
    /// Share of the queue's steps that fail.
    pub queue_errors: f64,
}

/// One life of a process. Clones are the same life.
#[derive(Debug, Clone)]
pub struct ProcessLife(Arc<LifeShared>);

#[derive(Debug)]
struct LifeShared {
    faults: LifeFaults,
    state: Mutex<LifeState>,
    dead: CancellationToken,
}

#[derive(Debug)]
struct LifeState {
    rng: fastrand::Rng,
    steps: u64,
    /// Name of the step at which it died.
    last_step: &'static str,
    is_calm: bool,
}

impl ProcessLife {
    /// Begins a life.
    pub fn new(faults: LifeFaults) -> Self {
        let rng = fastrand::Rng::with_seed(faults.seed);
        let state = Mutex::new(LifeState { rng, steps: 0, last_step: "", is_calm: false });
        Self(Arc::new(LifeShared { faults, state, dead: CancellationToken::new() }))
    }

    /// Nothing goes wrong from now on.
    pub fn calm(&self) {
        self.lock().is_calm = true;
    }

    /// Ends the life.
    pub fn kill(&self) {
        self.0.dead.cancel();
    }

    /// Waits for its death. Returns the step at which it died.
    pub async fn death(&self) -> &'static str {
        self.0.dead.cancelled().await;
        self.lock().last_step
    }

    /// Takes a step, which may be delayed, and may be the last.
    pub async fn step(&self, name: &'static str) {
        self.count_step(name);
        let delay = {
            let mut state = self.lock();
            let LifeFaults { delays, delay_max, .. } = self.0.faults;
            (!state.is_calm && state.rng.f64() < delays).then(|| delay_max.mul_f64(state.rng.f64()))
        };
        if let Some(delay) = delay
            && !self.0.dead.is_cancelled()
        {
            sleep(delay).await;
        }
        self.unless_dead().await;
    }

    /// Takes a step that isn't delayed.
    async fn undelayed_step(&self, name: &'static str) {
        self.count_step(name);
        self.unless_dead().await;
    }

    /// Takes a step of the queue, which may fail before it does anything.
    async fn queue_step(&self, name: &'static str) -> Result<(), QueueError> {
        self.step(name).await;
        let mut state = self.lock();
        if !state.is_calm && state.rng.f64() < self.0.faults.queue_errors {
            return Err(QueueError(format!("simulated: {name}")));
        }
        Ok(())
    }

    /// Counts a step. Dies if it is the last.
    fn count_step(&self, name: &'static str) {
        let mut state = self.lock();
        state.steps += 1;
        if !state.is_calm && self.0.faults.dies_at_step == Some(state.steps) {
            state.last_step = name;
            self.0.dead.cancel();
        }
    }

    /// Waits forever after its death.
    async fn unless_dead(&self) {
        if self.0.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, LifeState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source with faults.
#[derive(Debug)]
pub struct FaultySource<S> {
    inner: S,
    life: ProcessLife,
    /// When the next job may come. Kept here, so that dropping the future of `receive` doesn't draw chance again.
    ready_at: Option<Instant>,
}

impl<S> FaultySource<S> {
    /// Wraps a source.
    pub fn new(inner: S, life: ProcessLife) -> Self {
        Self { inner, life, ready_at: None }
    }
}

impl<S: JobSource> JobSource for FaultySource<S> {
    type Handle = FaultyHandle<S::Handle>;

    async fn receive(&mut self) -> Result<Option<Delivery<Self::Handle>>, QueueError> {
        let ready_at = *self.ready_at.get_or_insert_with(|| {
            let LifeFaults { delays, delay_max, .. } = self.life.0.faults;
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
            // A process that dies while it waits for one lane takes no job from the other either.
            () = self.life.0.dead.cancelled() => std::future::pending().await,
            received = self.inner.receive() => received?,
        };
        self.ready_at = None;
        // Dropping this future must not lose the job, so nothing is awaited from here on but death.
        self.life.undelayed_step("received").await;
        Ok(received.map(|Delivery { lane, body, message_id, history, handle }| {
            let handle = FaultyHandle { inner: handle, life: self.life.clone() };
            Delivery { lane, body, message_id, history, handle }
        }))
    }
}

/// A handle with faults.
#[derive(Debug)]
pub struct FaultyHandle<H> {
    inner: H,
    life: ProcessLife,
}

impl<H: Settle> Settle for FaultyHandle<H> {
    fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }

    fn is_dated(&self) -> bool {
        self.inner.is_dated()
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
        self.life.queue_step("before requeue").await?;
        self.inner.requeue(history, delay).await?;
        self.life.step("after requeue").await;
        Ok(())
    }
}

/// A partner with faults on this side of the network.
#[derive(Debug)]
pub struct FaultyPartner<A> {
    inner: A,
    life: ProcessLife,
}

impl<A> FaultyPartner<A> {
    /// Wraps a partner.
    pub fn new(inner: A, life: ProcessLife) -> Self {
        Self { inner, life }
    }
}

impl<A: PartnerApi> PartnerApi for FaultyPartner<A> {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        // Not delayed: a delay after the rate limiter would send requests closer together than the rate limit allows.
        self.life.undelayed_step("before send").await;
        let answer = self.inner.create(key, body).await;
        self.life.step("after the answer").await;
        answer
    }

    async fn delete(&self, key: &IdempotencyKey, user: &ServiceId) -> DeleteAnswer {
        self.life.undelayed_step("before a deletion").await;
        let answer = self.inner.delete(key, user).await;
        self.life.step("after the answer to a deletion").await;
        answer
    }
}

impl<A: UserList> UserList for FaultyPartner<A> {
    async fn page(&self, skip: u64, limit: u32) -> Result<UserListPage, ListError> {
        self.life.undelayed_step("before a page").await;
        let page = self.inner.page(skip, limit).await;
        self.life.step("after a page").await;
        page
    }
}
