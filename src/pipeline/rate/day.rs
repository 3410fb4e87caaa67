//! Daily quota: counts the users created in the last 24 hours, for the setting `per_day`.
//!
//! The day is a rolling 24 hours, which is how long a verification link lives. So the number of unused links never
//! exceeds the quota, and midnight doesn't let two days' quotas through at once. Creations are counted by the minute; a
//! minute counts until its last second is a day old.
//!
//! Pure: the caller passes the current time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::Timestamp;

const MINUTE_MS: i64 = 60_000;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
pub(crate) struct DailyQuota {
    /// Minutes since 1970 with their creations, oldest first; a day's minutes at most.
    minutes: VecDeque<(i64, u64)>,
    total: u64,
    /// Requests in flight that may create a user.
    in_flight: u64,
}

impl DailyQuota {
    /// Adds users who were created at that time, in this process or before it.
    pub(crate) fn remember(&mut self, at: Timestamp, users: u64) {
        let minute = at.unix_ms().div_euclid(MINUTE_MS);
        let index = self.minutes.partition_point(|(other, _)| *other < minute);
        match self.minutes.get_mut(index) {
            Some((other, count)) if *other == minute => *count += users,
            _ => self.minutes.insert(index, (minute, users)),
        }
        self.total += users;
    }

    /// Returns when another user may be created; `None`: now. If requests in flight fill the quota, that is in a
    /// second: some of them may not create a user.
    pub(crate) fn full_until(&mut self, now: Timestamp, most: u64) -> Option<Timestamp> {
        self.forget(now);
        let soon = now.plus(Duration::from_secs(1));
        if self.total + self.in_flight < most {
            None
        } else if self.total < most {
            Some(soon)
        } else {
            Some(self.minutes.front().map_or(soon, |(minute, _)| free_at(*minute)).max(soon))
        }
    }

    /// Reserves a place for a request that is about to be sent and may create a user.
    pub(crate) const fn begin(&mut self) {
        self.in_flight += 1;
    }

    /// Ends the reservation of a request that was answered or not sent.
    pub(crate) fn end(&mut self, now: Timestamp, may_have_created: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if may_have_created {
            self.forget(now);
            self.remember(now, 1);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((minute, count)) = self.minutes.front().copied()
            && free_at(minute) <= now
        {
            self.total -= count;
            self.minutes.pop_front();
        }
    }
}

/// Returns when all creations of that minute are a day old.
fn free_at(minute: i64) -> Timestamp {
    Timestamp::from_unix_ms((minute + 1) * MINUTE_MS).plus(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        T0.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_full_quota_has_room_a_day_after_its_first_creations() {
        let mut day = DailyQuota::default();
        for second in 0..300 {
            assert_eq!(day.full_until(after(second), 300), None);
            day.begin();
            day.end(after(second), true);
        }
        let until = day.full_until(after(300), 300).unwrap();
        assert!(until >= T0.plus(DAY) && until <= T0.plus(DAY + Duration::from_secs(60)), "{until}");
        assert!(day.full_until(until.minus(Duration::from_millis(1)), 300).is_some());
        assert_eq!(day.full_until(until, 300), None);
    }

    #[test]
    fn requests_in_flight_count_until_they_end_without_a_user() {
        let mut day = DailyQuota::default();
        day.begin();
        assert!(day.full_until(T0, 1).is_some());
        day.end(T0, false);
        assert_eq!(day.full_until(T0, 1), None);
    }

    #[test]
    fn creations_before_a_restart_count_until_they_are_a_day_old() {
        let mut day = DailyQuota::default();
        day.remember(T0, 5);
        day.remember(T0.minus(Duration::from_secs(3_600)), 5);
        assert!(day.full_until(after(10), 10).is_some());
        assert_eq!(day.full_until(after(86_400 - 3_400), 10), None);
        assert!(day.full_until(after(86_400 - 3_400), 5).is_some());
        assert_eq!(day.full_until(after(86_400 + 60), 1), None);
    }

    #[test]
    fn memory_is_bounded_by_the_minutes_of_a_day() {
        let mut day = DailyQuota::default();
        for minute in 0..10_000 {
            day.begin();
            day.end(after(minute * 60), true);
        }
        assert!(day.minutes.len() <= 1_442, "{}", day.minutes.len());
    }
}
