//! How the pace yields to a partner who says "too fast" (429) without saying how long to wait: it lowers itself by a
//! share (multiplicative decrease) and climbs back steadily (additive increase), never above the rate that was set.
//!
//! Pure: the caller says what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// How far down, how fast up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdaptiveRateConfig {
    /// By how much the pace is lowered, as a share of what it is.
    pub cut: f64,
    /// What it regains in a second, as a share of what it was lowered from first.
    pub climb_per_second: f64,
}

impl Default for AdaptiveRateConfig {
    fn default() -> Self {
        Self { cut: 0.3, climb_per_second: 0.3 / 60.0 }
    }
}

/// Further 429s within this time are about requests of the same moment: partners count by the second.
const SAME_MOMENT: Duration = Duration::from_secs(1);

/// It never goes lower than this share of what it was lowered from first.
const FLOOR: f64 = 0.01;

/// Where no rate was set, it is let go again at this multiple of the pace at which the partner had objected.
const LET_GO: f64 = 2.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct AdaptiveRate {
    config: AdaptiveRateConfig,
    lowered: Option<LoweredRate>,
}

#[derive(Debug, Clone, Copy)]
struct LoweredRate {
    /// Requests per second when the partner first objected.
    from: f64,
    /// Requests per second at `at`.
    to: f64,
    at: Instant,
}

impl AdaptiveRate {
    pub(crate) const fn new(config: AdaptiveRateConfig) -> Self {
        Self { config, lowered: None }
    }

    pub(crate) const fn set(&mut self, config: AdaptiveRateConfig) {
        self.config = config;
    }

    /// What it has lowered itself to, in requests per second; `None`: nothing. `ceiling`: what is allowed otherwise.
    pub(crate) fn level(&mut self, now: Instant, ceiling: Option<f64>) -> Option<f64> {
        let LoweredRate { from, to, at } = self.lowered?;
        let level = to + from * self.config.climb_per_second * now.duration_since(at).as_secs_f64();
        if level >= ceiling.unwrap_or(from * LET_GO) {
            self.lowered = None;
            return None;
        }
        Some(level)
    }

    /// The partner answered 429 without advice. `ceiling`: what is allowed otherwise; `observed`: what was sent in the
    /// last second. Returns the new level in requests per second, or `None` where this was the same moment.
    pub(crate) fn throttled(&mut self, now: Instant, ceiling: Option<f64>, observed: f64) -> Option<f64> {
        if self.lowered.is_some_and(|lowered| now.duration_since(lowered.at) < SAME_MOMENT) {
            return None;
        }
        let current = self.level(now, ceiling).or(ceiling).unwrap_or(observed.max(1.0));
        // `level` may just have let go.
        let from = self.lowered.map_or(current, |lowered| lowered.from);
        let to = (current * (1.0 - self.config.cut)).max(from * FLOOR);
        self.lowered = Some(LoweredRate { from, to, at: now });
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: AdaptiveRateConfig = AdaptiveRateConfig { cut: 0.5, climb_per_second: 0.01 };

    fn close(level: Option<f64>, expected: f64) {
        assert!(level.is_some_and(|level| (level - expected).abs() < 1e-9), "{level:?}, not {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_halves_and_climbs_by_a_hundredth_of_the_rate_a_second_and_stops_at_the_rate() {
        let (mut adapt, start, rate) = (AdaptiveRate::new(CONFIG), Instant::now(), Some(100.0));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(adapt.level(start, rate), None);
        close(adapt.throttled(start, rate, 3.0), 50.0);
        close(adapt.level(at(10), rate), 60.0);
        close(adapt.throttled(at(10), rate, 3.0), 30.0);
        close(adapt.level(at(20), rate), 40.0);
        for second in 20..80 {
            assert!(adapt.level(at(second), rate).is_some_and(|level| level < 100.0));
        }
        assert_eq!(adapt.level(at(80), rate), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_429s_of_the_same_moment_counts_once() {
        let (mut adapt, start, rate) = (AdaptiveRate::new(CONFIG), Instant::now(), Some(100.0));
        close(adapt.throttled(start, rate, 0.0), 50.0);
        for ms in [0, 1, 500, 999] {
            assert_eq!(adapt.throttled(start + Duration::from_millis(ms), rate, 0.0), None);
        }
        close(adapt.level(start, rate), 50.0);
        assert!(adapt.throttled(start + SAME_MOMENT, rate, 0.0).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_it_goes_by_what_was_sent_and_lets_go_at_twice_that() {
        let (mut adapt, start) = (AdaptiveRate::new(CONFIG), Instant::now());
        close(adapt.throttled(start, None, 400.0), 200.0);
        close(adapt.level(start + Duration::from_secs(50), None), 400.0);
        assert!(adapt.level(start + Duration::from_secs(149), None).is_some());
        assert_eq!(adapt.level(start + Duration::from_secs(150), None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_it_is_told_it_never_stops() {
        let (mut adapt, start, rate) = (AdaptiveRate::new(CONFIG), Instant::now(), Some(100.0));
        for second in 0..100 {
            let _ = adapt.throttled(start + Duration::from_secs(second), rate, 0.0);
        }
        let level = adapt.level(start + Duration::from_secs(100), rate).unwrap();
        assert!((1.0..5.0).contains(&level), "{level}");
    }
}
