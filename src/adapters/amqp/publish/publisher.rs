//! Publishing with confirms, on a connection of its own.
//!
//! When the outcome of a publish is not known, it is published again: at least once. Readers recognise a repeat by
//! its `message_id`.
//!
//! Where the broker takes a message for no queue, or refuses it because its queue is full, that is a fault to wait out like a
//! broker that is away: see `refused_routes`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::link::{self, Link, LinkConfig, Notice, Pauses};
use crate::adapters::amqp::connection::refusal::explain;
use crate::adapters::amqp::publish::refused_routes::{LinedUp, RefusedRoutes, Turn};
use crate::adapters::amqp::topology::short;
use crate::ports::QueueError;
use crate::telemetry::{BrokerConnection, BrokerLink, Metrics};

/// Longest wait for the broker at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Refusals in a row after which the connection is made anew. Assumed: what was deleted and made again meanwhile may be
/// seen only by a new one.
const RENEW_EVERY: u32 = 3;

/// It is told that messages are taken again once none has been refused for so long.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// How a publisher works.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// The broker.
    pub link: LinkConfig,
    /// Shown in the broker's list of connections.
    pub name: String,
    /// Longest wait for a confirm before the connection is given up.
    pub confirm_timeout: Duration,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// What becomes of a message that no queue takes.
    pub unroutable: Unroutable,
}

/// What becomes of a message that no queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// It waits until one does.
    Wait,
    /// It fails, after a second try on another connection.
    Fail,
}

/// The connection as it is now.
#[derive(Debug, Clone, Default)]
struct State {
    /// A channel in confirm mode, if there is one.
    live: Option<Arc<Live>>,
    /// The broker has an alarm.
    is_blocked: bool,
    /// Counts the changes of `is_blocked`: a wait that spans one says nothing about the broker.
    changes: u64,
    /// Routes on which messages are refused.
    refused_routes: usize,
    /// When messages were refused last, and why, until it is told that none is any more.
    refused: Option<(Instant, String)>,
    /// A connection broke under a message: until one is taken, nobody knows whether the next one is any better.
    is_unproven: bool,
}

#[derive(Debug)]
struct Live {
    channel: Channel,
    /// Counts the connections, so that a late failure of an old one doesn't tear down a new one.
    life: u64,
}

/// Publishes. Clones share the connection; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    confirm_timeout: Duration,
    unroutable: Unroutable,
    closing: CancellationToken,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Shown in the broker's list of connections, and in log lines.
    name: String,
    metrics: Metrics,
    state: watch::Sender<State>,
    /// The last life that is over, and why; without a reason it was no fault.
    over: watch::Sender<(u64, Option<String>)>,
    refused: RefusedRoutes,
}

/// What the broker says of a message.
enum Verdict {
    Taken,
    Refused { life: u64, why: Refusal },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    NoQueue,
    Full,
}

/// A message to be published.
pub(crate) struct Message<'m> {
    pub(crate) exchange: &'m str,
    pub(crate) routing_key: &'m str,
    pub(crate) body: &'m [u8],
    /// Makes them: lapin takes them away with each try, and mostly there is one.
    pub(crate) properties: &'m (dyn Fn() -> BasicProperties + Sync),
}

impl Publisher {
    /// Starts connecting; publishing waits until it has succeeded.
    pub fn start(config: PublishConfig) -> Self {
        let PublishConfig { link, name, confirm_timeout, seed, unroutable } = config;
        let (sender, state) = watch::channel(State::default());
        let shared = Arc::new(Shared {
            name: name.clone(),
            metrics: link.metrics.clone(),
            state: sender,
            over: watch::channel((0, None)).0,
            refused: RefusedRoutes::default(),
        });
        let closing = CancellationToken::new();
        // Ends with the last publisher.
        let keeping = keep(link, name, seed, shared.over.subscribe(), Arc::clone(&shared), closing.clone());
        let keeper = Arc::new(AbortOnDropHandle::new(tokio::spawn(keeping)));
        Self { shared, state, confirm_timeout, unroutable, closing, _keeper: keeper }
    }

    /// Tells whether messages are taken, now and at each change, until the publisher has ended.
    pub fn follow<F: Fn(bool) + Send>(&self, tell: F) -> impl Future<Output = ()> + Send + use<F> {
        let mut state = self.state.clone();
        async move {
            loop {
                let is_open = state.borrow_and_update().is_open();
                tell(is_open);
                if state.wait_for(|state| state.is_open() != is_open).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Ends the connection in good order, else the broker logs a client that went away. What is not confirmed yet stays
    /// unconfirmed, and whoever publishes after this gets an error.
    pub async fn close(mut self) {
        self.closing.cancel();
        let closed = async { self.state.wait_for(|state| state.live.is_none()).await.is_ok() };
        // Bounded: a frozen broker must not hold up the end.
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
    }

    /// Publishes until the broker has confirmed it.
    ///
    /// # Errors
    /// [`QueueError`] with [`Unroutable::Fail`], where no queue takes it, and where the publisher was closed.
    pub(crate) async fn publish(&self, message: &Message<'_>) -> Result<(), QueueError> {
        let turn = self.shared.refused.wait(message.exchange, message.routing_key).await;
        match self.verdict(message).await? {
            Verdict::Taken => {
                self.shared.taken(turn);
                Ok(())
            }
            // Boxed: it seldom happens, and every job in hand would carry room for it.
            Verdict::Refused { life, why } => Box::pin(self.insist(message, turn, life, why)).await,
        }
    }

    /// Goes on with a message that was refused, until it is taken.
    async fn insist(
        &self,
        message: &Message<'_>,
        mut turn: Option<Turn>,
        mut life: u64,
        mut why: Refusal,
    ) -> Result<(), QueueError> {
        let Message { exchange, routing_key, .. } = message;
        let mut was_returned = false;
        loop {
            if why == Refusal::NoQueue {
                self.shared.metrics.returned();
                if self.unroutable == Unroutable::Fail && std::mem::replace(&mut was_returned, true) {
                    return Err(QueueError(why.described(message)));
                }
            }
            let first = match turn.take() {
                Some(turn) => Some(turn),
                None => match self.shared.refused.line_up(exchange, routing_key).await {
                    LinedUp::First(first) => {
                        self.shared.tell_refusing(why.described(message));
                        Some(first)
                    }
                    LinedUp::Next(next) => {
                        turn = Some(next);
                        None
                    }
                    LinedUp::Over => None,
                },
            };
            if let Some(first) = first {
                let (refusals, pause) = first.refused();
                if why == Refusal::NoQueue || refusals.is_multiple_of(RENEW_EVERY) {
                    // A deleted queue comes back with the next connection, where it may be declared.
                    self.shared.over(life, None);
                }
                sleep(pause).await;
                turn = Some(first);
            }
            match self.verdict(message).await? {
                Verdict::Taken => {
                    self.shared.taken(turn);
                    return Ok(());
                }
                Verdict::Refused { life: refused_in, why: refused_for } => (life, why) = (refused_in, refused_for),
            }
        }
    }

    /// The connection, as soon as there is one; `None`: there will never be one again.
    async fn live(&self) -> Option<Arc<Live>> {
        let live = self.state.borrow().live.clone();
        if live.is_some() {
            return live;
        }
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            Ok(state) = state.wait_for(|state| state.live.is_some()) => state.live.clone(),
            () = self.closing.cancelled() => None,
        }
    }

    /// Publishes until the broker has said something about it.
    async fn verdict(&self, message: &Message<'_>) -> Result<Verdict, QueueError> {
        loop {
            let Some(live) = self.live().await else {
                return Err(QueueError("the publisher has ended".to_owned()));
            };
            let life = live.life;
            match self.attempt(&live.channel, message).await {
                Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => {
                    self.shared.prove();
                    return Ok(Verdict::Taken);
                }
                Ok(Confirmation::Ack(Some(_))) => return Ok(Verdict::Refused { life, why: Refusal::NoQueue }),
                Ok(Confirmation::Nack(_)) => return Ok(Verdict::Refused { life, why: Refusal::Full }),
                Err(reason) => {
                    self.shared.state.send_modify(|state| state.is_unproven = true);
                    self.shared.over(life, Some(reason));
                }
            }
            // Until the keeper has taken the broken channel away.
            let gone = |state: &State| state.live.as_ref().is_none_or(|live| live.life > life);
            let _ = self.state.clone().wait_for(gone).await;
        }
    }

    /// One try. The time in which the broker has an alarm doesn't count: a new connection would be blocked as well, and
    /// whatever was written on this one would be written twice.
    async fn attempt(&self, channel: &Channel, message: &Message<'_>) -> Result<Confirmation, String> {
        let mut publishing = pin!(try_publish(channel, message));
        let alarms = || {
            let state = self.state.borrow();
            (state.is_blocked, state.changes)
        };
        loop {
            let before = alarms();
            if let Ok(done) = timeout(self.confirm_timeout, &mut publishing).await {
                return done.map_err(|error| explain(&error));
            }
            if alarms() == before && !before.0 {
                return Err(format!("no confirm within {} s", self.confirm_timeout.as_secs()));
            }
            let mut state = self.state.clone();
            tokio::select! {
                done = &mut publishing => return done.map_err(|error| explain(&error)),
                _ = state.wait_for(|state| !state.is_blocked) => {}
            }
        }
    }
}

impl State {
    /// Whether messages are taken.
    const fn is_open(&self) -> bool {
        self.live.is_some() && !self.is_blocked && self.refused_routes == 0 && !self.is_unproven
    }
}

impl Refusal {
    fn described(self, message: &Message<'_>) -> String {
        let Message { exchange, routing_key, .. } = message;
        let route = match *exchange {
            "" => format!("for the queue {routing_key:?}"),
            exchange => format!("of exchange {exchange:?}, routing key {routing_key:?}"),
        };
        match self {
            Self::NoQueue => format!("no queue takes messages {route}: restore the queue or its binding"),
            Self::Full => {
                format!("messages {route} are refused; if a queue there is full, empty it or raise its limit")
            }
        }
    }
}

impl Shared {
    /// A life is over. Without a reason the connection is only made anew.
    fn over(&self, life: u64, reason: Option<String>) {
        self.over.send_if_modified(|over| {
            let is_news = over.0 < life;
            if is_news {
                *over = (life, reason);
            }
            is_news
        });
    }

    /// A message was taken: the connection is as good as it seems.
    fn prove(&self) {
        if self.state.borrow().is_unproven {
            self.state.send_modify(|state| state.is_unproven = false);
        }
    }

    /// The first message of a route was refused. Told once for each reason, until it is over.
    fn tell_refusing(&self, reason: String) {
        let mut is_news = false;
        self.state.send_modify(|state| {
            state.refused_routes = self.refused.count();
            is_news = state.refused.as_ref().is_none_or(|(_, told)| *told != reason);
            state.refused = Some((Instant::now(), reason.clone()));
        });
        if is_news {
            let refusing = BrokerLink::Refusing { name: &self.name, reason: &reason };
            refusing.emit(BrokerConnection::Publisher, &self.metrics);
        }
    }

    /// A message was taken; one that was refused before had a turn.
    fn taken(&self, turn: Option<Turn>) {
        if turn.is_some_and(|turn| self.refused.taken(turn)) {
            let left = self.refused.count();
            self.state.send_modify(|state| {
                state.refused_routes = left;
                state.refused = state.refused.take().map(|(_, reason)| (Instant::now(), reason));
            });
        }
    }

    /// Until no message has been refused for a while: a queue that is full takes one whenever its reader does.
    async fn is_quiet(&self) {
        let mut state = self.state.subscribe();
        loop {
            let at = match state.wait_for(|state| state.refused_routes == 0 && state.refused.is_some()).await {
                Ok(state) => state.refused.as_ref().map(|(at, _)| *at + QUIET_FOR),
                Err(_) => None,
            };
            match at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The broker has an alarm, or none any more. Says whether that is news.
    fn set_blocked(&self, is_blocked: bool) -> bool {
        self.state.send_if_modified(|state| {
            let is_news = state.is_blocked != is_blocked;
            state.is_blocked = is_blocked;
            state.changes += u64::from(is_news);
            is_news
        })
    }
}

/// Keeps a connection up, life after life.
async fn keep(
    config: LinkConfig,
    name: String,
    seed: u64,
    mut over: watch::Receiver<(u64, Option<String>)>,
    shared: Arc<Shared>,
    closing: CancellationToken,
) {
    let mut jitter = fastrand::Rng::with_seed(seed);
    let mut pauses = Pauses::default();
    let mut connection_log = ConnectionLog::new(name, BrokerConnection::Publisher, config.metrics.clone());
    for life in 1.. {
        let link = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            link = link::connect(&config, &mut connection_log, &mut jitter) => link,
        };
        let began = Instant::now();
        let confirming = link.channel.confirm_select(ConfirmSelectOptions::default());
        let reason = if matches!(timeout(config.connect_timeout, confirming).await, Ok(Ok(()))) {
            shared.state.send_modify(|state| state.live = Some(Arc::new(Live { channel: link.channel.clone(), life })));
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    let _ = link.connection.close(200, "done".into()).await;
                    shared.state.send_modify(|state| state.live = None);
                    return;
                }
                reason = live(&link, life, &mut over, &shared, &mut connection_log) => reason,
            }
        } else {
            Some("no confirms".to_owned())
        };
        if let Some(reason) = reason {
            connection_log.broke(began.elapsed(), &reason);
        }
        shared.state.send_modify(|state| {
            state.live = None;
            // What waits for the end of the alarm goes on, and finds its channel gone.
            state.is_blocked = false;
        });
        drop(link);
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = pauses.after(began.elapsed()) => {}
        }
    }
}

/// Until the connection is no good any more. Says why, if that is a fault.
async fn live(
    link: &Link,
    life: u64,
    over: &mut watch::Receiver<(u64, Option<String>)>,
    shared: &Shared,
    connection_log: &mut ConnectionLog,
) -> Option<String> {
    let mut notices = link.notices();
    let mut state = shared.state.subscribe();
    let mut is_told = false;
    loop {
        tokio::select! {
            biased;
            over = over.wait_for(|(over, _)| *over >= life) => return over.ok().and_then(|over| over.1.clone()),
            _ = state.wait_for(|state| !state.is_unproven), if !is_told => {
                connection_log.works();
                is_told = true;
            }
            () = shared.is_quiet() => {
                shared.state.send_modify(|state| state.refused = None);
                BrokerLink::Accepting { name: &shared.name }.emit(BrokerConnection::Publisher, &shared.metrics);
            }
            notice = notices.next() => {
                let name = &shared.name;
                let change = match &notice {
                    Notice::Blocked(reason) => BrokerLink::Blocked { name, reason },
                    Notice::Unblocked => BrokerLink::Unblocked { name },
                    Notice::Gone(reason) => return Some(reason.clone()),
                };
                if shared.set_blocked(matches!(notice, Notice::Blocked(_))) {
                    change.emit(BrokerConnection::Publisher, &shared.metrics);
                }
            }
        }
    }
}

/// Publishes once, mandatory. Resolves with the broker's confirm.
pub(crate) async fn try_publish(channel: &Channel, message: &Message<'_>) -> lapin::Result<Confirmation> {
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
            (message.properties)(),
        )
        .await?
        .await
}
