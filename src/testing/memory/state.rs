//! The jobs on the queue, and what a delivery reports about them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{Event, Lane, Timestamp};

/// Assumed age of a redelivered message without a timestamp, as on RabbitMQ.
const UNKNOWN_AGE: Duration = Duration::from_secs(86_400);

/// Which queue this one is like: what it remembers of a delivered job.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// The embedded queue: it records the intent.
    #[default]
    Embedded,
    /// RabbitMQ: it knows that the job was delivered before.
    Broker,
}

/// Acknowledgements that get lost, by chance.
#[derive(Debug)]
pub(super) struct AckLoss {
    pub(super) rng: fastrand::Rng,
    pub(super) share: f64,
}

/// A job on the queue, waiting or in progress.
#[derive(Clone)]
pub(super) struct QueuedJob {
    pub(super) lane: Lane,
    pub(super) body: Vec<u8>,
    pub(super) history: History,
    pub(super) due: Instant,
    /// The worker that has it in progress.
    pub(super) holder: Option<u32>,
    pub(super) redelivered: bool,
    /// Whether its publisher set a timestamp.
    pub(super) is_dated: bool,
    /// Whether a worker requeued it, so that headers hold its history.
    pub(super) has_headers: bool,
}

debug_redacted!(QueuedJob);

impl QueuedJob {
    /// Returns the history that a delivery at this time reports.
    pub(super) fn delivered_history(&self, kind: QueueKind, now: Timestamp) -> History {
        if kind == QueueKind::Embedded {
            return self.history;
        }
        // The worker that had it may have sent it a moment ago.
        let redelivered_at = self.redelivered.then_some(now);
        if self.has_headers && self.history.first_sent_at.is_some() {
            return History { last_sent_at: redelivered_at.or(self.history.last_sent_at), ..self.history };
        }
        let enqueued_at = match (self.is_dated || self.has_headers, self.redelivered) {
            (true, _) => self.history.enqueued_at,
            (false, true) => now.minus(UNKNOWN_AGE),
            (false, false) => now,
        };
        let sent_at = self.redelivered.then_some(enqueued_at);
        History { enqueued_at, first_sent_at: sent_at, last_sent_at: redelivered_at, ..self.history }
    }
}

#[derive(Debug, Default)]
pub(super) struct MemoryQueueState {
    pub(super) kind: QueueKind,
    /// By position. A broker redelivers behind jobs that were never delivered.
    pub(super) jobs: BTreeMap<u64, QueuedJob>,
    next_position: u64,
    /// By worker: incremented when it crashes. Handles from before settle nothing.
    lives: BTreeMap<u32, u32>,
    /// By worker: most jobs in progress at once.
    pub(super) in_progress_max: BTreeMap<u32, usize>,
    pub(super) ack_loss: Option<AckLoss>,
    pub(super) lost_acks: Vec<Vec<u8>>,
    pub(super) duplicated: BTreeSet<Vec<u8>>,
    pub(super) events: Vec<Event>,
    /// For each event, the worker that reported it, and how often that one had crashed before.
    pub(super) reporters: Vec<(u32, u32)>,
    pub(super) dead: Vec<Event>,
}

impl MemoryQueueState {
    /// Adds a job behind the others.
    pub(super) fn append(&mut self, job: QueuedJob) {
        self.jobs.insert(self.next_position, job);
        self.next_position += 1;
    }

    /// Returns how often this worker has crashed.
    pub(super) fn life(&self, worker: u32) -> u32 {
        self.lives.get(&worker).copied().unwrap_or(0)
    }

    /// Makes a worker's jobs wait again. Returns their bodies.
    pub(super) fn crash(&mut self, worker: u32) -> Vec<Vec<u8>> {
        *self.lives.entry(worker).or_default() += 1;
        let held: Vec<_> = self.jobs.extract_if(.., |_, job| job.holder == Some(worker)).collect();
        let bodies = held.iter().map(|(_, job)| job.body.clone()).collect();
        for (position, mut job) in held {
            job.holder = None;
            job.redelivered = true;
            match self.kind {
                QueueKind::Embedded => drop(self.jobs.insert(position, job)),
                QueueKind::Broker => self.append(job),
            }
        }
        bodies
    }

    /// Removes a job, unless the acknowledgement gets lost: then it is delivered again. Returns whether it was lost.
    pub(super) fn acknowledge(&mut self, position: u64) -> bool {
        let is_lost = self.ack_loss.as_mut().is_some_and(|loss| loss.rng.f64() < loss.share);
        if let Some(mut job) = self.jobs.remove(&position)
            && is_lost
        {
            self.lost_acks.push(job.body.clone());
            job.holder = None;
            job.redelivered = true;
            self.append(job);
        }
        is_lost
    }
}
