//! Consuming the lanes, and the ports on top.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::acks::Acks;
use super::fleet::{self, OnCount};
use super::link::{self, LinkConfig, Pauses};
use super::publisher::{Message, Publisher};
use super::refusal::explain;
use super::topology::{Names, delay_step, short};
use super::{dead, headers};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, EventType, Lane, Problem, Timestamp, TraceContext};
use crate::failpoint;
use crate::ports::{Delivery, JobSource, QueueError, Settle};
use crate::telemetry::{BrokerConnection, BrokerLink, trace};

/// How the lanes are consumed.
#[derive(Debug, Clone)]
pub struct ConsumeConfig {
    /// The broker.
    pub link: LinkConfig,
    /// Its queues.
    pub names: Names,
    /// Shown in the broker's list of connections and consumers.
    pub name: String,
    /// Unacknowledged deliveries per lane.
    pub prefetch: u16,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// Told how many workers consume.
    pub on_count: OnCount,
}

/// The consuming connection. Dropping it closes the connection: what is in hand goes back to its queue.
#[derive(Debug)]
pub struct Consuming {
    _keeper: AbortOnDropHandle<()>,
    closing: CancellationToken,
}

impl Consuming {
    /// Closes the connection once the broker has seen everything that was written on it: an acknowledgement that is
    /// still on its way when a connection ends is lost, and its job comes again.
    pub async fn close(self) {
        let Self { _keeper: keeper, closing } = self;
        closing.cancel();
        // Bounded: a frozen broker must not hold up the end.
        let _ = timeout(CLOSE_TIMEOUT, keeper).await;
    }
}

/// Longest wait for the broker at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// lapin's words for a frame that is longer than was agreed on: a message with very long headers.
const FRAME_TOO_LARGE: &str = "frame too large";

/// Starts consuming both lanes; `stop` cancels the consumers, and the connection stays for acknowledgements.
pub fn consume(
    mut config: ConsumeConfig,
    publisher: &Publisher,
    clock: Clock,
    stop: CancellationToken,
) -> (Consuming, AmqpSource, AmqpSource) {
    let capacity = usize::from(config.prefetch.max(1));
    let outlet = Arc::new(Outlet { publisher: publisher.clone(), names: config.names.clone() });
    let lane = |lane| {
        let (deliveries, inbox) = mpsc::channel(capacity);
        let source = AmqpSource { lane, inbox, outlet: Arc::clone(&outlet), clock };
        (deliveries, source)
    };
    let (signup, signup_source) = lane(Lane::Signup);
    let (bulk, bulk_source) = lane(Lane::Bulk);
    let closing = CancellationToken::new();
    let closed = closing.clone();
    let keeper = tokio::spawn(async move {
        let mut jitter = fastrand::Rng::with_seed(config.seed);
        let mut pauses = Pauses::default();
        while !stop.is_cancelled() {
            let link = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                link = link::connect(&config.link, BrokerConnection::Consumer, &config.name, &mut jitter) => link,
            };
            let began = Instant::now();
            let acks = Acks::new(link.channel.clone());
            let reason = tokio::select! {
                biased;
                error = acks.keep_acknowledging() => explain(&error),
                reason = forward(&config, &link.connection, &acks, &link.channel, &signup, &bulk, &stop) => reason,
            };
            if stop.is_cancelled() {
                // What is in hand is settled meanwhile.
                tokio::select! {
                    biased;
                    () = closed.cancelled() => {}
                    _ = acks.keep_acknowledging() => closed.cancelled().await,
                }
                let _ = acks.acknowledge_all().await;
                let _ = link.channel.close(200, "done".into()).await;
                let _ = link.connection.close(200, "done".into()).await;
                return;
            }
            let broken = BrokerLink::Broken { name: &config.name, reason: &reason };
            broken.emit(BrokerConnection::Consumer, &config.link.metrics);
            drop(link);
            if reason.contains(FRAME_TOO_LARGE) {
                config.link.allow_longest_frames();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = pauses.after(began.elapsed()) => {}
            }
        }
    });
    (Consuming { _keeper: AbortOnDropHandle::new(keeper), closing }, signup_source, bulk_source)
}

/// Hands deliveries to the lanes until the connection breaks or `stop` is cancelled. Says why it ended.
async fn forward(
    config: &ConsumeConfig,
    connection: &Connection,
    acks: &Acks,
    channel: &Channel,
    signup: &mpsc::Sender<Received>,
    bulk: &mpsc::Sender<Received>,
    stop: &CancellationToken,
) -> String {
    let consumers = async {
        channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
        let signup = start_consumer(config, channel, Lane::Signup).await?;
        let bulk = start_consumer(config, channel, Lane::Bulk).await?;
        Ok::<_, lapin::Error>((signup, bulk))
    };
    let (mut signups, mut bulks) = match timeout(config.link.connect_timeout, consumers).await {
        Ok(Ok(consumers)) => consumers,
        Ok(Err(error)) => return explain(&error),
        Err(_) => return "no answer while consuming was to begin".to_owned(),
    };
    let counted = config.names.jobs_queue(Lane::Signup);
    let lanes = async {
        tokio::select! {
            reason = pump(&mut signups, acks, signup) => reason,
            reason = pump(&mut bulks, acks, bulk) => reason,
            error = fleet::count(connection, &counted, &config.on_count) => explain(&error),
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        reason = lanes => return reason,
    }
    for lane in Lane::ALL {
        // A connection that is gone has no consumers either.
        let _ = channel.basic_cancel(short(&consumer_tag(config, lane)), BasicCancelOptions::default()).await;
    }
    "told to stop".to_owned()
}

async fn start_consumer(config: &ConsumeConfig, channel: &Channel, lane: Lane) -> lapin::Result<Consumer> {
    channel
        .basic_consume(
            short(&config.names.jobs_queue(lane)),
            short(&consumer_tag(config, lane)),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
}

fn consumer_tag(config: &ConsumeConfig, lane: Lane) -> String {
    format!("{}.{}", config.name, lane.name())
}

/// A delivery and where it is acknowledged.
type Received = (AmqpDelivery, Acks);

/// Moves deliveries from a consumer to its lane. Ends when the consumer does.
async fn pump(consumer: &mut Consumer, acks: &Acks, lane: &mpsc::Sender<Received>) -> String {
    loop {
        match poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await {
            Some(Ok(delivery)) => {
                acks.received(delivery.delivery_tag);
                if lane.send((delivery, acks.clone())).await.is_err() {
                    // The pipeline has ended; the delivery goes back with the connection.
                    return "nobody takes deliveries any more".to_owned();
                }
            }
            Some(Err(error)) => return explain(&error),
            // The queue was deleted, or a node left: a fault, not the end.
            None => return "the broker cancelled the consumer: was its queue deleted?".to_owned(),
        }
    }
}

/// The jobs of one lane; never ends by itself.
#[derive(Debug)]
pub struct AmqpSource {
    lane: Lane,
    inbox: mpsc::Receiver<Received>,
    outlet: Arc<Outlet>,
    clock: Clock,
}

/// Where outcomes and copies go.
#[derive(Debug)]
struct Outlet {
    publisher: Publisher,
    names: Names,
}

impl JobSource for AmqpSource {
    type Handle = AmqpHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<AmqpHandle>>, QueueError> {
        let (delivery, acks) = loop {
            match self.inbox.recv().await {
                // Of a connection that is gone: the broker delivers it again, so it would be done twice.
                Some((_, acks)) if !acks.are_possible() => {}
                Some(received) => break received,
                None => return Err(QueueError("the consuming task has ended".to_owned())),
            }
        };
        let AmqpDelivery { delivery_tag, redelivered, properties, data, .. } = delivery;
        let history = headers::read(&properties, redelivered, self.clock.now());
        let body = Bytes::from(data);
        let message_id = properties.message_id().as_ref().map(ToString::to_string);
        failpoint::pass("received");
        let handle = AmqpHandle {
            lane: self.lane,
            tag: delivery_tag,
            acks,
            history,
            sent_at: None,
            message: Box::new((body.clone(), properties)),
            outlet: Arc::clone(&self.outlet),
        };
        Ok(Some(Delivery { lane: self.lane, body, message_id, history, handle }))
    }
}

/// A job in hand. Dropped unsettled, it goes back to its queue with the connection.
pub struct AmqpHandle {
    lane: Lane,
    tag: u64,
    acks: Acks,
    history: History,
    /// When this delivery was first sent, where no earlier one was.
    sent_at: Option<Timestamp>,
    /// As it came. Boxed: a job in hand is moved, and properties are large.
    message: Box<(Bytes, BasicProperties)>,
    outlet: Arc<Outlet>,
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
        properties: BasicProperties,
    ) -> Result<(), QueueError> {
        self.outlet.publisher.publish(&Message { exchange, routing_key, body, properties }).await
    }

    /// The message as it came, with the history so far.
    fn copied(&self, history: &History) -> BasicProperties {
        let headers = headers::write(self.message.1.headers().clone(), history);
        headers::for_copy(&self.message.1, &headers)
    }
}

const PERSISTENT: u8 = 2;

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
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(event.id.to_string().into())
            .with_correlation_id(short(&event.job_id))
            .with_type(type_name.into())
            .with_app_id("plu-onboard".into())
            .with_timestamp(u64::try_from(event.time.unix_ms() / 1_000).unwrap_or(0));
        if let Some(trace) = trace::current().or_else(|| self.trace()) {
            let mut carried = FieldTable::default();
            carried.insert(TRACEPARENT.into(), AMQPValue::LongString(trace.to_string().into()));
            properties = properties.with_headers(carried);
        }
        self.publish(&self.outlet.names.events_exchange(), type_name, event.to_json().as_bytes(), properties).await?;
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

    async fn put_back(self, history: History, delay: Duration) -> Result<(), QueueError> {
        failpoint::pass("before_put_back");
        if delay.is_zero() && history == self.history {
            // Untouched: the broker puts it back where it was.
            self.acks.give_back(self.tag).await;
            return Ok(());
        }
        if delay.is_zero() {
            self.publish(&self.outlet.names.jobs_exchange(), self.lane.name(), &self.message.0, self.copied(&history))
                .await?;
        } else {
            let queue = self.outlet.names.delay_queue(self.lane, delay_step(delay));
            self.publish("", &queue, &self.message.0, self.copied(&history)).await?;
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
        headers.insert(dead::REASON.into(), AMQPValue::LongString(reason.into()));
        headers.insert(dead::LANE.into(), AMQPValue::LongString(self.lane.name().into()));
        headers.insert(dead::DEAD_AT.into(), AMQPValue::LongLongInt(event.time.unix_ms()));
        let properties = headers::for_copy(&self.message.1, &headers);
        self.publish("", &self.outlet.names.dead_queue(), &self.message.0, properties).await
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
