//! Finished keys: the outcomes of the jobs that this worker has finished, so that an identical job is answered without
//! a request.
//!
//! The API refuses a key that was used within its lifetime. An identical job (a double click, a job that was published
//! twice) would cost a request and a look-up, and end without the link. So for the lifetime of the key its job gets the
//! outcome of the first one: the same user and the same link, which expires when the first one's does. After that, the
//! API answers that the user exists.
//!
//! - Only created and existing users are remembered: another attempt may end a job differently.
//! - A job that was sent itself isn't answered by an existing user: it may have created that user.
//! - A key is forgotten when a later job reports another user for its person, as after a re-creation.
//! - Its lifetime begins when the event is published. Before, an identical job waits for the lock of its person. So a
//!   job that is delivered again after a long partition of the network gets the link of its first delivery.
//!
//! In memory and bounded: another worker, or one that restarts, sends the request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::private::debug_redacted;
use crate::domain::{Job, Outcome, ServiceId, Timestamp};
use crate::pipeline::guards::bounded_map::BoundedMap;
use crate::pipeline::guards::ownership::UserHash;
use crate::pipeline::guards::per_person::Person;

/// Most outcomes that are remembered, the newest. About 9 MB with usual links. docs/contract.md states it.
const OUTCOMES_MAX: usize = 20_000;

/// Most bytes of their ids and links, against long ones.
const TEXT_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// The outcome of a finished job, to be reported for an identical one.
#[derive(Clone)]
pub(crate) struct FinishedOutcome {
    pub(crate) outcome: Outcome,
    pub(crate) link_expires_at: Option<Timestamp>,
}

debug_redacted!(FinishedOutcome);

/// An outcome that identical jobs get, once its event is published.
pub(crate) struct RepeatableOutcome {
    key: Uuid,
    finished: FinishedKey,
}

debug_redacted!(RepeatableOutcome);

/// What is remembered of a finished job.
struct FinishedKey {
    /// The key derived from its data: an `idempotencyKey` may have been used again for others.
    content_key: Uuid,
    person: Person,
    user: Option<UserHash>,
    finished: FinishedOutcome,
    finished_at: Instant,
}

impl FinishedKey {
    fn text_bytes(&self) -> usize {
        let url_bytes = match &self.finished.outcome {
            Outcome::Created { link: Ok(link), .. } => link.as_str().len(),
            _ => 0,
        };
        url_bytes + service_id(&self.finished.outcome).map_or(0, str::len)
    }
}

/// Returns the user that an outcome reports.
fn service_id(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Created { service_id, .. } => Some(service_id.as_str()),
        Outcome::Existing { service_id } => service_id.as_ref().map(ServiceId::as_str),
        Outcome::Rejected(_) | Outcome::Failed { .. } => None,
    }
}

/// The user that was reported last for a person.
#[derive(Clone, Copy)]
struct CurrentUser {
    user: UserHash,
    /// Keys that are remembered for the person.
    keys: u32,
}

pub(crate) struct FinishedKeys {
    /// Lifetime of a key.
    key_ttl: Duration,
    state: Mutex<FinishedKeysState>,
}

struct FinishedKeysState {
    keys: BoundedMap<Uuid, FinishedKey>,
    users: HashMap<Person, CurrentUser>,
    text_bytes: usize,
}

debug_redacted!(FinishedKeys);

impl FinishedKeys {
    pub(crate) fn new(key_ttl: Duration) -> Self {
        let keys = BoundedMap::new(OUTCOMES_MAX);
        Self { key_ttl, state: Mutex::new(FinishedKeysState { keys, users: HashMap::new(), text_bytes: 0 }) }
    }

    /// Returns what [`Self::record`] needs. `None`: another attempt may have another outcome.
    pub(crate) fn repeatable(&self, job: &Job, person: Person, finished: FinishedOutcome) -> Option<RepeatableOutcome> {
        let is_final = matches!(finished.outcome, Outcome::Created { .. } | Outcome::Existing { .. });
        if !is_final || self.key_ttl.is_zero() {
            return None;
        }
        let user = service_id(&finished.outcome).map(UserHash::of);
        let (content_key, finished_at) = (*job.content_key.uuid(), Instant::now());
        let finished = FinishedKey { content_key, person, user, finished, finished_at };
        Some(RepeatableOutcome { key: *job.key.uuid(), finished })
    }

    /// Remembers an outcome whose event is published now. The lock of its person is still held.
    pub(crate) fn record(&self, outcome: RepeatableOutcome) {
        let RepeatableOutcome { key, finished } = outcome;
        self.lock().add(key, FinishedKey { finished_at: Instant::now(), ..finished });
    }

    /// Returns the outcome of an identical job that was finished within the lifetime of the key. `was_sent`: whether a
    /// request of this job may have created its user.
    pub(crate) fn find(&self, job: &Job, was_sent: bool) -> Option<FinishedOutcome> {
        let mut state = self.lock();
        state.drop_expired(self.key_ttl);
        let key = state.keys.get(job.key.uuid())?;
        let is_identical = key.content_key == *job.content_key.uuid();
        let is_answer = !was_sent || matches!(key.finished.outcome, Outcome::Created { .. });
        let is_valid = key.finished_at.elapsed() < self.key_ttl && state.is_current(key);
        (is_identical && is_answer && is_valid).then(|| key.finished.clone())
    }

    fn lock(&self) -> MutexGuard<'_, FinishedKeysState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FinishedKeysState {
    fn add(&mut self, key: Uuid, finished: FinishedKey) {
        self.text_bytes += finished.text_bytes();
        if let Some(user) = finished.user {
            let current = self.users.entry(finished.person).or_insert(CurrentUser { user, keys: 0 });
            *current = CurrentUser { user, keys: current.keys + 1 };
        }
        if let Some((_, dropped)) = self.keys.insert(key, finished) {
            self.released(&dropped);
        }
        while self.text_bytes > TEXT_BYTES_MAX
            && let Some((_, oldest)) = self.keys.pop_oldest()
        {
            self.released(&oldest);
        }
    }

    fn drop_expired(&mut self, key_ttl: Duration) {
        while self.keys.oldest().is_some_and(|oldest| oldest.finished_at.elapsed() >= key_ttl) {
            if let Some((_, key)) = self.keys.pop_oldest() {
                self.released(&key);
            }
        }
    }

    /// Counts a key that is not remembered any more.
    fn released(&mut self, key: &FinishedKey) {
        self.text_bytes -= key.text_bytes();
        if key.user.is_some()
            && let Entry::Occupied(mut current) = self.users.entry(key.person)
        {
            current.get_mut().keys -= 1;
            if current.get().keys == 0 {
                current.remove();
            }
        }
    }

    /// Returns whether no other user was reported for its person since.
    fn is_current(&self, key: &FinishedKey) -> bool {
        key.user.is_none_or(|user| self.users.get(&key.person).is_some_and(|current| current.user == user))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::domain::{IdempotencyKey, LinkLoss, Problem, VerificationUrl};
    use crate::testing::message::message;

    const TTL: Duration = Duration::from_secs(300);

    fn job(email: &str, address: &str) -> Job {
        let mut message = message("crm-1", email);
        message["user"]["address"] = address.into();
        Job::parse(message.to_string().as_bytes()).unwrap().0
    }

    fn existing(service_id: &str) -> FinishedOutcome {
        let outcome = Outcome::Existing { service_id: ServiceId::parse(service_id) };
        FinishedOutcome { outcome, link_expires_at: None }
    }

    fn record(keys: &FinishedKeys, job: &Job, finished: FinishedOutcome) {
        if let Some(outcome) = keys.repeatable(job, Person::of(&job.email), finished) {
            keys.record(outcome);
        }
    }

    fn find(keys: &FinishedKeys, job: &Job) -> Option<Outcome> {
        keys.find(job, false).map(|found| found.outcome)
    }

    /// Number of outcomes and persons, and bytes of the texts.
    fn sizes(keys: &FinishedKeys) -> (usize, usize, usize) {
        let state = keys.lock();
        (state.keys.len(), state.users.len(), state.text_bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_is_found_until_the_key_expires_and_for_identical_jobs_only() {
        let keys = FinishedKeys::new(TTL);
        let jane = job("jane@example.com", "1 Main Street");
        record(&keys, &jane, existing("acme-user-1"));
        assert_eq!(find(&keys, &job("joe@example.com", "1 Main Street")), None);
        let other_data =
            Job { content_key: IdempotencyKey::of_canonical(b"other"), ..job("jane@example.com", "1 Main Street") };
        assert_eq!(find(&keys, &other_data), None);
        advance(TTL - Duration::from_secs(1)).await;
        assert_eq!(find(&keys, &jane), Some(existing("acme-user-1").outcome));
        advance(Duration::from_secs(1)).await;
        assert!(find(&keys, &jane).is_none());
        assert_eq!(sizes(&keys), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_that_may_change_are_not_remembered() {
        let jane = job("jane@example.com", "1 Main Street");
        let problem = Problem::whole("ATTEMPTS_EXHAUSTED", "no");
        let failed = Outcome::Failed { problem: problem.clone(), may_have_been_created: true };
        for (ttl, outcome) in
            [(TTL, failed), (TTL, Outcome::Rejected(vec![problem])), (Duration::ZERO, existing("1").outcome)]
        {
            let keys = FinishedKeys::new(ttl);
            record(&keys, &jane, FinishedOutcome { outcome, link_expires_at: None });
            assert!(find(&keys, &jane).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_was_sent_may_have_created_the_user_that_an_identical_one_found() {
        let keys = FinishedKeys::new(TTL);
        let jane = job("jane@example.com", "1 Main Street");
        record(&keys, &jane, existing("acme-user-1"));
        assert!(keys.find(&jane, true).is_none());
        let service_id = ServiceId::parse("acme-user-1").unwrap();
        let created = Outcome::Created { service_id, link: Err(LinkLoss::LostAnswer), recovered: true };
        record(&keys, &jane, FinishedOutcome { outcome: created.clone(), link_expires_at: None });
        assert_eq!(keys.find(&jane, true).map(|found| found.outcome), Some(created));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_forgotten_when_its_person_has_another_user() {
        let keys = FinishedKeys::new(TTL);
        let [first, second, third] =
            ["1 Main Street", "2 Main Street", "3 Main Street"].map(|address| job("jane@example.com", address));
        record(&keys, &first, existing("acme-user-1"));
        record(&keys, &second, existing("acme-user-1"));
        assert!(find(&keys, &first).is_some() && find(&keys, &second).is_some());
        record(&keys, &third, existing("acme-user-2"));
        assert!(find(&keys, &first).is_none() && find(&keys, &second).is_none() && find(&keys, &third).is_some());
        record(&keys, &first, existing("acme-user-2"));
        assert!(find(&keys, &first).is_some());
        let (outcomes, persons, _) = sizes(&keys);
        assert_eq!((outcomes, persons), (3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_and_their_texts_are_bounded() {
        let keys = FinishedKeys::new(TTL);
        let filled = |link_chars: usize, count: usize| {
            let template = job("jane@example.com", "1 Main Street");
            for n in 0..count {
                let key = IdempotencyKey::of_canonical(format!("{n}").as_bytes());
                let job = Job {
                    identity: Default::default(),
                    key,
                    content_key: key,
                    email: format!("p{n}@example.com"),
                    body: template.body.clone(),
                };
                let url = format!("https://withpersona.com/{n}/{}", "x".repeat(link_chars));
                let (service_id, link) = (ServiceId::parse(&n.to_string()).unwrap(), VerificationUrl::parse(&url));
                let outcome = Outcome::Created { service_id, link: Ok(link.unwrap()), recovered: false };
                record(&keys, &job, FinishedOutcome { outcome, link_expires_at: None });
            }
            sizes(&keys)
        };
        let (outcomes, users, _) = filled(0, OUTCOMES_MAX + 10);
        assert_eq!((outcomes, users), (OUTCOMES_MAX, OUTCOMES_MAX));
        let (outcomes, users, text_bytes) = filled(1_000, OUTCOMES_MAX);
        assert!(
            outcomes == users && outcomes < OUTCOMES_MAX && text_bytes <= TEXT_BYTES_MAX,
            "{outcomes} {users} {text_bytes}"
        );
    }
}
