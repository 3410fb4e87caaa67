//! A reader of all events, which reconnects when the broker is killed.

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

/// Pause between two attempts to connect.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);

/// Event types of each job, by its id.
pub(crate) type Outcomes = BTreeMap<String, BTreeSet<String>>;

#[derive(Default)]
struct ReaderState {
    outcomes: Outcomes,
    repeats: u64,
    is_watching: bool,
    next_outcome_at: Option<Instant>,
}

pub(crate) struct Reader(Arc<Mutex<ReaderState>>);

impl Reader {
    pub(crate) fn start(broker: &Broker, runtime: &Runtime) -> Self {
        broker.declare_queue(QUEUE, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]);
        broker.bind(QUEUE, &format!("{PREFIX}.events"), "#");
        let (state, url) = (Arc::new(Mutex::new(ReaderState::default())), broker.url());
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            loop {
                let _ = read(&url, &shared).await;
                sleep(RECONNECT_AFTER).await;
            }
        });
        Self(state)
    }

    fn state(&self) -> MutexGuard<'_, ReaderState> {
        lock(&self.0)
    }

    pub(crate) fn jobs_with_an_outcome(&self) -> usize {
        self.state().outcomes.len()
    }

    /// Notes the time of the next job's first outcome.
    pub(crate) fn watch_for_next(&self) {
        let mut state = self.state();
        (state.is_watching, state.next_outcome_at) = (true, None);
    }

    pub(crate) fn next_outcome_at(&self) -> Option<Instant> {
        self.state().next_outcome_at
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.state().outcomes.clone()
    }

    /// Events that were delivered more than once.
    pub(crate) fn repeats(&self) -> u64 {
        self.state().repeats
    }
}

fn lock(state: &Mutex<ReaderState>) -> MutexGuard<'_, ReaderState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn consume(url: &str) -> lapin::Result<(Connection, Consumer)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let deliveries = channel.basic_consume(QUEUE.into(), "proof".into(), options, FieldTable::default()).await?;
    Ok((connection, deliveries))
}

async fn read(url: &str, state: &Mutex<ReaderState>) -> anyhow::Result<()> {
    // A broker that is killed meanwhile never answers.
    let (_connection, mut deliveries) = timeout(CONNECT_MAX, consume(url)).await??;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let event: serde_json::Value = serde_json::from_slice(&delivery.data).context("an event isn't JSON")?;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        {
            let mut state = lock(state);
            let is_known = state.outcomes.contains_key(&text("jobId"));
            let is_new_type = state.outcomes.entry(text("jobId")).or_default().insert(text("type"));
            state.repeats += u64::from(!is_new_type);
            if state.is_watching && !is_known {
                (state.is_watching, state.next_outcome_at) = (false, Some(Instant::now()));
            }
        }
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
