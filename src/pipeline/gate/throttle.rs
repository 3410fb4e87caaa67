//! Throttle: sends nothing until the time that a 429 gives. Pure: time is passed in.
//!
//! | event | wait | logged |
//! | --- | --- | --- |
//! | 429 with `Retry-After` | that long; the longest of several | at first, or when longer by [`LOG_AGAIN_AFTER`] |
//! | 429 without it, not waiting | the backoff of the number of 429s in a row | the same |
//! | 429 without it, waiting | as before: the request was sent before the wait began | the same |
//! | any other answer | | the end, when no 429 came for [`QUIET_FOR`] |

use std::time::Duration;

use tokio::time::Instant;

/// A longer wait is logged again only if it ends this much later than the one that was logged.
pub(super) const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The end is logged when no 429 came for this long. A partner whose limit is below the rate limit answers 429 every
/// other second, which must not become a log line a second.
pub(super) const QUIET_FOR: Duration = Duration::from_secs(10);

/// State of the throttle. It is open when `until` is in the past.
#[derive(Debug)]
pub(super) struct Throttle {
    until: Option<Instant>,
    /// 429s without advice since the last other answer.
    unadvised_in_a_row: u32,
    last_at: Instant,
    /// End of the wait that was logged; `None`: no wait is logged that hasn't been logged as ended.
    logged_until: Option<Instant>,
}

impl Throttle {
    pub(super) const fn new(now: Instant) -> Self {
        Self { until: None, unadvised_in_a_row: 0, last_at: now, logged_until: None }
    }

    /// Returns until when nothing may be sent; `None`: requests may be sent.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Records a 429. Without advice, `backoff` gives the wait for the number of 429s in a row. Returns the wait if it
    /// is to be logged.
    pub(super) fn throttle(
        &mut self,
        advice: Option<Duration>,
        backoff: impl FnOnce(u32) -> Duration,
        now: Instant,
    ) -> Option<Duration> {
        self.last_at = now;
        let wait = match advice {
            Some(wait) => wait,
            None if self.closed_until(now).is_some() => Duration::ZERO,
            None => {
                self.unadvised_in_a_row += 1;
                backoff(self.unadvised_in_a_row)
            }
        };
        let until = now + wait;
        self.until = Some(self.until.map_or(until, |other| other.max(until)));
        let is_logged = self.logged_until.is_none_or(|logged| until > logged + LOG_AGAIN_AFTER);
        is_logged.then(|| {
            self.logged_until = Some(until);
            wait
        })
    }

    /// Records an answer that isn't a 429. Returns whether the end of the throttling is to be logged.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        self.unadvised_in_a_row = 0;
        let is_quiet = now.saturating_duration_since(self.last_at) >= QUIET_FOR;
        let is_over = is_quiet && self.closed_until(now).is_none();
        self.logged_until.take_if(|_| is_over).is_some()
    }

    /// Leaves the end unlogged: the end of a pause will be logged instead.
    pub(super) const fn cancel_end_log(&mut self) {
        self.logged_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn backoff(n: u32) -> Duration {
        seconds(u64::from(n))
    }

    #[tokio::test]
    async fn the_longest_advice_holds_and_only_a_much_longer_one_is_logged_again() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        // Advice, whether it is logged, and when requests may be sent again.
        for (advice, logged, closed) in [(5, true, 5), (1, false, 5), (65, false, 65), (66, true, 66), (9, false, 66)] {
            let wait = throttle.throttle(Some(seconds(advice)), backoff, now);
            assert_eq!(wait, logged.then(|| seconds(advice)), "advice of {advice} s");
            assert_eq!(throttle.closed_until(now), Some(now + seconds(closed)), "advice of {advice} s");
        }
        assert_eq!(throttle.closed_until(now + seconds(66)), None);
    }

    #[tokio::test]
    async fn without_advice_the_backoff_grows_until_another_answer_comes() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new(now);
        for wait in [1, 2, 3] {
            throttle.throttle(None, backoff, now);
            assert_eq!(throttle.throttle(None, backoff, now), None, "sent before the wait began");
            assert_eq!(throttle.closed_until(now), Some(now + seconds(wait)));
            now += seconds(wait);
        }
        throttle.answered(now);
        throttle.throttle(None, backoff, now);
        assert_eq!(throttle.closed_until(now), Some(now + seconds(1)));
    }

    #[tokio::test]
    async fn the_end_is_logged_once_and_only_after_a_quiet_time() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        assert!(!throttle.answered(now + QUIET_FOR), "it wasn't throttled");
        throttle.throttle(Some(seconds(1)), backoff, now);
        assert!(!throttle.answered(now + seconds(2)));
        throttle.throttle(Some(seconds(30)), backoff, now + seconds(2));
        assert!(!throttle.answered(now + seconds(31)), "it still waits");
        assert!(throttle.answered(now + seconds(32)));
        assert!(!throttle.answered(now + seconds(33)));
        throttle.throttle(Some(seconds(1)), backoff, now + seconds(40));
        throttle.cancel_end_log();
        assert!(!throttle.answered(now + seconds(60)));
    }
}
