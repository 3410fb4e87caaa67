//! User ownership: which job created which user, so that two jobs for one email can't both claim it.
//!
//! A look-up recognises a job's own user by its age. That isn't enough for two jobs for one email if the user is younger
//! than both: one job's request was lost, the other job created the user and reported it, and the first job would report
//! the same user. So this worker remembers which job each user belongs to.
//!
//! It keeps the last creations, for jobs that follow soon, and the creations for persons with a job that was sent and
//! waits on the queue, however long it waits. Both are bounded and in memory; a worker that ends forgets them.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::pipeline::guards::per_person::Person;

/// Slots for the last creations. The slot follows from the person's hash; a new creation overwrites it.
const RECENT: usize = 4_096;

/// Most persons with a waiting job that are remembered.
const WAITING_MAX: usize = 4_096;

/// A user and its job, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnedUser {
    person: Person,
    user: u32,
    job: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct UserOwnership(Mutex<OwnershipState>);

#[derive(Debug)]
struct OwnershipState {
    /// The last creations, by slot.
    recent: Box<[OwnedUser]>,
    /// Persons with a waiting job, and the user created for them, if any.
    waiting: HashMap<Person, Option<OwnedUser>>,
    /// The same persons, the one that is forgotten next first.
    order: VecDeque<Person>,
}

impl Default for UserOwnership {
    fn default() -> Self {
        let recent = vec![OwnedUser { person: Person::NONE, user: 0, job: 0 }; RECENT].into_boxed_slice();
        Self(Mutex::new(OwnershipState { recent, waiting: HashMap::new(), order: VecDeque::new() }))
    }
}

impl UserOwnership {
    /// Keeps what is known about this person: a job that was sent is requeued before its user is known.
    pub(crate) fn keep(&self, person: Person) {
        let mut state = self.lock();
        if state.waiting.contains_key(&person) {
            return;
        }
        if state.order.len() == WAITING_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.waiting.remove(&oldest);
        }
        let recent = state.recent(person);
        state.waiting.insert(person, recent);
        state.order.push_back(person);
    }

    /// Records that the user belongs to this job, which is about to report it.
    pub(crate) fn record(&self, person: Person, service_id: &str, job: &Uuid) {
        let owned = OwnedUser { person, user: short_hash(service_id), job: short_hash(job) };
        let mut state = self.lock();
        state.recent[slot(person)] = owned;
        if let Some(waiting) = state.waiting.get_mut(&person) {
            *waiting = Some(owned);
        }
    }

    /// Whether the user is known to belong to another job.
    pub(crate) fn belongs_to_another_job(&self, person: Person, service_id: &str, job: &Uuid) -> bool {
        let state = self.lock();
        let known = state.recent(person).or(state.waiting.get(&person).copied().flatten());
        known.is_some_and(|owned| owned.user == short_hash(service_id) && owned.job != short_hash(job))
    }

    fn lock(&self) -> MutexGuard<'_, OwnershipState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnershipState {
    fn recent(&self, person: Person) -> Option<OwnedUser> {
        Some(self.recent[slot(person)]).filter(|owned| owned.person == person)
    }
}

fn slot(person: Person) -> usize {
    usize::try_from(person.hash() % RECENT as u64).unwrap_or(0)
}

/// Returns the lower half of a hash.
fn short_hash(what: impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    u32::try_from(hasher.finish() & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JANE: &str = "jane@example.com";

    fn job(n: usize) -> Uuid {
        Uuid::from_u128(n as u128)
    }

    /// Records users of `count` other persons.
    fn others(ownership: &UserOwnership, count: usize) {
        for n in 0..count {
            ownership.record(Person::of(&format!("customer{n}@example.com")), "acme-user-9", &job(1_000 + n));
        }
    }

    #[test]
    fn a_user_that_one_job_reported_belongs_to_no_other_job() {
        let (ownership, jane) = (UserOwnership::default(), Person::of(JANE));
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-1", &job(1)));
        ownership.record(jane, "acme-user-1", &job(2));
        assert!(ownership.belongs_to_another_job(Person::of("Jane@EXAMPLE.com"), "acme-user-1", &job(1)));
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-1", &job(2)), "it is its own");
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-2", &job(1)), "another user, as after a deletion");
        assert!(!ownership.belongs_to_another_job(Person::of("joe@example.com"), "acme-user-1", &job(1)));
    }

    #[test]
    fn users_of_persons_with_a_waiting_job_are_kept_however_many_others_follow() {
        let (ownership, jane) = (UserOwnership::default(), Person::of(JANE));
        ownership.keep(jane);
        others(&ownership, 3 * RECENT);
        ownership.record(jane, "acme-user-1", &job(2));
        ownership.keep(jane);
        others(&ownership, 20 * RECENT);
        assert!(ownership.belongs_to_another_job(jane, "acme-user-1", &job(1)));
        for n in 0..WAITING_MAX + 10 {
            ownership.keep(Person::of(&format!("customer{n}@example.com")));
        }
        let state = ownership.lock();
        assert_eq!((state.waiting.len(), state.order.len()), (WAITING_MAX, WAITING_MAX), "bounded");
    }
}
