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
use lapin::{BasicProperties, Channel, Consumer};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::acks::Acks;
use super::dead::letter;
use super::fleet::{self, OnCount};
use super::headers;
use super::herald::Herald;
use super::inbox::{Inbox, Received};
use super::link::{self, Link, LinkConfig, Pauses};
use super::publisher::{Message, Publisher};
use super::refusal::{FRAME_TOO_LARGE, explain};
use super::topology::{Names, delay_step, short};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, EventType, Lane, Problem, Timestamp, TraceContext};
use crate::failpoint;
use crate::ports::{Delivery, JobSource, QueueError, Settle};
use crate::telemetry::{BrokerConnection, trace};

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

/// How long a connection is kept whose queue was deleted, for what is in hand. What waits untouched is put back before that.
const FAREWELL_MAX: Duration = Duration::from_secs(900);

/// Most connections that are kept so.
const FAREWELLS_MAX: usize = 4;

/// Starts consuming both lanes; `stop` cancels the consumers, and the connection stays for acknowledgements.
pub fn consume(
    config: ConsumeConfig,
    publisher: &Publisher,
    clock: Clock,
    stop: CancellationToken,
) -> (Consuming, AmqpSource, AmqpSource) {
    let outlet = Arc::new(Outlet { publisher: publisher.clone(), names: config.names.clone() });
    let source = |lane| AmqpSource::new(Desk { lane, outlet: Arc::clone(&outlet), clock });
    let (signup, bulk) = (source(Lane::Signup), source(Lane::Bulk));
    let inboxes = [signup.inbox.clone(), bulk.inbox.clone()];
    let closing = CancellationToken::new();
    let keeper = tokio::spawn(keep_consuming(config, inboxes, stop, closing.clone()));
    (Consuming { _keeper: AbortOnDropHandle::new(keeper), closing }, signup, bulk)
}

/// Consumes on one connection after the other, until `stop` is cancelled; then acknowledges, until `closing` is.
async fn keep_consuming(
    mut config: ConsumeConfig,
    inboxes: [Inbox; 2],
    stop: CancellationToken,
    closing: CancellationToken,
) {
    let mut jitter = fastrand::Rng::with_seed(config.seed);
    let mut pauses = Pauses::default();
    let mut herald = Herald::new(config.name.clone(), BrokerConnection::Consumer, config.link.metrics.clone());
    let mut farewells = JoinSet::new();
    while !stop.is_cancelled() {
        let link = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            link = link::connect(&config.link, &mut herald, &mut jitter) => link,
        };
        let began = Instant::now();
        let acks = Acks::new(link.channel.clone());
        let mut session = Session { link, acks: acks.clone(), consumers: Vec::new(), inboxes: inboxes.clone() };
        let end = tokio::select! {
            biased;
            error = acks.keep_acknowledging() => End::Broken(explain(&error)),
            end = session.consume(&config, &mut herald, &stop) => end,
        };
        while farewells.try_join_next().is_some() {}
        match end {
            End::Stopped => {
                farewells.spawn(session.say_farewell(closing.clone()));
                break;
            }
            End::Cancelled if farewells.len() < FAREWELLS_MAX => {
                let jobs = acks.abandon();
                herald.broke(began.elapsed(), &cancelled(jobs));
                let farewell = session.say_farewell(closing.clone());
                farewells.spawn(async move {
                    let _ = timeout(FAREWELL_MAX, farewell).await;
                });
            }
            End::Cancelled => herald.broke(began.elapsed(), &cancelled(0)),
            End::Broken(reason) => {
                herald.broke(began.elapsed(), &reason);
                if reason == FRAME_TOO_LARGE {
                    config.link.allow_longest_frames();
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = pauses.after(began.elapsed()) => {}
        }
    }
    while farewells.join_next().await.is_some() {}
}

/// The queue was deleted, or a node left: a fault, not the end.
fn cancelled(jobs: usize) -> String {
    let jobs = match jobs {
        0 => String::new(),
        jobs => format!(" What is in hand ({jobs}) is finished first"),
    };
    format!("the broker cancelled the consumer: was its queue deleted?{jobs}")
}

/// Why a connection isn't consumed from any more.
enum End {
    Stopped,
    /// One queue is gone, and the connection is there.
    Cancelled,
    Broken(String),
}

/// A connection that lanes are consumed on.
struct Session {
    link: Link,
    acks: Acks,
    consumers: Vec<(Lane, Consumer)>,
    inboxes: [Inbox; 2],
}

impl Session {
    /// Hands deliveries to the lanes until the connection breaks or `stop` is cancelled.
    async fn consume(&mut self, config: &ConsumeConfig, herald: &mut Herald, stop: &CancellationToken) -> End {
        let Self { link, acks, consumers, inboxes } = self;
        let channel = &link.channel;
        let starting = async {
            channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
            for lane in Lane::ALL {
                consumers.push((lane, start_consumer(config, channel, lane).await?));
            }
            Ok::<_, lapin::Error>(())
        };
        match timeout(config.link.connect_timeout, starting).await {
            Ok(Ok(())) => herald.works(),
            Ok(Err(error)) => return End::Broken(explain(&error)),
            Err(_) => return End::Broken("no answer while consuming was to begin".to_owned()),
        }
        let counted = config.names.jobs_queue(Lane::Signup);
        let counting = fleet::count(&link.connection, &counted, &config.on_count, config.link.connect_timeout);
        tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            pumped = pump_all(consumers, acks, inboxes) => match pumped {
                Ok(()) if acks.are_possible() => End::Cancelled,
                Ok(()) => End::Broken("the connection is gone".to_owned()),
                Err(error) => End::Broken(explain(&error)),
            },
            reason = counting => End::Broken(reason),
            never = link::tend(&link.connection, &config.link) => never,
        }
    }

    /// Takes nothing more, hands on what came, and acknowledges what is settled, until everything is or it is told to close.
    async fn say_farewell(mut self, closing: CancellationToken) {
        let Self { link, acks, consumers, inboxes } = &mut self;
        let taking = async {
            for (_, consumer) in &*consumers {
                // A connection that is gone has no consumers either.
                let _ = link.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
            }
            for (lane, consumer) in consumers {
                let _ = pump(consumer, acks, &inboxes[*lane as usize]).await;
            }
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            _ = acks.keep_acknowledging() => {}
            () = async { taking.await; acks.done().await } => {}
        }
        let _ = acks.acknowledge_all().await;
        let _ = link.channel.close(200, "done".into()).await;
        let _ = link.connection.close(200, "done".into()).await;
    }
}

async fn start_consumer(config: &ConsumeConfig, channel: &Channel, lane: Lane) -> lapin::Result<Consumer> {
    let (queue, tag) = (config.names.jobs_queue(lane), format!("{}.{}", config.name, lane.name()));
    channel.basic_consume(short(&queue), short(&tag), BasicConsumeOptions::default(), FieldTable::default()).await
}

/// Moves deliveries from the consumers to their lanes. Ends when the first consumer does.
async fn pump_all(consumers: &mut [(Lane, Consumer)], acks: &Acks, inboxes: &[Inbox; 2]) -> lapin::Result<()> {
    let [(one, ones), (other, others)] = consumers else { return Ok(()) };
    tokio::select! {
        pumped = pump(ones, acks, &inboxes[*one as usize]) => pumped,
        pumped = pump(others, acks, &inboxes[*other as usize]) => pumped,
    }
}

/// Moves deliveries from a consumer to its lane. Ends when the consumer does.
async fn pump(consumer: &mut Consumer, acks: &Acks, inbox: &Inbox) -> lapin::Result<()> {
    while let Some(delivery) = poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await {
        inbox.put(delivery?, acks);
    }
    Ok(())
}

/// The jobs of one lane; never ends by itself.
pub struct AmqpSource {
    inbox: Inbox,
    desk: Desk,
    /// Puts back what waits for too long.
    _aging: AbortOnDropHandle<()>,
}

/// Makes jobs of a lane's deliveries.
#[derive(Clone)]
struct Desk {
    lane: Lane,
    outlet: Arc<Outlet>,
    clock: Clock,
}

impl AmqpSource {
    fn new(desk: Desk) -> Self {
        let inbox = Inbox::default();
        let (aging, opening) = (inbox.clone(), desk.clone());
        let aging = tokio::spawn(async move {
            loop {
                if let Some(Delivery { history, handle, .. }) = opening.open(aging.aged().await) {
                    // By a copy: given back, it would count as delivered once more, and as one that may have been sent.
                    let _ = handle.put_back(history, SOON).await;
                }
            }
        });
        Self { inbox, desk, _aging: AbortOnDropHandle::new(aging) }
    }
}

/// The shortest delay.
const SOON: Duration = Duration::from_secs(1);

impl Desk {
    /// `None`: its connection is gone, so that the broker delivers it again, and it would be done twice.
    fn open(&self, received: Received) -> Option<Delivery<AmqpHandle>> {
        let Received { delivery, acks, .. } = received;
        if !acks.are_possible() {
            return None;
        }
        let AmqpDelivery { delivery_tag, redelivered, properties, data, .. } = delivery;
        let history = headers::read(&properties, redelivered, self.clock.now());
        let body = Bytes::from(data);
        let message_id = properties.message_id().as_ref().map(ToString::to_string);
        let handle = AmqpHandle {
            lane: self.lane,
            tag: delivery_tag,
            acks,
            history,
            sent_at: None,
            message: Box::new((body.clone(), properties)),
            outlet: Arc::clone(&self.outlet),
            clock: self.clock,
        };
        Some(Delivery { lane: self.lane, body, message_id, history, handle })
    }
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
        loop {
            let Some(delivery) = self.desk.open(self.inbox.take().await) else { continue };
            let early = headers::early(&delivery.handle.message.1, self.desk.clock.now());
            if early > SOON {
                // The longest delay queue was too short for it.
                let Delivery { history, handle, .. } = delivery;
                tokio::spawn(handle.put_back(history, early));
                continue;
            }
            failpoint::pass("received");
            return Ok(Some(delivery));
        }
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
    clock: Clock,
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

    /// The message as it came, with the history so far, and when it is due where no queue delays it for so long.
    fn copied(&self, history: &History, delay: Duration) -> BasicProperties {
        let mut headers = headers::write(self.message.1.headers().clone(), history);
        if delay > self.nearest_delay(delay) {
            headers::put_due(&mut headers, self.clock.now().plus(delay));
        }
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
        if delay.is_zero() && history == self.history && !self.acks.are_abandoned() {
            // Untouched: the broker puts it back where it was.
            self.acks.give_back(self.tag).await;
            return Ok(());
        }
        if delay.is_zero() {
            self.publish(
                &self.outlet.names.jobs_exchange(),
                self.lane.name(),
                &self.message.0,
                self.copied(&history, delay),
            )
            .await?;
        } else {
            let queue = self.outlet.names.delay_queue(self.lane, delay_step(delay));
            self.publish("", &queue, &self.message.0, self.copied(&history, delay)).await?;
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

crate::domain::private::debug_redacted!(AmqpHandle, AmqpSource);
