//! Active hours: the hours in which the lane `bulk` may create users, so that no link expires unread overnight.
//!
//! Pure: the caller passes the current time.

use jiff::civil::Time;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp as Moment, Zoned};

use crate::domain::Timestamp;

/// Daily hours in the time zone of the recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveHours {
    from: Time,
    until: Time,
    zone: TimeZone,
}

impl ActiveHours {
    /// Parses hours like `08:00-20:00` or `22:00-06:00` (over midnight) and a time zone. Empty hours give `None`: every
    /// hour is active. The zone is a name of the IANA database like `Europe/Berlin` or a fixed offset like `+02:00`.
    ///
    /// # Errors
    /// Says what is wrong with the text, without quoting it.
    pub(crate) fn parse(hours: &str, zone: &str) -> Result<Option<Self>, String> {
        let zone = parse_zone(zone)?;
        if hours.is_empty() {
            return Ok(None);
        }
        let (from, until) = hours.split_once('-').ok_or("is not two times of day joined by a dash")?;
        let (from, until) = (time_of_day(from)?, time_of_day(until)?);
        if from == until {
            return Err("begins and ends at the same time".to_owned());
        }
        Ok(Some(Self { from, until, zone }))
    }

    /// Returns when the next active hours begin; `None` if `now` is within them.
    pub(crate) fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        let now = Moment::from_millisecond(now.unix_ms()).ok()?.to_zoned(self.zone.clone());
        let time = now.time();
        let is_open = if self.from < self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        };
        if is_open { None } else { self.next_opening(&now) }
    }

    fn next_opening(&self, now: &Zoned) -> Option<Timestamp> {
        let date = if now.time() < self.from { now.date() } else { now.date().tomorrow().ok()? };
        // A time that the clocks skip that day becomes the first one after the gap.
        let opening = date.to_datetime(self.from).to_zoned(self.zone.clone()).ok()?;
        Some(Timestamp::from_unix_ms(opening.timestamp().as_millisecond()))
    }

    /// Formats a time in this time zone: `2026-11-24 08:00 Europe/Berlin`.
    pub(crate) fn local(&self, at: Timestamp) -> String {
        let local = Moment::from_millisecond(at.unix_ms()).unwrap_or_default().to_zoned(self.zone.clone());
        local.strftime("%Y-%m-%d %H:%M %:Q").to_string()
    }

    /// Returns the share of a day that is active, from 0 to 1.
    pub(crate) fn share_of_day(&self) -> f64 {
        let minutes = |time: Time| i32::from(time.hour()) * 60 + i32::from(time.minute());
        f64::from((minutes(self.until) - minutes(self.from)).rem_euclid(24 * 60)) / (24.0 * 60.0)
    }
}

/// Checks a time zone.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_zone(zone: &str) -> Result<(), String> {
    parse_zone(zone).map(|_| ())
}

fn parse_zone(zone: &str) -> Result<TimeZone, String> {
    if let Some((is_east, digits)) = zone.strip_prefix('+').map(|rest| (true, rest)).or_else(|| {
        let rest = zone.strip_prefix('-')?;
        Some((false, rest))
    }) {
        let time = time_of_day(digits).map_err(|_| "is not an offset such as +02:00".to_owned())?;
        let seconds = i32::from(time.hour()) * 3_600 + i32::from(time.minute()) * 60;
        let offset = Offset::from_seconds(if is_east { seconds } else { -seconds });
        return offset.map(TimeZone::fixed).map_err(|_| "is not an offset such as +02:00".to_owned());
    }
    TimeZone::get(zone).map_err(|_| "is not a known time zone".to_owned())
}

fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || "is not a time of day such as 08:00".to_owned();
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let two_digits = |text: &str| if text.len() == 2 { text.parse::<i8>().ok() } else { None };
    let (hour, minute) = (two_digits(hour).ok_or_else(wrong)?, two_digits(minute).ok_or_else(wrong)?);
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn opens(hours: &str, zone: &str, now: &str) -> Option<String> {
        ActiveHours::parse(hours, zone).unwrap().unwrap().closed_until(at(now)).map(|at| at.to_string())
    }

    #[test]
    fn hours_follow_the_local_clock_also_when_it_changes() {
        for (hours, zone, now, expected) in [
            ("08:00-20:00", "UTC", "2026-01-15T08:00:00Z", None),
            ("08:00-20:00", "UTC", "2026-01-15T19:59:59Z", None),
            ("08:00-20:00", "UTC", "2026-01-15T20:00:00Z", Some("2026-01-16T08:00:00.000Z")),
            ("08:00-20:00", "UTC", "2026-01-15T07:59:59Z", Some("2026-01-15T08:00:00.000Z")),
            ("08:00-20:00", "+02:00", "2026-01-15T05:00:00Z", Some("2026-01-15T06:00:00.000Z")),
            ("08:00-20:00", "-05:30", "2026-01-15T13:29:00Z", Some("2026-01-15T13:30:00.000Z")),
            ("22:00-06:00", "UTC", "2026-01-15T23:00:00Z", None),
            ("22:00-06:00", "UTC", "2026-01-15T05:59:00Z", None),
            ("22:00-06:00", "UTC", "2026-01-15T12:00:00Z", Some("2026-01-15T22:00:00.000Z")),
            // Clocks go forward in the night before 29 March 2026, and back in that before 25 October.
            ("08:00-20:00", "Europe/Berlin", "2026-03-28T20:00:00Z", Some("2026-03-29T06:00:00.000Z")),
            ("08:00-20:00", "Europe/Berlin", "2026-10-24T20:00:00Z", Some("2026-10-25T07:00:00.000Z")),
            ("02:30-20:00", "Europe/Berlin", "2026-03-29T00:30:00Z", Some("2026-03-29T01:30:00.000Z")),
        ] {
            assert_eq!(opens(hours, zone, now).as_deref(), expected, "{hours} {zone} {now}");
        }
    }

    #[test]
    fn a_time_is_formatted_with_its_date_and_zone() {
        for (zone, expected) in [
            ("UTC", "2026-11-23 23:30 UTC"),
            ("Europe/Berlin", "2026-11-24 00:30 Europe/Berlin"),
            ("-05:30", "2026-11-23 18:00 -05:30"),
        ] {
            let hours = ActiveHours::parse("08:00-20:00", zone).unwrap().unwrap();
            assert_eq!(hours.local(at("2026-11-23T23:30:00Z")), expected);
        }
    }

    #[test]
    fn invalid_hours_and_zones_are_refused() {
        for (hours, zone) in [
            ("8-20", "UTC"),
            ("08:00", "UTC"),
            ("08:00-24:00", "UTC"),
            ("08:00-08:00", "UTC"),
            ("08:00-2000", "UTC"),
            ("08:00-20:00", "Mars/Base"),
            ("08:00-20:00", "+2"),
            ("", ""),
        ] {
            assert!(ActiveHours::parse(hours, zone).is_err(), "{hours:?} {zone:?}");
        }
        assert_eq!(ActiveHours::parse("", "Europe/Berlin"), Ok(None));
    }
}
