//! Bounds on the number of requests in a rolling span of time.

use std::num::NonZeroU32;
use std::time::Duration;

/// Added to every span. The partner counts arrivals, and a request may travel longer than one that is sent a second
/// later, so that both arrive within one second. Measured on loopback without it: 251 arrivals in a second at a rate of
/// 250. It costs 2 % of the rate.
pub(super) const SLACK: Duration = Duration::from_millis(20);

/// Shortest and longest time between two requests; keep governor's arithmetic in range.
const INTERVALS: (Duration, Duration) = (Duration::from_micros(1), Duration::from_secs(3_600));

/// At most `most` requests in any rolling span of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateBound {
    pub(crate) most: NonZeroU32,
    pub(crate) span: Duration,
}

impl RateBound {
    /// Divides a bound among workers. Rounded down, so that all of them together never exceed it; with more workers
    /// than requests, each worker has one request in a longer span.
    pub(crate) fn divided(most: NonZeroU32, span: Duration, workers: NonZeroU32) -> Self {
        match NonZeroU32::new(most.get() / workers.get()) {
            Some(most) => Self { most, span },
            None => Self { most: NonZeroU32::MIN, span: span * workers.get() / most.get() },
        }
    }

    /// Returns the requests per second that it allows.
    pub(crate) fn per_second(self) -> f64 {
        f64::from(self.most.get()) / self.span.as_secs_f64()
    }
}

/// Bounds that all hold at once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct RateBounds {
    /// The bound for a rolling second.
    pub(crate) second: Option<RateBound>,
    /// The bound for a rolling minute.
    pub(crate) minute: Option<RateBound>,
    /// Requests per second after 429s without `Retry-After`.
    pub(crate) lowered: Option<f64>,
}

impl RateBounds {
    /// Returns the requests per second that are allowed in the long run; `None`: no limit.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let set = [self.second, self.minute].into_iter().flatten().map(RateBound::per_second);
        set.chain(self.lowered).min_by(f64::total_cmp)
    }

    /// Returns the time between two requests that are spread evenly; `None`: no limit.
    pub(super) fn interval(&self) -> Option<Duration> {
        let set = [self.second, self.minute].into_iter().flatten();
        let even = set.map(|bound| (bound.span + SLACK).as_secs_f64() / f64::from(bound.most.get()));
        let seconds = even.chain(self.lowered.map(|lowered| 1.0 / lowered)).max_by(f64::total_cmp)?;
        Some(Duration::from_secs_f64(seconds.clamp(INTERVALS.0.as_secs_f64(), INTERVALS.1.as_secs_f64())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn divided_bounds_never_exceed_the_whole_and_every_worker_has_one() {
        let second = Duration::from_secs(1);
        for rate in [1, 2, 3, 5, 20, 100, 999] {
            for workers in 1..=30 {
                let bound = RateBound::divided(n(rate), second, n(workers));
                assert!(
                    bound.per_second() * f64::from(workers) <= f64::from(rate) + 1e-6,
                    "{rate} by {workers}: {bound:?}"
                );
                assert!(bound.span == second || bound.most == n(1), "{bound:?}");
            }
        }
    }
}
