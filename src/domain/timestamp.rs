//! A point in wall-clock time in milliseconds, as it is stored, compared and printed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z. Prints and parses as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Takes milliseconds since the Unix epoch.
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Parses RFC 3339 with any offset. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|parsed| Self(parsed.as_millisecond()))
    }

    /// Parses an HTTP date (RFC 9110, 5.6.7), which has whole seconds. `None` for any other text and before 1970.
    pub fn parse_http(text: &str) -> Option<Self> {
        let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Self(0).plus(since_epoch))
    }

    /// Returns the time `duration` later, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the time `duration` earlier, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the time that passed since `earlier`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Milliseconds that were given as seconds are beyond the last year that a calendar of four digits has.
        let nearest = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(nearest);
        write!(f, "{time:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_rfc_3339_with_milliseconds() {
        let time = Timestamp::from_unix_ms(1_771_534_169_927);
        assert_eq!(time.to_string(), "2026-02-19T20:49:29.927Z");
        assert_eq!(Timestamp::parse("2026-02-19T20:49:29.927Z"), Some(time));
        assert_eq!(Timestamp::parse("2026-02-19T22:49:29.927+02:00"), Some(time));
        assert_eq!(Timestamp::from_unix_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        for text in ["yesterday", "", "1771534169", "2026-02-19", "2026-02-19T20:49:29", "2026-02-30T20:49:29Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_prints_as_its_last_one() {
        assert_eq!(Timestamp::from_unix_ms(i64::MAX).to_string(), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn http_dates_have_whole_seconds() {
        let time = Some(Timestamp::from_unix_ms(1_771_534_169_000));
        assert_eq!(Timestamp::parse_http("Thu, 19 Feb 2026 20:49:29 GMT"), time);
        assert_eq!(Timestamp::parse_http("soon"), None);
    }

    #[test]
    fn the_time_since_a_later_time_is_zero() {
        let (early, late) = (Timestamp::from_unix_ms(1_000), Timestamp::from_unix_ms(3_500));
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
