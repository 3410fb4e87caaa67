//! Consumes both lanes on one connection after another.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::amqp::connection::backoff::ReconnectBackoff;
use crate::adapters::amqp::connection::connect::connect;
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::explain::{FRAME_TOO_LARGE, explain};
use crate::adapters::amqp::consume::ack_batcher::AckBatcher;
use crate::adapters::amqp::consume::config::ConsumeConfig;
use crate::adapters::amqp::consume::handle::OutcomeSink;
use crate::adapters::amqp::consume::prefetch_buffer::PrefetchBuffer;
use crate::adapters::amqp::consume::session::{ConsumeSession, SessionEnd};
use crate::adapters::amqp::consume::source::{AmqpSource, DeliveryDecoder};
use crate::adapters::amqp::publish::publisher::Publisher;
use crate::clock::Clock;
use crate::domain::Lane;
use crate::telemetry::BrokerConnection;

/// Longest wait for the broker when the consumer is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for which a connection is kept after its queue was deleted, for the jobs in progress. Deliveries that
/// no job slot has taken are requeued before that.
const DRAIN_MAX: Duration = Duration::from_secs(900);

/// Most connections that drain at once.
const DRAINING_MAX: usize = 4;

/// The running consumer. Dropping it closes the connection: the broker delivers unsettled jobs again.
#[derive(Debug)]
pub struct AmqpConsumer {
    _task: AbortOnDropHandle<()>,
    closing: CancellationToken,
}

impl AmqpConsumer {
    /// Closes the connection after the broker has read everything: an acknowledgement that is not read when the
    /// connection is closed is lost, and its job is delivered again.
    pub async fn close(self) {
        let Self { _task: task, closing } = self;
        closing.cancel();
        // Bounded, because a frozen broker must not delay the shutdown.
        let _ = timeout(CLOSE_TIMEOUT, task).await;
    }
}

/// Starts consuming both lanes. `stop` cancels the consumers; the connection stays open for acknowledgements.
pub fn consume(
    config: ConsumeConfig,
    publisher: &Publisher,
    clock: Clock,
    stop: CancellationToken,
) -> (AmqpConsumer, AmqpSource, AmqpSource) {
    let outcome_sink = Arc::new(OutcomeSink { publisher: publisher.clone(), names: config.names.clone() });
    let source = |lane| AmqpSource::new(DeliveryDecoder { lane, outcome_sink: Arc::clone(&outcome_sink), clock });
    let (signup, bulk) = (source(Lane::Signup), source(Lane::Bulk));
    let buffers = [signup.prefetch_buffer.clone(), bulk.prefetch_buffer.clone()];
    let closing = CancellationToken::new();
    let task = tokio::spawn(consume_until_stopped(config, buffers, stop, closing.clone()));
    (AmqpConsumer { _task: AbortOnDropHandle::new(task), closing }, signup, bulk)
}

/// Consumes on one connection after another until `stop` is cancelled, then acknowledges until `closing` is.
async fn consume_until_stopped(
    mut config: ConsumeConfig,
    buffers: [PrefetchBuffer; 2],
    stop: CancellationToken,
    closing: CancellationToken,
) {
    let mut jitter = fastrand::Rng::with_seed(config.seed);
    let mut backoff = ReconnectBackoff::default();
    let mut connection_log =
        ConnectionLog::new(config.name.clone(), BrokerConnection::Consumer, config.connection.metrics.clone());
    let mut draining = JoinSet::new();
    while !stop.is_cancelled() {
        let connection = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            connection = connect(&config.connection, &mut connection_log, &mut jitter) => connection,
        };
        let connected_at = Instant::now();
        let acks = AckBatcher::new(connection.channel.clone());
        let mut session = ConsumeSession::new(connection, acks.clone(), buffers.clone());
        let end = tokio::select! {
            biased;
            error = acks.run() => SessionEnd::Broken(explain(&error)),
            end = session.consume(&config, &mut connection_log, &stop) => end,
        };
        while draining.try_join_next().is_some() {}
        match end {
            SessionEnd::Stopped => {
                draining.spawn(session.drain(closing.clone()));
                break;
            }
            SessionEnd::Cancelled if draining.len() < DRAINING_MAX => {
                let unsettled = acks.set_queue_lost();
                connection_log.lost(connected_at.elapsed(), &cancelled_by_broker(unsettled));
                let drain = session.drain(closing.clone());
                draining.spawn(async move {
                    let _ = timeout(DRAIN_MAX, drain).await;
                });
            }
            SessionEnd::Cancelled => connection_log.lost(connected_at.elapsed(), &cancelled_by_broker(0)),
            SessionEnd::Broken(reason) => {
                connection_log.lost(connected_at.elapsed(), &reason);
                if reason == FRAME_TOO_LARGE {
                    config.connection.allow_longest_frames();
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = backoff.wait_after(connected_at.elapsed()) => {}
        }
    }
    while draining.join_next().await.is_some() {}
}

/// RabbitMQ cancels a consumer when its queue is deleted or its node leaves the cluster.
fn cancelled_by_broker(unsettled: usize) -> String {
    let unsettled = match unsettled {
        0 => String::new(),
        jobs => format!(" Jobs in progress ({jobs}) are finished first"),
    };
    format!("the broker cancelled the consumer: was its queue deleted?{unsettled}")
}
