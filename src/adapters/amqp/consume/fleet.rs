//! Counting the workers that share a queue: every one consumes it once, and a passive declare says how many do.
//!
//! It goes over the consuming connection, on a channel of its own (a queue that is gone closes the channel): without
//! that connection this worker isn't counted by the others either, and must not go on as if it were.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::amqp::connection::refusal::explain;
use crate::adapters::amqp::topology::short;

/// Between two counts: how late a newcomer is seen at most, if the broker answers.
const EVERY: Duration = Duration::from_secs(1);

/// Until the first count has this worker in it.
const AT_FIRST: Duration = Duration::from_millis(20);

/// Told of every count: when it was asked for, and how many there were.
#[derive(Clone)]
pub struct OnCount(Arc<dyn Fn(Instant, NonZeroU32) + Send + Sync>);

impl OnCount {
    /// Tells this one.
    pub fn new(told: impl Fn(Instant, NonZeroU32) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

impl fmt::Debug for OnCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnCount")
    }
}

/// Counts the consumers of a queue that this connection consumes, until it is dropped or fails, or answers nothing for `patience`.
/// Says why it failed.
pub(crate) async fn count(connection: &Connection, queue: &str, on_count: &OnCount, patience: Duration) -> String {
    let mut answered_at = Instant::now();
    loop {
        let error = match timeout(patience, connection.create_channel()).await {
            Err(_) => return frozen(patience),
            Ok(Err(error)) => error,
            Ok(Ok(channel)) => loop {
                let asked = Instant::now();
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let declaring = channel.queue_declare(short(queue), options, FieldTable::default());
                match timeout(EVERY, declaring).await {
                    Ok(Ok(declared)) => {
                        answered_at = Instant::now();
                        match NonZeroU32::new(declared.consumer_count()) {
                            Some(workers) => {
                                (on_count.0)(asked, workers);
                                sleep(EVERY).await;
                            }
                            None => sleep(AT_FIRST).await,
                        }
                    }
                    Ok(Err(error)) => break error,
                    Err(_) if answered_at.elapsed() >= patience => return frozen(patience),
                    // What comes late is out of date: asked again.
                    Err(_) => {}
                }
            },
        };
        if !connection.status().connected() {
            return explain(&error);
        }
        sleep(EVERY).await;
    }
}

fn frozen(patience: Duration) -> String {
    format!("no answer within {} s: is it frozen?", patience.as_secs())
}
