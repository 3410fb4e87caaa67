//! How many users were created in the last 24 hours.
//!
//! A day is any 24 hours, as long as a link lives: so never more links than the limit wait to be used at the same time,
//! and no midnight lets two days' worth through at once. Counted by the minute; a minute counts until all of it is a
//! day old. Pure: the caller says what time it is.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::Timestamp;

const MINUTE_MS: i64 = 60_000;
const DAY: Duration = Duration::from_secs(86_400);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DailyQuota {
    /// Minutes since 1970 with their creations, oldest first: a day's worth at most.
    minutes: VecDeque<(i64, u64)>,
    total: u64,
    /// Requests on their way that may create somebody.
    in_flight: u64,
}

impl DailyQuota {
    /// Created before this worker began.
    pub(crate) fn remember(&mut self, at: Timestamp, users: u64) {
        let minute = at.unix_ms().div_euclid(MINUTE_MS);
        let place = self.minutes.partition_point(|(other, _)| *other < minute);
        match self.minutes.get_mut(place) {
            Some((other, count)) if *other == minute => *count += users,
            _ => self.minutes.insert(place, (minute, users)),
        }
        self.total += users;
    }

    /// When there is room for another; `None`: now. While only requests on their way fill the day, that is soon: not
    /// all of them will create somebody.
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

    /// A request that may create somebody is about to leave.
    pub(crate) const fn begin(&mut self) {
        self.in_flight += 1;
    }

    /// It was answered, or never left.
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

/// When everything of that minute is a day old.
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
    fn a_full_day_has_room_again_a_day_after_its_first_creations() {
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
    fn what_is_on_its_way_counts_and_what_created_nobody_does_not() {
        let mut day = DailyQuota::default();
        day.begin();
        assert!(day.full_until(T0, 1).is_some());
        day.end(T0, false);
        assert_eq!(day.full_until(T0, 1), None);
    }

    #[test]
    fn what_a_former_life_created_counts_until_it_is_a_day_old() {
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
