//! Limiter: bounds exactly how many requests are sent in a rolling second and a rolling minute.
//!
//! Two mechanisms together. A log of the last requests holds the bound: no rolling second has more of them, however the
//! rate was changed meanwhile. [`Spacing`] spreads the requests evenly within the bound, and lets a task that woke up
//! late catch up.
//!
//! Pure but for the clock of the spacing, which is tokio's.

mod bounds;
mod sent;
mod spacing;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::bounds::{RateBound, RateBounds};
use self::sent::{SendLog, SendMeter};
use self::spacing::Spacing;

/// How much a task that woke up late may catch up. Timers are late by a millisecond, on a busy machine by tens of them.
const CATCH_UP_MAX: Duration = Duration::from_millis(50);

pub(crate) struct RollingLimiter {
    bounds: RateBounds,
    second: SendLog,
    minute: SendLog,
    spacing: Option<Spacing>,
    /// Before this, nothing is sent.
    begins: Instant,
    /// Keeps the even spacing over a change of the bounds.
    not_before: Instant,
    last_sent: Option<Instant>,
    meter: SendMeter,
}

impl RollingLimiter {
    /// Starts empty and [`CATCH_UP_MAX`] later: after a kill and a restart, no burst may add to the requests that the
    /// killed process sent a moment ago, which may have caught up.
    pub(crate) fn new(now: Instant, bounds: RateBounds) -> Self {
        let mut limiter = Self {
            bounds: RateBounds::default(),
            second: SendLog::default(),
            minute: SendLog::default(),
            spacing: None,
            begins: now + CATCH_UP_MAX,
            not_before: now,
            last_sent: None,
            meter: SendMeter::new(now),
        };
        limiter.set(now, bounds);
        limiter
    }

    /// Changes the bounds. Requests that were sent before count.
    pub(crate) fn set(&mut self, now: Instant, bounds: RateBounds) {
        if bounds == self.bounds {
            return;
        }
        self.bounds = bounds;
        let Some(interval) = bounds.interval() else {
            self.spacing = None;
            return;
        };
        let start = self.last_sent.map_or(self.begins.max(now), |_| now);
        self.spacing = Some(Spacing::new(start, interval, CATCH_UP_MAX, self.last_sent.is_some()));
        self.not_before = self.last_sent.unwrap_or(start) + interval;
    }

    /// Returns the bounds that hold.
    pub(crate) const fn bounds(&self) -> &RateBounds {
        &self.bounds
    }

    /// Allows one request, or returns when to ask again.
    pub(crate) fn try_acquire(&mut self, now: Instant) -> Result<(), Instant> {
        let RateBounds { second, minute, .. } = self.bounds;
        for (bound, log) in [(second, &mut self.second), (minute, &mut self.minute)] {
            if let Some(bound) = bound {
                log.has_room(now, bound)?;
            }
        }
        if let Some(spacing) = &self.spacing {
            if now < self.not_before {
                return Err(self.not_before);
            }
            spacing.check()?;
            // Only with a bound, which also bounds the logs.
            self.second.record(now, second);
            self.minute.record(now, minute);
            self.last_sent = Some(now);
        }
        self.meter.count(now);
        Ok(())
    }

    /// Returns the requests sent in the busier of the current second and the one before.
    pub(crate) fn observed(&mut self, now: Instant) -> f64 {
        self.meter.busier(now)
    }
}

impl fmt::Debug for RollingLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RollingLimiter").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_bounded_by_the_rate() {
        let now = Instant::now();
        let bound = RateBound { most: n(10), span: Duration::from_secs(1) };
        let mut limiter = RollingLimiter::new(now, RateBounds { second: Some(bound), ..RateBounds::default() });
        for _ in 0..10_000 {
            if limiter.try_acquire(Instant::now()).is_err() {
                tokio::time::advance(Duration::from_millis(7)).await;
            }
            assert!(limiter.second.len() <= 10);
        }
        limiter.set(Instant::now(), RateBounds { lowered: Some(1_000_000.0), ..RateBounds::default() });
        tokio::time::advance(Duration::from_secs(1)).await;
        limiter.try_acquire(Instant::now()).unwrap();
        assert_eq!(limiter.second.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_in_a_row_after_requests_that_caught_up_keep_the_bound() {
        let bound = RateBound { most: n(6), span: Duration::from_secs(1) };
        let bounds = RateBounds { second: Some(bound), ..RateBounds::default() };
        let mut sent = Vec::new();
        // Each process sends as soon as it may, every second one wakes up late, and dies after its second request.
        for process in 0..50 {
            let mut limiter = RollingLimiter::new(Instant::now(), bounds);
            for request in 0..2 {
                while let Err(at) = limiter.try_acquire(Instant::now()) {
                    let late = if request == 0 && process % 2 == 0 { CATCH_UP_MAX } else { Duration::ZERO };
                    tokio::time::advance(at.saturating_duration_since(Instant::now()) + late).await;
                }
                sent.push(Instant::now());
            }
        }
        let most =
            (0..sent.len()).map(|from| sent[from..].iter().take_while(|at| **at - sent[from] < bound.span).count());
        assert!(most.max() <= Some(6), "{sent:?}");
    }
}
