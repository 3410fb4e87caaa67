//! The pace: how many requests may leave in a second, over everything this worker sends.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::domain::Lane;

/// Requests per second and how they may bunch.
///
/// governor's bound for any rolling second is refill + burst - 1. That sum is kept 2 % below the rate, because the
/// partner counts arrivals, and requests that left evenly don't arrive evenly: measured on loopback without this
/// margin, 251 arrived in a second of 250. The burst makes up for timers that wake late; below 50 a second they
/// don't matter, and requests leave one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    refill_interval: Duration,
    burst: NonZeroU32,
}

/// Share of the rate that is left unused.
const MARGIN: f64 = 0.02;

fn split(per_second: NonZeroU32) -> Split {
    let rate = per_second.get();
    let burst = if rate < 50 { 1 } else { (rate / 100).max(2) };
    let refill_per_second = f64::from(rate) * (1.0 - MARGIN) - f64::from(burst - 1);
    Split {
        refill_interval: Duration::from_secs_f64(1.0 / refill_per_second),
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
    }
}

/// Waits for a turn. Waiting is not an attempt.
pub struct Pace {
    /// Only the holder of this lock watches the limiter; the others wait in line for the lock, which is fair.
    /// One sleeper costs less than hundreds.
    turn: Mutex<Option<Limiter>>,
    /// Bulk waits here before it waits there, one after the other: whoever signs up has at most one of them ahead.
    bulk: Mutex<()>,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>;

impl Pace {
    /// At most this many requests in any rolling second; `None`: no limit.
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        let limiter = per_second.map(|per_second| {
            let Split { refill_interval, burst } = split(per_second);
            let quota = Quota::with_period(refill_interval)
                .unwrap_or_else(|| unreachable!("a second divided by a u32 is not zero"))
                .allow_burst(burst);
            let limiter = RateLimiter::direct_with_clock(quota, TokioClock(Instant::now()));
            // Starts empty: a worker that was killed and started again must not add a burst to the requests that
            // its former life sent a moment ago.
            for _ in 0..burst.get() {
                let _ = limiter.check();
            }
            limiter
        });
        Self { turn: Mutex::new(limiter), bulk: Mutex::new(()) }
    }

    /// Waits until one request may leave. First come, first served within a lane, `signup` before `bulk`; cancel-safe.
    pub async fn turn(&self, lane: Lane) {
        let _in_line = match lane {
            Lane::Signup => None,
            Lane::Bulk => Some(self.bulk.lock().await),
        };
        let turn = self.turn.lock().await;
        let Some(limiter) = turn.as_ref() else { return };
        while let Err(not_until) = limiter.check() {
            sleep_until(limiter.clock().0 + not_until.earliest_possible().0).await;
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
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
    use std::collections::VecDeque;

    use super::*;

    /// The instants at which requests leave when they always want to.
    async fn departures(per_second: u32, count: usize) -> Vec<Instant> {
        let pace = Pace::new(NonZeroU32::new(per_second));
        let mut departures = Vec::with_capacity(count);
        for _ in 0..count {
            pace.turn(Lane::Bulk).await;
            departures.push(Instant::now());
        }
        departures
    }

    #[tokio::test(start_paused = true)]
    async fn no_rolling_second_exceeds_the_rate_and_nearly_all_of_it_is_used() {
        for per_second in [1, 2, 5, 20, 49, 50, 100, 250, 900, 5_000] {
            let count = per_second as usize * 10 + 1;
            let departures = departures(per_second, count).await;
            let mut window = VecDeque::new();
            for at in &departures {
                window.push_back(*at);
                while *at - window[0] >= Duration::from_secs(1) {
                    window.pop_front();
                }
                assert!(window.len() <= per_second as usize, "{} in a second, {per_second} allowed", window.len());
            }
            let took = departures[count - 1] - departures[0];
            assert!(took <= Duration::from_millis(10_600), "{per_second}/s: {count} requests took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_life_adds_no_burst_to_the_requests_of_the_former() {
        let per_second = 500;
        let mut all = departures(per_second, 2_000).await;
        all.extend(departures(per_second, 2_000).await);
        let most = all
            .iter()
            .map(|at| all.iter().filter(|other| **other >= *at && **other - *at < Duration::from_secs(1)).count())
            .max();
        assert!(most <= Some(per_second as usize), "{most:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nobody_waits() {
        let pace = Pace::new(None);
        let start = Instant::now();
        for _ in 0..10_000 {
            pace.turn(Lane::Bulk).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_while_waiting_does_not_block_the_others() {
        let pace = Pace::new(NonZeroU32::new(1));
        pace.turn(Lane::Bulk).await;
        let impatient = tokio::time::timeout(Duration::from_millis(10), pace.turn(Lane::Bulk)).await;
        assert!(impatient.is_err());
        pace.turn(Lane::Bulk).await;
    }
}
