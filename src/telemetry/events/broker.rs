//! Events of the queue: connections to a broker, its topology, an empty queue, the events file of an embedded queue.

use std::path::Path;

use tracing::{info, warn};

use crate::telemetry::{BrokerConnection, Metrics, NOTICE_TARGET};

/// The queue has no job to take, or has one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEmpty(pub bool);

impl QueueEmpty {
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

/// A connection to the broker changed, or what the broker accepts on it. `name` is its name in the list of the broker.
#[derive(Debug, Clone, Copy)]
pub enum BrokerConnectionChanged<'a> {
    /// The connection is up.
    Connected { name: &'a str },
    /// The connection can't be made. Emitted once for each reason.
    ConnectFailed {
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The connection was up and is down.
    Lost {
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The connection is up, and the broker reads nothing from it (`connection.blocked`).
    Blocked {
        name: &'a str,
        /// The broker's name for the alarm.
        reason: &'a str,
    },
    /// The broker's alarm ended.
    Unblocked { name: &'a str },
    /// The broker refused a message, or has no queue for it.
    MessageRefused {
        name: &'a str,
        /// Where the message was published to, and what is wrong there.
        reason: &'a str,
    },
    /// The broker accepts the refused messages.
    MessageAccepted { name: &'a str },
    /// The broker confirms nothing, while confirms are due.
    Silent { name: &'a str },
    /// The broker confirms messages again.
    Confirming { name: &'a str },
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
                if connection == BrokerConnection::Publisher {
                    metrics.set_silent(false);
                }
            }
            Self::Blocked { reason, .. } => metrics.set_blocked(connection, Some(reason)),
            Self::Unblocked { .. } => metrics.set_blocked(connection, None),
            Self::MessageRefused { reason, .. } => metrics.set_refusal(Some(reason)),
            Self::MessageAccepted { .. } => metrics.set_refusal(None),
            Self::Silent { .. } => metrics.set_silent(true),
            Self::Confirming { .. } => metrics.set_silent(false),
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
            Self::Silent { name } => {
                warn!(
                    name,
                    "the broker hasn't confirmed a message for 1.5 s: messages wait in memory, and no user is created meanwhile"
                )
            }
            Self::Confirming { name } => info!(name, "the broker confirms messages again"),
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
    pub fn emit(self) {
        warn!(
            file = %self.file.display(),
            aside = %self.aside.display(),
            "events file moved and a new one started: it holds events that the queue doesn't know, perhaps because an \
             older copy of the queue was restored"
        );
    }
}

/// The worker ended before the broker confirmed an event with a link. The job is delivered again, and its user is
/// looked up.
#[derive(Debug, Clone, Copy)]
pub struct LinkNotPublished<'a> {
    /// Partner's id of the user.
    pub service_id: &'a str,
}

impl LinkNotPublished<'_> {
    pub fn emit(self) {
        warn!(
            service_id = self.service_id,
            "link lost: this process ends before the broker has confirmed its event; the user will be looked up"
        );
    }
}

/// Outcomes can't be written to the embedded queue or its events file, or can be written again.
#[derive(Debug, Clone, Copy)]
pub struct OutcomeStorageChanged<'a> {
    /// Why they can't be written; `None`: they can.
    pub failure: Option<&'a str>,
    /// Outcomes that wait in memory.
    pub waiting: usize,
}

impl OutcomeStorageChanged<'_> {
    pub fn emit(self, metrics: &Metrics) {
        metrics.set_storage_failure(self.failure);
        let waiting = self.waiting;
        match self.failure {
            Some(reason) => warn!(
                reason,
                waiting, "outcomes can't be written; they wait in memory, no user is created, and it resumes by itself"
            ),
            None => info!(target: NOTICE_TARGET, "outcomes can be written again: resuming"),
        }
    }
}

/// Outcomes that can't be written to the embedded queue were copied to a file.
#[derive(Debug, Clone, Copy)]
pub struct EmergencyFileWritten<'a> {
    /// Number of outcomes.
    pub outcomes: usize,
    /// The file, or why they could not be copied.
    pub file: Result<&'a Path, &'a str>,
}

impl EmergencyFileWritten<'_> {
    pub fn emit(self) {
        let outcomes = self.outcomes;
        match self.file {
            Ok(file) => warn!(
                outcomes,
                file = %file.display(),
                "outcomes that can't be written to the queue were copied to a file: don't delete it; it is deleted when \
                 the queue has them, and read by the next start if this process ends before"
            ),
            Err(reason) => warn!(
                outcomes,
                reason,
                "outcomes that can't be written to the queue can't be copied to another place either: they are in \
                 memory only, so don't end this process before it has written them"
            ),
        }
    }
}

/// A file with outcomes that an earlier process could not write to the embedded queue was read.
#[derive(Debug, Clone, Copy)]
pub struct EmergencyFileRead<'a> {
    pub file: &'a Path,
    /// Outcomes that are on the queue now.
    pub restored: usize,
    /// Outcomes with a link whose jobs ended in another way meanwhile.
    pub too_late: usize,
    /// The path under which the file was kept because of them.
    pub kept: Option<&'a Path>,
}

impl EmergencyFileRead<'_> {
    pub fn emit(self) {
        let Self { file, restored, too_late, kept } = self;
        if restored > 0 {
            info!(
                target: NOTICE_TARGET,
                restored,
                file = %file.display(),
                "outcomes that an earlier process could not write to the queue were read from a file"
            );
        }
        if let Some(kept) = kept {
            warn!(
                too_late,
                file = %kept.display(),
                "this file was kept: it holds links of jobs that ended in another way meanwhile; read them there, then \
                 delete it"
            );
        }
    }
}
