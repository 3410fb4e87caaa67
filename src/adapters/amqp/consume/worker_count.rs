//! Counts the workers that share a queue: each consumes it once, and a passive declare returns the number of consumers.
//!
//! Uses the consuming connection, because the other workers don't count this one without it, and its share of the rate
//! limit must not outlive it. Has a channel of its own, because the broker closes the channel if the queue is missing.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::amqp::connection::connect::no_answer_within;
use crate::adapters::amqp::connection::explain::explain;
use crate::adapters::amqp::topology::short;

/// Time between two counts: a new worker is counted within this time if the broker answers.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Time between two counts until the first one includes this worker.
const FIRST_COUNT_EVERY: Duration = Duration::from_millis(20);

/// Called with every count: when it was asked for, and the number of workers.
#[derive(Clone)]
pub struct OnWorkerCount(Arc<dyn Fn(Instant, NonZeroU32) + Send + Sync>);

impl OnWorkerCount {
    /// Calls `callback`.
    pub fn new(callback: impl Fn(Instant, NonZeroU32) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }
}

impl fmt::Debug for OnWorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnWorkerCount")
    }
}

/// Counts the consumers of a queue that this connection consumes, until the connection breaks or nothing is answered
/// within `answer_timeout`. Returns the reason.
pub(crate) async fn count_workers(
    connection: &Connection,
    queue: &str,
    on_count: &OnWorkerCount,
    answer_timeout: Duration,
) -> String {
    let mut answered_at = Instant::now();
    loop {
        let error = match timeout(answer_timeout, connection.create_channel()).await {
            Err(_) => return no_answer_within(answer_timeout),
            Ok(Err(error)) => error,
            Ok(Ok(channel)) => loop {
                let asked = Instant::now();
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let declaring = channel.queue_declare(short(queue), options, FieldTable::default());
                match timeout(COUNT_EVERY, declaring).await {
                    Ok(Ok(declared)) => {
                        answered_at = Instant::now();
                        match NonZeroU32::new(declared.consumer_count()) {
                            Some(workers) => {
                                (on_count.0)(asked, workers);
                                sleep(COUNT_EVERY).await;
                            }
                            None => sleep(FIRST_COUNT_EVERY).await,
                        }
                    }
                    Ok(Err(error)) => break error,
                    Err(_) if answered_at.elapsed() >= answer_timeout => return no_answer_within(answer_timeout),
                    // A late answer is out of date: ask again.
                    Err(_) => {}
                }
            },
        };
        if !connection.status().connected() {
            return explain(&error);
        }
        sleep(COUNT_EVERY).await;
    }
}
