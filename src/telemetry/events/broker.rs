//! Events of the queue: connections to a broker, its topology, an empty queue, the events file of an embedded queue.

use std::path::Path;

use tracing::{info, warn};

use crate::telemetry::{BrokerConnection, Metrics};

/// The queue has no job to take, or has one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEmpty(pub bool);

impl QueueEmpty {
    /// Writes the log line and updates the metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.waiting_for_jobs.set(i64::from(self.0));
        match self {
            Self(true) => info!("no job is due: waiting for jobs"),
            Self(false) => info!("jobs are due again"),
        }
    }
}

/// An exchange, a queue or a binding on the broker is missing or different, while the connection works.
#[derive(Debug)]
pub struct TopologyMismatch<'a> {
    /// What is wrong and what to do about it; `None` if everything matches again.
    pub reason: Option<&'a str>,
}

impl TopologyMismatch<'_> {
    /// Writes the log line and updates the metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.observed.set_topology_mismatch(self.reason.is_some());
        match self.reason {
            Some(reason) => {
                warn!(reason, "broker topology mismatch: an exchange, a queue or a binding is missing or different");
            }
            None => info!("broker topology matches again"),
        }
    }
}

/// A connection to the broker changed, or what the broker accepts on it.
#[derive(Debug, Clone, Copy)]
pub enum BrokerConnectionChanged<'a> {
    /// The connection is up.
    Connected {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
    },
    /// The connection can't be made. Emitted once for each reason.
    ConnectFailed {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The connection was up and is down.
    Lost {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The connection is up, and the broker reads nothing from it (`connection.blocked`).
    Blocked {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
        /// The broker's name for the alarm.
        reason: &'a str,
    },
    /// The broker's alarm ended.
    Unblocked {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
    },
    /// The broker refused a message, or has no queue for it.
    MessageRefused {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
        /// Where the message was published to, and what is wrong there.
        reason: &'a str,
    },
    /// The broker accepts the refused messages.
    MessageAccepted {
        /// Name of the connection, as the broker lists it.
        name: &'a str,
    },
}

impl BrokerConnectionChanged<'_> {
    /// Writes the log line and updates the metrics.
    pub fn emit(self, connection: BrokerConnection, metrics: &Metrics) {
        self.show(connection, metrics);
        self.log();
    }

    /// Updates the metrics only, where the line is logged already.
    pub fn show(&self, connection: BrokerConnection, metrics: &Metrics) {
        match self {
            Self::Connected { .. } => metrics.set_connected(connection, Ok(())),
            Self::ConnectFailed { reason, .. } | Self::Lost { reason, .. } => {
                metrics.set_connected(connection, Err(reason));
                // The broker repeats an alarm on the next connection.
                metrics.set_blocked(connection, None);
            }
            Self::Blocked { reason, .. } => metrics.set_blocked(connection, Some(reason)),
            Self::Unblocked { .. } => metrics.set_blocked(connection, None),
            Self::MessageRefused { reason, .. } => metrics.set_refusal(Some(reason)),
            Self::MessageAccepted { .. } => metrics.set_refusal(None),
        }
    }

    fn log(self) {
        match self {
            Self::Connected { name } => info!(name, "connected to the broker"),
            Self::ConnectFailed { name, reason } => warn!(name, reason, "can't connect to the broker; retrying"),
            Self::Lost { name, reason } => warn!(name, reason, "connection to the broker lost; reconnecting"),
            Self::Blocked { name, reason } => warn!(
                name,
                reason,
                "broker alarm (connection.blocked): it accepts no messages until memory or disk is free; every job is kept"
            ),
            Self::Unblocked { name } => info!(name, "broker alarm ended: publishing resumes"),
            Self::MessageRefused { name, reason } => {
                warn!(name, reason, "broker refused a message; retrying, one message at a time; every job is kept")
            }
            Self::MessageAccepted { name } => info!(name, "broker accepts messages again: publishing resumes"),
        }
    }
}

/// The events file was moved away, because it holds events that the queue doesn't.
#[derive(Debug)]
pub struct EventsFileMoved<'a> {
    /// Its path before, which is that of the new file.
    pub file: &'a Path,
    /// Its path now.
    pub aside: &'a Path,
}

impl EventsFileMoved<'_> {
    /// Writes the log line.
    pub fn emit(self) {
        warn!(
            file = %self.file.display(),
            aside = %self.aside.display(),
            "events file moved and a new one started: it holds events that the queue doesn't know, perhaps because an \
             older copy of the queue was restored"
        );
    }
}
