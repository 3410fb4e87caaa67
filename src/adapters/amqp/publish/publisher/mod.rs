//! Publishes messages of many concurrent callers with confirms, on a connection of its own.
//!
//! A message whose confirm doesn't arrive is published again (at least once). Readers recognise a repeat by its
//! `message_id`.
//!
//! The broker may return a message that no queue takes, or refuse it because its queue is full. Then the message waits
//! and is retried, as it is while the broker is down: see `publish::refused_routes`.
//!
//! While the broker confirms nothing, [`Publisher::follow`] says that it accepts no messages (`confirm_watch`).
//!
//! The `keeper` task opens one connection after another; `state` is what it shares with the callers.

mod confirm_watch;
mod keeper;
mod state;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::{Channel, Confirmation};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::keeper::keep_connected;
use self::state::{ConfirmChannel, PublisherInner, PublisherState};
use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::connection::explain::explain;
use crate::adapters::amqp::publish::message::OutgoingMessage;
use crate::adapters::amqp::publish::refused_routes::{RetryAdmission, RetryPermit};
use crate::ports::QueueError;

/// Longest wait for the broker when the publisher is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Refusals in a row after which the connection is rebuilt. Assumed: a queue that was deleted and declared again may be
/// seen only on a new connection.
const RECONNECT_AFTER_REFUSALS: u32 = 3;

/// Settings of a publisher.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// The broker.
    pub connection: AmqpConnectionConfig,
    /// Name in the broker's list of connections.
    pub name: String,
    /// Longest wait for a confirm before the connection is rebuilt.
    pub confirm_timeout: Duration,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// What to do with a message that no queue takes.
    pub unroutable: Unroutable,
}

/// What to do with a message that no queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// Retry until a queue takes it.
    Wait,
    /// Fail after a second attempt on another connection.
    Fail,
}

/// Publishes. Clones share the connection, which is closed with the last of them.
#[derive(Debug, Clone)]
pub struct Publisher {
    inner: Arc<PublisherInner>,
    state: watch::Receiver<PublisherState>,
    confirm_timeout: Duration,
    unroutable: Unroutable,
    closing: CancellationToken,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

/// The broker's answer to a message.
enum PublishReply {
    Accepted,
    /// `generation`: the connection that the message was published on.
    Refused {
        generation: u64,
        why: PublishRefusal,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishRefusal {
    /// `basic.return`: no queue is bound.
    Returned,
    /// `basic.nack`: a queue is full.
    Nacked,
}

impl Publisher {
    /// Starts connecting. Publishing waits until that succeeds.
    pub fn start(config: PublishConfig) -> Self {
        let PublishConfig { connection, name, confirm_timeout, seed, unroutable } = config;
        let inner = Arc::new(PublisherInner::new(name, connection.metrics.clone()));
        let state = inner.state.subscribe();
        let closing = CancellationToken::new();
        let keeping = keep_connected(connection, seed, Arc::clone(&inner), closing.clone());
        let keeper = Arc::new(AbortOnDropHandle::new(tokio::spawn(keeping)));
        Self { inner, state, confirm_timeout, unroutable, closing, _keeper: keeper }
    }

    /// Calls `callback` now and at each change with whether messages are accepted, until the publisher is closed.
    pub fn follow<F: Fn(bool) + Send>(&self, callback: F) -> impl Future<Output = ()> + Send + use<F> {
        let mut state = self.state.clone();
        async move {
            loop {
                let is_accepting = state.borrow_and_update().is_accepting();
                callback(is_accepting);
                if state.wait_for(|state| state.is_accepting() != is_accepting).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Closes the connection in good order; otherwise the broker logs a client that disappeared. Messages without a
    /// confirm stay unconfirmed, and publishing fails from now on.
    pub async fn close(mut self) {
        self.closing.cancel();
        let closed = async { self.state.wait_for(|state| state.channel.is_none()).await.is_ok() };
        // Bounded, because a frozen broker must not delay the shutdown.
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
    }

    /// Publishes until the broker has confirmed the message.
    ///
    /// # Errors
    /// [`QueueError`] if no queue takes the message and the publisher has [`Unroutable::Fail`], or if the publisher is
    /// closed.
    pub(crate) async fn publish(&self, message: &OutgoingMessage<'_>) -> Result<(), QueueError> {
        let permit = self.inner.refused_routes.wait(message.exchange, message.routing_key).await;
        match self.publish_until_answered(message).await? {
            PublishReply::Accepted => {
                self.inner.accepted(permit);
                Ok(())
            }
            // Boxed: it is rare, and otherwise every job in progress would carry the space for it.
            PublishReply::Refused { generation, why } => {
                Box::pin(self.retry_refused(message, permit, generation, why)).await
            }
        }
    }

    /// Retries a refused message until it is accepted.
    async fn retry_refused(
        &self,
        message: &OutgoingMessage<'_>,
        mut permit: Option<RetryPermit>,
        mut generation: u64,
        mut why: PublishRefusal,
    ) -> Result<(), QueueError> {
        let mut was_returned = false;
        loop {
            if why == PublishRefusal::Returned {
                self.inner.metrics.event_returned();
                if self.unroutable == Unroutable::Fail && std::mem::replace(&mut was_returned, true) {
                    return Err(QueueError(why.describe(message)));
                }
            }
            permit = self.wait_to_retry(message, permit, generation, why).await;
            match self.publish_until_answered(message).await? {
                PublishReply::Accepted => {
                    self.inner.accepted(permit);
                    return Ok(());
                }
                PublishReply::Refused { generation: refused_on, why: reason } => {
                    (generation, why) = (refused_on, reason)
                }
            }
        }
    }

    /// Waits until a refused message may be retried. Returns its permit, or `None` if the route accepts messages again.
    async fn wait_to_retry(
        &self,
        message: &OutgoingMessage<'_>,
        permit: Option<RetryPermit>,
        generation: u64,
        why: PublishRefusal,
    ) -> Option<RetryPermit> {
        let permit = match permit {
            Some(permit) => permit,
            None => match self.inner.refused_routes.admit(message.exchange, message.routing_key).await {
                RetryAdmission::First(permit) => {
                    self.inner.report_refused(why.describe(message));
                    permit
                }
                RetryAdmission::Next(permit) => return Some(permit),
                RetryAdmission::Open => return None,
            },
        };
        let (refusals, delay) = permit.refused();
        if why == PublishRefusal::Returned || refusals.is_multiple_of(RECONNECT_AFTER_REFUSALS) {
            // The next connection may declare the deleted queue again.
            self.inner.end_generation(generation, None);
        }
        sleep(delay).await;
        Some(permit)
    }

    /// Waits for a channel. `None`: the publisher is closed.
    async fn channel(&self) -> Option<Arc<ConfirmChannel>> {
        let channel = self.state.borrow().channel.clone();
        if channel.is_some() {
            return channel;
        }
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            Ok(state) = state.wait_for(|state| state.channel.is_some()) => state.channel.clone(),
            () = self.closing.cancelled() => None,
        }
    }

    /// Publishes until the broker accepts or refuses the message.
    async fn publish_until_answered(&self, message: &OutgoingMessage<'_>) -> Result<PublishReply, QueueError> {
        loop {
            let Some(current) = self.channel().await else {
                return Err(QueueError("the publisher is closed".to_owned()));
            };
            let generation = current.generation;
            let refused = |why| Ok(PublishReply::Refused { generation, why });
            match self.attempt(&current.channel, message).await {
                Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => {
                    self.inner.confirmed();
                    return Ok(PublishReply::Accepted);
                }
                Ok(Confirmation::Ack(Some(_))) => return refused(PublishRefusal::Returned),
                Ok(Confirmation::Nack(_)) => return refused(PublishRefusal::Nacked),
                Err(reason) => {
                    self.inner.state.send_modify(|state| state.is_unproven = true);
                    self.inner.end_generation(generation, Some(reason));
                }
            }
            // Until the keeper has removed the broken channel.
            let is_removed =
                |state: &PublisherState| state.channel.as_ref().is_none_or(|channel| channel.generation > generation);
            let _ = self.state.clone().wait_for(is_removed).await;
        }
    }

    /// Publishes once. Time during which the broker has an alarm doesn't count towards the confirm timeout: a new
    /// connection would be blocked too, and every unconfirmed message would be written twice.
    async fn attempt(&self, channel: &Channel, message: &OutgoingMessage<'_>) -> Result<Confirmation, String> {
        let due = self.inner.confirms.published();
        let confirmation = self.confirmation(channel, message).await?;
        due.answered();
        self.inner.answered();
        Ok(confirmation)
    }

    async fn confirmation(&self, channel: &Channel, message: &OutgoingMessage<'_>) -> Result<Confirmation, String> {
        let mut publishing = pin!(message.publish_once(channel));
        let alarms = || {
            let state = self.state.borrow();
            (state.is_blocked, state.block_changes)
        };
        loop {
            let before = alarms();
            if let Ok(confirmed) = timeout(self.confirm_timeout, &mut publishing).await {
                return confirmed.map_err(|error| explain(&error));
            }
            if alarms() == before && !before.0 {
                return Err(format!("no confirm within {} s", self.confirm_timeout.as_secs()));
            }
            let mut state = self.state.clone();
            tokio::select! {
                confirmed = &mut publishing => return confirmed.map_err(|error| explain(&error)),
                _ = state.wait_for(|state| !state.is_blocked) => {}
            }
        }
    }
}

impl PublishRefusal {
    fn describe(self, message: &OutgoingMessage<'_>) -> String {
        let OutgoingMessage { exchange, routing_key, .. } = message;
        let route = match *exchange {
            "" => format!("for the queue {routing_key:?}"),
            exchange => format!("of exchange {exchange:?}, routing key {routing_key:?}"),
        };
        match self {
            Self::Returned => format!("no queue takes messages {route}: restore the queue or its binding"),
            Self::Nacked => {
                format!("messages {route} are refused; if a queue there is full, empty it or raise its limit")
            }
        }
    }
}
