//! User look-up: finds users by email in the partner's user list.
//!
//! Jobs call [`UserLookUp::find`] and wait. One task, [`scan_on_demand`], reads the list for all of them: the partner
//! documents neither a filter by email nor an order of the list. A scan reads page after page until all users are found
//! or the list ends. If the list seems to be sorted by the time of creation, it reads the newest users first. Its
//! requests pass the same gate and rate limiter as creations.
//!
//! | module | does |
//! | --- | --- |
//! | `pending` | holds the jobs that wait |
//! | `scan` | reads the list and answers the jobs |
//! | `page_reader` | reads one page, through gate and rate limiter, with retries |
//! | `page_limit` | chooses how many users to request at once |
//! | `rows` | rows and pages of the list |
//! | `reading_plan` | chooses the next page |
//! | `sorted_run` | decides whether the rows that were read are sorted by the time of creation |
//! | `known_order` | remembers the order of the list between scans, and whether it is proven |
//! | `coverage` | decides whether the whole list was read |
//! | `cache` | remembers users that were read, so that the next look-up of one needs no request |
//! | `fresh` | looks for the user of a re-creation, without any memory of earlier pages |
//! | `interrupted` | keeps look-ups of jobs that were requeued before the scan ended |
//!
//! **Invariants**
//! - A user is reported missing only if a scan that began after the look-up was requested read the whole list, or, in a
//!   list whose order is proven, every user created since the time that the look-up gives.
//! - There is one scan at a time.
//! - Memory is bounded: by the jobs in progress, which have one look-up each, by the cache, and by 8 bytes for each
//!   user of the list during a scan.

mod cache;
mod coverage;
mod digest;
mod fresh;
mod interrupted;
mod known_order;
mod page_limit;
mod page_reader;
mod pending;
mod reading_plan;
mod rows;
mod scan;
mod sorted_run;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use self::cache::UserCache;
use self::digest::EmailDigest;
use self::fresh::{DeletedUsers, FreshReader};
pub(crate) use self::fresh::{FreshLook, FreshScope, find_fresh};
pub(crate) use self::interrupted::InterruptedLookUp;
use self::interrupted::InterruptedLookUps;
pub(crate) use self::page_limit::DOCUMENTED_LIMIT;
use self::pending::{LookUpWaiter, PendingLookUps, PendingUser};
pub(crate) use self::scan::scan_on_demand;
use crate::domain::ServiceId;
use crate::domain::decide::{LookUpReason, LookUpResult, LookUpScope};
use crate::domain::private::debug_redacted;

/// How far a scan has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanProgress {
    pub read: u64,
    /// Users in the list.
    pub total: u64,
}

#[derive(Default)]
pub(crate) struct UserLookUp {
    state: Mutex<UserLookUpState>,
    /// Wakes the scanning task.
    requested: Notify,
    fresh: FreshReader,
}

#[derive(Default)]
struct UserLookUpState {
    pending: PendingLookUps,
    interrupted: InterruptedLookUps,
    cache: UserCache,
    deleted: DeletedUsers,
    /// `None`: no scan is running.
    progress: Option<ScanProgress>,
}

debug_redacted!(UserLookUp);

impl UserLookUp {
    /// Returns what the user list says about this email. A missing user is the result of a scan that began no earlier
    /// than `since`. Waits for two scans at most: one that is running, and the next. Doesn't wait for a user that was
    /// read within the last hour.
    pub(crate) async fn find(&self, email: &str, since: Instant, scope: LookUpScope) -> LookUpResult {
        let digest = EmailDigest::of(email);
        let (waiter, answer) = LookUpWaiter::new(since);
        {
            let mut state = self.lock();
            if let Some(result) = state.interrupted.take_answer(&digest, since, scope) {
                return result;
            }
            if let Some(user) = state.cache.find(&digest).filter(|user| !state.deleted.contains(&user.service_id)) {
                return LookUpResult::User(user);
            }
            state.pending.add(digest, PendingUser { waiters: vec![waiter], scope });
        }
        self.requested.notify_one();
        answer.await.unwrap_or(LookUpResult::Unavailable)
    }

    /// Remembers a look-up whose job is requeued before the look-up ended.
    pub(crate) fn interrupt(&self, key: Uuid, email: &str, reason: LookUpReason, since: Instant) {
        self.lock().interrupted.insert(key, EmailDigest::of(email), InterruptedLookUp { reason, since });
    }

    /// This worker deleted the user: what earlier pages said about it is not used any more.
    pub(crate) fn deleted(&self, user: &ServiceId) {
        self.lock().deleted.insert(user);
    }

    /// Returns the interrupted look-up of a job that was redelivered, if there is one.
    pub(crate) fn resume(&self, key: Uuid) -> Option<InterruptedLookUp> {
        self.lock().interrupted.remove(key)
    }

    /// Returns how far the running scan has read; `None`: no scan is running.
    pub(crate) fn scan_progress(&self) -> Option<ScanProgress> {
        self.lock().progress
    }

    /// Takes the look-ups that need the list. Those of users in the cache are answered.
    fn take_pending(&self) -> PendingLookUps {
        let mut state = self.lock();
        let UserLookUpState { pending, interrupted, cache, deleted, .. } = &mut *state;
        let mut pending = std::mem::take(pending);
        let known = |digest: &_| cache.find(digest).filter(|user| !deleted.contains(&user.service_id));
        pending.answer_known({
            let mut known = known;
            move |digest| known(digest).map(LookUpResult::User)
        });
        pending.drop_gone(|digest| interrupted.wants(digest));
        pending
    }

    /// Leaves look-ups to the next scan.
    fn defer(&self, pending: PendingLookUps) {
        if !pending.is_empty() {
            self.lock().pending.extend(pending);
            self.requested.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, UserLookUpState> {
        // Every critical section leaves the state consistent, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
