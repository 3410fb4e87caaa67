//! A job's history in the headers of its message, and the properties of published messages. Pure.
//!
//! RabbitMQ's delivery count and redelivered flag don't say when a job was first sent to the API, nor how often.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use crate::domain::decide::History;
use crate::domain::{IdempotencyKey, Timestamp};

/// When the message was published, in milliseconds since 1970. RabbitMQ's own message interceptor writes this header.
const PUBLISHED: &str = "timestamp_in_ms";
const ATTEMPTS: &str = "x-plu-attempts";
const FIRST_SEEN: &str = "x-plu-first-seen-ms";
const FIRST_SENT: &str = "x-plu-first-sent-ms";
const LAST_SENT: &str = "x-plu-last-sent-ms";
/// When a job is due whose delay is longer than the longest delay queue's. It is delayed again until then.
const DUE: &str = "x-plu-due-ms";

/// Assumed age of a redelivered message without a time; an upstream should set `timestamp`. If it is too short, a user
/// that an earlier delivery created is reported as existing before the job.
const UNKNOWN_AGE: Duration = Duration::from_secs(86_400);

/// Returns the history of a delivery.
///
/// A redelivered job may have been sent, at the earliest when it was put on the queue. Its headers can't say, because
/// nothing can be written to a message on a queue.
pub(crate) fn read(properties: &BasicProperties, redelivered: bool, now: Timestamp) -> History {
    let headers = properties.headers().as_ref();
    let number = |name: &str| headers.and_then(|headers| headers.inner().get(name)).and_then(integer);
    // A time in the future counts as now.
    let time = |name: &str| number(name).map(|ms| Timestamp::from_unix_ms(ms).min(now));
    let unknown = if redelivered { now.minus(UNKNOWN_AGE) } else { now };
    let enqueued_at = enqueued_at(properties, now).unwrap_or(unknown);
    let first_sent_at = time(FIRST_SENT).or_else(|| redelivered.then_some(enqueued_at));
    // The earlier delivery may have been sent a moment ago.
    let last_sent_at = if redelivered { first_sent_at.map(|_| now) } else { time(LAST_SENT).or(first_sent_at) };
    History {
        enqueued_at,
        first_sent_at,
        last_sent_at,
        attempts: number(ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(0),
    }
}

/// Returns since when the job waits, as far as its message says.
pub(crate) fn enqueued_at(properties: &BasicProperties, now: Timestamp) -> Option<Timestamp> {
    let headers = properties.headers().as_ref();
    let number = |name: &str| headers.and_then(|headers| headers.inner().get(name)).and_then(integer);
    // A time in the future counts as now.
    let time = |name: &str| number(name).map(|ms| Timestamp::from_unix_ms(ms).min(now));
    // An implausible time of an upstream (0, or milliseconds instead of seconds) is ignored. Read as now, it would make
    // a user that an earlier delivery created older than the job, so that the user is reported as existing before.
    let plausible = |at: Timestamp| (at.unix_ms() > 0 && at <= now).then_some(at);
    let published_ms = || plausible(Timestamp::from_unix_ms(number(PUBLISHED)?));
    // The property `timestamp` is in seconds (AMQP 0-9-1, 4.2.5.4).
    let published_s = || {
        let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok())?;
        plausible(Timestamp::from_unix_ms(seconds.saturating_mul(1_000)))
    };
    time(FIRST_SEEN).or_else(published_ms).or_else(published_s)
}

/// Returns how long a job still has to be delayed, at most a day.
pub(crate) fn remaining_delay(properties: &BasicProperties, now: Timestamp) -> Duration {
    let headers = properties.headers().as_ref();
    let due = headers.and_then(|headers| headers.inner().get(DUE)).and_then(integer);
    due.map_or(Duration::ZERO, |due| Timestamp::from_unix_ms(due).since(now).min(REMAINING_DELAY_MAX))
}

const REMAINING_DELAY_MAX: Duration = Duration::from_secs(86_400);

/// Writes when a job is due.
pub(crate) fn put_due(headers: &mut FieldTable, due: Timestamp) {
    headers.insert(DUE.into(), AMQPValue::LongLongInt(due.unix_ms()));
}

/// Limit of an upstream's own headers that are copied, in bytes. Headers travel in one frame, and the publishing
/// connection negotiates frames of 12 KiB: the other headers of a copy fit beside them.
const OWN_BYTES_MAX: usize = 8 * 1_024;

/// Writes a history into headers, replacing an older one. The upstream's own headers stay if they have at most 8 KiB.
pub(crate) fn write(headers: Option<FieldTable>, history: &History) -> FieldTable {
    let mut headers = headers.filter(|own| table_bytes(own) <= OWN_BYTES_MAX).unwrap_or_default();
    if headers.contains_key(DUE) {
        headers = without(&headers, |name| name == DUE);
    }
    let mut put = |name: &str, value: Option<i64>| {
        if let Some(value) = value {
            headers.insert(ShortString::from(name), AMQPValue::LongLongInt(value));
        }
    };
    put(ATTEMPTS, Some(i64::from(history.attempts)));
    put(FIRST_SEEN, Some(history.enqueued_at.unix_ms()));
    put(FIRST_SENT, history.first_sent_at.map(Timestamp::unix_ms));
    put(LAST_SENT, history.last_sent_at.map(Timestamp::unix_ms));
    headers
}

/// The `delivery-mode` of a message that survives a restart of the broker (AMQP 0-9-1).
const PERSISTENT: u8 = 2;

const JSON: &str = "application/json";

const APP_ID: &str = "plu-onboard";

pub(super) fn of_job(key: IdempotencyKey, history: &History) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(JSON.into())
        .with_message_id(key.to_string().into())
        .with_app_id(APP_ID.into())
        .with_timestamp(unix_seconds(history.enqueued_at))
        .with_headers(write(None, history))
}

/// Returns the properties of an event, without the job that it is about.
pub(super) fn of_event(id: Uuid, type_name: &'static str, time: Timestamp) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(JSON.into())
        .with_message_id(id.to_string().into())
        .with_type(type_name.into())
        .with_app_id(APP_ID.into())
        .with_timestamp(unix_seconds(time))
}

fn unix_seconds(time: Timestamp) -> u64 {
    u64::try_from(time.unix_ms() / 1_000).unwrap_or(0)
}

/// Returns the properties for a copy of a message, with other headers.
///
/// Leaves out what the upstream meant for its own publish. The broker closes a channel that publishes under another
/// `user_id`. With its `expiration` a copy would expire among the dead letters, and with its `CC` it would multiply.
pub(super) fn for_copy(properties: &BasicProperties, headers: &FieldTable) -> BasicProperties {
    let kept = without(headers, |name| ["CC", "BCC"].contains(&name));
    let copy = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(kept);
    let copy = with(copy, properties.content_type(), BasicProperties::with_content_type);
    let copy = with(copy, properties.content_encoding(), BasicProperties::with_content_encoding);
    let copy = with(copy, properties.priority(), BasicProperties::with_priority);
    let copy = with(copy, properties.correlation_id(), BasicProperties::with_correlation_id);
    let copy = with(copy, properties.message_id(), BasicProperties::with_message_id);
    let copy = with(copy, properties.timestamp(), BasicProperties::with_timestamp);
    let copy = with(copy, properties.kind(), BasicProperties::with_type);
    with(copy, properties.app_id(), BasicProperties::with_app_id)
}

/// Returns a copy of a table without some of its entries.
pub(super) fn without(headers: &FieldTable, is_left_out: impl Fn(&str) -> bool) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in headers.inner() {
        if !is_left_out(name.as_str()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

fn with<T: Clone>(
    copy: BasicProperties,
    value: &Option<T>,
    put: fn(BasicProperties, T) -> BasicProperties,
) -> BasicProperties {
    match value {
        Some(value) => put(copy, value.clone()),
        None => copy,
    }
}

/// Returns an upper bound of a table's size on the wire, in bytes.
fn table_bytes(table: &FieldTable) -> usize {
    table.inner().iter().map(|(name, value)| 1 + name.as_str().len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 5 + text.as_bytes().len(),
        AMQPValue::ShortString(text) => 2 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 5 + bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => 5 + values.as_slice().iter().map(value_bytes).sum::<usize>(),
        AMQPValue::FieldTable(table) => 5 + table_bytes(table),
        _ => 9,
    }
}

/// Reads an integer of any width: client libraries choose different ones.
pub(super) fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongInt(number) => Some(i64::from(*number)),
        AMQPValue::LongUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(9_000_000);

    #[test]
    fn a_history_is_read_back_as_it_was_written() {
        let history = History { attempts: 3, ..History::new(Timestamp::from_unix_ms(1_234)) };
        for history in [history, history.with_send(Timestamp::from_unix_ms(5_678))] {
            let properties = BasicProperties::default().with_headers(write(None, &history));
            assert_eq!(read(&properties, false, NOW), history);
        }
    }

    #[test]
    fn a_redelivered_job_may_have_been_sent_and_a_new_one_was_not() {
        let published = BasicProperties::default().with_timestamp(7_000);
        let at = Timestamp::from_unix_ms(7_000_000);
        assert_eq!(read(&published, false, NOW), History::new(at));
        let again = read(&published, true, NOW);
        assert_eq!((again.first_sent_at, again.last_sent_at), (Some(at), Some(NOW)));
        assert_eq!(read(&BasicProperties::default(), false, NOW), History::new(NOW));
        let mut exact = FieldTable::default();
        exact.insert(PUBLISHED.into(), AMQPValue::LongLongInt(7_000_123));
        let published = published.with_headers(exact);
        assert_eq!(read(&published, false, NOW), History::new(Timestamp::from_unix_ms(7_000_123)));
        let long_ago = read(&BasicProperties::default(), true, NOW).first_sent_at;
        assert_eq!(long_ago, Some(NOW.minus(UNKNOWN_AGE)));
    }

    #[test]
    fn the_upstreams_own_headers_are_kept_up_to_the_limit() {
        let own = |bytes: usize| {
            let mut own = FieldTable::default();
            own.insert(
                "stack".into(),
                AMQPValue::FieldArray(vec![AMQPValue::LongString("y".repeat(bytes).into())].into()),
            );
            own
        };
        assert!(write(Some(own(8_000)), &History::new(NOW)).inner().contains_key("stack"));
        let copied = write(Some(own(9_000)), &History::new(NOW));
        assert!(!copied.inner().contains_key("stack") && copied.inner().contains_key(FIRST_SEEN));
    }

    #[test]
    fn implausible_times_are_ignored_and_future_ones_count_as_now() {
        let exact = |ms: i64| {
            let mut headers = FieldTable::default();
            headers.insert(PUBLISHED.into(), AMQPValue::LongLongInt(ms));
            BasicProperties::default().with_headers(headers)
        };
        for wrong in [
            BasicProperties::default().with_timestamp(1_795_000_000_000),
            BasicProperties::default().with_timestamp(9_120),
            BasicProperties::default().with_timestamp(0),
            exact(NOW.unix_ms() + 60_000),
            exact(-1),
        ] {
            assert_eq!(read(&wrong, false, NOW), History::new(NOW));
            assert_eq!(read(&wrong, true, NOW).first_sent_at, Some(NOW.minus(UNKNOWN_AGE)));
        }
        let one_is_right = exact(NOW.unix_ms() + 60_000).with_timestamp(8_000);
        assert_eq!(read(&one_is_right, true, NOW).enqueued_at, Timestamp::from_unix_ms(8_000_000));
        let history = History::new(Timestamp::from_unix_ms(NOW.unix_ms() + 5_000));
        let ahead = BasicProperties::default().with_headers(write(None, &history));
        assert_eq!(read(&ahead, false, NOW).enqueued_at, NOW);
    }
}
