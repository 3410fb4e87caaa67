//! The dead letter queue: connects to it, and consumes every dead letter once.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use tokio::time::{Instant, sleep, timeout};

use super::walk::DeadLetterWalk;
use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::connection::connect::{self, AmqpConnection};
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::explain::{self, explain};
use crate::adapters::amqp::publish::publisher::{PublishConfig, Unroutable};
use crate::adapters::amqp::topology::{Names, Topology, short};
use crate::domain::dead_letter::{DeadLetterAction, WalkResult};
use crate::domain::{DeadLetter, Lane};
use crate::ports::QueueError;
use crate::telemetry::BrokerConnection;

/// Most dead letters that are consumed at once: bounds the memory.
const BATCH_MAX: u16 = 1_000;

/// Time without a dead letter after which the queue is asked whether it holds any.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// Most walks after a lost connection that delete dead letters which are done.
const CLEANUPS_MAX: u32 = 3;

/// Time until the broker notices that a connection is closed and has requeued its deliveries. Assumed.
const REQUEUE_WAIT: Duration = Duration::from_secs(1);

/// Longest wait for the broker to close the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the dead letter queue can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeadLetterQueueError {
    /// The prefix is wrong, or no worker has declared the topology yet.
    #[error(
        "there is no {thing} in the virtual host {vhost} of this broker: check amqp.prefix, and the virtual host of \
         the queue URL (a worker declares what is missing when it starts)"
    )]
    Missing {
        /// Kind and name of the exchange or queue.
        thing: String,
        /// The virtual host.
        vhost: String,
    },
    /// Any other error.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

#[derive(Debug)]
pub(crate) struct DeadLetterQueue {
    config: AmqpConnectionConfig,
    names: Names,
    name: String,
    connection: AmqpConnection,
    ready: u32,
    confirm_timeout: Duration,
    seed: u64,
}

impl DeadLetterQueue {
    /// Connects. `name`: shown in the broker's list of connections.
    ///
    /// # Errors
    /// [`DeadLetterQueueError`] if the broker can't be reached, which is logged, or has no such queue.
    pub(crate) async fn open(
        config: AmqpConnectionConfig,
        names: Names,
        name: String,
        confirm_timeout: Duration,
        seed: u64,
    ) -> Result<Self, DeadLetterQueueError> {
        let config = AmqpConnectionConfig { topology: Topology::default(), ..config };
        let connection = connect_in_time(&config, &name, seed)
            .await
            .ok_or_else(|| QueueError("the broker can't be used; nothing was changed".to_owned()))?;
        let mut queue = Self { config, names, name, connection, ready: 0, confirm_timeout, seed };
        queue.ready = queue.ready_in(&queue.names.dead_queue()).await?;
        Ok(queue)
    }

    /// Checks that the exchange and the queues exist to which jobs are moved for a retry.
    ///
    /// # Errors
    /// [`DeadLetterQueueError`] if one is missing.
    pub(crate) async fn has_lanes(&self) -> Result<(), DeadLetterQueueError> {
        let exchange = self.names.jobs_exchange();
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        self.connection
            .channel
            .exchange_declare(short(&exchange), ExchangeKind::Direct, options, FieldTable::default())
            .await
            .map_err(|error| self.missing(format!("exchange {exchange}"), &error))?;
        for lane in Lane::ALL {
            self.ready_in(&self.names.jobs_queue(lane)).await?;
        }
        Ok(())
    }

    async fn ready_in(&self, queue: &str) -> Result<u32, DeadLetterQueueError> {
        let ready = ready_messages(&self.connection.channel, queue).await;
        ready.map_err(|error| self.missing(format!("queue {queue}"), &error))
    }

    fn missing(&self, thing: String, error: &lapin::Error) -> DeadLetterQueueError {
        if explain::is_missing(error) {
            return DeadLetterQueueError::Missing { thing, vhost: self.config.uri.vhost.clone() };
        }
        QueueError(explain(error)).into()
    }

    /// Returns the number of dead letters, without those that another process holds unacknowledged.
    pub(crate) const fn ready(&self) -> u32 {
        self.ready
    }

    /// Passes every dead letter that is on the queue now to `choose`, and carries out the actions that it returns.
    ///
    /// # Errors
    /// [`QueueError`] if the connection breaks, or the broker doesn't accept a job for a retry. What was done stays
    /// done.
    pub(crate) async fn walk(
        mut self,
        choose: &mut (dyn FnMut(&DeadLetter) -> DeadLetterAction + Send),
    ) -> Result<WalkResult, QueueError> {
        let mut unconfirmed_acks = HashSet::new();
        let mut result = self.walk_once(choose, &mut unconfirmed_acks).await;
        // A dead letter that is done must not stay on the queue because its acknowledgement was lost with the
        // connection.
        for _ in 0..CLEANUPS_MAX {
            if unconfirmed_acks.is_empty() {
                break;
            }
            self.clean_up(&mut unconfirmed_acks).await;
        }
        if !unconfirmed_acks.is_empty() && result.is_ok() {
            result = Err(QueueError(format!(
                "the connection to the broker broke before every acknowledgement arrived: up to {} dead letters may \
                 still be on the queue although they are done. Retrying them does no harm, because a repeat has the \
                 same idempotency key",
                unconfirmed_acks.len()
            )));
        }
        let close = async {
            let _ = self.connection.channel.close(200, "done".into()).await;
            let _ = self.connection.connection.close(200, "done".into()).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
        result
    }

    /// Drops the dead letters that are done, on a new connection. Clears `unconfirmed_acks` if the broker saw every
    /// acknowledgement.
    async fn clean_up(&mut self, unconfirmed_acks: &mut HashSet<String>) {
        self.connection.socket.shut_down();
        sleep(REQUEUE_WAIT).await;
        let Some(connection) = connect_in_time(&self.config, &self.name, self.seed).await else { return };
        self.connection = connection;
        let queue = self.names.dead_queue();
        let counting = ready_messages(&self.connection.channel, &queue);
        let Ok(ready) = self.in_time(counting).await else { return };
        self.ready = ready;
        let done = unconfirmed_acks.clone();
        let mut choose = |dead_letter: &DeadLetter| {
            if done.contains(&dead_letter.id) { DeadLetterAction::Drop } else { DeadLetterAction::Keep }
        };
        let mut still_unconfirmed = HashSet::new();
        if self.walk_once(&mut choose, &mut still_unconfirmed).await.is_ok() && still_unconfirmed.is_empty() {
            unconfirmed_acks.clear();
        }
    }

    /// `unconfirmed_acks`: ids of dead letters that are done, and whose acknowledgement the broker may not have read.
    async fn walk_once(
        &self,
        choose: &mut (dyn FnMut(&DeadLetter) -> DeadLetterAction + Send),
        unconfirmed_acks: &mut HashSet<String>,
    ) -> Result<WalkResult, QueueError> {
        let mut walk = DeadLetterWalk::new(&self.names, self.ready, self.publish_config(), choose, unconfirmed_acks);
        for round in 0.. {
            let before = walk.walked.seen;
            let batch = u64::from(self.ready).saturating_sub(before).min(u64::from(BATCH_MAX));
            if batch > 0 && !walk.is_over {
                let batch = u16::try_from(batch).unwrap_or(BATCH_MAX);
                let consumed = self.consume_batch(&mut walk, batch, round).await;
                let moved = if consumed.is_ok() {
                    walk.wait_for_moves(0).await
                } else {
                    // Moves that succeed nevertheless are done, and must be recorded.
                    timeout(self.confirm_timeout, walk.wait_for_moves(0)).await.unwrap_or(Ok(()))
                };
                consumed.and(moved)?;
                // The broker answers after it has read every acknowledgement.
                self.in_time(ready_messages(&self.connection.channel, &self.names.dead_queue())).await?;
                walk.unconfirmed_acks.clear();
            }
            if walk.walked.seen == before {
                break;
            }
        }
        Ok(walk.walked)
    }

    /// Consumes a batch, and what else arrives until the broker has cancelled the consumer.
    ///
    /// Faster than `basic.get`, each of which costs the broker a write to disk.
    async fn consume_batch(&self, walk: &mut DeadLetterWalk<'_>, batch: u16, round: u32) -> Result<(), QueueError> {
        let channel = &self.connection.channel;
        let (queue, tag) = (self.names.dead_queue(), format!("{}.{round}", self.name));
        let starting = async {
            channel.basic_qos(batch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            channel.basic_consume(short(&queue), short(&tag), options, FieldTable::default()).await
        };
        let mut consumer = self.in_time(starting).await?;
        let mut consumed = 0;
        let mut deadline = Instant::now() + self.confirm_timeout;
        while consumed < batch && !walk.is_over {
            match timeout(QUIET_FOR, consumer.next()).await {
                Ok(Some(delivery)) => {
                    walk.visit(delivery.map_err(|error| connection_broke(&explain(&error)))?).await?;
                    consumed += 1;
                    deadline = Instant::now() + self.confirm_timeout;
                }
                Ok(None) => {
                    return Err(connection_broke("the broker cancelled the consumer: was its queue deleted?"));
                }
                Err(_) if Instant::now() >= deadline => return Err(connection_broke("the broker delivers nothing")),
                Err(_) => {
                    // Another process took the rest, or the broker is slow.
                    if self.in_time(ready_messages(channel, &queue)).await? == 0 {
                        break;
                    }
                }
            }
        }
        self.in_time(channel.basic_cancel(short(&tag), BasicCancelOptions::default())).await?;
        while let Ok(Some(delivery)) = timeout(QUIET_FOR, consumer.next()).await {
            walk.visit(delivery.map_err(|error| connection_broke(&explain(&error)))?).await?;
        }
        Ok(())
    }

    async fn in_time<T>(&self, request: impl Future<Output = lapin::Result<T>>) -> Result<T, QueueError> {
        let answer = timeout(self.confirm_timeout, request).await;
        let answer = answer.map_err(|_| connection_broke("the broker doesn't answer"))?;
        answer.map_err(|error| connection_broke(&explain(&error)))
    }

    fn publish_config(&self) -> PublishConfig {
        PublishConfig {
            connection: self.config.clone(),
            name: format!("{}.publisher", self.name),
            confirm_timeout: self.confirm_timeout,
            seed: self.seed,
            unroutable: Unroutable::Fail,
        }
    }
}

/// Connects, within a little more than the time of one attempt.
async fn connect_in_time(config: &AmqpConnectionConfig, name: &str, seed: u64) -> Option<AmqpConnection> {
    let mut connection_log = ConnectionLog::new(name.to_owned(), BrokerConnection::Consumer, config.metrics.clone());
    let mut jitter = fastrand::Rng::with_seed(seed);
    let limit = config.connect_timeout + Duration::from_secs(2);
    timeout(limit, connect::connect(config, &mut connection_log, &mut jitter)).await.ok()
}

/// Returns the number of ready messages. The broker answers after it has read everything that was written before.
async fn ready_messages(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(short(queue), options, FieldTable::default()).await?;
    Ok(declared.message_count())
}

fn connection_broke(why: &str) -> QueueError {
    QueueError(format!(
        "the connection to the broker broke ({why}); no dead letter is lost, and what was done stays done: start the \
         command again"
    ))
}
