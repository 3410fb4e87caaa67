//! Finds outlier jobs: the API answers them like an account problem each time, while it answers other jobs well.
//!
//! A firewall that rejects one row answers 403 to it every time, which looks like an account problem. An outlier job is
//! delayed for a while (a round) instead of pausing all others. After [`ROUNDS_MAX`] rounds it fails with the code
//! `OUTLIER_JOB`: the row is the cause. Rounds are counted in memory; a restart begins anew.
//!
//! **Invariant:** a job is an outlier only if other jobs were answered well since its last answer about the account,
//! and hardly any of them was refused. So an account that answers only now and then makes no job an outlier.

use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::pipeline::guards::bounded_map::BoundedMap;

/// Rounds after which the job fails.
pub(crate) const ROUNDS_MAX: u32 = 3;

/// Answers about the account, with other jobs answered well in between, that make a job an outlier. Each of them pauses
/// all other jobs for a moment.
const REFUSALS_MAX: u32 = 3;

/// Other jobs that must have been answered well in between.
const OTHERS_MIN: u64 = 3;

/// Other jobs that must have been answered well for each one that was refused.
const WELL_PER_REFUSED: u64 = 10;

/// Most jobs that are remembered. The one whose last round is the oldest is dropped first: it may have gone to another
/// worker. If it comes again, it begins anew.
const JOBS_MAX: usize = 4_096;

/// Answers to creations so far. The difference of two counts says how other jobs were answered in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct AnswerCounts {
    /// Answers about a job.
    well: u64,
    /// Answers about the account. Those to outlier jobs aren't counted: they say nothing about other jobs.
    refused: u64,
}

/// What is remembered of an outlier job.
#[derive(Debug, Clone, Copy)]
struct OutlierRecord {
    rounds: u32,
    /// The counts at the start of its last round.
    counts: AnswerCounts,
}

#[derive(Debug)]
struct OutlierState {
    counts: AnswerCounts,
    /// By the start of their last round.
    jobs: BoundedMap<Uuid, OutlierRecord>,
}

impl Default for OutlierState {
    fn default() -> Self {
        Self { counts: AnswerCounts::default(), jobs: BoundedMap::new(JOBS_MAX) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct OutlierJobs(Mutex<OutlierState>);

/// Answers about the account that one job in progress got.
#[derive(Debug, Default)]
pub(crate) struct JobRefusals {
    /// Those after which other jobs were answered well.
    count: u32,
    /// The counts at the last of them; `None`: there was none.
    since: Option<AnswerCounts>,
    /// This job's own share of [`AnswerCounts::refused`] since then.
    own: u64,
}

impl JobRefusals {
    /// Whether the job got any.
    pub(crate) const fn has_any(&self) -> bool {
        self.since.is_some()
    }
}

impl OutlierJobs {
    /// Counts a creation whose answer was about the job: the account works.
    pub(crate) fn answered(&self) {
        self.lock().counts.well += 1;
    }

    /// Counts a creation whose answer was about the account. Returns whether the job is an outlier.
    pub(crate) fn refused(&self, key: Uuid, refusals: &mut JobRefusals) -> bool {
        let mut state = self.lock();
        let record = state.jobs.get(&key).copied();
        let is_known = record.is_some();
        state.counts.refused += u64::from(!is_known);
        let now = state.counts;
        drop(state);
        let Some(then) = refusals.since.or(record.map(|record| record.counts)) else {
            *refusals = JobRefusals { count: 1, since: Some(now), own: 0 };
            return false;
        };
        refusals.since = Some(then);
        refusals.own += u64::from(!is_known);
        let well = now.well - then.well;
        let refused = (now.refused - then.refused).saturating_sub(refusals.own);
        // A job that was an outlier before needs no other jobs for comparison, unless they are refused too.
        let others_min = if is_known { 0 } else { OTHERS_MIN };
        if well < others_min || refused * WELL_PER_REFUSED > well {
            return false;
        }
        *refusals = JobRefusals { count: refusals.count + 1, since: Some(now), own: 0 };
        is_known || refusals.count >= REFUSALS_MAX
    }

    /// Starts a round for the job. Returns the number of its rounds, this one included.
    pub(crate) fn start_round(&self, key: Uuid) -> u32 {
        let mut state = self.lock();
        let counts = state.counts;
        let rounds = state.jobs.remove(&key).map_or(0, |record| record.rounds) + 1;
        state.jobs.insert(key, OutlierRecord { rounds, counts });
        rounds
    }

    /// Forgets a job that is finished.
    pub(crate) fn forget(&self, key: Uuid) {
        self.lock().jobs.remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, OutlierState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(7);

    /// Counts answers to other jobs.
    fn others(outliers: &OutlierJobs, well: u32, refused: u32) {
        (0..well).for_each(|_| outliers.answered());
        for n in 0..refused {
            outliers.refused(Uuid::from_u128(1_000 + u128::from(n)), &mut JobRefusals::default());
        }
    }

    /// Refuses the job once for each entry, after that many other jobs were answered well and refused. Returns after
    /// which refusals it was an outlier.
    fn is_outlier(outliers: &OutlierJobs, between: &[(u32, u32)]) -> Vec<bool> {
        let mut refusals = JobRefusals::default();
        let mut refuse = |(well, refused)| {
            others(outliers, well, refused);
            outliers.refused(KEY, &mut refusals)
        };
        between.iter().map(|others| refuse(*others)).collect()
    }

    #[test]
    fn a_job_refused_three_times_while_others_are_answered_well_is_an_outlier() {
        let is_outlier = |between| is_outlier(&OutlierJobs::default(), between);
        assert_eq!(is_outlier(&[(0, 0), (50, 0), (50, 0)]), [false, false, true]);
        assert_eq!(is_outlier(&[(0, 0), (50, 5), (50, 5)]), [false, false, true]);
        // Too few others in between; they add up.
        assert_eq!(is_outlier(&[(0, 0), (1, 0), (1, 0), (1, 0), (3, 0)]), [false, false, false, false, true]);
    }

    #[test]
    fn an_account_that_answers_only_now_and_then_makes_no_outlier() {
        // One job is answered, and all others in flight are refused.
        assert!(is_outlier(&OutlierJobs::default(), &[(1, 20); 200]).iter().all(|is_outlier| !is_outlier));
        let alone = is_outlier(&OutlierJobs::default(), &[(0, 0); 200]);
        assert!(alone.iter().all(|is_outlier| !is_outlier), "there is no other job");
    }

    #[test]
    fn a_known_outlier_is_one_again_at_once_unless_others_are_refused_too() {
        let outliers = OutlierJobs::default();
        assert_eq!(outliers.start_round(KEY), 1);
        assert_eq!(is_outlier(&outliers, &[(30, 1)]), [true]);
        assert_eq!(outliers.start_round(KEY), 2);
        assert_eq!(is_outlier(&outliers, &[(0, 1), (0, 1)]), [false, false], "now the account is the cause");
        others(&outliers, 100, 0);
        // Another outlier says nothing about the account, so both come to an end.
        let other = Uuid::from_u128(8);
        assert_eq!((outliers.start_round(KEY), outliers.start_round(other)), (3, 1));
        assert!(outliers.refused(other, &mut JobRefusals::default()));
        assert_eq!(is_outlier(&outliers, &[(0, 0)]), [true]);
        outliers.forget(KEY);
        assert_eq!(outliers.start_round(KEY), 1);
    }

    #[test]
    fn outliers_that_went_elsewhere_take_no_room_from_later_ones() {
        let (outliers, key) = (OutlierJobs::default(), |n: usize| Uuid::from_u128(100 + n as u128));
        outliers.start_round(KEY);
        (1..JOBS_MAX).for_each(|n| assert_eq!(outliers.start_round(key(n)), 1));
        assert_eq!(outliers.start_round(KEY), 2);
        // The first of the others is dropped: its last round is the oldest.
        assert_eq!((outliers.start_round(key(JOBS_MAX)), outliers.start_round(key(JOBS_MAX))), (1, 2));
        assert_eq!((outliers.start_round(KEY), outliers.start_round(key(1))), (3, 1));
    }
}
