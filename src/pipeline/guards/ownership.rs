//! Which of two jobs about one person created the user.
//!
//! A look-up tells a job's own user from an older one by age. Of two jobs about one email that is not enough, where the user
//! is younger than both: one job's request was lost, the other one created the user and said so, and the first would say the
//! same of it. So it is remembered, by this worker, whose users are whose.
//!
//! The last creations are kept, for jobs that come soon after; and those of people of whom a job that was sent waits on the queue, however
//! long it waits. Both are bounded; a worker that ends forgets them.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::pipeline::guards::per_person::Person;

/// Creations that are remembered at least in part: each has one place, which the next one with the same place takes.
const RECENT: usize = 4_096;

/// Most people of whom a job waits that is remembered.
const WAITING_MAX: usize = 4_096;

/// A user and the job that it is of, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnedUser {
    person: Person,
    user: u32,
    job: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct UserOwnership(Mutex<State>);

#[derive(Debug)]
struct State {
    /// By hash of the person; nobody's at first.
    recent: Box<[OwnedUser]>,
    /// Of people of whom a job waits.
    kept: HashMap<Person, Option<OwnedUser>>,
    /// Whose place is given up first.
    order: VecDeque<Person>,
}

impl Default for UserOwnership {
    fn default() -> Self {
        let recent = vec![OwnedUser { person: Person::NOBODY, user: 0, job: 0 }; RECENT].into_boxed_slice();
        Self(Mutex::new(State { recent, kept: HashMap::new(), order: VecDeque::new() }))
    }
}

impl UserOwnership {
    /// A job of this person that was sent goes back to the queue, and its user is not known yet.
    pub(crate) fn waits(&self, person: Person) {
        let mut state = self.lock();
        if state.kept.contains_key(&person) {
            return;
        }
        if state.order.len() == WAITING_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.kept.remove(&oldest);
        }
        let recent = state.recent(person);
        state.kept.insert(person, recent);
        state.order.push_back(person);
    }

    /// The user is this job's, and it will be told so.
    pub(crate) fn claim(&self, person: Person, service_id: &str, job: &Uuid) {
        let claim = OwnedUser { person, user: short_hash(service_id), job: short_hash(job) };
        let mut state = self.lock();
        state.recent[place(person)] = claim;
        if let Some(kept) = state.kept.get_mut(&person) {
            *kept = Some(claim);
        }
    }

    /// Whether the user is another job's.
    pub(crate) fn is_anothers(&self, person: Person, service_id: &str, job: &Uuid) -> bool {
        let state = self.lock();
        let known = state.recent(person).or(state.kept.get(&person).copied().flatten());
        known.is_some_and(|claim| claim.user == short_hash(service_id) && claim.job != short_hash(job))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn recent(&self, person: Person) -> Option<OwnedUser> {
        Some(self.recent[place(person)]).filter(|claim| claim.person == person)
    }
}

fn place(person: Person) -> usize {
    usize::try_from(person.hash() % RECENT as u64).unwrap_or(0)
}

fn short_hash(what: impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    // Its lower half.
    u32::try_from(hasher.finish() & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JANE: &str = "jane@example.com";

    fn job(n: usize) -> Uuid {
        Uuid::from_u128(n as u128)
    }

    /// So many others are created.
    fn others(ownership: &UserOwnership, count: usize) {
        for n in 0..count {
            ownership.claim(Person::of(&format!("customer{n}@example.com")), "acme-user-9", &job(1_000 + n));
        }
    }

    #[test]
    fn a_user_is_anothers_once_somebody_else_has_said_so() {
        let (ownership, jane) = (UserOwnership::default(), Person::of(JANE));
        assert!(!ownership.is_anothers(jane, "acme-user-1", &job(1)));
        ownership.claim(jane, "acme-user-1", &job(2));
        assert!(ownership.is_anothers(Person::of("Jane@EXAMPLE.com"), "acme-user-1", &job(1)));
        assert!(!ownership.is_anothers(jane, "acme-user-1", &job(2)), "it is its own");
        assert!(!ownership.is_anothers(jane, "acme-user-2", &job(1)), "another user, as after one was deleted");
        assert!(!ownership.is_anothers(Person::of("joe@example.com"), "acme-user-1", &job(1)));
    }

    #[test]
    fn however_many_come_in_between_the_users_of_people_of_whom_a_job_waits_are_kept() {
        let (ownership, jane) = (UserOwnership::default(), Person::of(JANE));
        ownership.waits(jane);
        others(&ownership, 3 * RECENT);
        ownership.claim(jane, "acme-user-1", &job(2));
        ownership.waits(jane);
        others(&ownership, 20 * RECENT);
        assert!(ownership.is_anothers(jane, "acme-user-1", &job(1)));
        // What is kept is bounded.
        for n in 0..WAITING_MAX + 10 {
            ownership.waits(Person::of(&format!("customer{n}@example.com")));
        }
        let state = ownership.lock();
        assert_eq!((state.kept.len(), state.order.len()), (WAITING_MAX, WAITING_MAX));
    }
}
