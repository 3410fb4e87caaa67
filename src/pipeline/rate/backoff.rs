//! Backoff: how long to wait before retry `n`. Exponential, capped, with jitter.
//!
//! The schedule comes from the crate `backoff`, which is unmaintained (RUSTSEC-2025-0012). Its retry loop and its
//! jitter aren't used: the jitter here comes from a seeded generator and is taken off after the cap.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Largest share of a delay that the jitter takes off, so that jobs that failed together aren't retried together.
const JITTER: f64 = 0.5;

/// Later retries don't wait longer. Bounds the loop that walks the schedule.
const STEPS_MAX: u32 = 64;

/// An exponential schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    /// Delay before the first retry.
    pub initial: Duration,
    /// Longest delay.
    pub max: Duration,
}

impl Backoff {
    /// Returns the delay before retry `n` (1 is the first): between half of the schedule's value and all of it.
    pub(crate) fn delay(&self, n: u32, rng: &mut fastrand::Rng) -> Duration {
        let mut schedule = ExponentialBackoff {
            initial_interval: self.initial,
            current_interval: self.initial,
            max_interval: self.max,
            multiplier: 2.0,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut delay = self.initial;
        for _ in 0..n.clamp(1, STEPS_MAX) {
            delay = schedule.next_backoff().unwrap_or(self.max);
        }
        delay.min(self.max).mul_f64(1.0 - JITTER * rng.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_stays_within_half() {
        let backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) };
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            for (n, full) in [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (1_000_000, 10.0)] {
                let delay = backoff.delay(n, &mut rng).as_secs_f64();
                assert!((full / 2.0..=full).contains(&delay), "retry {n} waits {delay} s");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_delays() {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(60) };
        let delays = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (1..10).map(|n| backoff.delay(n, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }
}
