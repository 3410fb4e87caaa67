//! What a run has left behind.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::domain::Event;
use crate::testing::simulation::plan::{JobPlan, Plan};

/// What a run has left behind.
pub(super) struct RunEvidence<'w> {
    pub(super) plan: &'w Plan,
    pub(super) events: Vec<Event>,
    /// For each event, the worker that reported it, and how often that one had crashed or lost its connection before.
    pub(super) reporters: Vec<(u32, u32)>,
    /// Dead letters.
    pub(super) dead: usize,
    /// Jobs that are not finished.
    pub(super) waiting: usize,
    pub(super) in_progress_max: usize,
    /// The messages of jobs that were on the queue twice.
    pub(super) duplicated: BTreeSet<Vec<u8>>,
    pub(super) keys: &'w BTreeMap<Vec<u8>, Uuid>,
    pub(super) is_finished: bool,
}

impl RunEvidence<'_> {
    /// Returns whether another job has the same key for another person.
    pub(super) fn shares_key(&self, job: &JobPlan) -> bool {
        let key = |job: &JobPlan| self.keys.get(job.body.as_bytes());
        let key_of_job = key(job);
        key_of_job.is_some() && self.plan.jobs.iter().any(|other| other.email != job.email && key(other) == key_of_job)
    }
}
