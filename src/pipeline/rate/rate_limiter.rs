//! The pace: when a request may leave. One place for everything that this worker sends: creations, look-ups, probes.
//!
//! | module | decides |
//! | --- | --- |
//! | [`lanes`](crate::pipeline::rate::lanes) | who is next |
//! | `limiter` | how many in a second and in a minute |
//! | [`share`](crate::pipeline::rate::share) | which part of that is this worker's |
//! | [`adapt`](crate::pipeline::rate::adapt) | what a 429 without advice takes away |
//! | [`hours`](crate::pipeline::rate::hours), `day` | whether a migration may create users now |
//!
//! **Invariants**
//! - No rolling second holds more requests than the rate, also while it is being changed: a second that sees both holds
//!   no more than the larger, and from the first request after a change on no more than the new one.
//! - Waiting is not an attempt.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::domain::{Lane, Timestamp};
use crate::pipeline::rate::adapt::{AdaptiveRate, AdaptiveRateConfig};
use crate::pipeline::rate::day::DailyQuota;
use crate::pipeline::rate::hours::ActiveHours;
use crate::pipeline::rate::lanes::{Head, Line};
use crate::pipeline::rate::limiter::{RateBound, RateBounds, RollingLimiter};
use crate::pipeline::rate::share::{Part, Share};
use crate::telemetry::{Metrics, RateLowered};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A level that climbs is followed in steps of this share: a new limiter for each request would be waste.
const STEP: f64 = 0.01;

/// The share of `bulk` where nothing else is set.
pub(crate) const BULK_SHARE_PERCENT: u32 = 10;

/// Everything that can be set. All of it can be changed while the worker runs, with [`RateLimiter::set`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateLimitConfig {
    /// Most requests in any rolling second; `None`: no limit.
    pub rate: Option<NonZeroU32>,
    /// Most requests in any rolling minute; `None`: no limit.
    pub rate_per_minute: Option<NonZeroU32>,
    /// How it yields to 429s.
    pub adapt: AdaptiveRateConfig,
    /// Of the turns, the share of `bulk` while `signup` is never empty.
    pub bulk_share_percent: u32,
    /// `bulk` is held once so many users were created in 24 hours, by either lane; `None`: no limit.
    pub per_day: Option<NonZeroU64>,
    /// `bulk` is held outside of these; `None`: never.
    pub hours: Option<ActiveHours>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            rate: None,
            rate_per_minute: None,
            adapt: AdaptiveRateConfig::default(),
            bulk_share_percent: BULK_SHARE_PERCENT,
            per_day: None,
            hours: None,
        }
    }
}

/// Why `bulk` is held, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BulkHold {
    /// It is outside of the active hours.
    ActiveHours {
        /// When they begin.
        until: Timestamp,
        /// The same as people read it where the hours are set, with date and zone.
        local: String,
    },
    /// The day's users have been created.
    DailyQuota {
        /// When there is room for the next.
        until: Timestamp,
    },
}

impl BulkHold {
    /// Until when, as far as is known now.
    pub(crate) const fn until(&self) -> Timestamp {
        match self {
            Self::ActiveHours { until, .. } | Self::DailyQuota { until } => *until,
        }
    }

    /// Its name in labels and answers.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::ActiveHours { .. } => "active_hours",
            Self::DailyQuota { .. } => "per_day",
        }
    }
}

impl fmt::Display for BulkHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActiveHours { local, .. } => write!(f, "outside of the active hours until {local}"),
            Self::DailyQuota { until } => {
                write!(f, "as many users as per_day allows were created; going on at {until}")
            }
        }
    }
}

/// How many requests may leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Allowed {
    /// There is no limit.
    AnyNumber,
    /// So many in a second, in the long run.
    PerSecond(f64),
    /// None: the workers that share the pace are being counted.
    NotYet,
}

impl Allowed {
    /// As metrics and the status page show it: 0 is any number; `None`: it isn't known yet.
    pub(crate) const fn shown(self) -> Option<f64> {
        match self {
            Self::AnyNumber => Some(0.0),
            Self::PerSecond(per_second) => Some(per_second),
            Self::NotYet => None,
        }
    }
}

/// See the module.
pub(crate) struct RateLimiter {
    line: Line,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    config: RateLimitConfig,
    /// `None`: this worker is alone by nature.
    share: Option<Share>,
    adapt: AdaptiveRate,
    limiter: RollingLimiter,
    day: DailyQuota,
    metrics: Option<Metrics>,
}

impl RateLimiter {
    /// At most this many requests in any rolling second; `None`: no limit. Everything else as in
    /// [`RateLimitConfig::default`].
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn new(per_second: Option<NonZeroU32>) -> Self {
        Self::with(RateLimitConfig { rate: per_second, ..RateLimitConfig::default() })
    }

    /// As it is set.
    pub(crate) fn with(config: RateLimitConfig) -> Self {
        let now = Instant::now();
        let line = Line::new(config.bulk_share_percent);
        let state = State {
            share: None,
            adapt: AdaptiveRate::new(config.adapt),
            limiter: RollingLimiter::new(now, RateBounds::default()),
            day: DailyQuota::default(),
            metrics: None,
            config,
        };
        let rate_limiter = Self { line, state: Mutex::new(state), changed: Notify::new() };
        rate_limiter.update(|_| ());
        rate_limiter
    }

    /// Shows what it allows in these metrics from now on.
    pub(crate) fn show_in(&self, metrics: Metrics) {
        self.update(|state| state.metrics = Some(metrics));
    }

    /// Shows what it allows at this moment: a level climbs, and a count of workers gets old, without a request.
    pub(crate) fn show_now(&self) {
        self.lock().show();
    }

    /// This worker is one of several: nothing leaves before [`RateLimiter::counted`] has said of how many.
    pub(crate) fn share_with_others(&self) {
        self.update(|state| state.share = Some(Share::default()));
    }

    /// So many workers there were, this one among them, when it was asked.
    pub(crate) fn counted(&self, asked: Instant, workers: NonZeroU32) {
        self.update(|state| {
            if let Some(share) = &mut state.share {
                share.counted(asked, workers);
            }
        });
    }

    /// Most requests in any rolling second from now on. What has left before counts.
    #[cfg(test)]
    pub(crate) fn set_rate(&self, per_second: Option<NonZeroU32>) {
        self.update(|state| state.config.rate = per_second);
    }

    /// Everything anew.
    pub(crate) fn set(&self, config: RateLimitConfig) {
        self.line.set_bulk_share(config.bulk_share_percent);
        self.update(|state| {
            state.adapt.set(config.adapt);
            state.config = config;
        });
    }

    /// The share of `bulk`, for pickers in front of the pace.
    pub(crate) fn bulk_share_percent(&self) -> u32 {
        self.lock().config.bulk_share_percent
    }

    /// The partner answered 429 and didn't say how long to wait.
    pub(crate) fn throttled(&self) {
        let now = Instant::now();
        let level = self.update(|state| {
            let ceiling = state.bounds(now).ok().and_then(|bounds| RateBounds { lowered: None, ..bounds }.per_second());
            let observed = state.limiter.observed(now);
            state.adapt.throttled(now, ceiling, observed)
        });
        if let Some(per_second) = level {
            RateLowered { per_second }.emit();
        }
    }

    /// How many requests may leave now.
    pub(crate) fn allowed(&self) -> Allowed {
        self.lock().allowed(Instant::now())
    }

    /// So many users were created at that time, by an earlier life.
    pub(crate) fn remember_created(&self, at: Timestamp, users: u64) {
        self.update(|state| state.day.remember(at, users));
    }

    /// Whether and why `bulk` is held now.
    pub(crate) fn held(&self, now: Timestamp) -> Option<BulkHold> {
        self.lock().held(now)
    }

    /// A creation of this lane wants to leave; give it back with [`RateLimiter::end_creation`].
    ///
    /// # Errors
    /// It is held.
    pub(crate) fn begin_creation(&self, lane: Lane, now: Timestamp) -> Result<(), BulkHold> {
        let mut state = self.lock();
        match state.held(now) {
            Some(held) if lane == Lane::Bulk => Err(held),
            _ => {
                state.day.begin();
                Ok(())
            }
        }
    }

    /// The creation was answered, or never left.
    pub(crate) fn end_creation(&self, now: Timestamp, may_have_created: bool) {
        self.lock().day.end(now, may_have_created);
    }

    /// Waits until one request may leave. First come, first served within a lane; cancel-safe.
    pub(crate) async fn turn(&self, lane: Lane) {
        let mut next = self.head(lane).await;
        while next.unless_overtaken(next.turn()).await.is_none() {
            next = next.give_way().await;
        }
    }

    /// Waits for the head of the line, without a turn yet. Cancel-safe.
    pub(crate) async fn head(&self, lane: Lane) -> Next<'_> {
        Next { rate_limiter: self, head: self.line.head(lane).await }
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.show();
        drop(state);
        self.changed.notify_waiters();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Next in line.
#[must_use]
pub(crate) struct Next<'p> {
    rate_limiter: &'p RateLimiter,
    head: Head<'p>,
}

impl Next<'_> {
    /// Waits for something at the head of the line. `None`: somebody signs up meanwhile; this one should [give way](Self::give_way).
    pub(crate) async fn unless_overtaken<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            it = what => Some(it),
            () = self.head.overtaken() => None,
        }
    }

    /// Lets whoever signs up go ahead, and is next again after them. Cancel-safe.
    pub(crate) async fn give_way(self) -> Self {
        Next { rate_limiter: self.rate_limiter, head: self.head.give_way().await }
    }

    /// Waits until the request may leave. Cancel-safe.
    pub(crate) async fn turn(&self) {
        loop {
            let changed = self.rate_limiter.changed.notified();
            let taken = self.rate_limiter.lock().take(Instant::now());
            match taken {
                Ok(()) => return,
                Err(Some(at)) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = changed => {}
                },
                Err(None) => changed.await,
            }
        }
    }
}

impl State {
    /// Lets a request leave, or says when to ask again; `None`: once something has changed.
    fn take(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        let bounds = self.bounds(now)?;
        if differs(&bounds, self.limiter.bounds()) {
            self.limiter.set(now, bounds);
            self.show();
        }
        self.limiter.take(now).map_err(Some)
    }

    /// What holds now, or when to ask again.
    fn bounds(&mut self, now: Instant) -> Result<RateBounds, Option<Instant>> {
        let workers = match self.share.as_ref().map(|share| share.part(now)) {
            // Whoever has no limit has nothing to share.
            _ if self.config.rate.is_none() && self.config.rate_per_minute.is_none() => NonZeroU32::MIN,
            None => NonZeroU32::MIN,
            Some(Part::OneOf(workers)) => workers,
            Some(Part::Wait(until)) => return Err(Some(until)),
            Some(Part::Unknown) => return Err(None),
        };
        let bound = |most: Option<NonZeroU32>, span| most.map(|most| RateBound::part(most, span, workers));
        let second = bound(self.config.rate, SECOND);
        let minute = bound(self.config.rate_per_minute, MINUTE);
        let mut bounds = RateBounds { second, minute, lowered: None };
        bounds.lowered = self.adapt.level(now, bounds.per_second());
        Ok(bounds)
    }

    fn allowed(&mut self, now: Instant) -> Allowed {
        match self.bounds(now).map(|bounds| bounds.per_second()) {
            Ok(None) => Allowed::AnyNumber,
            Ok(Some(per_second)) => Allowed::PerSecond(per_second),
            Err(_) => Allowed::NotYet,
        }
    }

    fn held(&mut self, now: Timestamp) -> Option<BulkHold> {
        if let Some(hours) = &self.config.hours
            && let Some(until) = hours.closed_until(now)
        {
            return Some(BulkHold::ActiveHours { until, local: hours.local(until) });
        }
        let workers = self.share.as_ref().and_then(|share| share.workers(Instant::now())).unwrap_or(NonZeroU32::MIN);
        let most = self.config.per_day?.get() / u64::from(workers.get());
        self.day.full_until(now, most.max(1)).map(|until| BulkHold::DailyQuota { until })
    }

    fn show(&mut self) {
        let Some(metrics) = self.metrics.clone() else { return };
        let now = Instant::now();
        let allowed = self.allowed(now);
        let workers = match &self.share {
            None => 1,
            Some(share) => share.workers(now).map_or(0, NonZeroU32::get),
        };
        metrics.observed.set_rate_allowed(allowed.shown());
        let configured = RateBounds {
            second: whole(self.config.rate, SECOND),
            minute: whole(self.config.rate_per_minute, MINUTE),
            lowered: None,
        };
        metrics.observed.rate_configured.set(configured.per_second().unwrap_or(0.0));
        metrics.observed.rate_workers.set(workers.into());
    }
}

/// A bound for all workers together.
fn whole(most: Option<NonZeroU32>, span: Duration) -> Option<RateBound> {
    most.map(|most| RateBound { most, span })
}

/// Whether the limiter has to be told.
fn differs(new: &RateBounds, old: &RateBounds) -> bool {
    let climbed = match (new.lowered, old.lowered) {
        (Some(new), Some(old)) => (new - old).abs() >= old * STEP,
        (new, old) => new.is_some() != old.is_some(),
    };
    climbed || new.second != old.second || new.minute != old.minute
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}

#[cfg(test)]
mod tests;
