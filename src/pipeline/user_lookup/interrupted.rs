//! Look-ups that took longer than their job may be kept in hand. The job goes back to the queue for a moment, and goes on with
//! its look-up when it comes again, instead of being sent anew and asking anew, for ever where the list is very long.
//!
//! In memory only: whoever comes to another worker, or after a restart, begins anew.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::domain::decide::{Found, LookUpReason};
use crate::pipeline::user_lookup::Digest;

/// Most jobs that are remembered. Further ones begin anew.
const JOBS_MAX: usize = 4_096;

/// How long an answer waits for the job that asked.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// A look-up to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterruptedLookup {
    /// Why the user is looked up.
    pub reason: LookUpReason,
    /// When it was asked.
    pub since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct InterruptedLookups {
    jobs: HashMap<Uuid, (Digest, InterruptedLookup)>,
    /// What sweeps said that went on meanwhile, and when they began.
    answers: HashMap<Digest, (Instant, Found)>,
}

impl InterruptedLookups {
    pub(super) fn leave(&mut self, key: Uuid, digest: Digest, interruption: InterruptedLookup) {
        if self.jobs.len() < JOBS_MAX {
            self.jobs.insert(key, (digest, interruption));
        }
    }

    pub(super) fn come_back(&mut self, key: Uuid) -> Option<InterruptedLookup> {
        self.jobs.remove(&key).map(|(_, interruption)| interruption)
    }

    /// Whether a job that is gone waits for this answer.
    pub(super) fn wants(&self, digest: &Digest) -> bool {
        self.jobs.values().any(|(wanted, _)| wanted == digest)
    }

    pub(super) fn answer(&mut self, digest: Digest, began: Instant, found: Found) {
        self.answers.retain(|_, (began, _)| began.elapsed() < KEPT_FOR);
        if self.wants(&digest) && self.answers.len() < JOBS_MAX {
            self.answers.insert(digest, (began, found));
        }
    }

    /// The answer of a sweep that began after the question.
    pub(super) fn take_answer(&mut self, digest: &Digest, since: Instant) -> Option<Found> {
        let (began, _) = self.answers.get(digest)?;
        if *began < since { None } else { self.answers.remove(digest).map(|(_, found)| found) }
    }
}
