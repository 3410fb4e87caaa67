//! What a message of the dead-letter queue says of its job, and the job or letter that is made of it. Pure.

use std::fmt::Write;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use sha2::{Digest, Sha256};

use crate::adapters::amqp::headers;
use crate::adapters::amqp::topology::{Names, short};
use crate::domain::dead_letter::EXPIRED;
use crate::domain::decide::History;
use crate::domain::{DeadLetter, Lane, Timestamp};

/// Why a job was given up: a code.
pub(crate) const REASON: &str = "x-plu-reason";
/// The lane that it came from.
pub(crate) const LANE: &str = "x-plu-lane";
/// When it was given up, in milliseconds since 1970.
pub(crate) const DEAD_AT: &str = "x-plu-dead-ms";
/// Its id, where it can't be derived any more.
const ID: &str = "x-plu-dead-id";
/// How often RabbitMQ has delivered it without success.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";

/// Why and where RabbitMQ itself gave a message up.
struct Death {
    reason: String,
    lane: Option<Lane>,
    at: Option<Timestamp>,
}

/// What a message of the dead-letter queue is.
pub(super) fn letter(delivery: &Delivery, names: &Names, now: Timestamp) -> DeadLetter {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let reason = text(headers, REASON);
    let death = if reason.is_none() { death(headers, names) } else { None };
    let dead_at = integer(headers, DEAD_AT).map(Timestamp::from_unix_ms).or(death.as_ref().and_then(|death| death.at));
    let lane = text(headers, LANE).and_then(|name| Lane::ALL.into_iter().find(|lane| lane.name() == name));
    let message_id = properties.message_id().as_ref().map(ToString::to_string);
    DeadLetter {
        id: text(headers, ID).unwrap_or_else(|| id(&delivery.data, message_id.as_deref(), dead_at)),
        // A job that the broker gives up on was in somebody's hand, or may have been, and so it may have been sent.
        history: history(properties, death.is_some(), dead_at.unwrap_or(now), now),
        lane: lane.or(death.as_ref().and_then(|death| death.lane)),
        reason: reason.or(death.map(|death| death.reason)).unwrap_or_else(|| "UNKNOWN".to_owned()),
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

/// The newest entry of `x-death` that isn't the end of a delay. What expires on a lane does so because its upstream said when.
fn death(headers: Option<&FieldTable>, names: &Names) -> Option<Death> {
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
        Some(Death { reason, lane, at: at.map(|seconds| Timestamp::from_unix_ms(seconds.saturating_mul(1_000))) })
    })
}

/// The same for the same letter, and another for its job's next death.
fn id(body: &[u8], message_id: Option<&str>, dead_at: Option<Timestamp>) -> String {
    let mut hash = Sha256::new();
    hash.update(body);
    hash.update([0]);
    hash.update(message_id.unwrap_or_default());
    hash.update(dead_at.map_or(0, Timestamp::unix_ms).to_be_bytes());
    hash.finalize()[..8].iter().fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// Headers that tell of a death, and those that RabbitMQ counts with.
fn is_of_death(name: &str) -> bool {
    [REASON, LANE, DEAD_AT, ID, DELIVERY_COUNT, "x-death", "x-acquired-count"].contains(&name)
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// As a job on its lane: with the upstream's headers, fresh attempts and the times of its sends.
pub(super) fn back_to_life(properties: &BasicProperties, letter: &DeadLetter) -> BasicProperties {
    headers::for_copy(properties, &headers::write(Some(living(properties)), &letter.fresh_history()))
}

/// As it is, with everything that is known of its death in headers that outlast copying.
pub(super) fn copied(properties: &BasicProperties, letter: &DeadLetter) -> BasicProperties {
    let mut headers = headers::write(Some(living(properties)), &letter.history);
    let mut put = |name: &str, text: &str| {
        headers.insert(short(name), AMQPValue::LongString(text.into()));
    };
    put(REASON, &letter.reason);
    put(ID, &letter.id);
    if let Some(lane) = letter.lane {
        put(LANE, lane.name());
    }
    if let Some(at) = letter.dead_at {
        headers.insert(short(DEAD_AT), AMQPValue::LongLongInt(at.unix_ms()));
    }
    headers::for_copy(properties, &headers)
}

fn living(properties: &BasicProperties) -> FieldTable {
    properties.headers().as_ref().map_or_else(FieldTable::default, |headers| headers::without(headers, is_of_death))
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
