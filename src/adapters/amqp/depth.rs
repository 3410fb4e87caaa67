//! How much lies on the broker's queues, by passive declares on a connection of its own: whatever happens to it, the
//! work doesn't notice.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::link::{self, LinkConfig};
use super::topology::{DELAY_STEPS_S, Names, short};
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
    loop {
        let read = timeout(limit, read(&channel, names)).await.ok()?.ok()?;
        depth.send_replace(Some(read));
        sleep(EVERY).await;
    }
}

async fn read(channel: &Channel, names: &Names) -> lapin::Result<Depth> {
    let mut depth = Depth::default();
    for lane in Lane::ALL {
        depth.ready[lane as usize] = ready(channel, &names.jobs_queue(lane)).await?;
        for seconds in DELAY_STEPS_S {
            depth.delayed[lane as usize] += ready(channel, &names.delay_queue(lane, seconds)).await?;
        }
    }
    depth.dead = ready(channel, &names.dead_queue()).await?;
    depth.unrouted = Some(ready(channel, &names.unrouted()).await?);
    Ok(depth)
}

async fn ready(channel: &Channel, queue: &str) -> lapin::Result<u64> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(short(queue), options, FieldTable::default()).await?;
    Ok(u64::from(queue.message_count()))
}
