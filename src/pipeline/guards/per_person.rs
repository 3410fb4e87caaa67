//! Per-person lock: one job about a person at a time, within this worker.
//!
//! Two cases need it. Two deliveries of one job, as after a broken connection, would race: one gets the answer with the
//! link; the other is answered "key already used", looks the user up and reports it without a link. And two jobs for
//! one email, of which each lost an answer, would both claim the same user. One after the other, the second job sees
//! what the first one did.
//!
//! Jobs get a person's lock in the order in which they began to wait. Persons don't wait for each other.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A person, identified by a hash of the email. Valid within this process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Person(u64);

impl Person {
    pub(crate) fn of(email: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        email.to_lowercase().hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Two persons whose hashes collide only wait for each other. Bounded by the jobs that the worker holds.
#[derive(Debug, Default)]
pub(crate) struct PersonLocks(Mutex<HashMap<Person, Arc<AsyncMutex<()>>>>);

/// Holds a person's lock until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct PersonGuard<'l> {
    // Fields are dropped in this order.
    _guard: OwnedMutexGuard<()>,
    _entry: PersonEntry<'l>,
}

/// Another job holds the person's lock.
#[derive(Debug)]
#[must_use]
pub(crate) struct PersonBusy<'l> {
    // Fields are dropped in this order.
    lock: Arc<AsyncMutex<()>>,
    entry: PersonEntry<'l>,
}

/// Use of a person's entry among the locks. Dropped after the lock itself, so that the last one removes the entry.
#[derive(Debug)]
struct PersonEntry<'l> {
    locks: &'l PersonLocks,
    person: Person,
}

impl PersonLocks {
    /// Locks a person.
    ///
    /// # Errors
    /// [`PersonBusy`]: another job about this person is in progress.
    pub(crate) fn try_lock(&self, person: Person) -> Result<PersonGuard<'_>, PersonBusy<'_>> {
        let lock = Arc::clone(self.locks().entry(person).or_default());
        let entry = PersonEntry { locks: self, person };
        match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => Ok(PersonGuard { _guard: guard, _entry: entry }),
            Err(_) => Err(PersonBusy { lock, entry }),
        }
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<Person, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'l> PersonBusy<'l> {
    /// Waits for the lock, behind the jobs that began to wait before. Cancel-safe, but loses the place in the order.
    pub(crate) async fn wait(self) -> PersonGuard<'l> {
        let Self { lock, entry } = self;
        PersonGuard { _guard: lock.lock_owned().await, _entry: entry }
    }
}

impl Drop for PersonEntry<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.locks();
        if locks.get(&self.person).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.person);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn jobs_about_one_person_follow_each_other_and_block_no_other_job() {
        let locks = PersonLocks::default();
        let lock = |email| locks.try_lock(Person::of(email));
        let first = lock("Jane@example.com").unwrap();
        let _other = lock("joe@example.com").unwrap();
        let mut second = Box::pin(lock("jane@EXAMPLE.com").unwrap_err().wait());
        let mut third = Box::pin(lock("jane@example.com").unwrap_err().wait());
        assert!(timeout(MOMENT, &mut second).await.is_err());
        assert!(timeout(MOMENT, &mut third).await.is_err());
        drop(first);
        assert!(timeout(MOMENT, &mut third).await.is_err(), "the second job is first");
        let second = timeout(MOMENT, second).await.unwrap();
        assert!(lock("jane@example.com").is_err());
        drop(second);
        drop(timeout(MOMENT, third).await.unwrap());
        assert_eq!(locks.locks().len(), 1, "locks that no job uses are dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_stops_waiting_leaves_nothing_behind() {
        let locks = PersonLocks::default();
        let jane = Person::of("jane@example.com");
        let first = locks.try_lock(jane).unwrap();
        let mut second = Box::pin(locks.try_lock(jane).unwrap_err().wait());
        let third = locks.try_lock(jane).unwrap_err();
        assert!(timeout(MOMENT, &mut second).await.is_err());
        drop(first);
        // It has been given the lock already.
        drop(second);
        drop(timeout(MOMENT, third.wait()).await.unwrap());
        assert!(locks.locks().is_empty());
    }
}
