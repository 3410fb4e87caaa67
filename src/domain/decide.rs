//! What happens to a job next: the protocol of the lost answer, as a pure function.
//!
//! The partner's idempotency keys refuse instead of replaying and expire, so after a lost answer a retry can
//! say only "key already used" or "user exists". The decision needs what the job went through ([`History`]),
//! the answer, and, where a look-up was made, what it found:
//!
//! | answer | decision |
//! | --- | --- |
//! | created | finished: created |
//! | refused | finished: rejected |
//! | key already used, user exists | look the user up |
//! | no answer | send again after a while; attempts used up: look the user up, then give up |
//! | throttled | wait as told; no attempt |
//! | about the account | pause; no attempt |
//!
//! | look-up after | user found, ours | found, older than the job | not found | can't look |
//! | --- | --- | --- | --- | --- |
//! | key already used | created (recovered) | existing | send again once the key has expired | look again later |
//! | user exists, sent before | created (recovered) | existing | look again later | look again later |
//! | user exists, never sent | existing | existing | existing, without id | look again later; existing, without id |
//! | giving up | created (recovered) | existing | failed, may have been created | failed, may have been created |

use std::time::Duration;

use super::{AccountReason, Answer, Outcome, Problem, Timestamp};

/// What a job went through before the answer at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// When the job was put on the queue.
    pub enqueued_at: Timestamp,
    /// When the job was first sent in a way that may have reached the partner; `None`: never.
    pub first_sent_at: Option<Timestamp>,
    /// When it was last sent so.
    pub last_sent_at: Option<Timestamp>,
    /// Counted attempts, the one at hand included.
    pub attempts: u32,
}

impl History {
    /// A job that nobody has touched.
    pub const fn new(enqueued_at: Timestamp) -> Self {
        Self { enqueued_at, first_sent_at: None, last_sent_at: None, attempts: 0 }
    }

    /// Notes that a request is about to leave.
    #[must_use]
    pub fn with_send(self, now: Timestamp) -> Self {
        Self { first_sent_at: Some(self.first_sent_at.unwrap_or(now)), last_sent_at: Some(now), ..self }
    }
}

/// The bounds of a job's life and of the partner's behaviour.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most attempts. At least 1.
    pub attempts_max: u32,
    /// Longest time from the first send to giving up; a job has three attempts however long they take.
    pub give_up_after: Duration,
    /// How long the partner remembers a key. Source: the vendor's page on idempotency, 5 minutes.
    pub key_ttl: Duration,
    /// How much the partner's clock may lag behind ours. Assumed.
    pub clock_skew: Duration,
}

/// What to do with the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The job is over.
    Finish(Outcome),
    /// Ask the user list for the email, then call [`after_look_up`].
    LookUp(LookUpReason),
    /// Try again after the backoff of this many attempts.
    Retry,
    /// Try again, but not before this time has passed: until then the partner would refuse the key.
    RetryAfter(Duration),
    /// Nobody sends before this time has passed; `None`: the backoff decides. Not an attempt.
    Throttle(Option<Duration>),
    /// Nobody sends before the account is well again. Not an attempt.
    Pause(AccountReason),
}

/// Why a user is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookUpReason {
    /// The partner says that the key was used already.
    KeyUsed,
    /// The partner says that the email exists.
    UserExists,
    /// Attempts or time ran out while the user may have been created.
    GivingUp,
}

/// What the user list says about an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A user with this email.
    User(FoundUser),
    /// The whole list was read and it isn't there.
    Nobody,
    /// The list could not be read.
    Unavailable,
}

/// A user in the partner's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundUser {
    /// `{slug}-user-{uid}`.
    pub service_id: String,
    /// `None` where the list doesn't say or can't be read.
    pub created_at: Option<Timestamp>,
}

/// Decides on the answer to a request. `history` includes the request.
pub fn after_answer(answer: Answer, history: &History, now: Timestamp, limits: &Limits) -> Step {
    match answer {
        Answer::Created { service_id, verification_url } => {
            Step::Finish(Outcome::Created { service_id, verification_url, recovered: false })
        }
        Answer::Rejected { code, text, status } => {
            let message = if text.is_empty() { format!("the API refused it with HTTP {status}") } else { text };
            Step::Finish(Outcome::Rejected(vec![Problem::whole(&code, message)]))
        }
        Answer::AlreadyThere => Step::LookUp(LookUpReason::UserExists),
        Answer::KeyAlreadyUsed => Step::LookUp(LookUpReason::KeyUsed),
        Answer::Unknown(_) if is_used_up(history, now, limits) => Step::LookUp(LookUpReason::GivingUp),
        Answer::Unknown(_) => Step::Retry,
        Answer::Throttled { retry_after } => Step::Throttle(retry_after),
        Answer::Account(reason) => Step::Pause(reason),
        Answer::NotSent(_) => Step::Pause(AccountReason::Unreachable),
    }
}

/// Decides on what a look-up found. `before` is the history without the request whose answer led here: a job
/// that was never sent before can't have created anybody.
pub fn after_look_up(
    reason: LookUpReason,
    found: Found,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    let sent_before = before.first_sent_at.is_some();
    match (reason, found) {
        (LookUpReason::UserExists, Found::User(user)) if !sent_before => {
            Step::Finish(Outcome::Existing { service_id: Some(user.service_id) })
        }
        (_, Found::User(user)) => Step::Finish(if is_ours(&user, reason, before, history, now, limits) {
            Outcome::Created { service_id: user.service_id, verification_url: None, recovered: true }
        } else {
            Outcome::Existing { service_id: Some(user.service_id) }
        }),
        (LookUpReason::UserExists, Found::Nobody) if !sent_before => {
            Step::Finish(Outcome::Existing { service_id: None })
        }
        (LookUpReason::UserExists, Found::Unavailable) if !sent_before && is_used_up(history, now, limits) => {
            Step::Finish(Outcome::Existing { service_id: None })
        }
        (LookUpReason::GivingUp, _) => Step::Finish(failed("ATTEMPTS_EXHAUSTED", history, now)),
        (LookUpReason::KeyUsed | LookUpReason::UserExists, _) if is_used_up(history, now, limits) => {
            Step::Finish(failed("NOT_RECONCILED", history, now))
        }
        (LookUpReason::KeyUsed, Found::Nobody) => Step::RetryAfter(until_key_expires(history, now, limits)),
        (LookUpReason::KeyUsed | LookUpReason::UserExists, _) => Step::Retry,
    }
}

/// A user that is no older than the job's first send can only be ours: the email is unique. Where the list
/// doesn't say how old it is, the earlier send is the likelier explanation.
///
/// A key that is used although this job was never sent was used by an earlier life of the same request (another
/// queue, a lost database), within the life of the key.
fn is_ours(
    user: &FoundUser,
    reason: LookUpReason,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> bool {
    let since = match (before.first_sent_at, reason) {
        (Some(first), _) => first,
        (None, LookUpReason::KeyUsed) => now.minus(limits.key_ttl),
        (None, _) => history.first_sent_at.unwrap_or(history.enqueued_at),
    };
    user.created_at.is_none_or(|created_at| created_at >= since.minus(limits.clock_skew))
}

/// Time alone doesn't end a job: it may have been spent on a pause.
const ATTEMPTS_MIN: u32 = 3;

fn is_used_up(history: &History, now: Timestamp, limits: &Limits) -> bool {
    let age = history.first_sent_at.map_or(Duration::ZERO, |first| now.since(first));
    let is_old = age >= limits.give_up_after && history.attempts >= ATTEMPTS_MIN;
    history.attempts >= limits.attempts_max || is_old
}

/// The key's life began with a send that the partner saw, at the latest with the last one before now.
fn until_key_expires(history: &History, now: Timestamp, limits: &Limits) -> Duration {
    let expires = history.last_sent_at.unwrap_or(now).plus(limits.key_ttl).plus(limits.clock_skew);
    expires.since(now)
}

/// A job that is given up. Its last request may still be worked on at the partner, so that not even a list without the
/// email proves that nobody was created.
fn failed(code: &str, history: &History, now: Timestamp) -> Outcome {
    let attempts = history.attempts;
    let seconds = history.first_sent_at.map_or(0, |first| now.since(first).as_secs());
    let message = format!(
        "no definite answer in {attempts} attempts over {seconds} s; a user may have been created: sending the same row \
         again finds them, sending it with another email would create a second one"
    );
    Outcome::Failed { problem: Problem::whole(code, message), may_have_been_created: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_unix_ms(1_000_000_000);
    const LIMITS: Limits = Limits {
        attempts_max: 3,
        give_up_after: Duration::from_secs(86_400),
        key_ttl: Duration::from_secs(300),
        clock_skew: Duration::from_secs(30),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ms(T0.unix_ms() + seconds * 1_000)
    }

    /// A job sent at these seconds after it was enqueued, the last being the request at hand.
    fn sent_at(seconds: &[i64]) -> (History, History) {
        let mut before = History::new(T0);
        let mut history = before;
        for second in seconds {
            before = history;
            history = history.with_send(at(*second));
            history.attempts += 1;
        }
        (before, history)
    }

    fn look_up(reason: LookUpReason, sends: &[i64], found: Found) -> Step {
        let (before, history) = sent_at(sends);
        after_look_up(reason, found, &before, &history, at(*sends.last().unwrap()), &LIMITS)
    }

    fn user(created_second: Option<i64>) -> Found {
        Found::User(FoundUser { service_id: "acme-user-1".to_owned(), created_at: created_second.map(at) })
    }

    fn recovered() -> Step {
        Step::Finish(Outcome::Created { service_id: "acme-user-1".to_owned(), verification_url: None, recovered: true })
    }

    fn existing(id: Option<&str>) -> Step {
        Step::Finish(Outcome::Existing { service_id: id.map(str::to_owned) })
    }

    fn failed_as(step: &Step) -> Option<(String, bool)> {
        match step {
            Step::Finish(Outcome::Failed { problem, may_have_been_created }) => {
                Some((problem.code.clone(), *may_have_been_created))
            }
            _ => None,
        }
    }

    #[test]
    fn a_used_key_of_a_user_created_since_the_first_send_is_a_recovered_creation() {
        assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(Some(1))), recovered());
        assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(None)), recovered());
        // The partner's clock lags behind ours, within the tolerance.
        assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(Some(-29))), recovered());
    }

    #[test]
    fn a_used_key_does_not_make_an_older_user_ours() {
        assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(Some(-31))), existing(Some("acme-user-1")));
    }

    #[test]
    fn a_key_used_by_an_earlier_life_of_the_request_recovers_its_user() {
        assert_eq!(look_up(LookUpReason::KeyUsed, &[10], user(Some(-200))), recovered());
        assert_eq!(look_up(LookUpReason::KeyUsed, &[10], user(Some(-400))), existing(Some("acme-user-1")));
    }

    #[test]
    fn a_used_key_without_a_user_is_sent_again_once_it_has_expired() {
        let (before, history) = sent_at(&[0, 60]);
        let step = after_look_up(LookUpReason::KeyUsed, Found::Nobody, &before, &history, at(100), &LIMITS);
        assert_eq!(step, Step::RetryAfter(Duration::from_secs(60 + 300 + 30 - 100)));
    }

    #[test]
    fn an_existing_email_of_a_job_that_was_never_sent_was_there_before() {
        assert_eq!(look_up(LookUpReason::UserExists, &[0], user(Some(5))), existing(Some("acme-user-1")));
        assert_eq!(look_up(LookUpReason::UserExists, &[0], Found::Nobody), existing(None));
        assert_eq!(look_up(LookUpReason::UserExists, &[0], Found::Unavailable), Step::Retry);
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 1, 2], user(Some(1))), recovered());
    }

    #[test]
    fn an_existing_email_of_a_job_that_was_sent_before_is_ours_unless_it_is_older() {
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], user(Some(1))), recovered());
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], user(Some(-600))), existing(Some("acme-user-1")));
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], Found::Nobody), Step::Retry);
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], Found::Unavailable), Step::Retry);
    }

    #[test]
    fn giving_up_looks_first_and_says_whether_somebody_may_have_been_created() {
        let (_, history) = sent_at(&[0, 1, 2]);
        let lost = Answer::Unknown(super::super::answer::UnknownReason::Timeout);
        assert_eq!(after_answer(lost.clone(), &history, at(2), &LIMITS), Step::LookUp(LookUpReason::GivingUp));
        let (_, early) = sent_at(&[0, 1]);
        assert_eq!(after_answer(lost, &early, at(2), &LIMITS), Step::Retry);

        let sends = &[0, 1, 2];
        assert_eq!(look_up(LookUpReason::GivingUp, sends, user(Some(1))), recovered());
        assert_eq!(look_up(LookUpReason::GivingUp, sends, user(Some(-60))), existing(Some("acme-user-1")));
        // The last request may still be worked on.
        for found in [Found::Nobody, Found::Unavailable] {
            let step = look_up(LookUpReason::GivingUp, sends, found);
            assert_eq!(failed_as(&step), Some(("ATTEMPTS_EXHAUSTED".to_owned(), true)));
        }
    }

    #[test]
    fn looking_again_and_again_ends_as_a_failure_that_says_what_is_unknown() {
        for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists] {
            for found in [Found::Nobody, Found::Unavailable] {
                let step = look_up(reason, &[0, 1, 2], found);
                assert_eq!(failed_as(&step), Some(("NOT_RECONCILED".to_owned(), true)), "{reason:?}");
            }
        }
    }

    #[test]
    fn time_alone_does_not_end_a_job_that_was_hardly_tried() {
        let lost = || Answer::Unknown(super::super::answer::UnknownReason::Timeout);
        let limits = Limits { attempts_max: 8, ..LIMITS };
        let (_, twice) = sent_at(&[0, 1]);
        assert_eq!(after_answer(lost(), &twice, at(200_000), &limits), Step::Retry);
        let (_, thrice) = sent_at(&[0, 1, 2]);
        assert_eq!(after_answer(lost(), &thrice, at(3), &limits), Step::Retry);
        assert_eq!(after_answer(lost(), &thrice, at(200_000), &limits), Step::LookUp(LookUpReason::GivingUp));
    }

    #[test]
    fn answers_that_are_nobodys_fault_neither_finish_nor_retry_the_job() {
        let (_, history) = sent_at(&[0, 1, 2, 3, 4]);
        let wait = Some(Duration::from_secs(7));
        let throttled = Answer::Throttled { retry_after: wait };
        assert_eq!(after_answer(throttled, &history, at(4), &LIMITS), Step::Throttle(wait));
        let revoked = Answer::Account(AccountReason::KeyRefused);
        assert_eq!(after_answer(revoked, &history, at(4), &LIMITS), Step::Pause(AccountReason::KeyRefused));
        let not_sent = Answer::NotSent("connect");
        assert_eq!(after_answer(not_sent, &history, at(4), &LIMITS), Step::Pause(AccountReason::Unreachable));
    }
}
