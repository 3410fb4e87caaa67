//! Publishing with confirms, on a connection of its own.
//!
//! When the outcome of a publish is not known, it is published again: at least once. Readers recognise a repeat by
//! its `message_id`.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::link::{self, LinkConfig};
use super::topology::short;
use crate::ports::QueueError;
use crate::telemetry::BrokerLink;

/// A channel in confirm mode; `None` while it is being rebuilt.
type Current = Option<Live>;

#[derive(Debug, Clone)]
struct Live {
    channel: Channel,
    /// Counts the connections, so that a late failure of an old one doesn't tear down a new one.
    life: u64,
}

/// Publishes. Clones share the connection; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Publisher {
    current: watch::Receiver<Current>,
    broken: Arc<watch::Sender<u64>>,
    confirm_timeout: Duration,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

/// A message to be published.
#[derive(Debug)]
pub(super) struct Message<'m> {
    pub(super) exchange: &'m str,
    pub(super) routing_key: &'m str,
    pub(super) body: &'m [u8],
    pub(super) properties: BasicProperties,
}

impl Publisher {
    /// Starts connecting; publishing waits until it has succeeded.
    pub fn start(config: LinkConfig, name: String, confirm_timeout: Duration, seed: u64) -> Self {
        let (live, current) = watch::channel(None);
        let (broken, mut told) = watch::channel(0);
        let keeper = tokio::spawn(async move {
            let mut jitter = fastrand::Rng::with_seed(seed);
            for life in 1.. {
                let (connection, channel) = link::connect(&config, &name, &mut jitter).await;
                if channel.confirm_select(ConfirmSelectOptions::default()).await.is_err() {
                    continue;
                }
                live.send_replace(Some(Live { channel, life }));
                // The sender lives in every publisher, so this ends only with a failure of this life.
                if told.wait_for(|broken| *broken >= life).await.is_err() {
                    return;
                }
                live.send_replace(None);
                drop(connection);
            }
        });
        let keeper = Arc::new(AbortOnDropHandle::new(keeper));
        Self { current, broken: Arc::new(broken), confirm_timeout, _keeper: keeper }
    }

    /// Publishes until the broker has confirmed it.
    ///
    /// # Errors
    /// [`QueueError`] where the broker returns it: there is no queue for it, which only a person can mend.
    pub(super) async fn publish(&self, message: &Message<'_>) -> Result<(), QueueError> {
        let mut current = self.current.clone();
        loop {
            let live = match current.wait_for(Option::is_some).await {
                Ok(live) => live.clone(),
                Err(_) => return Err(QueueError("the publisher has ended".to_owned())),
            };
            let Some(Live { channel, life }) = live else { continue };
            let reason = match timeout(self.confirm_timeout, try_publish(&channel, message)).await {
                Ok(Ok(Confirmation::Ack(None) | Confirmation::NotRequested)) => return Ok(()),
                Ok(Ok(Confirmation::Ack(Some(_)))) => {
                    return Err(QueueError(format!(
                        "no queue takes messages of the exchange {:?} with the routing key {:?}: restore its binding",
                        message.exchange, message.routing_key
                    )));
                }
                // The queue is full, or a node is going down: it is asked again on a new channel.
                Ok(Ok(Confirmation::Nack(_))) => "the broker refused a message".to_owned(),
                Ok(Err(error)) => link::explain(&error),
                Err(_) => format!("no confirm within {} s", self.confirm_timeout.as_secs()),
            };
            // Whoever is first tells; the others of the same life see it is told.
            let is_news = self.broken.send_if_modified(|broken| {
                let is_news = *broken < life;
                *broken = (*broken).max(life);
                is_news
            });
            if is_news {
                BrokerLink::Broken { name: "publisher", reason: &reason }.emit();
            }
            // Until the keeper has taken the broken channel away.
            let gone = |current: &Current| current.as_ref().is_none_or(|live| live.life > life);
            if current.wait_for(gone).await.is_err() {
                return Err(QueueError("the publisher has ended".to_owned()));
            }
        }
    }
}

async fn try_publish(channel: &Channel, message: &Message<'_>) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel
        .basic_publish(
            short(message.exchange),
            short(message.routing_key),
            options,
            message.body,
            message.properties.clone(),
        )
        .await?
        .await
}
