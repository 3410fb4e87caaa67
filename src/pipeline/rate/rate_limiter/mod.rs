//! Rate limiter: decides when a request may be sent. All requests of this worker wait here: creations, look-ups,
//! probes.
//!
//! A request first waits for the front of the lane queue ([`RateLimiter::reach_front`]), then for its rate permit
//! ([`FrontRequest::acquire`]). [`RateLimiter::acquire`] does both.
//!
//! **Invariants**
//! - No rolling second holds more requests than the rate, also while the rate changes: a second that sees two rates
//!   holds no more than the larger one, and from the first request after the change on no more than the new one.
//! - Waiting isn't an attempt.

mod config;
mod report;
mod state;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::config::RateLimitConfig;
pub(crate) use self::report::{BulkHold, EffectiveRate};
use self::state::RateLimiterState;
use crate::domain::{Lane, Timestamp};
use crate::pipeline::rate::lanes::{FrontOfQueue, LaneQueue};
use crate::pipeline::rate::share::FleetShare;
use crate::telemetry::{Metrics, RateLowered};

pub(crate) struct RateLimiter {
    queue: LaneQueue,
    state: Mutex<RateLimiterState>,
    changed: Notify,
}

impl RateLimiter {
    /// Limits to this many requests in any rolling second; `None`: no limit. The rest is as in
    /// [`RateLimitConfig::default`].
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn new(per_second: Option<NonZeroU32>) -> Self {
        Self::with(RateLimitConfig { rate: per_second, ..RateLimitConfig::default() })
    }

    /// Limits as configured.
    pub(crate) fn with(config: RateLimitConfig) -> Self {
        let queue = LaneQueue::new(config.bulk_share_percent);
        let rate_limiter = Self { queue, state: Mutex::new(RateLimiterState::new(config)), changed: Notify::new() };
        rate_limiter.update(|_| ());
        rate_limiter
    }

    /// Reports the rate in these metrics from now on.
    pub(crate) fn report_to(&self, metrics: Metrics) {
        self.update(|state| state.metrics = Some(metrics));
    }

    /// Updates the metrics: a lowered rate climbs, and a count of workers expires, without a request.
    pub(crate) fn report_now(&self) {
        self.lock().report();
    }

    /// Shares the rate with other workers: nothing is sent before [`RateLimiter::counted`] gave their number.
    pub(crate) fn share_with_fleet(&self) {
        self.update(|state| state.share = Some(FleetShare::default()));
    }

    /// Passes a count of the workers, this one included, and when it was asked for.
    pub(crate) fn counted(&self, asked: Instant, workers: NonZeroU32) {
        self.update(|state| {
            if let Some(share) = &mut state.share {
                share.counted(asked, workers);
            }
        });
    }

    /// Changes the rate. Requests that were sent before count.
    #[cfg(test)]
    pub(crate) fn set_rate(&self, per_second: Option<NonZeroU32>) {
        self.update(|state| state.config.rate = per_second);
    }

    /// Replaces the settings. Requests that were sent before count.
    pub(crate) fn set(&self, config: RateLimitConfig) {
        self.queue.set_bulk_share(config.bulk_share_percent);
        self.update(|state| state.config = config);
    }

    /// Returns bulk's share, for lane pickers in front of the rate limiter.
    pub(crate) fn bulk_share_percent(&self) -> u32 {
        self.lock().config.bulk_share_percent
    }

    /// Lowers the rate after a 429 without `Retry-After`.
    pub(crate) fn throttled(&self) {
        if let Some(per_second) = self.update(|state| state.throttled(Instant::now())) {
            RateLowered { per_second }.emit();
        }
    }

    /// Returns how many requests may be sent now.
    pub(crate) fn effective_rate(&self) -> EffectiveRate {
        self.lock().effective_rate(Instant::now())
    }

    /// Adds users who were created at that time, before this process started, to the daily quota.
    pub(crate) fn remember_created(&self, at: Timestamp, users: u64) {
        self.update(|state| state.day.remember(at, users));
    }

    /// Returns why bulk is held now, if it is.
    pub(crate) fn bulk_hold(&self, now: Timestamp) -> Option<BulkHold> {
        self.lock().bulk_hold(now)
    }

    /// Reserves a place in the daily quota for a creation that is about to be sent. [`RateLimiter::end_creation`] ends
    /// the reservation.
    ///
    /// # Errors
    /// The lane is held.
    pub(crate) fn begin_creation(&self, lane: Lane, now: Timestamp) -> Result<(), BulkHold> {
        let mut state = self.lock();
        match state.bulk_hold(now) {
            Some(hold) if lane == Lane::Bulk => Err(hold),
            _ => {
                state.day.begin();
                Ok(())
            }
        }
    }

    /// Ends the reservation of a creation that was answered or not sent.
    pub(crate) fn end_creation(&self, now: Timestamp, may_have_created: bool) {
        self.lock().day.end(now, may_have_created);
    }

    /// Waits until one request may be sent. First come, first served within a lane. Cancel-safe.
    pub(crate) async fn acquire(&self, lane: Lane) {
        let mut front = self.reach_front(lane).await;
        while front.unless_preempted(front.acquire()).await.is_none() {
            front = front.yield_to_signup().await;
        }
    }

    /// Waits for the front of the lane queue, without a rate permit yet. Cancel-safe.
    pub(crate) async fn reach_front(&self, lane: Lane) -> FrontRequest<'_> {
        FrontRequest { rate_limiter: self, front: self.queue.reach_front(lane).await }
    }

    fn update<T>(&self, change: impl FnOnce(&mut RateLimiterState) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.report();
        drop(state);
        self.changed.notify_waiters();
        result
    }

    fn lock(&self) -> MutexGuard<'_, RateLimiterState> {
        // Every critical section leaves the state consistent, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request at the front of the lane queue. Dropping it lets the next one go to the front.
#[must_use]
pub(crate) struct FrontRequest<'l> {
    rate_limiter: &'l RateLimiter,
    front: FrontOfQueue<'l>,
}

impl FrontRequest<'_> {
    /// Waits for something at the front. `None`: a signup came meanwhile, which should go first
    /// ([`FrontRequest::yield_to_signup`]).
    pub(crate) async fn unless_preempted<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            it = what => Some(it),
            () = self.front.preempted() => None,
        }
    }

    /// Lets the waiting signups go first, and waits for the front again. Cancel-safe.
    pub(crate) async fn yield_to_signup(self) -> Self {
        FrontRequest { rate_limiter: self.rate_limiter, front: self.front.yield_to_signup().await }
    }

    /// Waits for the rate permit: when this returns, the request may be sent. Cancel-safe.
    pub(crate) async fn acquire(&self) {
        loop {
            let changed = self.rate_limiter.changed.notified();
            let acquired = self.rate_limiter.lock().try_acquire(Instant::now());
            match acquired {
                Ok(()) => return,
                Err(until) => until.wait(changed).await,
            }
        }
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateLimiter")
    }
}

#[cfg(test)]
mod tests;
