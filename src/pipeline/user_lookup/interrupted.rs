//! Look-ups whose job was requeued before they ended: a delivery may be held for a limited time, and a long list takes
//! longer to read. The job is redelivered after a moment and resumes its look-up, instead of being sent again and
//! looked up from the start each time.
//!
//! In memory only: a job that comes to another worker, or after a restart, begins anew.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::digest::EmailDigest;
use crate::domain::decide::{LookUpReason, LookUpResult, LookUpScope};

/// Most jobs, and most answers, that are remembered. With more jobs, the one that was requeued first begins anew.
const JOBS_MAX: usize = 4_096;

/// How long a job is remembered, which may have gone to another worker, and an answer is kept for it.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// A look-up to resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterruptedLookUp {
    pub reason: LookUpReason,
    /// When the look-up was requested first.
    pub since: Instant,
}

/// The result of a scan for a job that was requeued meanwhile.
#[derive(Debug)]
struct KeptAnswer {
    scan_began: Instant,
    result: LookUpResult,
    scope: LookUpScope,
}

/// A job that was requeued.
#[derive(Debug)]
struct RequeuedJob {
    requeued: Instant,
    digest: EmailDigest,
    interrupted: InterruptedLookUp,
}

#[derive(Debug, Default)]
pub(super) struct InterruptedLookUps {
    jobs: HashMap<Uuid, RequeuedJob>,
    answers: HashMap<EmailDigest, KeptAnswer>,
}

impl InterruptedLookUps {
    /// Remembers the look-up of a job that is requeued.
    pub(super) fn insert(&mut self, key: Uuid, digest: EmailDigest, interrupted: InterruptedLookUp) {
        self.jobs.retain(|_, job| job.requeued.elapsed() < KEPT_FOR);
        if self.jobs.len() >= JOBS_MAX {
            let oldest = self.jobs.iter().min_by_key(|(_, job)| job.requeued).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.jobs.remove(&oldest));
        }
        self.jobs.insert(key, RequeuedJob { requeued: Instant::now(), digest, interrupted });
    }

    /// Returns the look-up of a job that is redelivered, and forgets it.
    pub(super) fn remove(&mut self, key: Uuid) -> Option<InterruptedLookUp> {
        self.jobs.remove(&key).map(|job| job.interrupted)
    }

    /// Whether a requeued job waits for this answer.
    pub(super) fn wants(&self, digest: &EmailDigest) -> bool {
        self.jobs.values().any(|job| job.digest == *digest)
    }

    /// Keeps the result of a scan, if a requeued job waits for it.
    pub(super) fn keep_answer(
        &mut self,
        digest: EmailDigest,
        scan_began: Instant,
        result: &LookUpResult,
        scope: LookUpScope,
    ) {
        self.answers.retain(|_, answer| answer.scan_began.elapsed() < KEPT_FOR);
        if self.wants(&digest) && self.answers.len() < JOBS_MAX {
            self.answers.insert(digest, KeptAnswer { scan_began, result: result.clone(), scope });
        }
    }

    /// Returns the result of a scan that began no earlier than `since` and looked for as many users, and forgets it.
    pub(super) fn take_answer(
        &mut self,
        digest: &EmailDigest,
        since: Instant,
        scope: LookUpScope,
    ) -> Option<LookUpResult> {
        let answer = self.answers.get(digest)?;
        let answers = answer.scan_began >= since && answer.scope.covers(scope);
        if answers { self.answers.remove(digest).map(|answer| answer.result) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn insert(look_ups: &mut InterruptedLookUps, job: usize) {
        let interrupted = InterruptedLookUp { reason: LookUpReason::UserExists, since: Instant::now() };
        look_ups.insert(Uuid::from_u128(job as u128), EmailDigest::numbered(job as u128), interrupted);
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_that_went_elsewhere_take_no_room_from_later_ones() {
        let mut look_ups = InterruptedLookUps::default();
        for job in 0..=JOBS_MAX {
            insert(&mut look_ups, job);
            advance(Duration::from_millis(1)).await;
        }
        assert!(!look_ups.wants(&EmailDigest::numbered(0)), "the oldest is dropped");
        assert!(look_ups.wants(&EmailDigest::numbered(1)));
        assert!(look_ups.remove(Uuid::from_u128(JOBS_MAX as u128)).is_some(), "the newest is remembered");
        advance(KEPT_FOR).await;
        insert(&mut look_ups, 0);
        assert_eq!(look_ups.jobs.len(), 1, "old ones are dropped");
    }
}
