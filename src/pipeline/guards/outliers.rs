//! Jobs that alone are answered like the whole account, again and again, while others fare well.
//!
//! A firewall that dislikes one row answers 403 to it for ever, which looks like a suspended account. Such a job is set
//! aside for a while, and after some rounds it is given up: then it is the row that is at fault. The count is kept in
//! memory only; a restart gives such a job new rounds.
//!
//! **Invariant:** it is one row that is at fault only where others fare well: some were answered since its last such answer, and
//! hardly any was refused. An account that answers now and then is nobody's fault.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Rounds after which the job is given up.
pub(crate) const ROUNDS_MAX: u32 = 3;

/// Answers about the account that one job gets, while others are answered well in between, before it is set aside. It would close
/// the gate for all others again and again.
const REFUSALS_IN_HAND: u32 = 3;

/// So many others must have been answered well in between.
const OTHERS_MIN: u64 = 3;

/// For each that was refused, so many must have been answered well.
const WELL_FOR_EACH_REFUSED: u64 = 10;

/// Most jobs that are remembered. Where there are more, it isn't one row that is disliked; they only wait longer.
const JOBS_MAX: usize = 4_096;

/// How creations fare: what one job is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct AnswerCounts {
    /// Answers about a job.
    well: u64,
    /// Answers about the account, to jobs that were never set aside: those that were say nothing about others.
    badly: u64,
}

/// A job that was set aside.
#[derive(Debug, Clone, Copy)]
struct Aside {
    rounds: u32,
    /// How others had fared by then.
    answer_counts: AnswerCounts,
}

#[derive(Debug, Default)]
struct State {
    answer_counts: AnswerCounts,
    aside: HashMap<Uuid, Aside>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OutlierJobs(Mutex<State>);

/// Answers about the account that a job in hand got.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Those that counted.
    count: u32,
    /// How others had fared at the last of them; `None`: there was none.
    since: Option<AnswerCounts>,
    /// How many the job itself has got since then that others are compared by.
    own: u64,
}

impl Refusals {
    /// Whether it got any.
    pub(crate) const fn are_some(&self) -> bool {
        self.since.is_some()
    }
}

impl OutlierJobs {
    /// A creation was answered: the account is well.
    pub(crate) fn answered(&self) {
        self.lock().answer_counts.well += 1;
    }

    /// A job was answered like the account, in a way that may be about it. Whether it is the job that is at fault.
    pub(crate) fn refused(&self, key: Uuid, refusals: &mut Refusals) -> bool {
        let mut state = self.lock();
        let aside = state.aside.get(&key).copied();
        let is_known = aside.is_some();
        state.answer_counts.badly += u64::from(!is_known);
        let now = state.answer_counts;
        drop(state);
        let Some(then) = refusals.since.or(aside.map(|aside| aside.answer_counts)) else {
            *refusals = Refusals { count: 1, since: Some(now), own: 0 };
            return false;
        };
        refusals.since = Some(then);
        refusals.own += u64::from(!is_known);
        let well = now.well - then.well;
        let badly = (now.badly - then.badly).saturating_sub(refusals.own);
        // One that was at fault before needs nobody to be compared with, if only others don't fare like it.
        let others_min = if is_known { 0 } else { OTHERS_MIN };
        if well < others_min || badly * WELL_FOR_EACH_REFUSED > well {
            return false;
        }
        *refusals = Refusals { count: refusals.count + 1, since: Some(now), own: 0 };
        is_known || refusals.count >= REFUSALS_IN_HAND
    }

    /// Notes that the job is set aside once more. How often it has been, this time included.
    pub(crate) fn set_aside(&self, key: Uuid) -> u32 {
        let mut state = self.lock();
        if state.aside.len() >= JOBS_MAX && !state.aside.contains_key(&key) {
            return 1;
        }
        let answer_counts = state.answer_counts;
        let aside = state.aside.entry(key).or_insert(Aside { rounds: 0, answer_counts });
        *aside = Aside { rounds: aside.rounds + 1, answer_counts };
        aside.rounds
    }

    /// The job is over.
    pub(crate) fn forget(&self, key: Uuid) {
        self.lock().aside.remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(7);

    /// Others who fare so meanwhile.
    fn others(outliers: &OutlierJobs, well: u32, badly: u32) {
        (0..well).for_each(|_| outliers.answered());
        for n in 0..badly {
            outliers.refused(Uuid::from_u128(1_000 + u128::from(n)), &mut Refusals::default());
        }
    }

    /// What is said of each further answer to the job, before which so many others were answered well and badly.
    fn said(outliers: &OutlierJobs, between: &[(u32, u32)]) -> Vec<bool> {
        let mut refusals = Refusals::default();
        let mut answer = |(well, badly)| {
            others(outliers, well, badly);
            outliers.refused(KEY, &mut refusals)
        };
        between.iter().map(|others| answer(*others)).collect()
    }

    #[test]
    fn a_job_that_is_refused_while_others_fare_well_is_at_fault() {
        let said = |between| said(&OutlierJobs::default(), between);
        assert_eq!(said(&[(0, 0), (50, 0), (50, 0)]), [false, false, true]);
        assert_eq!(said(&[(0, 0), (50, 5), (50, 5)]), [false, false, true]);
        // Too few others in between, who add up.
        assert_eq!(said(&[(0, 0), (1, 0), (1, 0), (1, 0), (3, 0)]), [false, false, false, false, true]);
    }

    #[test]
    fn an_account_that_answers_now_and_then_is_nobodys_fault() {
        // One is answered, and whoever else is on the way is refused.
        assert!(said(&OutlierJobs::default(), &[(1, 20); 200]).iter().all(|at_fault| !at_fault));
        assert!(said(&OutlierJobs::default(), &[(0, 0); 200]).iter().all(|at_fault| !at_fault), "it is alone");
    }

    #[test]
    fn a_job_that_was_set_aside_before_is_at_fault_at_once_unless_others_fare_like_it() {
        let outliers = OutlierJobs::default();
        assert_eq!(outliers.set_aside(KEY), 1);
        assert_eq!(said(&outliers, &[(30, 1)]), [true]);
        assert_eq!(outliers.set_aside(KEY), 2);
        assert_eq!(said(&outliers, &[(0, 1), (0, 1)]), [false, false], "the account is at fault now");
        others(&outliers, 100, 0);
        // Another one that was set aside says nothing about the account, and the two come to an end.
        let other = Uuid::from_u128(8);
        assert_eq!((outliers.set_aside(KEY), outliers.set_aside(other)), (3, 1));
        assert!(outliers.refused(other, &mut Refusals::default()));
        assert_eq!(said(&outliers, &[(0, 0)]), [true]);
        outliers.forget(KEY);
        assert_eq!(outliers.set_aside(KEY), 1);
    }
}
