//! Converts a message on the dead letter queue to a dead letter, and a dead letter to a job or a copy. Pure.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use sha2::{Digest, Sha256};

use crate::adapters::amqp::headers;
use crate::adapters::amqp::topology::{Names, short};
use crate::domain::dead_letter::EXPIRED;
use crate::domain::decide::History;
use crate::domain::{DeadLetter, Lane, Timestamp};

/// Why the job failed: a code.
pub(crate) const REASON: &str = "x-plu-reason";
pub(crate) const LANE: &str = "x-plu-lane";
/// When it was dead-lettered, in milliseconds since 1970.
pub(crate) const DEAD_AT: &str = "x-plu-dead-ms";
/// Id of a copy: it can't be derived from the copy.
const ID: &str = "x-plu-dead-id";
/// How often RabbitMQ has delivered it without an acknowledgement.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";

/// Why and where RabbitMQ itself dead-lettered a message: an entry of the header `x-death`.
struct XDeath {
    reason: String,
    lane: Option<Lane>,
    at: Option<Timestamp>,
}

pub(super) fn dead_letter(delivery: &Delivery, names: &Names, now: Timestamp) -> DeadLetter {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let reason = text(headers, REASON);
    let x_death = if reason.is_none() { x_death(headers, names) } else { None };
    let dead_at =
        integer(headers, DEAD_AT).map(Timestamp::from_unix_ms).or(x_death.as_ref().and_then(|death| death.at));
    let lane = text(headers, LANE).and_then(|name| Lane::ALL.into_iter().find(|lane| lane.name() == name));
    let message_id = properties.message_id().as_ref().map(ToString::to_string);
    DeadLetter {
        id: text(headers, ID).unwrap_or_else(|| id(&delivery.data, message_id.as_deref(), dead_at)),
        // A job that the broker dead-letters may have been delivered before, and so it may have been sent.
        history: history(properties, x_death.is_some(), dead_at.unwrap_or(now), now),
        lane: lane.or(x_death.as_ref().and_then(|death| death.lane)),
        reason: reason.or(x_death.map(|death| death.reason)).unwrap_or_else(|| "UNKNOWN".to_owned()),
        dead_at,
        message_id,
        problems: Vec::new(),
        body: delivery.data.clone(),
    }
}

fn history(properties: &BasicProperties, is_by_broker: bool, dead_at: Timestamp, now: Timestamp) -> History {
    let history = headers::read(properties, is_by_broker, now);
    if history.first_sent_at.is_none() && history.attempts > 0 {
        return History { first_sent_at: Some(history.enqueued_at), last_sent_at: Some(dead_at), ..history };
    }
    history
}

/// Returns the newest entry of `x-death` that isn't the end of a delay. A message that expires on a lane has an
/// expiration from its upstream.
fn x_death(headers: Option<&FieldTable>, names: &Names) -> Option<XDeath> {
    let AMQPValue::FieldArray(deaths) = headers?.inner().get("x-death")? else { return None };
    deaths.as_slice().iter().find_map(|death| {
        let AMQPValue::FieldTable(death) = death else { return None };
        let queue = text(Some(death), "queue").unwrap_or_default();
        let lane = Lane::ALL.into_iter().find(|lane| names.jobs_queue(*lane) == queue);
        let reason = text(Some(death), "reason")?.to_uppercase();
        if reason == EXPIRED && lane.is_none() {
            return None;
        }
        let at = match death.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => i64::try_from(*seconds).ok(),
            _ => None,
        };
        Some(XDeath { reason, lane, at: at.map(|seconds| Timestamp::from_unix_ms(seconds.saturating_mul(1_000))) })
    })
}

/// Returns the id: the same for the same dead letter, and another if its job is dead-lettered again.
fn id(body: &[u8], message_id: Option<&str>, dead_at: Option<Timestamp>) -> String {
    let mut hash = Sha256::new();
    hash.update(body);
    hash.update([0]);
    hash.update(message_id.unwrap_or_default());
    hash.update(dead_at.map_or(0, Timestamp::unix_ms).to_be_bytes());
    hex::encode(&hash.finalize()[..8])
}

/// Whether a header describes the dead letter, or is one of RabbitMQ's counters.
fn is_dead_letter_header(name: &str) -> bool {
    [REASON, LANE, DEAD_AT, ID, DELIVERY_COUNT, "x-death", "x-acquired-count"].contains(&name)
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// Returns the properties of a job on its lane: with the upstream's headers, no attempts and the times of its requests.
pub(super) fn retry_properties(properties: &BasicProperties, dead_letter: &DeadLetter) -> BasicProperties {
    headers::for_copy(properties, &headers::write(Some(job_headers(properties)), &dead_letter.fresh_history()))
}

/// Returns the properties of a copy on the dead letter queue, with everything known about the dead letter in headers.
pub(super) fn copy_properties(properties: &BasicProperties, dead_letter: &DeadLetter) -> BasicProperties {
    let mut headers = headers::write(Some(job_headers(properties)), &dead_letter.history);
    let mut put = |name: &str, text: &str| {
        headers.insert(short(name), AMQPValue::LongString(text.into()));
    };
    put(REASON, &dead_letter.reason);
    put(ID, &dead_letter.id);
    if let Some(lane) = dead_letter.lane {
        put(LANE, lane.name());
    }
    if let Some(at) = dead_letter.dead_at {
        headers.insert(short(DEAD_AT), AMQPValue::LongLongInt(at.unix_ms()));
    }
    headers::for_copy(properties, &headers)
}

fn job_headers(properties: &BasicProperties) -> FieldTable {
    let headers = properties.headers().as_ref();
    headers.map_or_else(FieldTable::default, |headers| headers::without(headers, is_dead_letter_header))
}

fn text(headers: Option<&FieldTable>, name: &str) -> Option<String> {
    match headers?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

pub(super) fn integer(headers: Option<&FieldTable>, name: &str) -> Option<i64> {
    headers?.inner().get(name).and_then(headers::integer)
}
