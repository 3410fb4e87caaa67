//! Publishing with confirms, on a connection of its own.
//!
//! When the outcome of a publish is not known, it is published again: at least once. Readers recognise a repeat by
//! its `message_id`.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::link::{self, LinkConfig, Notice, Pauses};
use super::refusal::explain;
use super::topology::short;
use crate::ports::QueueError;
use crate::telemetry::{BrokerConnection, BrokerLink, Metrics};

/// Pause before a message is published again that the broker refused: its queue is full.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait for the broker at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel in confirm mode; `None` while it is being rebuilt.
type Current = Option<Live>;

#[derive(Debug, Clone)]
struct Live {
    channel: Channel,
    /// Counts the connections, so that a late failure of an old one doesn't tear down a new one.
    life: u64,
}

/// Whether the broker takes messages on the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flow {
    is_blocked: bool,
    /// Counts the changes: a wait that spans one says nothing about the broker.
    changes: u64,
}

/// Publishes. Clones share the connection; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Publisher {
    current: watch::Receiver<Current>,
    flow: watch::Receiver<Flow>,
    broken: Arc<Broken>,
    confirm_timeout: Duration,
    closing: CancellationToken,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

/// The lives that are over, so that each is told of once.
#[derive(Debug)]
struct Broken {
    /// Shown in the broker's list of connections, and in log lines.
    name: String,
    lives: watch::Sender<u64>,
    /// The last life in which the broker was told to refuse messages.
    refusing: AtomicU64,
    metrics: Metrics,
}

impl Broken {
    fn tell(&self, life: u64, reason: &str) {
        let is_news = self.lives.send_if_modified(|broken| {
            let is_news = *broken < life;
            *broken = (*broken).max(life);
            is_news
        });
        if is_news {
            BrokerLink::Broken { name: &self.name, reason }.emit(BrokerConnection::Publisher, &self.metrics);
        }
    }

    fn tell_refusing(&self, life: u64, routing_key: &str) {
        if self.refusing.fetch_max(life, Ordering::Relaxed) < life {
            BrokerLink::Refusing { name: &self.name, routing_key }.emit(BrokerConnection::Publisher, &self.metrics);
        }
    }
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
        let metrics = config.metrics.clone();
        let (live, current) = watch::channel(None);
        let (flow_sender, flow) = watch::channel(Flow::default());
        let (lives, _) = watch::channel(0);
        let broken = Arc::new(Broken { name: name.clone(), lives, refusing: AtomicU64::new(0), metrics });
        // Weak: the keeper ends with the last publisher.
        let (told, over) = (broken.lives.subscribe(), Arc::downgrade(&broken));
        let closing = CancellationToken::new();
        let keeping = keep(config, name, seed, live, flow_sender, told, over, closing.clone());
        let keeper = Arc::new(AbortOnDropHandle::new(tokio::spawn(keeping)));
        Self { current, flow, broken, confirm_timeout, closing, _keeper: keeper }
    }

    /// Ends the connection in good order, else the broker logs a client that went away. What is not confirmed yet stays
    /// unconfirmed, and whoever publishes after this gets an error.
    pub async fn close(mut self) {
        self.closing.cancel();
        let closed = async { while self.current.changed().await.is_ok() {} };
        // Bounded: a frozen broker must not hold up the end.
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
    }

    /// Publishes until the broker has confirmed it.
    ///
    /// # Errors
    /// [`QueueError`] where the broker returns it, even after everything was declared or verified anew: there is no
    /// queue for it, which only a person can mend.
    pub(super) async fn publish(&self, message: &Message<'_>) -> Result<(), QueueError> {
        let mut current = self.current.clone();
        let mut was_returned = false;
        loop {
            let live = match current.wait_for(Option::is_some).await {
                Ok(live) => live.clone(),
                Err(_) => return Err(QueueError("the publisher has ended".to_owned())),
            };
            let Some(Live { channel, life }) = live else { continue };
            let reason = match self.attempt(&channel, message).await {
                Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => return Ok(()),
                // A deleted queue comes back with the next connection, where it may be declared.
                Ok(Confirmation::Ack(Some(_))) => {
                    self.broken.metrics.returned();
                    let Message { exchange, routing_key, .. } = message;
                    let reason =
                        format!("no queue takes messages of exchange {exchange:?}, routing key {routing_key:?}");
                    if was_returned {
                        return Err(QueueError(format!("{reason}: restore the queue or its binding")));
                    }
                    was_returned = true;
                    reason
                }
                Ok(Confirmation::Nack(_)) => {
                    self.broken.tell_refusing(life, message.routing_key);
                    sleep(REFUSED_PAUSE).await;
                    continue;
                }
                Err(reason) => reason,
            };
            self.broken.tell(life, &reason);
            // Until the keeper has taken the broken channel away.
            let gone = |current: &Current| current.as_ref().is_none_or(|live| live.life > life);
            if current.wait_for(gone).await.is_err() {
                return Err(QueueError("the publisher has ended".to_owned()));
            }
        }
    }

    /// One try. The time in which the broker has an alarm doesn't count: a new connection would be blocked as well, and
    /// whatever was written on this one would be written twice.
    async fn attempt(&self, channel: &Channel, message: &Message<'_>) -> Result<Confirmation, String> {
        let mut flow = self.flow.clone();
        let mut publishing = pin!(try_publish(channel, message));
        loop {
            let before = *flow.borrow();
            if let Ok(done) = timeout(self.confirm_timeout, &mut publishing).await {
                return done.map_err(|error| explain(&error));
            }
            if *flow.borrow() == before && !before.is_blocked {
                return Err(format!("no confirm within {} s", self.confirm_timeout.as_secs()));
            }
            tokio::select! {
                done = &mut publishing => return done.map_err(|error| explain(&error)),
                open = async { flow.wait_for(|flow| !flow.is_blocked).await.is_ok() } => {
                    if !open {
                        return Err("the publisher has ended".to_owned());
                    }
                }
            }
        }
    }
}

/// Keeps a connection up, life after life.
#[expect(clippy::too_many_arguments, reason = "the other ends of the publisher's fields")]
async fn keep(
    config: LinkConfig,
    name: String,
    seed: u64,
    live: watch::Sender<Current>,
    flow: watch::Sender<Flow>,
    mut told: watch::Receiver<u64>,
    broken: Weak<Broken>,
    closing: CancellationToken,
) {
    let mut jitter = fastrand::Rng::with_seed(seed);
    let mut pauses = Pauses::default();
    for life in 1.. {
        let link = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            link = link::connect(&config, BrokerConnection::Publisher, &name, &mut jitter) => link,
        };
        let began = Instant::now();
        let mut notices = link.notices();
        let confirming = link.channel.confirm_select(ConfirmSelectOptions::default());
        let is_ready = matches!(timeout(config.connect_timeout, confirming).await, Ok(Ok(())));
        if is_ready {
            live.send_replace(Some(Live { channel: link.channel.clone(), life }));
        }
        let over = loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    let _ = link.connection.close(200, "done".into()).await;
                    return;
                }
                over = async { told.wait_for(|broken| *broken >= life).await.is_ok() } => break over,
                notice = notices.next(), if is_ready => match (notice, broken.upgrade()) {
                    (Notice::Blocked(reason), _) => set_blocked(&flow, &name, Some(&reason), &config.metrics),
                    (Notice::Unblocked, _) => set_blocked(&flow, &name, None, &config.metrics),
                    (Notice::Gone(reason), Some(broken)) => broken.tell(life, &reason),
                    (Notice::Gone(_), None) => break false,
                },
                () = std::future::ready(()), if !is_ready => match broken.upgrade() {
                    Some(broken) => broken.tell(life, "no confirms"),
                    None => break false,
                },
            }
        };
        if !over {
            return;
        }
        live.send_replace(None);
        // What waits for the end of the alarm goes on, and finds its channel gone.
        flow.send_if_modified(|flow| std::mem::take(&mut flow.is_blocked));
        drop(link);
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = pauses.after(began.elapsed()) => {}
        }
    }
}

fn set_blocked(flow: &watch::Sender<Flow>, name: &str, alarm: Option<&str>, metrics: &Metrics) {
    let part = BrokerConnection::Publisher;
    let is_news = flow.send_if_modified(|flow| {
        let is_news = flow.is_blocked != alarm.is_some();
        *flow = Flow { is_blocked: alarm.is_some(), changes: flow.changes + u64::from(is_news) };
        is_news
    });
    match alarm {
        Some(reason) if is_news => BrokerLink::Blocked { name, reason }.emit(part, metrics),
        None if is_news => BrokerLink::Unblocked { name }.emit(part, metrics),
        _ => {}
    }
}

/// Publishes once, mandatory. Resolves with the broker's confirm.
pub(super) async fn try_publish(channel: &Channel, message: &Message<'_>) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    // Whatever else can be published in this turn of the runtime goes first or follows at once: lapin's thread then writes
    // all of it with one system call, and the broker reads it with one, instead of one a message.
    yield_now().await;
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
