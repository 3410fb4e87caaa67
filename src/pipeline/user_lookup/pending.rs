//! Look-ups that wait for an answer.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoIter;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::digest::EmailDigest;
use crate::domain::decide::LookUpResult;

/// A job that waits for the answer to its look-up.
#[derive(Debug)]
pub(super) struct LookupWaiter {
    answer: oneshot::Sender<LookUpResult>,
    /// When the look-up was requested.
    since: Instant,
}

impl LookupWaiter {
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

/// Look-ups by email. An entry without a waiter belongs to jobs that were requeued and will come back.
///
/// Ordered, so that a simulation with the same seed repeats exactly.
#[derive(Debug, Default)]
pub(super) struct PendingLookups(BTreeMap<EmailDigest, Vec<LookupWaiter>>);

impl PendingLookups {
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
        self.0.values().flatten().any(LookupWaiter::is_waiting)
    }

    /// Adds waiters for an email; an entry without a waiter, if there are none.
    pub(super) fn add(&mut self, digest: EmailDigest, waiters: impl IntoIterator<Item = LookupWaiter>) {
        self.0.entry(digest).or_default().extend(waiters);
    }

    pub(super) fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|(digest, waiters)| self.add(digest, waiters));
    }

    /// Removes waiters that are gone. Entries that have none left stay if `is_wanted`.
    pub(super) fn drop_gone(&mut self, is_wanted: impl Fn(&EmailDigest) -> bool) {
        self.0.retain(|digest, waiters| {
            waiters.retain(LookupWaiter::is_waiting);
            !waiters.is_empty() || is_wanted(digest)
        });
    }

    /// Removes the entries that `find` has an answer for, and sends it to their waiters.
    pub(super) fn answer_known(&mut self, mut find: impl FnMut(&EmailDigest) -> Option<LookUpResult>) {
        self.0.retain(|digest, waiters| match find(digest) {
            Some(result) => {
                waiters.drain(..).for_each(|waiter| waiter.answer(&result));
                false
            }
            None => true,
        });
    }

    /// Removes the entry of this email and sends the answer to its waiters. Returns whether there was an entry.
    pub(super) fn answer(&mut self, digest: &EmailDigest, result: &LookUpResult) -> bool {
        let waiters = self.0.remove(digest);
        let is_pending = waiters.is_some();
        waiters.into_iter().flatten().for_each(|waiter| waiter.answer(result));
        is_pending
    }
}

impl IntoIterator for PendingLookups {
    type Item = (EmailDigest, Vec<LookupWaiter>);
    type IntoIter = IntoIter<EmailDigest, Vec<LookupWaiter>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
