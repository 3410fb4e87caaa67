//! How many requests may leave in a second and in a minute, exactly.
//!
//! Two things together. A log of the requests of the last second (and minute) holds the bound: no rolling second has
//! more, whatever happened to the rate meanwhile. governor spreads them evenly within it, and lets those catch up who
//! woke late.
//!
//! Pure but for governor's clock, which is tokio's.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// The partner counts arrivals, and requests that left evenly don't arrive evenly: a request may take so much longer
/// than one that leaves a second later before they count together. Measured on loopback without it, 251 arrived in a
/// second of 250. It costs 2 % of the rate.
const SLACK: Duration = Duration::from_millis(20);

/// Who wakes later than this doesn't catch up: timers are a millisecond late, on a busy machine tens of them.
const LATE: Duration = Duration::from_millis(50);

/// governor counts bursts in whole cells. A request is many of them, so that the time to catch up in can be shorter than
/// that between two requests.
const CELLS: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

/// Shortest and longest time between two requests: keep governor's arithmetic in range.
const INTERVALS: (Duration, Duration) = (Duration::from_micros(1), Duration::from_secs(3_600));

/// At most so many in any rolling span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateBound {
    pub(crate) most: NonZeroU32,
    pub(crate) span: Duration,
}

impl RateBound {
    /// So many, divided among so many workers. Rounded down, so that the parts never add up to more; where there are
    /// more workers than requests, each has one request in a longer time.
    pub(crate) fn part(most: NonZeroU32, span: Duration, workers: NonZeroU32) -> Self {
        match NonZeroU32::new(most.get() / workers.get()) {
            Some(most) => Self { most, span },
            None => Self { most: NonZeroU32::MIN, span: span * workers.get() / most.get() },
        }
    }

    /// Requests per second that it allows.
    pub(crate) fn per_second(self) -> f64 {
        f64::from(self.most.get()) / self.span.as_secs_f64()
    }
}

/// What may leave: all of it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct RateBounds {
    /// About a second.
    pub(crate) second: Option<RateBound>,
    /// About a minute.
    pub(crate) minute: Option<RateBound>,
    /// Requests per second that it has lowered itself to.
    pub(crate) lowered: Option<f64>,
}

impl RateBounds {
    /// Requests per second that are allowed in the long run; `None`: any number.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let set = [self.second, self.minute].into_iter().flatten().map(RateBound::per_second);
        set.chain(self.lowered).min_by(f64::total_cmp)
    }

    /// The time between two requests that leave evenly.
    fn interval(&self) -> Option<Duration> {
        let set = [self.second, self.minute].into_iter().flatten();
        let even = set.map(|bound| (bound.span + SLACK).as_secs_f64() / f64::from(bound.most.get()));
        let seconds = even.chain(self.lowered.map(|lowered| 1.0 / lowered)).max_by(f64::total_cmp)?;
        Some(Duration::from_secs_f64(seconds.clamp(INTERVALS.0.as_secs_f64(), INTERVALS.1.as_secs_f64())))
    }
}

type Governor = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>;

/// See the module.
pub(crate) struct RollingLimiter {
    bounds: RateBounds,
    second: Log,
    minute: Log,
    even: Option<Governor>,
    /// When the time of a limiter that has let nobody leave begins.
    begins: Instant,
    /// The even spacing holds over a change of the rate.
    not_before: Instant,
    last: Option<Instant>,
    meter: Meter,
}

impl RollingLimiter {
    /// Starts empty, and a little later: a worker that was killed and started again must not add a burst to the requests that
    /// its former life sent a moment ago, and these may have caught up.
    pub(crate) fn new(now: Instant, bounds: RateBounds) -> Self {
        let mut limiter = Self {
            bounds: RateBounds::default(),
            second: Log::default(),
            minute: Log::default(),
            even: None,
            begins: now + LATE,
            not_before: now,
            last: None,
            meter: Meter { since: now, now: 0, before: 0 },
        };
        limiter.set(now, bounds);
        limiter
    }

    /// From now on these hold. What has left before counts.
    pub(crate) fn set(&mut self, now: Instant, bounds: RateBounds) {
        if bounds == self.bounds {
            return;
        }
        self.bounds = bounds;
        let Some(interval) = bounds.interval() else {
            self.even = None;
            return;
        };
        let start = self.last.map_or(self.begins.max(now), |_| now);
        let cell = interval / CELLS.get();
        let late = NonZeroU32::new((LATE.as_nanos() / cell.as_nanos().max(1)) as u32).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(cell)
            .unwrap_or_else(|| unreachable!("a cell is at least a nanosecond"))
            .allow_burst(CELLS.saturating_add(late.get()));
        // Its time stands still until then.
        let governor = RateLimiter::direct_with_clock(quota, TokioClock(start));
        let _ = governor.check_n(late);
        if self.last.is_none() {
            let _ = governor.check_n(CELLS);
        }
        self.even = Some(governor);
        self.not_before = self.last.unwrap_or(start) + interval;
    }

    /// What holds.
    pub(crate) const fn bounds(&self) -> &RateBounds {
        &self.bounds
    }

    /// Lets one request leave, or says when to ask again.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let RateBounds { second, minute, .. } = self.bounds;
        for (bound, log) in [(second, &mut self.second), (minute, &mut self.minute)] {
            if let Some(bound) = bound {
                log.has_room(now, bound)?;
            }
        }
        if let Some(governor) = &self.even {
            if now < self.not_before {
                return Err(self.not_before);
            }
            let Ok(taken) = governor.check_n(CELLS) else { unreachable!("the burst is more than one request") };
            taken.map_err(|not_until| governor.clock().0 + not_until.earliest_possible().0)?;
            // Only where there is a bound, so that the logs are bounded by it.
            self.second.note(now, second);
            self.minute.note(now, minute);
            self.last = Some(now);
        }
        self.meter.count(now);
        Ok(())
    }

    /// Requests in the busier of this second and the one before.
    pub(crate) fn observed(&mut self, now: Instant) -> f64 {
        self.meter.busier(now)
    }
}

impl fmt::Debug for RollingLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// When the last requests left; never more of them than its bound.
#[derive(Debug, Default)]
struct Log {
    left: VecDeque<Instant>,
}

impl Log {
    fn has_room(&mut self, now: Instant, bound: RateBound) -> Result<(), Instant> {
        let span = bound.span + SLACK;
        while self.left.front().is_some_and(|at| now.duration_since(*at) >= span) {
            self.left.pop_front();
        }
        match self.left.len().checked_sub(bound.most.get() as usize) {
            None => Ok(()),
            Some(too_many) => Err(self.left[too_many] + span),
        }
    }

    fn note(&mut self, now: Instant, bound: Option<RateBound>) {
        match bound {
            Some(_) => self.left.push_back(now),
            None => self.left.clear(),
        }
    }
}

/// Counts by the second.
#[derive(Debug)]
struct Meter {
    since: Instant,
    now: u32,
    before: u32,
}

impl Meter {
    fn turn(&mut self, now: Instant) {
        let passed = now.duration_since(self.since).as_secs();
        if passed > 0 {
            self.before = if passed == 1 { self.now } else { 0 };
            self.now = 0;
            self.since += Duration::from_secs(passed);
        }
    }

    fn count(&mut self, now: Instant) {
        self.turn(now);
        self.now = self.now.saturating_add(1);
    }

    fn busier(&mut self, now: Instant) -> f64 {
        self.turn(now);
        f64::from(self.now.max(self.before))
    }
}

/// governor on tokio's clock, so that paused time holds for the pace too. Counts from its own creation.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Duration);

impl Clock for TokioClock {
    type Instant = TokioInstant;

    fn now(&self) -> TokioInstant {
        TokioInstant(self.0.elapsed())
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.into()))
    }
}

impl Add<Nanos> for TokioInstant {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0 + Duration::from(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn parts_never_add_up_to_more_than_the_whole_and_nobody_is_left_without() {
        let second = Duration::from_secs(1);
        for rate in [1, 2, 3, 5, 20, 100, 999] {
            for workers in 1..=30 {
                let part = RateBound::part(n(rate), second, n(workers));
                assert!(
                    part.per_second() * f64::from(workers) <= f64::from(rate) + 1e-6,
                    "{rate} by {workers}: {part:?}"
                );
                assert!(part.span == second || part.most == n(1), "{part:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_bounded_by_the_rate() {
        let now = Instant::now();
        let bound = RateBound { most: n(10), span: Duration::from_secs(1) };
        let mut limiter = RollingLimiter::new(now, RateBounds { second: Some(bound), ..RateBounds::default() });
        for _ in 0..10_000 {
            if limiter.take(Instant::now()).is_err() {
                tokio::time::advance(Duration::from_millis(7)).await;
            }
            assert!(limiter.second.left.len() <= 10);
        }
        limiter.set(Instant::now(), RateBounds { lowered: Some(1_000_000.0), ..RateBounds::default() });
        tokio::time::advance(Duration::from_secs(1)).await;
        limiter.take(Instant::now()).unwrap();
        assert!(limiter.second.left.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_life_that_follows_at_once_on_one_that_caught_up_keeps_the_bound() {
        let bound = RateBound { most: n(6), span: Duration::from_secs(1) };
        let bounds = RateBounds { second: Some(bound), ..RateBounds::default() };
        let mut left = Vec::new();
        // Each life sends as soon as it may, wakes late by as much as is caught up, and dies after its second request.
        for life in 0..50 {
            let mut limiter = RollingLimiter::new(Instant::now(), bounds);
            for request in 0..2 {
                while let Err(at) = limiter.take(Instant::now()) {
                    let late = if request == 0 && life % 2 == 0 { LATE } else { Duration::ZERO };
                    tokio::time::advance(at.saturating_duration_since(Instant::now()) + late).await;
                }
                left.push(Instant::now());
            }
        }
        let most =
            (0..left.len()).map(|from| left[from..].iter().take_while(|at| **at - left[from] < bound.span).count());
        assert!(most.max() <= Some(6), "{left:?}");
    }
}
