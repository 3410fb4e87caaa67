//! Adaptive rate: lowers the rate after a 429 without `Retry-After` and raises it again.
//!
//! Multiplicative decrease, additive increase, never above the configured rate. A 429 with `Retry-After` doesn't come
//! here: it throttles the gate for exactly that time.
//!
//! Pure: the caller passes the current time.

use std::time::Duration;

use tokio::time::Instant;

/// Share of the rate that one 429 takes away. Two of them halve the rate, so a rate that is twice too high fits after
/// two seconds; a larger cut would waste more of a rate that is only slightly too high.
const CUT_SHARE: f64 = 0.3;

/// Share of the original rate that comes back in one second: 30 % a minute. One cut is made up for in a minute, so a
/// rate that stays too high costs about one 429 a minute.
const CLIMB_SHARE_PER_SECOND: f64 = 0.3 / 60.0;

/// Further 429s within this time don't lower the rate again: partners count by the second, and the requests were sent
/// at the rate before the cut.
const SAME_MOMENT: Duration = Duration::from_secs(1);

/// The rate is never lowered below this share of the original rate, so that requests never stop.
const FLOOR_SHARE: f64 = 0.01;

/// Without a configured rate, the limit is lifted at this multiple of the rate at which the partner answered 429.
const LIFTED_AT: f64 = 2.0;

#[derive(Debug, Default)]
pub(crate) struct AdaptiveRate {
    lowered: Option<LoweredRate>,
}

#[derive(Debug, Clone, Copy)]
struct LoweredRate {
    /// Requests per second before the first cut.
    from: f64,
    /// Requests per second at `at`.
    to: f64,
    at: Instant,
}

impl AdaptiveRate {
    /// Returns the lowered rate in requests per second; `None` if the rate isn't lowered. `ceiling` is the rate that is
    /// allowed otherwise.
    pub(crate) fn level(&mut self, now: Instant, ceiling: Option<f64>) -> Option<f64> {
        let LoweredRate { from, to, at } = self.lowered?;
        let level = to + from * CLIMB_SHARE_PER_SECOND * now.duration_since(at).as_secs_f64();
        if level >= ceiling.unwrap_or(from * LIFTED_AT) {
            self.lowered = None;
            return None;
        }
        Some(level)
    }

    /// Lowers the rate after a 429 without `Retry-After`. `ceiling` is the rate that is allowed otherwise; without one,
    /// `observed` counts, the requests sent in the last second. Returns the new rate in requests per second, or `None`
    /// if the rate was lowered less than a second ago.
    pub(crate) fn throttled(&mut self, now: Instant, ceiling: Option<f64>, observed: f64) -> Option<f64> {
        if self.lowered.is_some_and(|lowered| now.duration_since(lowered.at) < SAME_MOMENT) {
            return None;
        }
        let current = self.level(now, ceiling).or(ceiling).unwrap_or(observed.max(1.0));
        // Read after `level`, which ends a cut that has been made up for.
        let from = self.lowered.map_or(current, |lowered| lowered.from);
        let to = (current * (1.0 - CUT_SHARE)).max(from * FLOOR_SHARE);
        self.lowered = Some(LoweredRate { from, to, at: now });
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(level: Option<f64>, expected: f64) {
        assert!(level.is_some_and(|level| (level - expected).abs() < 1e-9), "{level:?}, not {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_429_takes_away_30_percent_and_a_minute_brings_it_back() {
        let (mut adapt, start, rate) = (AdaptiveRate::default(), Instant::now(), Some(100.0));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(adapt.level(start, rate), None);
        close(adapt.throttled(start, rate, 3.0), 70.0);
        close(adapt.level(at(20), rate), 80.0);
        close(adapt.throttled(at(20), rate, 3.0), 56.0);
        close(adapt.level(at(40), rate), 66.0);
        for second in 40..108 {
            assert!(adapt.level(at(second), rate).is_some_and(|level| level < 100.0));
        }
        assert_eq!(adapt.level(at(108), rate), None);
    }

    #[tokio::test(start_paused = true)]
    async fn several_429s_within_a_second_lower_the_rate_once() {
        let (mut adapt, start, rate) = (AdaptiveRate::default(), Instant::now(), Some(100.0));
        close(adapt.throttled(start, rate, 0.0), 70.0);
        for ms in [0, 1, 500, 999] {
            assert_eq!(adapt.throttled(start + Duration::from_millis(ms), rate, 0.0), None);
        }
        close(adapt.level(start, rate), 70.0);
        assert!(adapt.throttled(start + SAME_MOMENT, rate, 0.0).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_the_observed_rate_is_cut_and_the_limit_lifted_at_twice_that() {
        let (mut adapt, start) = (AdaptiveRate::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        close(adapt.throttled(start, None, 400.0), 280.0);
        close(adapt.level(at(60), None), 400.0);
        assert!(adapt.level(at(259), None).is_some());
        assert_eq!(adapt.level(at(261), None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_never_reaches_zero_however_many_429s_come() {
        let (mut adapt, start, rate) = (AdaptiveRate::default(), Instant::now(), Some(100.0));
        for second in 0..100 {
            let _ = adapt.throttled(start + Duration::from_secs(second), rate, 0.0);
        }
        let level = adapt.level(start + Duration::from_secs(100), rate).unwrap();
        assert!((1.0..5.0).contains(&level), "{level}");
    }
}
