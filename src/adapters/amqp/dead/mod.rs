//! Looking after the dead letters on RabbitMQ, while workers work or not.
//!
//! Letters are consumed in batches and held until the walk is over, so that each is met once; whatever is neither put back nor
//! deleted returns to the queue when the channel closes, also when this process is killed.
//!
//! Each return counts as a delivery. RabbitMQ 4 deletes a message after 20 of those, unless told otherwise, and the
//! dead-letter queue has none of its own to catch it. So a letter that was looked at a few times is replaced by a copy, whose
//! count begins anew, before it comes near.
//!
//! Nothing is declared: under a mistyped prefix that would make queues, and then say that they are empty.
//!
//! **Invariant:** a letter is acknowledged only after its copy, on its lane or here, was confirmed, or when it was to be deleted.

pub(super) mod letter;

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ExchangeKind};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::letter::{DELIVERY_COUNT, back_to_life, copied, integer, letter};
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::link::{self, Link, LinkConfig};
use crate::adapters::amqp::connection::refusal::{self, explain};
use crate::adapters::amqp::publish::publisher::{Message, PublishConfig, Publisher, Unroutable};
use crate::adapters::amqp::topology::{Names, Topology, short};
use crate::clock::Clock;
use crate::domain::dead_letter::{Verdict, Walked};
use crate::domain::{DeadLetter, Lane};
use crate::ports::QueueError;
use crate::telemetry::BrokerConnection;

/// Deliveries after which a letter is replaced by a copy.
const DELIVERIES_MAX: i64 = 5;

/// Letters that are asked for at once: bounds the memory.
const BATCH_MAX: u16 = 1_000;

/// Without a letter for so long, the queue is asked whether there are any.
const QUIET: Duration = Duration::from_secs(1);

/// Letters on their way to their lanes at once.
const IN_FLIGHT_MAX: usize = 200;

/// How often letters that are done are looked for, after a connection broke.
const CLEANUPS_MAX: u32 = 3;

/// Until the broker has noticed that a connection is gone, and has what was in hand on the queue again. Assumed.
const NOTICED: Duration = Duration::from_secs(1);

/// Longest wait for the broker to end the connection in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why dead letters can't be looked after.
#[derive(Debug, thiserror::Error)]
pub enum DeadQueueError {
    /// The names are wrong, or no worker has been there yet.
    #[error(
        "there is no {thing} in the virtual host {vhost} of this broker: check amqp.prefix, and the virtual host of the queue \
         URL (a worker makes what is missing when it starts)"
    )]
    Missing {
        /// What was looked for.
        thing: String,
        /// Where.
        vhost: String,
    },
    /// Anything else.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The dead-letter queue.
#[derive(Debug)]
pub struct DeadQueue {
    config: LinkConfig,
    names: Names,
    name: String,
    link: Link,
    ready: u32,
    confirm_timeout: Duration,
    seed: u64,
}

impl DeadQueue {
    /// Connects.
    ///
    /// # Errors
    /// [`DeadQueueError`] where the broker can't be reached, which was logged, or has no such queue.
    pub async fn open(
        config: LinkConfig,
        names: Names,
        name: String,
        confirm_timeout: Duration,
        seed: u64,
    ) -> Result<Self, DeadQueueError> {
        let config = LinkConfig { topology: Topology::default(), ..config };
        let link = connect(&config, &name, seed)
            .await
            .ok_or_else(|| QueueError("the broker can't be used; nothing was changed".to_owned()))?;
        let mut queue = Self { config, names, name, link, ready: 0, confirm_timeout, seed };
        queue.ready = queue.has_queue(&queue.names.dead_queue()).await?;
        Ok(queue)
    }

    /// Whether there are lanes for jobs to be put back on.
    ///
    /// # Errors
    /// [`DeadQueueError`] where something of them is missing.
    pub async fn has_lanes(&self) -> Result<(), DeadQueueError> {
        let exchange = self.names.jobs_exchange();
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        self.link
            .channel
            .exchange_declare(short(&exchange), ExchangeKind::Direct, options, FieldTable::default())
            .await
            .map_err(|error| self.not_there(format!("exchange {exchange}"), &error))?;
        for lane in Lane::ALL {
            self.has_queue(&self.names.jobs_queue(lane)).await?;
        }
        Ok(())
    }

    /// How many messages are ready in it.
    async fn has_queue(&self, queue: &str) -> Result<u32, DeadQueueError> {
        let ready = ready(&self.link.channel, queue).await;
        ready.map_err(|error| self.not_there(format!("queue {queue}"), &error))
    }

    fn not_there(&self, thing: String, error: &lapin::Error) -> DeadQueueError {
        if refusal::is_missing(error) {
            return DeadQueueError::Missing { thing, vhost: self.config.uri.vhost.clone() };
        }
        QueueError(explain(error)).into()
    }

    /// How many letters are there, without those that another process looks at right now.
    pub const fn ready(&self) -> u32 {
        self.ready
    }

    /// Shows every letter that is there now to `judge` and does as it says.
    ///
    /// # Errors
    /// [`QueueError`] where the broker went away or doesn't take a job back; what was done stays done.
    pub async fn walk(mut self, judge: &mut (dyn FnMut(&DeadLetter) -> Verdict + Send)) -> Result<Walked, QueueError> {
        let mut unsure = HashSet::new();
        let mut outcome = self.walk_all(judge, &mut unsure).await;
        // What is done must not be found again: its acknowledgement may be lost, with the connection.
        for _ in 0..CLEANUPS_MAX {
            if unsure.is_empty() {
                break;
            }
            self.clear_up(&mut unsure).await;
        }
        if !unsure.is_empty() && outcome.is_ok() {
            outcome = Err(QueueError(format!(
                "the broker went away before it had seen everything: up to {} of the letters may be there still, although \
                 they are done. Tried again they do no harm, as a repeat has the same key",
                unsure.len()
            )));
        }
        let end = async {
            let _ = self.link.channel.close(200, "done".into()).await;
            let _ = self.link.connection.close(200, "done".into()).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, end).await;
        outcome
    }

    /// Deletes the letters that are done, on a new connection. Leaves those that the broker may have kept.
    async fn clear_up(&mut self, unsure: &mut HashSet<String>) {
        self.link.socket.cut();
        sleep(NOTICED).await;
        let Some(link) = connect(&self.config, &self.name, self.seed).await else { return };
        self.link = link;
        let Ok(ready) = self.answered(ready(&self.link.channel, &self.names.dead_queue())).await else { return };
        self.ready = ready;
        let done = unsure.clone();
        let mut judge = |letter: &DeadLetter| if done.contains(&letter.id) { Verdict::Drop } else { Verdict::Keep };
        let mut unsure_now = HashSet::new();
        if self.walk_all(&mut judge, &mut unsure_now).await.is_ok() && unsure_now.is_empty() {
            unsure.clear();
        }
    }

    /// `unsure`: letters that are done, and whose acknowledgement the broker may not have seen.
    async fn walk_all(
        &self,
        judge: &mut (dyn FnMut(&DeadLetter) -> Verdict + Send),
        unsure: &mut HashSet<String>,
    ) -> Result<Walked, QueueError> {
        let mut walk = Walk {
            queue: self,
            judge,
            walked: Walked::default(),
            tasks: JoinSet::new(),
            unsure,
            mover: None,
            enough: false,
        };
        for round in 0.. {
            let before = walk.walked.seen;
            let batch = u64::from(self.ready).saturating_sub(before).min(u64::from(BATCH_MAX));
            if batch > 0 && !walk.enough {
                let looked = self.look_at(&mut walk, u16::try_from(batch).unwrap_or(BATCH_MAX), round).await;
                let settled = if looked.is_ok() {
                    walk.settle(0).await
                } else {
                    // What gets through all the same is done, and must be known.
                    timeout(self.confirm_timeout, walk.settle(0)).await.unwrap_or(Ok(()))
                };
                looked.and(settled)?;
                // The answer comes after the broker has seen every acknowledgement.
                self.answered(ready(&self.link.channel, &self.names.dead_queue())).await?;
                walk.unsure.clear();
            }
            if walk.walked.seen == before {
                break;
            }
        }
        Ok(walk.walked)
    }

    /// Consumes so many letters, and whatever else comes until the broker has stopped sending. Got one by one, each
    /// would take the broker a write to its disk.
    async fn look_at(&self, walk: &mut Walk<'_>, batch: u16, round: u32) -> Result<(), QueueError> {
        let channel = &self.link.channel;
        let (queue, tag) = (self.names.dead_queue(), format!("{}.{round}", self.name));
        let begin = async {
            channel.basic_qos(batch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            channel.basic_consume(short(&queue), short(&tag), options, FieldTable::default()).await
        };
        let mut consumer = self.answered(begin).await?;
        let mut met = 0;
        let mut silent_until = Instant::now() + self.confirm_timeout;
        while met < batch && !walk.enough {
            match timeout(QUIET, next(&mut consumer)).await {
                Ok(Some(delivery)) => {
                    walk.meet(delivery.map_err(|error| broke(&explain(&error)))?).await?;
                    met += 1;
                    silent_until = Instant::now() + self.confirm_timeout;
                }
                Ok(None) => return Err(broke("the broker cancelled the consumer: was its queue deleted?")),
                Err(_) if Instant::now() >= silent_until => return Err(broke("it delivers nothing")),
                Err(_) => {
                    // Somebody else was faster, or the broker is slow.
                    if self.answered(ready(channel, &queue)).await? == 0 {
                        break;
                    }
                }
            }
        }
        self.answered(channel.basic_cancel(short(&tag), BasicCancelOptions::default())).await?;
        while let Ok(Some(delivery)) = timeout(QUIET, next(&mut consumer)).await {
            walk.meet(delivery.map_err(|error| broke(&explain(&error)))?).await?;
        }
        Ok(())
    }

    async fn answered<T>(&self, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, QueueError> {
        let answer = timeout(self.confirm_timeout, asked).await.map_err(|_| broke("it doesn't answer"))?;
        answer.map_err(|error| broke(&explain(&error)))
    }

    fn mover(&self) -> Mover {
        let publisher = Publisher::start(PublishConfig {
            link: self.config.clone(),
            name: format!("{}.publisher", self.name),
            confirm_timeout: self.confirm_timeout,
            seed: self.seed,
            unroutable: Unroutable::Fail,
        });
        Mover { publisher, names: Arc::new(self.names.clone()) }
    }
}

/// Connects, for a little longer than one attempt takes.
async fn connect(config: &LinkConfig, name: &str, seed: u64) -> Option<Link> {
    let mut connection_log = ConnectionLog::new(name.to_owned(), BrokerConnection::Consumer, config.metrics.clone());
    let mut jitter = fastrand::Rng::with_seed(seed);
    let patience = config.connect_timeout + Duration::from_secs(2);
    timeout(patience, link::connect(config, &mut connection_log, &mut jitter)).await.ok()
}

async fn next(consumer: &mut Consumer) -> Option<lapin::Result<Delivery>> {
    poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await
}

/// One look at all letters.
struct Walk<'w> {
    queue: &'w DeadQueue,
    judge: &'w mut (dyn FnMut(&DeadLetter) -> Verdict + Send),
    walked: Walked,
    /// They give the ids of the letters that are done.
    tasks: JoinSet<Result<String, QueueError>>,
    unsure: &'w mut HashSet<String>,
    mover: Option<Mover>,
    /// No other is to be judged.
    enough: bool,
}

impl Walk<'_> {
    async fn meet(&mut self, delivery: Delivery) -> Result<(), QueueError> {
        let letter = letter(&delivery, &self.queue.names, Clock::System.now());
        // Counted at the start: a job that is put back and fails again is not judged again.
        let is_judged = !self.enough && self.walked.seen < u64::from(self.queue.ready);
        let verdict = if is_judged { (self.judge)(&letter) } else { Verdict::Keep };
        self.enough |= verdict == Verdict::Enough;
        self.walked.seen += u64::from(is_judged);
        self.walked.done += u64::from(matches!(verdict, Verdict::Retry | Verdict::Drop));
        let is_worn = integer(delivery.properties.headers().as_ref(), DELIVERY_COUNT)
            .is_some_and(|count| count >= DELIVERIES_MAX);
        if is_worn || matches!(verdict, Verdict::Retry | Verdict::Drop) {
            let mover = self.mover.get_or_insert_with(|| self.queue.mover()).clone();
            self.tasks.spawn(async move { mover.carry_out(letter, delivery, verdict).await });
        }
        self.settle(IN_FLIGHT_MAX - 1).await
    }

    /// Waits until so many are on their way at most.
    async fn settle(&mut self, in_flight: usize) -> Result<(), QueueError> {
        let mut outcome = Ok(());
        while self.tasks.len() > in_flight
            && let Some(joined) = self.tasks.join_next().await
        {
            match joined {
                Ok(Ok(id)) => {
                    self.unsure.insert(id);
                }
                // The others that are done meanwhile must be known.
                Ok(Err(error)) => outcome = outcome.and(Err(error)),
                Err(error) => {
                    outcome = outcome.and(Err(QueueError(format!("a part of the work ended abnormally: {error}"))));
                }
            }
        }
        outcome
    }
}

fn broke(why: &str) -> QueueError {
    QueueError(format!(
        "the broker went away ({why}); no dead letter is lost, and what was done stays done: start the command again"
    ))
}

/// Messages that are ready. The answer comes after the broker has seen everything that was written before.
async fn ready(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(short(queue), options, FieldTable::default()).await?;
    Ok(declared.message_count())
}

/// Puts letters where they belong.
#[derive(Debug, Clone)]
struct Mover {
    publisher: Publisher,
    names: Arc<Names>,
}

impl Mover {
    async fn carry_out(&self, letter: DeadLetter, delivery: Delivery, verdict: Verdict) -> Result<String, QueueError> {
        let body = &delivery.data;
        match verdict {
            Verdict::Drop => {}
            Verdict::Retry => {
                // Nothing says where it came from: where it is in nobody's way.
                let lane = letter.lane.unwrap_or(Lane::Bulk);
                let properties = &|| back_to_life(&delivery.properties, &letter);
                let exchange = self.names.jobs_exchange();
                let message = Message { exchange: &exchange, routing_key: lane.name(), body, properties };
                self.publisher.publish(&message).await?;
            }
            Verdict::Keep | Verdict::Enough => {
                let properties = &|| copied(&delivery.properties, &letter);
                let queue = self.names.dead_queue();
                self.publisher.publish(&Message { exchange: "", routing_key: &queue, body, properties }).await?;
            }
        }
        // Where it is lost, that is noticed after the batch.
        let _ = delivery.acker.ack(BasicAckOptions::default()).await;
        Ok(letter.id)
    }
}
