//! Whether the partner's clock agrees with ours, as far as its answers tell.
//!
//! Whose user somebody is, is told by their age in the user list ([`crate::domain::decide`]), and clocks that differ by
//! more than `api.clock_skew_s` make a job's own users look like somebody else's. The `Date` of an answer (RFC 9110,
//! 6.6.1) need not come from the clock that `createdAt` comes from, but nothing else tells before the harm is done. Where the
//! difference is more than is allowed for, it is told, and times in the list are reckoned by it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::telemetry::{ClocksDiffer, Metrics};

/// Clocks that differ are told of again after this. Several hosts that answer by turns need not have one clock.
const TELL_EVERY: Duration = Duration::from_secs(3_600);

/// `Date` has whole seconds.
const STEP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Clocks {
    tolerance: Duration,
    /// By how many seconds theirs was ahead at least when they were last compared; within the tolerance: 0.
    ahead_s: AtomicI64,
    told_at: Mutex<Option<Instant>>,
}

impl Clocks {
    pub(crate) fn new(tolerance: Duration) -> Self {
        Self { tolerance, ahead_s: AtomicI64::new(0), told_at: Mutex::new(None) }
    }

    /// Compares the date of an answer with the time in which it was waited for.
    pub(super) fn compare(&self, date: Timestamp, asked_at: Timestamp, answered_at: Timestamp, metrics: &Metrics) {
        let seconds = difference_s(date, asked_at, answered_at);
        metrics.observed.set_partner_clock(seconds);
        let is_tolerable = seconds.unsigned_abs() <= self.tolerance.as_secs();
        self.ahead_s.store(if is_tolerable { 0 } else { seconds }, Ordering::Relaxed);
        if is_tolerable {
            return;
        }
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            *told_at = Some(Instant::now());
            ClocksDiffer { seconds, tolerance: self.tolerance }.emit();
        }
    }
}

impl Clocks {
    /// A time of the partner's by our clock, as far as is known.
    pub(super) fn ours(&self, theirs: Timestamp) -> Timestamp {
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead_s.unsigned_abs());
        if ahead_s < 0 { theirs.plus(difference) } else { theirs.minus(difference) }
    }
}

/// By how many seconds the partner's clock is ahead of ours at least; negative: behind.
fn difference_s(date: Timestamp, asked_at: Timestamp, answered_at: Timestamp) -> i64 {
    let ahead = date.since(answered_at).as_secs();
    let behind = asked_at.since(date.plus(STEP)).as_secs();
    i64::try_from(ahead).unwrap_or(i64::MAX) - i64::try_from(behind).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_reckoned_by_a_difference_that_is_not_allowed_for_and_by_no_smaller_one() {
        let at = |second: i64| Timestamp::from_unix_ms(second * 1_000);
        let metrics = Metrics::new().unwrap();
        let clocks = Clocks::new(Duration::from_secs(60));
        for (date, expected) in [(1_000, 500), (1_060, 500), (1_300, 200), (700, 799), (1_000, 500)] {
            clocks.compare(at(date), at(1_000), at(1_000), &metrics);
            assert_eq!(clocks.ours(at(500)), at(expected), "{date}");
        }
    }

    #[test]
    fn a_difference_is_what_neither_the_way_nor_whole_seconds_explain() {
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
