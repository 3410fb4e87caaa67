//! How much lies on the broker's queues, by passive declares on a connection of its own: whatever happens to it, the
//! work doesn't notice.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::adapters::amqp::connection::link::{self, LinkConfig};
use crate::adapters::amqp::topology::{DELAY_STEPS_S, Names, short};
use crate::domain::Lane;
use crate::telemetry::Depth;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Until the next attempt after a failed one, at first and at most. The queues may be about to be declared.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Looks again and again and never returns; `None`: the queues can't be read.
pub async fn follow(config: LinkConfig, names: Names, name: String, depth: watch::Sender<Option<Depth>>) {
    let mut pause = AGAIN.0;
    loop {
        // Its failures are not told: the connections that work tell theirs.
        let _ = read_on_one_connection(&config, &names, &name, &depth).await;
        let was_read = depth.send_replace(None).is_some();
        pause = if was_read { AGAIN.0 } else { pause };
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

async fn read_on_one_connection(
    config: &LinkConfig,
    names: &Names,
    name: &str,
    depth: &watch::Sender<Option<Depth>>,
) -> Option<()> {
    let limit = config.connect_timeout;
    // The socket closes with this function.
    let (connection, _socket) = timeout(limit, link::open(config, name)).await.ok()?.ok()?;
    let channel = timeout(limit, connection.create_channel()).await.ok()?.ok()?;
    let mut reader = Reader { connection: &connection, channel };
    loop {
        let read = timeout(limit, reader.read(names)).await.ok()?.ok()?;
        depth.send_replace(Some(read));
        sleep(EVERY).await;
    }
}

struct Reader<'c> {
    connection: &'c Connection,
    channel: Channel,
}

impl Reader<'_> {
    /// A queue that isn't there holds nothing; that it is missing is told elsewhere.
    async fn read(&mut self, names: &Names) -> lapin::Result<Depth> {
        let mut depth = Depth::default();
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

    /// How many messages are ready; `None`: there is no such queue.
    async fn ready(&mut self, queue: &str) -> lapin::Result<Option<u64>> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match self.channel.queue_declare(short(queue), options, FieldTable::default()).await {
            Ok(queue) => Ok(Some(u64::from(queue.message_count()))),
            Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == NOT_FOUND) => {
                // The broker has closed the channel.
                self.channel = self.connection.create_channel().await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The broker's word for what isn't there (AMQP 0-9-1, 1.2).
const NOT_FOUND: u16 = 404;
