//! Consumes both lanes on one connection.

use futures_util::StreamExt as _;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::adapters::amqp::connection::connect::AmqpConnection;
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::explain::explain;
use crate::adapters::amqp::consume::ack_batcher::AckBatcher;
use crate::adapters::amqp::consume::config::ConsumeConfig;
use crate::adapters::amqp::consume::prefetch_buffer::PrefetchBuffer;
use crate::adapters::amqp::consume::worker_count::count_workers;
use crate::adapters::amqp::topology::short;
use crate::adapters::amqp::topology::watch::watch_topology;
use crate::domain::Lane;

/// Why consuming on a connection ended.
pub(crate) enum SessionEnd {
    Stopped,
    /// The broker cancelled a consumer; the connection is open.
    Cancelled,
    /// Holds the reason.
    Broken(String),
}

/// A connection on which both lanes are consumed.
pub(crate) struct ConsumeSession {
    connection: AmqpConnection,
    acks: AckBatcher,
    consumers: Vec<(Lane, Consumer)>,
    buffers: [PrefetchBuffer; 2],
}

impl ConsumeSession {
    /// `buffers`: by lane.
    pub(crate) const fn new(connection: AmqpConnection, acks: AckBatcher, buffers: [PrefetchBuffer; 2]) -> Self {
        Self { connection, acks, consumers: Vec::new(), buffers }
    }

    /// Moves deliveries into the lanes' buffers until the connection breaks or `stop` is cancelled.
    pub(crate) async fn consume(
        &mut self,
        config: &ConsumeConfig,
        connection_log: &mut ConnectionLog,
        stop: &CancellationToken,
    ) -> SessionEnd {
        let Self { connection, acks, consumers, buffers } = self;
        let channel = &connection.channel;
        let time_limit = config.connection.connect_timeout;
        let starting = async {
            channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
            for lane in Lane::ALL {
                consumers.push((lane, start_consumer(config, channel, lane).await?));
            }
            Ok::<_, lapin::Error>(())
        };
        match timeout(time_limit, starting).await {
            Ok(Ok(())) => {
                connection_log.connected();
                // The connection has just declared or verified the topology.
                config.connection.metrics.observed.set_topology_mismatch(false);
            }
            Ok(Err(error)) => return SessionEnd::Broken(explain(&error)),
            Err(_) => return SessionEnd::Broken("no answer to the start of the consumers".to_owned()),
        }
        let counted_queue = config.names.jobs_queue(Lane::Signup);
        let counting = count_workers(&connection.connection, &counted_queue, &config.on_count, time_limit);
        tokio::select! {
            biased;
            () = stop.cancelled() => SessionEnd::Stopped,
            buffered = buffer_until_one_ends(consumers, acks, buffers) => match buffered {
                Ok(()) if acks.is_channel_open() => SessionEnd::Cancelled,
                Ok(()) => SessionEnd::Broken("the connection is closed".to_owned()),
                Err(error) => SessionEnd::Broken(explain(&error)),
            },
            reason = counting => SessionEnd::Broken(reason),
            never = watch_topology(&connection.connection, &config.connection) => never,
        }
    }

    /// Cancels the consumers, buffers what the broker has sent already, and acknowledges until every delivery is
    /// settled or `closing` is cancelled.
    pub(crate) async fn drain(mut self, closing: CancellationToken) {
        let Self { connection, acks, consumers, buffers } = &mut self;
        let buffering = async {
            for (_, consumer) in &*consumers {
                // A closed connection has no consumers to cancel.
                let _ = connection.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
            }
            for (lane, consumer) in consumers {
                let _ = buffer(consumer, acks, &buffers[*lane as usize]).await;
            }
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            _ = acks.run() => {}
            () = async { buffering.await; acks.all_acknowledged().await } => {}
        }
        let _ = acks.acknowledge_all().await;
        let _ = connection.channel.close(200, "done".into()).await;
        let _ = connection.connection.close(200, "done".into()).await;
    }
}

async fn start_consumer(config: &ConsumeConfig, channel: &Channel, lane: Lane) -> lapin::Result<Consumer> {
    let (queue, tag) = (config.names.jobs_queue(lane), format!("{}.{}", config.name, lane.name()));
    channel.basic_consume(short(&queue), short(&tag), BasicConsumeOptions::default(), FieldTable::default()).await
}

/// Moves deliveries from both consumers into their lanes' buffers. Returns when the first consumer ends.
async fn buffer_until_one_ends(
    consumers: &mut [(Lane, Consumer)],
    acks: &AckBatcher,
    buffers: &[PrefetchBuffer; 2],
) -> lapin::Result<()> {
    let [(first_lane, first), (second_lane, second)] = consumers else { return Ok(()) };
    tokio::select! {
        buffered = buffer(first, acks, &buffers[*first_lane as usize]) => buffered,
        buffered = buffer(second, acks, &buffers[*second_lane as usize]) => buffered,
    }
}

/// Moves deliveries from a consumer into its lane's buffer. Returns when the consumer ends.
async fn buffer(consumer: &mut Consumer, acks: &AckBatcher, buffer: &PrefetchBuffer) -> lapin::Result<()> {
    while let Some(delivery) = consumer.next().await {
        buffer.push(delivery?, acks);
    }
    Ok(())
}
