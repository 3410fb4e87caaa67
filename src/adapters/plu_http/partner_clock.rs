//! Difference between the partner's clock and ours, from the `Date` of its answers.
//!
//! Whether a user belongs to a job is decided by the user's age in the user list ([`crate::domain::decide`]). If the
//! clocks differ by more than `api.clock_skew_s`, a job's own user would count as a user of another job. A larger
//! difference is logged, and the times of the list are corrected by it.
//!
//! `Date` (RFC 9110, 6.6.1) need not come from the clock that sets `createdAt`, but no other sign exists before a user
//! is created.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::telemetry::{ClocksDiffer, Metrics};

/// Shortest time between two log lines. Several hosts that answer in turn may have different clocks.
const LOG_EVERY: Duration = Duration::from_secs(3_600);

/// Resolution of `Date`.
const DATE_STEP: Duration = Duration::from_secs(1);

/// The last known difference of the partner's clock.
#[derive(Debug)]
pub(crate) struct PartnerClock {
    tolerance: Duration,
    /// Seconds by which the partner's clock was ahead at least; 0 within the tolerance.
    ahead_s: AtomicI64,
    logged_at: Mutex<Option<Instant>>,
}

impl PartnerClock {
    pub(crate) fn new(tolerance: Duration) -> Self {
        Self { tolerance, ahead_s: AtomicI64::new(0), logged_at: Mutex::new(None) }
    }

    /// Compares the date of an answer with the times of the request and the answer.
    pub(super) fn compare(&self, date: Timestamp, asked_at: Timestamp, answered_at: Timestamp, metrics: &Metrics) {
        let seconds = difference_s(date, asked_at, answered_at);
        metrics.observed.set_partner_clock(seconds);
        let is_tolerable = seconds.unsigned_abs() <= self.tolerance.as_secs();
        self.ahead_s.store(if is_tolerable { 0 } else { seconds }, Ordering::Relaxed);
        if is_tolerable {
            return;
        }
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *logged_at = Some(Instant::now());
            ClocksDiffer { seconds, tolerance: self.tolerance }.emit();
        }
    }

    /// Converts a time of the partner's clock to ours.
    pub(super) fn to_ours(&self, theirs: Timestamp) -> Timestamp {
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead_s.unsigned_abs());
        if ahead_s < 0 { theirs.plus(difference) } else { theirs.minus(difference) }
    }
}

/// Returns the seconds by which the partner's clock is ahead of ours at least; negative if it is behind.
fn difference_s(date: Timestamp, asked_at: Timestamp, answered_at: Timestamp) -> i64 {
    let ahead = date.since(answered_at).as_secs();
    let behind = asked_at.since(date.plus(DATE_STEP)).as_secs();
    i64::try_from(ahead).unwrap_or(i64::MAX) - i64::try_from(behind).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_corrected_only_if_the_difference_is_beyond_the_tolerance() {
        let at = |second: i64| Timestamp::from_unix_ms(second * 1_000);
        let metrics = Metrics::new().unwrap();
        let clock = PartnerClock::new(Duration::from_secs(60));
        for (date, expected) in [(1_000, 500), (1_060, 500), (1_300, 200), (700, 799), (1_000, 500)] {
            clock.compare(at(date), at(1_000), at(1_000), &metrics);
            assert_eq!(clock.to_ours(at(500)), at(expected), "{date}");
        }
    }

    #[test]
    fn a_difference_excludes_the_time_of_the_request_and_whole_seconds() {
        let at = |ms: i64| Timestamp::from_unix_ms(1_000_000_000_000 + ms);
        for (date, asked, answered, expected) in [
            (0, 0, 20, 0),
            (0, 999, 1_020, 0),
            (29_000, 0, 30_000, 0),
            (65_000, 0, 5_000, 60),
            (65_000, 0, 4_001, 60),
            (0, 61_000, 61_020, -60),
            (0, 60_999, 61_020, -59),
        ] {
            assert_eq!(difference_s(at(date), at(asked), at(answered)), expected, "{date} {asked} {answered}");
        }
    }
}
