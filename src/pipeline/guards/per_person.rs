//! Per-person lock: one job about a person at a time, within this worker.
//!
//! Two cases need it. Two deliveries of one job, as after a broken connection, would race: one gets the answer with the
//! link; the other is answered "key already used", looks the user up and reports it without a link. And two jobs for one
//! email, of which each lost an answer, would both claim the same user. One after the other, the second job sees what
//! the first one did.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A person, identified by a hash of the email. Valid within this process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Person(u64);

impl Person {
    /// Marks an empty entry.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn of(email: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        email.to_lowercase().hash(&mut hasher);
        Self(hasher.finish())
    }

    pub(crate) const fn hash(self) -> u64 {
        self.0
    }
}

/// See the module. Two persons whose hashes collide only wait for each other. Bounded by the jobs in progress.
#[derive(Debug, Default)]
pub(crate) struct PersonLocks {
    locked: Mutex<HashSet<Person>>,
    released: Notify,
}

/// Holds a person's lock until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct PersonGuard<'l> {
    locks: &'l PersonLocks,
    person: Person,
}

impl PersonLocks {
    /// Waits until no other job about this person is in progress. Cancel-safe.
    pub(crate) async fn acquire(&self, person: Person) -> PersonGuard<'_> {
        loop {
            let released = self.released.notified();
            if self.locked().insert(person) {
                return PersonGuard { locks: self, person };
            }
            released.await;
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<Person>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PersonGuard<'_> {
    fn drop(&mut self) {
        self.locks.locked().remove(&self.person);
        self.locks.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn jobs_about_one_person_follow_each_other_and_block_no_other_job() {
        let locks = PersonLocks::default();
        let moment = Duration::from_millis(1);
        let acquire = |email| locks.acquire(Person::of(email));
        let first = acquire("Jane@example.com").await;
        let _other = timeout(moment, acquire("joe@example.com")).await.unwrap();
        let mut second = Box::pin(acquire("jane@EXAMPLE.com"));
        assert!(timeout(moment, &mut second).await.is_err());
        drop(first);
        let second = timeout(moment, second).await.unwrap();
        assert!(timeout(moment, acquire("jane@example.com")).await.is_err());
        drop(second);
        assert!(locks.locked().len() == 1);
    }
}
