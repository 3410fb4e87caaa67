//! What the callers of a publisher share with the task that keeps it connected.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::confirm_watch::ConfirmWatch;
use crate::adapters::amqp::publish::refused_routes::{RefusedRoutes, RetryPermit};
use crate::telemetry::{BrokerConnection, BrokerConnectionChanged, Metrics};

/// Time without a refusal after which the log says that the broker accepts messages again.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// State of the current connection.
#[derive(Debug, Clone, Default)]
pub(super) struct PublisherState {
    /// `None` while there is no connection.
    pub(super) channel: Option<Arc<ConfirmChannel>>,
    /// The broker has an alarm.
    pub(super) is_blocked: bool,
    /// Counts the changes of `is_blocked`: a wait that spans one doesn't show that the broker is frozen.
    pub(super) block_changes: u64,
    /// Number of routes on which messages are refused.
    refused_routes: usize,
    /// Time and reason of the last refusal, until the log says that messages are accepted again.
    last_refusal: Option<(Instant, String)>,
    /// A connection broke while a message was published: until one is confirmed, the next connection may break too.
    pub(super) is_unproven: bool,
    /// Confirms are due on this connection, and none comes.
    pub(super) is_silent: bool,
}

impl PublisherState {
    /// Whether messages are accepted.
    pub(super) const fn is_accepting(&self) -> bool {
        self.channel.is_some() && !self.is_blocked && self.refused_routes == 0 && !self.is_unproven && !self.is_silent
    }
}

/// A channel in confirm mode.
#[derive(Debug)]
pub(super) struct ConfirmChannel {
    pub(super) channel: Channel,
    /// Counts the connections, so that a late failure of an old one doesn't end a new one.
    pub(super) generation: u64,
}

/// Shared by the clones of a publisher and its keeper.
#[derive(Debug)]
pub(super) struct PublisherInner {
    /// Name in the broker's list of connections, and in log lines.
    pub(super) name: String,
    pub(super) metrics: Metrics,
    pub(super) state: watch::Sender<PublisherState>,
    /// The last generation that must end, and why. Without a reason it is rebuilt without a fault.
    pub(super) ended: watch::Sender<(u64, Option<String>)>,
    pub(super) refused_routes: RefusedRoutes,
    pub(super) confirms: ConfirmWatch,
}

impl PublisherInner {
    pub(super) fn new(name: String, metrics: Metrics) -> Self {
        Self {
            name,
            metrics,
            state: watch::Sender::default(),
            ended: watch::Sender::new((0, None)),
            refused_routes: RefusedRoutes::default(),
            confirms: ConfirmWatch::new(),
        }
    }

    /// Asks the keeper to rebuild the connection. `reason`: the fault, if it is one.
    pub(super) fn end_generation(&self, generation: u64, reason: Option<String>) {
        self.ended.send_if_modified(|ended| {
            let is_newer = ended.0 < generation;
            if is_newer {
                *ended = (generation, reason);
            }
            is_newer
        });
    }

    /// The broker confirmed a message: the connection works.
    pub(super) fn confirmed(&self) {
        if self.state.borrow().is_unproven {
            self.state.send_modify(|state| state.is_unproven = false);
        }
    }

    /// The broker answered a publish, so it isn't silent.
    pub(super) fn answered(&self) {
        if self.state.borrow().is_silent && self.set_silent(false) {
            let confirming = BrokerConnectionChanged::Confirming { name: &self.name };
            confirming.emit(BrokerConnection::Publisher, &self.metrics);
        }
    }

    /// Waits until the broker is silent, which it isn't while it has an alarm.
    pub(super) async fn silent(&self) {
        let mut state = self.state.subscribe();
        loop {
            let _ = state.wait_for(|state| !state.is_blocked && !state.is_silent).await;
            tokio::select! {
                () = self.confirms.silent() => return,
                _ = state.wait_for(|state| state.is_blocked) => {}
            }
        }
    }

    /// Records that the broker is silent.
    pub(super) fn report_silent(&self) {
        if self.set_silent(true) {
            let silent = BrokerConnectionChanged::Silent { name: &self.name };
            silent.emit(BrokerConnection::Publisher, &self.metrics);
        }
    }

    /// Returns whether that is a change.
    fn set_silent(&self, is_silent: bool) -> bool {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.is_silent, is_silent) != is_silent)
    }

    /// The first message of a route was refused. Logs each reason once, until messages are accepted again.
    pub(super) fn report_refused(&self, reason: String) {
        let mut is_new = false;
        self.state.send_modify(|state| {
            state.refused_routes = self.refused_routes.count();
            is_new = state.last_refusal.as_ref().is_none_or(|(_, logged)| *logged != reason);
            state.last_refusal = Some((Instant::now(), reason.clone()));
        });
        if is_new {
            let refused = BrokerConnectionChanged::MessageRefused { name: &self.name, reason: &reason };
            refused.emit(BrokerConnection::Publisher, &self.metrics);
        }
    }

    /// A message was accepted. `permit`: it was refused before.
    pub(super) fn accepted(&self, permit: Option<RetryPermit>) {
        if permit.is_some_and(|permit| self.refused_routes.accepted(permit)) {
            let refused_routes = self.refused_routes.count();
            self.state.send_modify(|state| {
                state.refused_routes = refused_routes;
                state.last_refusal = state.last_refusal.take().map(|(_, reason)| (Instant::now(), reason));
            });
        }
    }

    /// Waits until no message has been refused for [`QUIET_FOR`]: a full queue accepts one message for each that is
    /// read.
    pub(super) async fn no_refusal_for_a_while(&self) {
        let mut state = self.state.subscribe();
        loop {
            let is_over = |state: &PublisherState| state.refused_routes == 0 && state.last_refusal.is_some();
            let quiet_at = match state.wait_for(is_over).await {
                Ok(state) => state.last_refusal.as_ref().map(|(at, _)| *at + QUIET_FOR),
                Err(_) => None,
            };
            match quiet_at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Logs that the broker accepts messages again.
    pub(super) fn report_accepting(&self) {
        self.state.send_modify(|state| state.last_refusal = None);
        let accepted = BrokerConnectionChanged::MessageAccepted { name: &self.name };
        accepted.emit(BrokerConnection::Publisher, &self.metrics);
    }

    /// Records that the broker has an alarm, or that it ended. Returns whether that is a change.
    pub(super) fn set_blocked(&self, is_blocked: bool) -> bool {
        self.confirms.restart();
        self.state.send_if_modified(|state| {
            let is_change = state.is_blocked != is_blocked;
            state.is_blocked = is_blocked;
            state.block_changes += u64::from(is_change);
            is_change
        })
    }
}
