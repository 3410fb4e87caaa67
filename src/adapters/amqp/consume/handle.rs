//! Settles a delivery: publishes its event or its copy, then acknowledges it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::adapters::amqp::consume::ack_batcher::AckBatcher;
use crate::adapters::amqp::dead::message;
use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::message::OutgoingMessage;
use crate::adapters::amqp::publish::publisher::Publisher;
use crate::adapters::amqp::topology::{Names, delay_step, short};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, EventType, Lane, Problem, Timestamp, TraceContext};
use crate::failpoint;
use crate::ports::{QueueError, Settle};
use crate::telemetry::{LinkNotPublished, trace};

/// Publishes outcomes and copies of jobs.
#[derive(Debug)]
pub(crate) struct OutcomeSink {
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
}

/// An unsettled delivery. If it is dropped, the broker delivers the job again once the connection is closed.
pub struct AmqpHandle {
    pub(crate) lane: Lane,
    pub(crate) tag: u64,
    pub(crate) acks: AckBatcher,
    pub(crate) history: History,
    /// When this delivery was first sent to the API.
    pub(crate) sent_at: Option<Timestamp>,
    /// Body and properties as delivered. Boxed: handles are moved often, and properties are large.
    pub(crate) message: Box<(Bytes, BasicProperties)>,
    pub(crate) outcome_sink: Arc<OutcomeSink>,
    pub(crate) clock: Clock,
}

impl AmqpHandle {
    /// Acknowledges the delivery soon. If the acknowledgement is lost, the broker delivers the job again, and its
    /// event, which is confirmed already, is published again with the same id.
    fn acknowledge(self) {
        self.acks.settle(self.tag);
    }

    async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: &(dyn Fn() -> BasicProperties + Sync),
    ) -> Result<(), QueueError> {
        self.outcome_sink.publisher.publish(&OutgoingMessage { exchange, routing_key, body, properties }).await
    }

    /// Properties of a copy: with the job's history, and its due time if no delay queue is long enough.
    fn copy_properties(&self, history: &History, delay: Duration) -> BasicProperties {
        let mut headers = headers::write(self.message.1.headers().clone(), history);
        if delay > self.nearest_delay(delay) {
            headers::put_due(&mut headers, self.clock.now().plus(delay));
        }
        headers::for_copy(&self.message.1, &headers)
    }
}

/// An event that isn't published yet. If it has a link and is dropped, the link is lost: the worker ended before the
/// broker confirmed the event.
struct UnpublishedLink<'e>(&'e Event);

impl UnpublishedLink<'_> {
    fn published(self) {
        std::mem::forget(self);
    }
}

impl Drop for UnpublishedLink<'_> {
    fn drop(&mut self) {
        let Event { verification_url, service_id, .. } = self.0;
        if let (Some(_), Some(service_id)) = (verification_url, service_id) {
            LinkNotPublished { service_id: service_id.as_ref() }.emit();
        }
    }
}

/// Header of a W3C trace context.
const TRACEPARENT: &str = "traceparent";

impl Settle for AmqpHandle {
    fn trace(&self) -> Option<TraceContext> {
        match self.message.1.headers().as_ref()?.inner().get(TRACEPARENT)? {
            AMQPValue::LongString(text) => TraceContext::parse(std::str::from_utf8(text.as_bytes()).ok()?),
            AMQPValue::ShortString(text) => TraceContext::parse(text.as_str()),
            _ => None,
        }
    }

    fn is_ours(&self) -> bool {
        self.acks.is_channel_open()
    }

    fn is_dated(&self) -> bool {
        headers::enqueued_at(&self.message.1, self.clock.now()).is_some()
    }

    /// RabbitMQ can't record anything about a delivery. Its `redelivered` flag serves as the recorded intent.
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        // The first send counts: the user may be as old as that.
        self.sent_at.get_or_insert(now);
        failpoint::pass("after_intent");
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.sent_at = None;
        Ok(())
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        failpoint::pass("before_finish");
        let unpublished = UnpublishedLink(event);
        let type_name = event.event_type.name();
        let trace = trace::current().or_else(|| self.trace());
        let properties = || {
            let properties =
                headers::of_event(event.id, type_name, event.time).with_correlation_id(short(&event.job_id));
            let Some(trace) = &trace else { return properties };
            let mut carried = FieldTable::default();
            carried.insert(TRACEPARENT.into(), AMQPValue::LongString(trace.to_string().into()));
            properties.with_headers(carried)
        };
        let exchange = self.outcome_sink.names.events_exchange();
        self.publish(exchange, type_name, event.to_json().as_bytes(), &properties).await?;
        unpublished.published();
        if is_dead_lettered(event) {
            self.publish_dead_letter(event).await?;
        }
        failpoint::pass("between_event_and_ack");
        self.acknowledge();
        failpoint::pass("after_finish");
        Ok(())
    }

    fn nearest_delay(&self, delay: Duration) -> Duration {
        Duration::from_secs(delay_step(delay))
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        failpoint::pass("before_requeue");
        if delay.is_zero() && history == self.history && !self.acks.is_queue_lost() {
            // Unchanged: the broker requeues it at its old position.
            self.acks.requeue(self.tag).await;
            return Ok(());
        }
        let properties = self.copy_properties(&history, delay);
        let properties = || properties.clone();
        if delay.is_zero() {
            let exchange = self.outcome_sink.names.jobs_exchange();
            self.publish(&exchange, self.lane.name(), &self.message.0, &properties).await?;
        } else {
            let queue = self.outcome_sink.names.delay_queue(self.lane, delay_step(delay));
            self.publish("", &queue, &self.message.0, &properties).await?;
        }
        failpoint::pass("between_copy_and_ack");
        self.acknowledge();
        failpoint::pass("after_requeue");
        Ok(())
    }
}

impl AmqpHandle {
    /// Publishes a copy to the dead letter queue, with the reason and the times at which the job was sent: a retry must
    /// know that a user it finds may be this job's.
    async fn publish_dead_letter(&self, event: &Event) -> Result<(), QueueError> {
        let first_sent_at = self.history.first_sent_at.or(self.sent_at);
        // The last send was before the event.
        let last_sent_at = first_sent_at.map(|_| event.time);
        let history = History { attempts: event.attempts, first_sent_at, last_sent_at, ..self.history };
        let mut headers = headers::write(self.message.1.headers().clone(), &history);
        let reason = event.errors.iter().find(|problem| is_poison(problem)).or(event.errors.first());
        let reason = reason.map_or("UNKNOWN", |problem| problem.code.as_str());
        headers.insert(message::REASON.into(), AMQPValue::LongString(reason.into()));
        headers.insert(message::LANE.into(), AMQPValue::LongString(self.lane.name().into()));
        headers.insert(message::DEAD_AT.into(), AMQPValue::LongLongInt(event.time.unix_ms()));
        let properties = headers::for_copy(&self.message.1, &headers);
        self.publish("", &self.outcome_sink.names.dead_queue(), &self.message.0, &|| properties.clone()).await
    }
}

/// Codes of poison messages: the upstream that sends them has to be fixed, not the data of a person.
const POISON_CODES: [&str; 7] = [
    "MALFORMED_JOB",
    "MESSAGE_TOO_LARGE",
    "INVALID_ID",
    "INVALID_IDEMPOTENCY_KEY",
    "INVALID_REPLACES",
    "IDEMPOTENCY_KEY_IN_USE",
    "UNKNOWN_FIELD",
];

fn is_poison(problem: &Problem) -> bool {
    POISON_CODES.contains(&problem.code.as_str())
}

/// Whether an operator has to see the message: a failed job, or a poison message.
fn is_dead_lettered(event: &Event) -> bool {
    let is_rejected_unsent = event.event_type == EventType::Rejected && event.attempts == 0;
    event.event_type == EventType::Failed || is_rejected_unsent && event.errors.iter().any(is_poison)
}

crate::domain::private::debug_redacted!(AmqpHandle);
