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

/// Most jobs, and most answers, that are remembered. Further jobs begin anew.
const JOBS_MAX: usize = 4_096;

/// How long an answer is kept for the job that asked.
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

#[derive(Debug, Default)]
pub(super) struct InterruptedLookUps {
    jobs: HashMap<Uuid, (EmailDigest, InterruptedLookUp)>,
    answers: HashMap<EmailDigest, KeptAnswer>,
}

impl InterruptedLookUps {
    /// Remembers the look-up of a job that is requeued.
    pub(super) fn insert(&mut self, key: Uuid, digest: EmailDigest, interrupted: InterruptedLookUp) {
        if self.jobs.len() < JOBS_MAX {
            self.jobs.insert(key, (digest, interrupted));
        }
    }

    /// Returns the look-up of a job that is redelivered, and forgets it.
    pub(super) fn remove(&mut self, key: Uuid) -> Option<InterruptedLookUp> {
        self.jobs.remove(&key).map(|(_, interrupted)| interrupted)
    }

    /// Whether a requeued job waits for this answer.
    pub(super) fn wants(&self, digest: &EmailDigest) -> bool {
        self.jobs.values().any(|(wanted, _)| wanted == digest)
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
