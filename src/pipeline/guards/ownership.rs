//! User ownership: which person each user was reported for, and which job created it.
//!
//! | two reports of one user | how it happens | what prevents it |
//! | --- | --- | --- |
//! | for two persons | the API, or a gateway that replays answers, answers a creation with another person's user | [`UserOwnership::claim`] |
//! | as created by two jobs for one person | one job's request was lost, the other job created the user; the user is younger than both jobs | [`UserOwnership::belongs_to_another_job`] |
//!
//! This worker remembers the last users that it reported, and those of persons with a job that was sent and waits on
//! the queue, however long it waits. Both are bounded and in memory; a worker that ends forgets them.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::pipeline::guards::bounded_map::BoundedMap;
use crate::pipeline::guards::per_person::Person;

/// Most users that are remembered; the one that was reported first is forgotten first. About 5 MB. docs/contract.md
/// states it.
const USERS_MAX: usize = 100_000;

/// Most persons with a waiting job that are remembered.
const WAITING_MAX: usize = 4_096;

/// A user, identified by a hash of the `serviceId`. Valid within this process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UserHash(u64);

impl UserHash {
    pub(crate) fn of(service_id: &str) -> Self {
        Self(hash(service_id))
    }
}

/// A job, identified by a short hash of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct JobHash(u32);

impl JobHash {
    fn of(job: &Uuid) -> Self {
        Self(u32::try_from(hash(job) & u64::from(u32::MAX)).unwrap_or(0))
    }
}

/// What is known about a user.
#[derive(Debug, Clone, Copy)]
struct ReportedUser {
    person: Person,
    /// The job that created it. `None`: it existed before, or its creation isn't reported yet.
    job: Option<JobHash>,
}

/// A user of a person with a waiting job.
#[derive(Debug, Clone, Copy)]
struct OwnedUser {
    user: UserHash,
    job: JobHash,
}

#[derive(Debug)]
pub(crate) struct UserOwnership(Mutex<OwnershipState>);

#[derive(Debug)]
struct OwnershipState {
    users: BoundedMap<UserHash, ReportedUser>,
    /// Persons with a waiting job, and the user created for them, if it isn't among `users` any more.
    waiting: HashMap<Person, Option<OwnedUser>>,
    /// The same persons, the one that is forgotten next first.
    order: VecDeque<Person>,
}

impl Default for UserOwnership {
    fn default() -> Self {
        let users = BoundedMap::new(USERS_MAX);
        Self(Mutex::new(OwnershipState { users, waiting: HashMap::new(), order: VecDeque::new() }))
    }
}

impl UserOwnership {
    /// Claims the user for this person, before it is reported. Returns `false` if it was claimed for another person: it
    /// must not be reported for this one.
    pub(crate) fn claim(&self, person: Person, service_id: &str) -> bool {
        let (user, mut state) = (UserHash::of(service_id), self.lock());
        match state.users.get(&user) {
            Some(known) => known.person == person,
            None => {
                state.add(user, ReportedUser { person, job: None });
                true
            }
        }
    }

    /// Records that the user belongs to this job, which is about to report that it created the user.
    pub(crate) fn record(&self, person: Person, service_id: &str, job: &Uuid) {
        let (user, mut state) = (UserHash::of(service_id), self.lock());
        let reported = ReportedUser { person, job: Some(JobHash::of(job)) };
        match state.users.get_mut(&user) {
            Some(known) => *known = reported,
            None => state.add(user, reported),
        }
    }

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
        state.waiting.insert(person, None);
        state.order.push_back(person);
    }

    /// Whether the user is known to belong to another job.
    pub(crate) fn belongs_to_another_job(&self, person: Person, service_id: &str, job: &Uuid) -> bool {
        let (user, state) = (UserHash::of(service_id), self.lock());
        let owner = match state.users.get(&user) {
            Some(known) => known.job.filter(|_| known.person == person),
            None => state.waiting.get(&person).copied().flatten().filter(|owned| owned.user == user).map(|it| it.job),
        };
        owner.is_some_and(|owner| owner != JobHash::of(job))
    }

    fn lock(&self) -> MutexGuard<'_, OwnershipState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnershipState {
    /// Adds a user. The one that is forgotten for it is kept if its person has a waiting job.
    fn add(&mut self, user: UserHash, reported: ReportedUser) {
        let Some((user, ReportedUser { person, job: Some(job) })) = self.users.insert(user, reported) else { return };
        if let Some(kept) = self.waiting.get_mut(&person) {
            // Users are forgotten in the order of their reports, so this one is newer than the one that was kept.
            *kept = Some(OwnedUser { user, job });
        }
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
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
            let other = Person::of(&format!("customer{n}@example.com"));
            ownership.record(other, &format!("acme-user-9-{n}"), &job(1_000 + n));
        }
    }

    #[test]
    fn a_user_that_one_job_reported_belongs_to_no_other_job() {
        let (ownership, jane) = (UserOwnership::default(), Person::of(JANE));
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-1", &job(1)));
        assert!(ownership.claim(jane, "acme-user-1"));
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-1", &job(1)), "claimed, not created by a job");
        ownership.record(jane, "acme-user-1", &job(2));
        assert!(ownership.belongs_to_another_job(Person::of("Jane@EXAMPLE.com"), "acme-user-1", &job(1)));
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-1", &job(2)), "it is its own");
        assert!(!ownership.belongs_to_another_job(jane, "acme-user-2", &job(1)), "another user, as after a deletion");
        assert!(!ownership.belongs_to_another_job(Person::of("joe@example.com"), "acme-user-1", &job(1)));
    }

    #[test]
    fn a_user_is_claimed_for_one_person() {
        let (ownership, jane, joe) = (UserOwnership::default(), Person::of(JANE), Person::of("joe@example.com"));
        assert!(ownership.claim(jane, "acme-user-1") && ownership.claim(jane, "acme-user-1"));
        assert!(!ownership.claim(joe, "acme-user-1"));
        assert!(ownership.claim(joe, "acme-user-2"));
        others(&ownership, USERS_MAX - 2);
        assert!(!ownership.claim(joe, "acme-user-1"));
        others(&ownership, USERS_MAX);
        assert!(ownership.claim(joe, "acme-user-1"), "forgotten");
        assert_eq!(ownership.lock().users.len(), USERS_MAX);
    }

    #[test]
    fn users_of_persons_with_a_waiting_job_are_kept_however_many_others_follow() {
        let (ownership, jane) = (UserOwnership::default(), Person::of(JANE));
        ownership.record(jane, "acme-user-0", &job(3));
        ownership.keep(jane);
        ownership.record(jane, "acme-user-1", &job(2));
        ownership.keep(jane);
        others(&ownership, USERS_MAX);
        assert!(ownership.belongs_to_another_job(jane, "acme-user-1", &job(1)));
        for n in 0..WAITING_MAX + 10 {
            ownership.keep(Person::of(&format!("customer{n}@example.com")));
        }
        let state = ownership.lock();
        assert_eq!((state.waiting.len(), state.order.len()), (WAITING_MAX, WAITING_MAX), "bounded");
    }
}
