//! A job in hand: how it is settled, and what else is published about it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::adapters::amqp::consume::acks::Acks;
use crate::adapters::amqp::dead::letter;
use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::publisher::{Message, Publisher};
use crate::adapters::amqp::topology::{Names, delay_step, short};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, EventType, Lane, Problem, Timestamp, TraceContext};
use crate::failpoint;
use crate::ports::{QueueError, Settle};
use crate::telemetry::trace;

/// Where outcomes and copies go.
#[derive(Debug)]
pub(crate) struct OutcomeSink {
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
}

/// A job in hand. Dropped unsettled, it goes back to its queue with the connection.
pub struct AmqpHandle {
    pub(crate) lane: Lane,
    pub(crate) tag: u64,
    pub(crate) acks: Acks,
    pub(crate) history: History,
    /// When this delivery was first sent, where no earlier one was.
    pub(crate) sent_at: Option<Timestamp>,
    /// As it came. Boxed: a job in hand is moved, and properties are large.
    pub(crate) message: Box<(Bytes, BasicProperties)>,
    pub(crate) outlet: Arc<OutcomeSink>,
    pub(crate) clock: Clock,
}

impl AmqpHandle {
    /// Acknowledges, soon. A lost acknowledgement is no fault: the job comes back as redelivered, and its event, which was
    /// confirmed already, comes again with the same id.
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
        self.outlet.publisher.publish(&Message { exchange, routing_key, body, properties }).await
    }

    /// The message as it came, with the history so far, and when it is due where no queue delays it for so long.
    fn copied(&self, history: &History, delay: Duration) -> BasicProperties {
        let mut headers = headers::write(self.message.1.headers().clone(), history);
        if delay > self.nearest_delay(delay) {
            headers::put_due(&mut headers, self.clock.now().plus(delay));
        }
        headers::for_copy(&self.message.1, &headers)
    }
}

/// The header of W3C trace contexts.
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
        self.acks.are_possible()
    }

    /// RabbitMQ records nothing of a message in hand; its `redelivered` flag is the intent on record.
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        self.sent_at = Some(now);
        failpoint::pass("after_intent");
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.sent_at = None;
        Ok(())
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        failpoint::pass("before_finish");
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
        self.publish(self.outlet.names.events_exchange(), type_name, event.to_json().as_bytes(), &properties).await?;
        if is_dead(event) {
            self.bury(event).await?;
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
        failpoint::pass("before_put_back");
        if delay.is_zero() && history == self.history && !self.acks.are_abandoned() {
            // Untouched: the broker puts it back where it was.
            self.acks.give_back(self.tag).await;
            return Ok(());
        }
        let properties = self.copied(&history, delay);
        let properties = || properties.clone();
        if delay.is_zero() {
            let exchange = self.outlet.names.jobs_exchange();
            self.publish(&exchange, self.lane.name(), &self.message.0, &properties).await?;
        } else {
            let queue = self.outlet.names.delay_queue(self.lane, delay_step(delay));
            self.publish("", &queue, &self.message.0, &properties).await?;
        }
        failpoint::pass("between_copy_and_ack");
        self.acknowledge();
        failpoint::pass("after_put_back");
        Ok(())
    }
}

impl AmqpHandle {
    /// Puts a copy among the dead letters, with the reason, and with the times of its sends: whoever tries it again must know
    /// that the user may be this job's.
    async fn bury(&self, event: &Event) -> Result<(), QueueError> {
        let first_sent_at = self.history.first_sent_at.or(self.sent_at);
        // The last send was before the event.
        let last_sent_at = first_sent_at.map(|_| event.time);
        let history = History { attempts: event.attempts, first_sent_at, last_sent_at, ..self.history };
        let mut headers = headers::write(self.message.1.headers().clone(), &history);
        let reason = event.errors.iter().find(|problem| is_poison(problem)).or(event.errors.first());
        let reason = reason.map_or("UNKNOWN", |problem| problem.code.as_str());
        headers.insert(letter::REASON.into(), AMQPValue::LongString(reason.into()));
        headers.insert(letter::LANE.into(), AMQPValue::LongString(self.lane.name().into()));
        headers.insert(letter::DEAD_AT.into(), AMQPValue::LongLongInt(event.time.unix_ms()));
        let properties = headers::for_copy(&self.message.1, &headers);
        self.publish("", &self.outlet.names.dead_queue(), &self.message.0, &|| properties.clone()).await
    }
}

/// What is wrong with a message as such: its upstream has to be mended, not the data of a person.
const POISON: [&str; 5] =
    ["MALFORMED_JOB", "MESSAGE_TOO_LARGE", "INVALID_ID", "INVALID_IDEMPOTENCY_KEY", "UNKNOWN_FIELD"];

fn is_poison(problem: &Problem) -> bool {
    POISON.contains(&problem.code.as_str())
}

/// Failed jobs, and messages that were refused here because they are no jobs: a person has to see them.
fn is_dead(event: &Event) -> bool {
    let is_refused_here = event.event_type == EventType::Rejected && event.attempts == 0;
    event.event_type == EventType::Failed || is_refused_here && event.errors.iter().any(is_poison)
}

crate::domain::private::debug_redacted!(AmqpHandle);
