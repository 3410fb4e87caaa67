//! How much lies on the queue, looked at from time to time. Nobody who asks waits for it, and the work neither.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::amqp;
use crate::adapters::amqp::connection::link::LinkConfig;
use crate::adapters::amqp::topology::Names;
use crate::adapters::local_queue::depth::DepthReader;
use crate::adapters::local_queue::open::{IfMissing, LocalQueueError, Purpose, open};
use crate::clock::Clock;
use crate::telemetry::Depth;

/// Which queue.
pub(crate) enum QueueAt {
    /// The embedded one, and the limit of its size.
    Local(PathBuf, u64),
    /// A broker's, and the name that its list of connections shows.
    Broker(Box<LinkConfig>, Names, String),
}

/// At least this long between two looks at the embedded queue.
const EVERY: Duration = Duration::from_secs(2);

/// At least this long between two counts of all rows.
const ROWS_EVERY: Duration = Duration::from_secs(10);

/// A look that takes longer is repeated so many times more seldom: it may take this share of one processor.
const COST: u32 = 50;

/// Starts looking, until the result is dropped.
pub(crate) fn follow(queue: QueueAt) -> (AbortOnDropHandle<()>, watch::Receiver<Option<Depth>>) {
    let (depth, seen) = watch::channel(None);
    let task = match queue {
        QueueAt::Local(path, size_mib_max) => tokio::spawn(async move {
            loop {
                if let Err(error) = follow_local(&path, size_mib_max, &depth).await {
                    tracing::debug!(%error, "the queue's depth can't be read");
                }
                depth.send_replace(None);
                sleep(EVERY).await;
            }
        }),
        QueueAt::Broker(link, names, name) => tokio::spawn(amqp::topology::depth::follow(*link, names, name, depth)),
    };
    (AbortOnDropHandle::new(task), seen)
}

async fn follow_local(
    path: &Path,
    size_mib_max: u64,
    depth: &watch::Sender<Option<Depth>>,
) -> Result<(), LocalQueueError> {
    let file = path.to_owned();
    let opened = spawn_blocking(move || {
        open(&file, IfMissing::Fail, Purpose::Work, size_mib_max).map(|connection| DepthReader::new(connection, &file))
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
        let Ok((given_back, jobs, counted)) = read.await else { return Ok(()) };
        reader = given_back;
        let took = start.elapsed();
        if let Some(counted) = counted {
            rows = Some(counted?);
            rows_due = Instant::now() + ROWS_EVERY.max(took * COST);
        }
        depth.send_replace(Some(Depth { rows, ..jobs? }));
        // The look with the rows is paid for by their own interval.
        sleep(if counts_rows { EVERY } else { EVERY.max(took * COST) }).await;
    }
}
