//! The retry budget: repetitions are at most a share of first attempts, so that an API in trouble isn't given more work
//! than in good times.
//!
//! A bucket of tokens: each first attempt adds a share of one, each second adds a few, so that small runs and the end of
//! a run are not held up, and each repetition takes one. Whoever finds it empty waits for longer and asks again; nobody
//! fails for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many repetitions there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryBudgetPolicy {
    /// Repetitions for each first attempt.
    pub share: f64,
    /// Repetitions per second that are always allowed.
    pub per_second_min: f64,
}

impl RetryBudgetPolicy {
    /// The defaults of the settings.
    #[cfg(test)]
    pub(crate) const DEFAULT: Self = Self { share: 0.2, per_second_min: 10.0 };
}

/// What the bucket holds at the start and at most. Enough for a burst of lost answers after a crash.
const TOKENS_MAX: f64 = 256.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    policy: RetryBudgetPolicy,
    bucket: Mutex<Bucket>,
}

/// So long after a repetition was put off it counts as held back: it has another backoff to wait.
const HELD_BACK_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    /// When a repetition was last put off.
    put_off_at: Option<Instant>,
}

impl RetryBudget {
    /// A full bucket.
    pub(crate) fn new(policy: RetryBudgetPolicy) -> Self {
        let bucket = Bucket { tokens: TOKENS_MAX, at: Instant::now(), put_off_at: None };
        Self { policy, bucket: Mutex::new(bucket) }
    }

    /// A first attempt is about to be made.
    pub(crate) fn first_attempt(&self) {
        self.add(self.policy.share);
    }

    /// Whether a repetition may be made now.
    pub(crate) fn take(&self) -> bool {
        self.add(-1.0)
    }

    /// Whether repetitions were put off a moment ago.
    pub(crate) fn holds_back(&self) -> bool {
        self.lock().put_off_at.is_some_and(|at| at.elapsed() < HELD_BACK_FOR)
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what time brought, and then this, unless there would be less than nothing.
    fn add(&self, tokens: f64) -> bool {
        let mut bucket = self.lock();
        let now = Instant::now();
        let brought = now.saturating_duration_since(bucket.at).as_secs_f64() * self.policy.per_second_min;
        let before = (bucket.tokens + brought).min(TOKENS_MAX);
        let is_enough = before + tokens >= 0.0;
        bucket.tokens = if is_enough { (before + tokens).min(TOKENS_MAX) } else { before };
        bucket.at = now;
        if !is_enough {
            bucket.put_off_at = Some(now);
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &RetryBudget, wanted: u32) -> u32 {
        (0..wanted).map(|_| u32::from(budget.take())).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn repetitions_are_a_share_of_first_attempts_once_the_bucket_is_empty() {
        let budget = RetryBudget::new(RetryBudgetPolicy { share: 0.25, per_second_min: 0.0 });
        assert_eq!(granted(&budget, 1_000), 256);
        (0..400).for_each(|_| budget.first_attempt());
        assert_eq!(granted(&budget, 1_000), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn it_holds_back_from_the_first_that_is_put_off_until_a_while_after_the_last() {
        let budget = RetryBudget::new(RetryBudgetPolicy { share: 0.0, per_second_min: 0.1 });
        granted(&budget, 256);
        assert!(!budget.holds_back());
        granted(&budget, 1);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(budget.holds_back());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!budget.holds_back());
    }

    #[tokio::test(start_paused = true)]
    async fn time_alone_brings_a_few_and_never_more_than_the_bucket_holds() {
        let budget = RetryBudget::new(RetryBudgetPolicy { share: 0.0, per_second_min: 2.0 });
        granted(&budget, 1_000);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(granted(&budget, 1_000), 6);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(granted(&budget, 1_000), 256);
    }
}
