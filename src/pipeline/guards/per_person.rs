//! One job about a person at a time, in this worker.
//!
//! Two deliveries of one job, as after a connection that broke, would race: the one whose answer brings the link, and the other,
//! which is told "key already used", finds the user and tells it without a link. And two jobs about one email, of which
//! each lost an answer, would both claim the user. One after the other, the second sees what the first has done.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Somebody, by their email: a hash of it, as long as this process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Person(u64);

impl Person {
    /// Stands where nobody is.
    pub(crate) const NOBODY: Self = Self(0);

    pub(crate) fn of(email: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        email.to_lowercase().hash(&mut hasher);
        Self(hasher.finish())
    }

    pub(crate) const fn hash(self) -> u64 {
        self.0
    }
}

/// The people whose jobs are at work. Two that collide only wait for each other. Bounded by the jobs in hand.
#[derive(Debug, Default)]
pub(crate) struct PersonLocks {
    at_work: Mutex<HashSet<Person>>,
    left: Notify,
}

/// The right to work on a person's job, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place<'p> {
    people: &'p PersonLocks,
    person: Person,
}

impl PersonLocks {
    /// Waits until no other job of this person is at work. Cancel-safe.
    pub(crate) async fn enter(&self, person: Person) -> Place<'_> {
        loop {
            let left = self.left.notified();
            if self.lock().insert(person) {
                return Place { people: self, person };
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Person>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.people.lock().remove(&self.person);
        self.people.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn jobs_about_one_person_follow_each_other_and_hold_up_nobody_else() {
        let people = PersonLocks::default();
        let moment = Duration::from_millis(1);
        let enter = |email| people.enter(Person::of(email));
        let first = enter("Jane@example.com").await;
        let _other = timeout(moment, enter("joe@example.com")).await.unwrap();
        let mut second = Box::pin(enter("jane@EXAMPLE.com"));
        assert!(timeout(moment, &mut second).await.is_err());
        drop(first);
        let second = timeout(moment, second).await.unwrap();
        assert!(timeout(moment, enter("jane@example.com")).await.is_err());
        drop(second);
        assert!(people.lock().len() == 1);
    }
}
