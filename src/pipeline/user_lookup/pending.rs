//! Look-ups that wait for an answer.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, IntoIter};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::digest::EmailDigest;
use crate::domain::decide::{LookUpResult, LookUpScope};

/// A job that waits for the answer to its look-up.
#[derive(Debug)]
pub(super) struct LookUpWaiter {
    answer: oneshot::Sender<LookUpResult>,
    /// When the look-up was requested.
    since: Instant,
}

impl LookUpWaiter {
    /// Returns a waiter and the receiver of its answer.
    pub(super) fn new(since: Instant) -> (Self, oneshot::Receiver<LookUpResult>) {
        let (answer, receiver) = oneshot::channel();
        (Self { answer, since }, receiver)
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    fn is_waiting(&self) -> bool {
        !self.answer.is_closed()
    }

    pub(super) fn answer(self, result: &LookUpResult) {
        // If the job is gone, it was stopped or requeued, and needs no answer.
        let _ = self.answer.send(result.clone());
    }
}

/// The look-ups of one email.
#[derive(Debug)]
pub(super) struct PendingUser {
    /// None, if they belong to jobs that were requeued and will come back.
    pub(super) waiters: Vec<LookUpWaiter>,
    /// Covers the scope of each.
    pub(super) scope: LookUpScope,
}

impl PendingUser {
    /// Sends the answer to the jobs that wait.
    pub(super) fn answer(self, result: &LookUpResult) {
        self.waiters.into_iter().for_each(|waiter| waiter.answer(result));
    }
}

/// Look-ups by email.
///
/// Ordered, so that a simulation with the same seed repeats exactly.
#[derive(Debug, Default)]
pub(super) struct PendingLookUps(BTreeMap<EmailDigest, PendingUser>);

impl PendingLookUps {
    /// Returns the number of emails.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, digest: &EmailDigest) -> bool {
        self.0.contains_key(digest)
    }

    /// Whether any job still waits.
    pub(super) fn has_waiters(&self) -> bool {
        self.0.values().flat_map(|user| &user.waiters).any(LookUpWaiter::is_waiting)
    }

    pub(super) fn add(&mut self, digest: EmailDigest, added: PendingUser) {
        match self.0.entry(digest) {
            Entry::Vacant(vacant) => {
                vacant.insert(added);
            }
            Entry::Occupied(mut occupied) => {
                let user = occupied.get_mut();
                user.waiters.extend(added.waiters);
                if added.scope.covers(user.scope) {
                    user.scope = added.scope;
                }
            }
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|(digest, user)| self.add(digest, user));
    }

    /// Removes waiters that are gone. Entries that have none left stay if `is_wanted`.
    pub(super) fn drop_gone(&mut self, is_wanted: impl Fn(&EmailDigest) -> bool) {
        self.0.retain(|digest, user| {
            user.waiters.retain(LookUpWaiter::is_waiting);
            !user.waiters.is_empty() || is_wanted(digest)
        });
    }

    /// Removes the entries that `find` has an answer for, and sends it to their waiters.
    pub(super) fn answer_known(&mut self, mut find: impl FnMut(&EmailDigest) -> Option<LookUpResult>) {
        self.0.retain(|digest, user| match find(digest) {
            Some(result) => {
                user.waiters.drain(..).for_each(|waiter| waiter.answer(&result));
                false
            }
            None => true,
        });
    }

    /// Removes the entry of this email and sends the answer to its waiters. Returns whether there was an entry.
    pub(super) fn answer(&mut self, digest: &EmailDigest, result: &LookUpResult) -> bool {
        let user = self.0.remove(digest);
        let is_pending = user.is_some();
        user.into_iter().for_each(|user| user.answer(result));
        is_pending
    }

    /// Removes the look-ups whose scope is covered by this one.
    pub(super) fn take_covered(&mut self, scope: LookUpScope) -> Self {
        Self(self.0.extract_if(.., |_, user| scope.covers(user.scope)).collect())
    }
}

impl IntoIterator for PendingLookUps {
    type Item = (EmailDigest, PendingUser);
    type IntoIter = IntoIter<EmailDigest, PendingUser>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
