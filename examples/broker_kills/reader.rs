//! A reader of all events, which outlives the broker's deaths as any reader must.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, Consumer};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::PREFIX;
use crate::broker::Broker;

const QUEUE: &str = "proof.events";

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(50);

/// Types of the outcomes by the ids of their jobs.
pub(crate) type Outcomes = BTreeMap<String, BTreeSet<String>>;

#[derive(Default)]
struct Seen {
    outcomes: Outcomes,
    repeats: u64,
    is_watching: bool,
    next_came: Option<Instant>,
}

pub(crate) struct Reader(Arc<Mutex<Seen>>);

impl Reader {
    pub(crate) fn start(broker: &Broker, runtime: &Runtime) -> Self {
        broker.declare_queue(QUEUE, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]);
        broker.bind(QUEUE, &format!("{PREFIX}.events"), "#");
        let (seen, url) = (Arc::new(Mutex::new(Seen::default())), broker.url());
        let told = Arc::clone(&seen);
        runtime.spawn(async move {
            loop {
                let _ = read(&url, &told).await;
                sleep(AGAIN).await;
            }
        });
        Self(seen)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.0)
    }

    pub(crate) fn jobs_with_an_outcome(&self) -> usize {
        self.seen().outcomes.len()
    }

    /// From now on: when does the first job get its outcome?
    pub(crate) fn watch_for_the_next(&self) {
        let mut seen = self.seen();
        (seen.is_watching, seen.next_came) = (true, None);
    }

    pub(crate) fn next_came(&self) -> Option<Instant> {
        self.seen().next_came
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.seen().outcomes.clone()
    }

    /// Events that were there before, with the same id: at least once.
    pub(crate) fn repeats(&self) -> u64 {
        self.seen().repeats
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn consume(url: &str) -> lapin::Result<(Connection, Consumer)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let deliveries = channel.basic_consume(QUEUE.into(), "proof".into(), options, FieldTable::default()).await?;
    Ok((connection, deliveries))
}

async fn read(url: &str, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    // A broker that dies in the middle of this never answers.
    let (_connection, mut deliveries) = timeout(CONNECT_MAX, consume(url)).await??;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let event: serde_json::Value = serde_json::from_slice(&delivery.data).context("an event that is no JSON")?;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        {
            let mut seen = lock(seen);
            let is_known = seen.outcomes.contains_key(&text("jobId"));
            let is_new_type = seen.outcomes.entry(text("jobId")).or_default().insert(text("type"));
            seen.repeats += u64::from(!is_new_type);
            if seen.is_watching && !is_known {
                (seen.is_watching, seen.next_came) = (false, Some(Instant::now()));
            }
        }
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
