//! Consuming the lanes, and the ports on top.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::link::{self, Link, LinkConfig, Pauses};
use crate::adapters::amqp::connection::refusal::{FRAME_TOO_LARGE, explain};
use crate::adapters::amqp::consume::acks::Acks;
use crate::adapters::amqp::consume::fleet::{self, OnCount};
use crate::adapters::amqp::consume::handle::{AmqpHandle, OutcomeSink};
use crate::adapters::amqp::consume::prefetch_buffer::{PrefetchBuffer, Received};
use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::publisher::Publisher;
use crate::adapters::amqp::topology::{Names, short};
use crate::clock::Clock;
use crate::domain::Lane;
use crate::failpoint;
use crate::ports::{Delivery, JobSource, QueueError, Settle};
use crate::telemetry::BrokerConnection;

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
    let outlet = Arc::new(OutcomeSink { publisher: publisher.clone(), names: config.names.clone() });
    let source = |lane| AmqpSource::new(Desk { lane, outlet: Arc::clone(&outlet), clock });
    let (signup, bulk) = (source(Lane::Signup), source(Lane::Bulk));
    let inboxes = [signup.prefetch_buffer.clone(), bulk.prefetch_buffer.clone()];
    let closing = CancellationToken::new();
    let keeper = tokio::spawn(keep_consuming(config, inboxes, stop, closing.clone()));
    (Consuming { _keeper: AbortOnDropHandle::new(keeper), closing }, signup, bulk)
}

/// Consumes on one connection after the other, until `stop` is cancelled; then acknowledges, until `closing` is.
async fn keep_consuming(
    mut config: ConsumeConfig,
    inboxes: [PrefetchBuffer; 2],
    stop: CancellationToken,
    closing: CancellationToken,
) {
    let mut jitter = fastrand::Rng::with_seed(config.seed);
    let mut pauses = Pauses::default();
    let mut connection_log =
        ConnectionLog::new(config.name.clone(), BrokerConnection::Consumer, config.link.metrics.clone());
    let mut farewells = JoinSet::new();
    while !stop.is_cancelled() {
        let link = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            link = link::connect(&config.link, &mut connection_log, &mut jitter) => link,
        };
        let began = Instant::now();
        let acks = Acks::new(link.channel.clone());
        let mut session = Session { link, acks: acks.clone(), consumers: Vec::new(), inboxes: inboxes.clone() };
        let end = tokio::select! {
            biased;
            error = acks.keep_acknowledging() => End::Broken(explain(&error)),
            end = session.consume(&config, &mut connection_log, &stop) => end,
        };
        while farewells.try_join_next().is_some() {}
        match end {
            End::Stopped => {
                farewells.spawn(session.say_farewell(closing.clone()));
                break;
            }
            End::Cancelled if farewells.len() < FAREWELLS_MAX => {
                let jobs = acks.abandon();
                connection_log.broke(began.elapsed(), &cancelled(jobs));
                let farewell = session.say_farewell(closing.clone());
                farewells.spawn(async move {
                    let _ = timeout(FAREWELL_MAX, farewell).await;
                });
            }
            End::Cancelled => connection_log.broke(began.elapsed(), &cancelled(0)),
            End::Broken(reason) => {
                connection_log.broke(began.elapsed(), &reason);
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
    inboxes: [PrefetchBuffer; 2],
}

impl Session {
    /// Hands deliveries to the lanes until the connection breaks or `stop` is cancelled.
    async fn consume(
        &mut self,
        config: &ConsumeConfig,
        connection_log: &mut ConnectionLog,
        stop: &CancellationToken,
    ) -> End {
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
            Ok(Ok(())) => {
                connection_log.works();
                // It was just looked at.
                config.link.metrics.observed.set_topology_amiss(false);
            }
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
async fn pump_all(consumers: &mut [(Lane, Consumer)], acks: &Acks, inboxes: &[PrefetchBuffer; 2]) -> lapin::Result<()> {
    let [(one, ones), (other, others)] = consumers else { return Ok(()) };
    tokio::select! {
        pumped = pump(ones, acks, &inboxes[*one as usize]) => pumped,
        pumped = pump(others, acks, &inboxes[*other as usize]) => pumped,
    }
}

/// Moves deliveries from a consumer to its lane. Ends when the consumer does.
async fn pump(consumer: &mut Consumer, acks: &Acks, prefetch_buffer: &PrefetchBuffer) -> lapin::Result<()> {
    while let Some(delivery) = poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await {
        prefetch_buffer.put(delivery?, acks);
    }
    Ok(())
}

/// The jobs of one lane; never ends by itself.
pub struct AmqpSource {
    prefetch_buffer: PrefetchBuffer,
    desk: Desk,
    /// Puts back what waits for too long.
    _aging: AbortOnDropHandle<()>,
}

/// Makes jobs of a lane's deliveries.
#[derive(Clone)]
struct Desk {
    lane: Lane,
    outlet: Arc<OutcomeSink>,
    clock: Clock,
}

impl AmqpSource {
    fn new(desk: Desk) -> Self {
        let prefetch_buffer = PrefetchBuffer::default();
        let (aging, opening) = (prefetch_buffer.clone(), desk.clone());
        let aging = tokio::spawn(async move {
            loop {
                if let Some(Delivery { history, handle, .. }) = opening.open(aging.aged().await) {
                    // By a copy: given back, it would count as delivered once more, and as one that may have been sent.
                    let _ = handle.requeue(history, SOON).await;
                }
            }
        });
        Self { prefetch_buffer, desk, _aging: AbortOnDropHandle::new(aging) }
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

impl JobSource for AmqpSource {
    type Handle = AmqpHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<AmqpHandle>>, QueueError> {
        loop {
            let Some(delivery) = self.desk.open(self.prefetch_buffer.take().await) else { continue };
            let early = headers::early(&delivery.handle.message.1, self.desk.clock.now());
            if early > SOON {
                // The longest delay queue was too short for it.
                let Delivery { history, handle, .. } = delivery;
                tokio::spawn(handle.requeue(history, early));
                continue;
            }
            failpoint::pass("received");
            return Ok(Some(delivery));
        }
    }
}

crate::domain::private::debug_redacted!(AmqpSource);
