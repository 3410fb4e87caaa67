//! Even spacing of requests: the crate governor, on tokio's clock, so that paused time holds for it too.

use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// governor's cells for one request. governor counts bursts in whole cells; many cells for one request allow a burst
/// that is shorter than the time between two requests.
const CELLS: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

/// Allows one request in each interval.
pub(super) struct Spacing(RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>);

impl Spacing {
    /// Begins at `start`, with a first request at once, or an interval later. A task that wakes up late may catch up by
    /// `catch_up_max`.
    pub(super) fn new(start: Instant, interval: Duration, catch_up_max: Duration, is_first_at_once: bool) -> Self {
        let cell = interval / CELLS.get();
        let catch_up = (catch_up_max.as_nanos() / cell.as_nanos().max(1)) as u32;
        let catch_up = NonZeroU32::new(catch_up).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(cell)
            .unwrap_or_else(|| unreachable!("a cell is at least a nanosecond"))
            .allow_burst(CELLS.saturating_add(catch_up.get()));
        let governor = RateLimiter::direct_with_clock(quota, TokioClock(start));
        // A new governor starts with a full burst: without these, the catch-up could be used at once.
        let _ = governor.check_n(catch_up);
        if !is_first_at_once {
            let _ = governor.check_n(CELLS);
        }
        Self(governor)
    }

    /// Allows one request, or returns when to ask again.
    pub(super) fn check(&self) -> Result<(), Instant> {
        let Ok(taken) = self.0.check_n(CELLS) else { unreachable!("the burst is more than one request") };
        taken.map_err(|not_until| self.0.clock().0 + not_until.earliest_possible().0)
    }
}

/// Counts from the given instant; before it, time doesn't advance.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

/// Time since the instant of its [`TokioClock`].
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
