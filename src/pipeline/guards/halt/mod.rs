//! Halt: stops the work when too many of the last outcomes are bad, before thousands of rows are used up.
//!
//! Checks the last outcomes: too large a share of rejected and failed jobs, of users who existed before, or of created
//! users without a link, halts. The canary is the same check on the first jobs, which are sent while all others wait.
//! Only jobs that were sent count: a row that validation rejects costs nothing.

mod outcome_mix;
mod policy;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

pub(crate) use self::outcome_mix::OutcomeMix;
use self::outcome_mix::RecordedOutcome;
pub(crate) use self::policy::{HaltAction, HaltPolicy};
use crate::domain::{Event, EventType, Lane, LinkLoss};

/// Created users among the last outcomes below which the share of lost links says nothing. If the window or the canary
/// is shorter, all of its outcomes must be created users.
const CREATED_MIN: usize = 20;

/// A result of the check, to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HaltNotice {
    /// The outcomes of the canary are good enough; the other jobs follow.
    CanaryPassed(OutcomeMix),
    /// The outcomes are too bad; the work is halted.
    Halted(OutcomeMix),
}

/// What is known of requests for a job before the delivery in which it finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlierRequest {
    None,
    /// The job may have been sent in an earlier delivery. If that answer was lost, a killed worker or a broken
    /// connection to the broker lost it, and the API may work well.
    InEarlierDelivery,
    /// The row was sent a moment ago, and this queue has no record of it.
    ByAnotherRun,
}

#[derive(Default)]
struct HaltState {
    recent: VecDeque<RecordedOutcome>,
    is_halted: bool,
}

pub(crate) struct Halt {
    policy: HaltPolicy,
    state: Mutex<HaltState>,
    /// Permits of the canary; closed once all jobs may be sent.
    canary_permits: Semaphore,
    notice: watch::Sender<Option<HaltNotice>>,
}

impl fmt::Debug for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Halt").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Permits a job to be sent as part of the canary. Dropping it returns the permit: the job was not sent.
#[derive(Debug)]
#[must_use]
pub(crate) struct CanaryPermit<'h>(Option<SemaphorePermit<'h>>);

impl CanaryPermit<'_> {
    /// The job was sent: the permit isn't returned.
    pub(crate) fn use_up(self) {
        if let Some(permit) = self.0 {
            permit.forget();
        }
    }
}

impl Halt {
    pub(crate) fn new(policy: HaltPolicy) -> Self {
        let canary_permits = Semaphore::new(policy.canary);
        if policy.canary == 0 {
            canary_permits.close();
        }
        Self { policy, state: Mutex::default(), canary_permits, notice: watch::Sender::new(None) }
    }

    /// Returns what halting does.
    pub(crate) const fn halt_action(&self) -> HaltAction {
        self.policy.halt_action
    }

    /// Whether jobs still wait for the outcomes of the canary.
    pub(crate) fn is_canary_in_progress(&self) -> bool {
        !self.canary_permits.is_closed()
    }

    /// Waits until the job may be sent: at once if it was sent before or the canary has passed. Cancel-safe.
    pub(crate) async fn canary_permit(&self, was_sent: bool) -> CanaryPermit<'_> {
        CanaryPermit(if was_sent { None } else { self.canary_permits.acquire().await.ok() })
    }

    /// Subscribes to the last notice.
    pub(crate) fn notices(&self) -> watch::Receiver<Option<HaltNotice>> {
        self.notice.subscribe()
    }

    /// Records an outcome. Returns a notice if it changes something, and sends it to [`Self::notices`].
    ///
    /// A row that another run sent a moment ago counts as a user who existed before, unless
    /// [`HaltPolicy::queue_forgets`] is set.
    pub(crate) fn record(&self, lane: Lane, event: &Event, earlier: EarlierRequest) -> Option<HaltNotice> {
        let is_spared = self.policy.halt_action == HaltAction::HoldBulk && lane == Lane::Signup;
        if event.attempts == 0 || is_spared {
            return None;
        }
        let outcome = match earlier {
            EarlierRequest::ByAnotherRun if !self.policy.queue_forgets => RecordedOutcome::sent_by_another_run(),
            EarlierRequest::InEarlierDelivery => RecordedOutcome::sent_in_earlier_delivery(event),
            EarlierRequest::None | EarlierRequest::ByAnotherRun => RecordedOutcome::of(event),
        };
        let notice = self.check(outcome)?;
        self.notice.send_replace(Some(notice.clone()));
        Some(notice)
    }

    /// Resumes: the outcomes so far don't halt again, and no job waits for the canary.
    pub(crate) fn clear(&self) {
        *self.lock() = HaltState::default();
        self.canary_permits.close();
    }

    fn check(&self, outcome: RecordedOutcome) -> Option<HaltNotice> {
        let is_canary = self.is_canary_in_progress();
        let size = if is_canary { self.policy.canary } else { self.policy.window };
        let mut state = self.lock();
        if state.is_halted {
            return None;
        }
        state.recent.push_back(outcome);
        while state.recent.len() > size {
            state.recent.pop_front();
        }
        let is_full = state.recent.len() == size;
        if (is_full && self.is_too_bad(&state.recent)) || self.are_links_lost(&state.recent, is_full) {
            state.is_halted = true;
            return Some(HaltNotice::Halted(OutcomeMix::of(&state.recent)));
        }
        (is_full && is_canary).then(|| {
            self.canary_permits.close();
            HaltNotice::CanaryPassed(OutcomeMix::of(&state.recent))
        })
    }

    fn is_too_bad(&self, recent: &VecDeque<RecordedOutcome>) -> bool {
        let share = |types: &[EventType]| {
            let count = recent.iter().filter(|outcome| types.contains(&outcome.event_type)).count();
            count as f64 / recent.len() as f64
        };
        share(&[EventType::Rejected, EventType::Failed]) > self.policy.rejected_share
            || share(&[EventType::Existing]) > self.policy.existing_share
    }

    /// Whether too many of the created users have no link. Of the users who existed before, none has one.
    ///
    /// An API that sends no links is noticed before the window is full: each user costs the fee. Lost answers need a
    /// full window: the circuit breaker reacts to them sooner.
    fn are_links_lost(&self, recent: &VecDeque<RecordedOutcome>, is_full: bool) -> bool {
        let created = recent.iter().filter(|outcome| outcome.event_type == EventType::Created).count();
        let counts = |reason| is_full || reason != LinkLoss::LostAnswer;
        let lost = recent.iter().filter(|outcome| outcome.link_lost.is_some_and(counts)).count();
        let created_min = if is_full { CREATED_MIN.min(recent.len()) } else { CREATED_MIN };
        created >= created_min && lost as f64 / created as f64 > self.policy.lost_link_share
    }

    fn lock(&self) -> MutexGuard<'_, HaltState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
