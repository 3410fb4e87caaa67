//! Counts the messages that are ready on the broker's queues, with passive declares.
//!
//! Uses a connection of its own, so that a failure here never interrupts the work.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::connection::connect;
use crate::adapters::amqp::topology::{DELAY_STEPS_S, Names, short};
use crate::domain::Lane;
use crate::telemetry::QueueDepth;

/// Time between two counts.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// First and longest delay before the next attempt. The queues may not be declared yet.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Sends the counts every five seconds, or `None` while the queues can't be read. Never returns.
pub async fn follow(
    config: AmqpConnectionConfig,
    names: Names,
    name: String,
    depth: watch::Sender<Option<QueueDepth>>,
) {
    let mut delay = RETRY_DELAY.0;
    loop {
        // Failures are not logged: the consumer and the publisher log theirs.
        let _ = count_on_one_connection(&config, &names, &name, &depth).await;
        let was_read = depth.send_replace(None).is_some();
        delay = if was_read { RETRY_DELAY.0 } else { delay };
        sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY.1);
    }
}

async fn count_on_one_connection(
    config: &AmqpConnectionConfig,
    names: &Names,
    name: &str,
    depth: &watch::Sender<Option<QueueDepth>>,
) -> Option<()> {
    let limit = config.connect_timeout;
    // The socket is shut down at the end of this function.
    let (connection, _socket) = timeout(limit, connect::open(config, name)).await.ok()?.ok()?;
    let channel = timeout(limit, connection.create_channel()).await.ok()?.ok()?;
    let mut reader = QueueDepthReader { connection: &connection, channel };
    loop {
        let read = timeout(limit, reader.read(names)).await.ok()?.ok()?;
        depth.send_replace(Some(read));
        sleep(COUNT_EVERY).await;
    }
}

struct QueueDepthReader<'c> {
    connection: &'c Connection,
    channel: Channel,
}

impl QueueDepthReader<'_> {
    /// Counts a missing queue as empty: the consumer's connection logs that it is missing.
    async fn read(&mut self, names: &Names) -> lapin::Result<QueueDepth> {
        let mut depth = QueueDepth::default();
        for lane in Lane::ALL {
            depth.ready[lane as usize] = self.ready(&names.jobs_queue(lane)).await?.unwrap_or(0);
            for seconds in DELAY_STEPS_S {
                depth.delayed[lane as usize] += self.ready(&names.delay_queue(lane, seconds)).await?.unwrap_or(0);
            }
        }
        depth.dead = self.ready(&names.dead_queue()).await?.unwrap_or(0);
        depth.unrouted = self.ready(&names.unrouted()).await?;
        Ok(depth)
    }

    /// Returns the number of ready messages; `None` if the queue doesn't exist.
    async fn ready(&mut self, queue: &str) -> lapin::Result<Option<u64>> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match self.channel.queue_declare(short(queue), options, FieldTable::default()).await {
            Ok(queue) => Ok(Some(u64::from(queue.message_count()))),
            Err(error) if is_not_found(&error) => {
                // The broker has closed the channel.
                self.channel = self.connection.create_channel().await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Reply code for a missing queue (AMQP 0-9-1, 1.2).
const NOT_FOUND: u16 = 404;

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == NOT_FOUND)
}
