//! The header `Retry-After` (RFC 9110, 10.2.3).

use std::time::Duration;

use crate::domain::Timestamp;

/// Longest `Retry-After` that is obeyed, against a wrong header. After this the partner is asked again.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Parses the header: seconds or an HTTP date. A number that is too long to be read is the longest wait. `None` where
/// it is neither, and where it is zero: an answer that asks to retry at once gives no delay.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match seconds(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => Timestamp::parse_http(text)?.since(now),
    };
    (!wait.is_zero()).then(|| wait.min(RETRY_AFTER_MAX))
}

/// Whole seconds; parts of a second are rounded up.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = !whole.is_empty() && [whole, part].iter().all(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let seconds = is_number.then(|| whole.parse().unwrap_or(u64::MAX))?;
    Some(seconds.saturating_add(u64::from(part.bytes().any(|digit| digit != b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seconds_or_a_date_of_at_most_an_hour() {
        let now = Timestamp::parse("2026-02-19T20:49:30Z").unwrap();
        let too_long = "9".repeat(60);
        for (text, expected) in [
            ("7", Some(7)),
            (" 0 ", None),
            ("0.0", None),
            ("0.2", Some(1)),
            ("1.50", Some(2)),
            ("Thu, 19 Feb 2026 20:50:00 GMT", Some(30)),
            ("Thu, 19 Feb 2026 20:00:00 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3_600)),
            ("99999999", Some(3_600)),
            ("18446744073709551616", Some(3_600)),
            (&too_long, Some(3_600)),
            ("soon", None),
            ("-5", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
