//! When to halt, and what halting does.

/// What halting does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HaltAction {
    /// The worker stops.
    Stop,
    /// Bulk jobs wait until an operator resumes. Signups are neither counted nor held.
    HoldBulk,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct HaltPolicy {
    /// How many of the last outcomes are checked; with fewer, nothing is concluded, except that the API sends no links.
    /// Bounds memory.
    pub window: usize,
    /// Halts if the share of rejected and failed jobs, from 0 to 1, is higher. 1: never.
    pub rejected_share: f64,
    /// Halts if the share of users who existed before, from 0 to 1, is higher. 1: never.
    pub existing_share: f64,
    /// Halts if the share of created users without a link, from 0 to 1, is higher. 1: never.
    pub lost_link_share: f64,
    /// How many jobs the canary has: they are sent first, and the others wait for their outcomes. 0: no canary.
    pub canary: usize,
    /// What halting does.
    pub halt_action: HaltAction,
    /// Whether the queue can lose the mark that a job was delivered before, as a broker that is killed does. Then a job
    /// that was sent without the queue's knowledge needn't be another run's.
    pub queue_forgets: bool,
}

impl HaltPolicy {
    pub(crate) const NEVER: Self = Self {
        window: 1,
        rejected_share: 1.0,
        existing_share: 1.0,
        lost_link_share: 1.0,
        canary: 0,
        halt_action: HaltAction::HoldBulk,
        queue_forgets: false,
    };
}
