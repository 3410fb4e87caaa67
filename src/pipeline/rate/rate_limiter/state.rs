//! Combines configured rate, fleet share, adaptive rate and daily quota. Under the rate limiter's lock.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::config::RateLimitConfig;
use super::report::{BulkHold, EffectiveRate};
use crate::domain::Timestamp;
use crate::pipeline::rate::adapt::AdaptiveRate;
use crate::pipeline::rate::day::DailyQuota;
use crate::pipeline::rate::limiter::{RateBound, RateBounds, RollingLimiter};
use crate::pipeline::rate::share::{FleetShare, WorkerShare};
use crate::pipeline::wait_until::WaitUntil;
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A lowered rate that climbs is followed in steps of this share: a new limiter for each request would be waste.
const STEP_SHARE: f64 = 0.01;

pub(super) struct RateLimiterState {
    pub(super) config: RateLimitConfig,
    /// `None`: this worker doesn't share the rate with others.
    pub(super) share: Option<FleetShare>,
    pub(super) day: DailyQuota,
    pub(super) metrics: Option<Metrics>,
    adapt: AdaptiveRate,
    limiter: RollingLimiter,
}

impl RateLimiterState {
    pub(super) fn new(config: RateLimitConfig) -> Self {
        Self {
            share: None,
            adapt: AdaptiveRate::default(),
            limiter: RollingLimiter::new(Instant::now(), RateBounds::default()),
            day: DailyQuota::default(),
            metrics: None,
            config,
        }
    }

    /// Allows a request, or returns when to ask again.
    pub(super) fn try_acquire(&mut self, now: Instant) -> Result<(), WaitUntil> {
        let bounds = self.bounds(now)?;
        if differs(&bounds, self.limiter.bounds()) {
            self.limiter.set(now, bounds);
            self.report();
        }
        self.limiter.try_acquire(now).map_err(WaitUntil::Time)
    }

    /// Lowers the rate after a 429 without `Retry-After`. Returns the new rate; `None`: it was lowered a moment ago.
    pub(super) fn throttled(&mut self, now: Instant) -> Option<f64> {
        let ceiling = self.bounds(now).ok().and_then(|bounds| RateBounds { lowered: None, ..bounds }.per_second());
        let observed = self.limiter.observed(now);
        self.adapt.throttled(now, ceiling, observed)
    }

    /// Returns the bounds that hold now, or when to ask again.
    fn bounds(&mut self, now: Instant) -> Result<RateBounds, WaitUntil> {
        let workers = match self.share.as_ref().map(|share| share.current(now)) {
            // Without a limit, there is nothing to share.
            _ if self.config.rate.is_none() && self.config.rate_per_minute.is_none() => NonZeroU32::MIN,
            None => NonZeroU32::MIN,
            Some(WorkerShare::OneOf(workers)) => workers,
            Some(WorkerShare::NotBefore(at)) => return Err(WaitUntil::Time(at)),
            Some(WorkerShare::Unknown) => return Err(WaitUntil::Change),
        };
        let bound = |most: Option<NonZeroU32>, span| most.map(|most| RateBound::divided(most, span, workers));
        let second = bound(self.config.rate, SECOND);
        let minute = bound(self.config.rate_per_minute, MINUTE);
        let mut bounds = RateBounds { second, minute, lowered: None };
        bounds.lowered = self.adapt.level(now, bounds.per_second());
        Ok(bounds)
    }

    pub(super) fn effective_rate(&mut self, now: Instant) -> EffectiveRate {
        match self.bounds(now).map(|bounds| bounds.per_second()) {
            Ok(None) => EffectiveRate::Unlimited,
            Ok(Some(per_second)) => EffectiveRate::PerSecond(per_second),
            Err(_) => EffectiveRate::Unknown,
        }
    }

    pub(super) fn bulk_hold(&mut self, now: Timestamp) -> Option<BulkHold> {
        if let Some(hours) = &self.config.hours
            && let Some(until) = hours.closed_until(now)
        {
            return Some(BulkHold::ActiveHours { until, local: hours.local(until) });
        }
        let workers = self.share.as_ref().and_then(|share| share.workers(Instant::now())).unwrap_or(NonZeroU32::MIN);
        let most = self.config.per_day?.get() / u64::from(workers.get());
        self.day.full_until(now, most.max(1)).map(|until| BulkHold::DailyQuota { until })
    }

    pub(super) fn report(&mut self) {
        let Some(metrics) = self.metrics.clone() else { return };
        let now = Instant::now();
        let effective = self.effective_rate(now);
        let workers = match &self.share {
            None => 1,
            Some(share) => share.workers(now).map_or(0, NonZeroU32::get),
        };
        metrics.observed.set_rate_allowed(effective.shown());
        let whole = |most: Option<NonZeroU32>, span| most.map(|most| RateBound { most, span });
        let configured = RateBounds {
            second: whole(self.config.rate, SECOND),
            minute: whole(self.config.rate_per_minute, MINUTE),
            lowered: None,
        };
        metrics.observed.rate_configured.set(configured.per_second().unwrap_or(0.0));
        metrics.observed.rate_workers.set(workers.into());
    }
}

/// Returns whether the bounds differ by enough to set them anew: a lowered rate by [`STEP_SHARE`] or more.
fn differs(new: &RateBounds, old: &RateBounds) -> bool {
    let has_moved = match (new.lowered, old.lowered) {
        (Some(new), Some(old)) => (new - old).abs() >= old * STEP_SHARE,
        (new, old) => new.is_some() != old.is_some(),
    };
    has_moved || new.second != old.second || new.minute != old.minute
}
