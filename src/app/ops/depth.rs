//! The depth of the queue, read at intervals, so that neither requests to the status page nor the work wait for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::amqp;
use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::topology::Names;
use crate::adapters::local_queue::depth::DepthReader;
use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use crate::clock::Clock;
use crate::telemetry::QueueDepth;

/// The queue whose depth is read.
pub(crate) enum WatchedQueue {
    /// An embedded queue: its path and `queue.size_mib_max`.
    Local(PathBuf, u64),
    /// RabbitMQ, and the connection's name in its list of connections.
    Broker(Box<AmqpConnectionConfig>, Names, String),
}

/// Shortest time between two reads of the jobs.
const JOBS_EVERY: Duration = Duration::from_secs(2);

/// Shortest time between two counts of all rows.
const ROWS_EVERY: Duration = Duration::from_secs(10);

/// The time between two reads is at least this multiple of the time that a read takes, so that reading uses at most 2 %
/// of one processor.
const INTERVAL_PER_COST: u32 = 50;

/// Reads the depth until the first result is dropped.
pub(crate) fn follow(queue: WatchedQueue) -> (AbortOnDropHandle<()>, watch::Receiver<Option<QueueDepth>>) {
    let (depth, latest) = watch::channel(None);
    let task = match queue {
        WatchedQueue::Local(path, size_mib_max) => tokio::spawn(async move {
            loop {
                if let Err(error) = follow_local(&path, size_mib_max, &depth).await {
                    tracing::debug!(%error, "the queue's depth can't be read");
                }
                depth.send_replace(None);
                sleep(JOBS_EVERY).await;
            }
        }),
        WatchedQueue::Broker(connection, names, name) => {
            tokio::spawn(amqp::topology::depth::follow(*connection, names, name, depth))
        }
    };
    (AbortOnDropHandle::new(task), latest)
}

async fn follow_local(
    path: &Path,
    size_mib_max: u64,
    depth: &watch::Sender<Option<QueueDepth>>,
) -> Result<(), LocalQueueError> {
    let file = path.to_owned();
    let opened = spawn_blocking(move || {
        open(&file, IfMissing::Fail, OpenPurpose::Work, size_mib_max)
            .map(|connection| DepthReader::new(connection, &file))
    });
    let Ok(reader) = opened.await else { return Ok(()) };
    let mut reader = reader?;
    let (mut rows, mut rows_due) = (None, Instant::now());
    loop {
        let start = Instant::now();
        let counts_rows = rows_due <= start;
        let read = spawn_blocking(move || {
            let jobs = reader.jobs(Clock::System.now());
            let rows = if counts_rows { Some(reader.rows()) } else { None };
            (reader, jobs, rows)
        });
        let Ok((returned_reader, jobs, counted)) = read.await else { return Ok(()) };
        reader = returned_reader;
        let took = start.elapsed();
        if let Some(counted) = counted {
            rows = Some(counted?);
            rows_due = Instant::now() + ROWS_EVERY.max(took * INTERVAL_PER_COST);
        }
        depth.send_replace(Some(QueueDepth { rows, ..jobs? }));
        // The cost of counting the rows is limited by their own interval.
        sleep(if counts_rows { JOBS_EVERY } else { JOBS_EVERY.max(took * INTERVAL_PER_COST) }).await;
    }
}
