//! What a run has left behind.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::domain::Event;
use crate::testing::simulation::plan::Plan;

/// What a run has left behind.
pub(super) struct RunEvidence<'w> {
    pub(super) plan: &'w Plan,
    pub(super) events: Vec<Event>,
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
