//! Consuming the lanes, and the ports on top.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use lapin::Acker;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::headers;
use super::link::{self, LinkConfig};
use super::publisher::{Message, Publisher};
use super::topology::{Names, delay_step, short};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, EventType, Lane, Timestamp};
use crate::ports::{Delivery, JobSource, QueueError, Settle};
use crate::telemetry::BrokerLink;

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
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, keeper).await;
    }
}

/// Longest wait for the broker at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts consuming both lanes; `stop` cancels the consumers, and the connection stays for acknowledgements.
pub fn consume(
    config: ConsumeConfig,
    publisher: &Publisher,
    clock: Clock,
    stop: CancellationToken,
) -> (Consuming, AmqpSource, AmqpSource) {
    let capacity = usize::from(config.prefetch.max(1));
    let lane = |lane| {
        let (deliveries, inbox) = mpsc::channel(capacity);
        let source = AmqpSource { lane, inbox, publisher: publisher.clone(), names: config.names.clone(), clock };
        (deliveries, source)
    };
    let (signup, signup_source) = lane(Lane::Signup);
    let (bulk, bulk_source) = lane(Lane::Bulk);
    let closing = CancellationToken::new();
    let closed = closing.clone();
    let keeper = tokio::spawn(async move {
        let mut jitter = fastrand::Rng::with_seed(config.seed);
        while !stop.is_cancelled() {
            let (connection, channel) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                connected = link::connect(&config.link, &config.name, &mut jitter) => connected,
            };
            let reason = forward(&config, &channel, &signup, &bulk, &stop).await;
            if stop.is_cancelled() {
                // Acknowledgements still use the connection.
                closed.cancelled().await;
                let _ = channel.close(200, "done".into()).await;
                let _ = connection.close(200, "done".into()).await;
                return;
            }
            BrokerLink::Broken { name: "consumer", reason: &reason }.emit();
            drop(connection);
        }
    });
    (Consuming { _keeper: AbortOnDropHandle::new(keeper), closing }, signup_source, bulk_source)
}

/// Hands deliveries to the lanes until the connection breaks or `stop` is cancelled. Says why it ended.
async fn forward(
    config: &ConsumeConfig,
    channel: &Channel,
    signup: &mpsc::Sender<AmqpDelivery>,
    bulk: &mpsc::Sender<AmqpDelivery>,
    stop: &CancellationToken,
) -> String {
    let consumers = async {
        channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
        let signup = start_consumer(config, channel, Lane::Signup).await?;
        let bulk = start_consumer(config, channel, Lane::Bulk).await?;
        Ok::<_, lapin::Error>((signup, bulk))
    };
    let (mut signups, mut bulks) = match consumers.await {
        Ok(consumers) => consumers,
        Err(error) => return link::explain(&error),
    };
    let lanes = async {
        tokio::select! {
            reason = pump(&mut signups, signup) => reason,
            reason = pump(&mut bulks, bulk) => reason,
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

/// Moves deliveries from a consumer to its lane. Ends when the consumer does.
async fn pump(consumer: &mut Consumer, lane: &mpsc::Sender<AmqpDelivery>) -> String {
    loop {
        match poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await {
            Some(Ok(delivery)) => {
                if lane.send(delivery).await.is_err() {
                    // The pipeline has ended; the delivery goes back with the connection.
                    return "nobody takes deliveries any more".to_owned();
                }
            }
            Some(Err(error)) => return link::explain(&error),
            // The queue was deleted, or a node left: a fault, not the end.
            None => return "the broker cancelled the consumer: was its queue deleted?".to_owned(),
        }
    }
}

/// The jobs of one lane; never ends by itself.
#[derive(Debug)]
pub struct AmqpSource {
    lane: Lane,
    inbox: mpsc::Receiver<AmqpDelivery>,
    publisher: Publisher,
    names: Names,
    clock: Clock,
}

impl JobSource for AmqpSource {
    type Handle = AmqpHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<AmqpHandle>>, QueueError> {
        let Some(delivery) = self.inbox.recv().await else {
            return Err(QueueError("the consuming task has ended".to_owned()));
        };
        let AmqpDelivery { redelivered, properties, data, acker, .. } = delivery;
        let history = headers::read(&properties, redelivered, self.clock.now());
        let message_id = properties.message_id().as_ref().map(ToString::to_string);
        let handle = AmqpHandle {
            lane: self.lane,
            acker,
            history,
            body: data.clone(),
            properties,
            publisher: self.publisher.clone(),
            names: self.names.clone(),
        };
        Ok(Some(Delivery { lane: self.lane, body: data, message_id, history, handle }))
    }
}

/// A job in hand. Dropped unsettled, it goes back to its queue with the connection.
pub struct AmqpHandle {
    lane: Lane,
    acker: Acker,
    history: History,
    body: Vec<u8>,
    properties: BasicProperties,
    publisher: Publisher,
    names: Names,
}

impl AmqpHandle {
    /// Acknowledges. A lost acknowledgement is no fault: the job comes back as redelivered, and its event, which was
    /// confirmed already, comes again with the same id.
    async fn acknowledge(self) {
        if !matches!(self.acker.ack(BasicAckOptions::default()).await, Ok(true)) {
            tracing::debug!("an acknowledgement was lost; the job will be delivered again");
        }
    }

    async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), QueueError> {
        self.publisher.publish(&Message { exchange, routing_key, body, properties }).await
    }

    /// The message as it came, with the history so far.
    fn copied(&self, history: &History) -> BasicProperties {
        let headers = headers::write(self.properties.headers().clone(), history);
        self.properties.clone().with_headers(headers).with_delivery_mode(PERSISTENT)
    }
}

const PERSISTENT: u8 = 2;

impl Settle for AmqpHandle {
    /// RabbitMQ records nothing of a message in hand; its `redelivered` flag is the intent on record.
    async fn record_intent(&mut self, _now: Timestamp) -> Result<(), QueueError> {
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn finish(self, event: Event) -> Result<(), QueueError> {
        let type_name = event.event_type.name();
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(event.id.to_string().into())
            .with_correlation_id(short(&event.job_id))
            .with_type(type_name.into())
            .with_app_id("plu-onboard".into())
            .with_timestamp(u64::try_from(event.time.unix_ms() / 1_000).unwrap_or(0));
        if let Some(trace) = self.properties.headers().as_ref().and_then(|own| own.inner().get("traceparent")) {
            let mut carried = FieldTable::default();
            carried.insert("traceparent".into(), trace.clone());
            properties = properties.with_headers(carried);
        }
        self.publish(&self.names.events_exchange(), type_name, event.to_json().as_bytes(), properties).await?;
        if is_dead(&event) {
            self.bury(&event).await?;
        }
        self.acknowledge().await;
        Ok(())
    }

    async fn put_back(self, history: History, delay: Duration) -> Result<(), QueueError> {
        if delay.is_zero() && history == self.history {
            // Untouched: the broker puts it back where it was.
            let _ = self.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
            return Ok(());
        }
        if delay.is_zero() {
            self.publish(&self.names.jobs_exchange(), self.lane.name(), &self.body, self.copied(&history)).await?;
        } else {
            let queue = self.names.delay_queue(self.lane, delay_step(delay));
            self.publish("", &queue, &self.body, self.copied(&history)).await?;
        }
        self.acknowledge().await;
        Ok(())
    }
}

impl AmqpHandle {
    /// Puts a copy among the dead letters, with the reason.
    async fn bury(&self, event: &Event) -> Result<(), QueueError> {
        let history = History { attempts: event.attempts, ..self.history };
        let mut headers = headers::write(self.properties.headers().clone(), &history);
        let reason = event.errors.first().map_or("UNKNOWN", |problem| problem.code.as_str());
        headers.insert("x-plu-reason".into(), AMQPValue::LongString(reason.into()));
        headers.insert("x-plu-lane".into(), AMQPValue::LongString(self.lane.name().into()));
        let properties = self.properties.clone().with_headers(headers).with_delivery_mode(PERSISTENT);
        self.publish("", &self.names.dead_queue(), &self.body, properties).await
    }
}

/// Failed jobs, and messages that are no jobs at all: a person may want to see them.
fn is_dead(event: &Event) -> bool {
    event.event_type == EventType::Failed || event.errors.iter().any(|problem| problem.code == "MALFORMED_JOB")
}

crate::domain::private::debug_redacted!(AmqpHandle);
