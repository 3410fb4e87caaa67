//! Decides what happens to a job next: the protocol of the lost answer, as pure functions.
//!
//! The partner's idempotency keys expire, and a used key is refused instead of replayed. So after a lost answer a retry
//! can only be answered by "key already used" or "user exists". The decision takes the job's [`History`], the answer
//! and, after a look-up, its result.
//!
//! The tables are in `docs/lost-answer.md`: [`after_answer`] is "What happens next", [`after_look_up`] is "After a
//! look-up". Where the second one says retry or look up again, a job without attempts or time left fails instead
//! ([`NOT_RECONCILED`]). A job that replaces a user has a table of its own, see [`after_replace_look_up`].

mod after_answer;
mod history;
mod look_up;
mod replace;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::domain::answer::UnknownReason;
use crate::domain::{AccountReason, Outcome, Problem, VerificationUrl};

pub use after_answer::{Due, after_answer, due, is_trial_charged};
pub use history::History;
pub use look_up::{
    FoundUser, LookUpCase, LookUpResult, LookUpScope, after_look_up, id_not_found, look_up_case, look_up_scope,
    no_definite_answer,
};
pub use replace::{ReplaceLookUp, ReplaceStep, after_replace_look_up, recreation_limits};

/// Code of a job that failed because no request got a definite answer and the user list doesn't have its email.
pub const ATTEMPTS_EXHAUSTED: &str = "ATTEMPTS_EXHAUSTED";

/// Code of a job whose user was created by an answer with a link and without an id, and isn't in the user list.
pub const ID_NOT_FOUND: &str = "ID_NOT_FOUND";

/// Code of a job that failed because the partner says that it was sent or that its user exists, but the user list
/// doesn't have its email.
pub const NOT_RECONCILED: &str = "NOT_RECONCILED";

/// Limits of a job, and assumptions about the partner.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most attempts. At least 1.
    pub attempts_max: u32,
    /// Longest time from the first request to the failure of a job; it has at least three attempts however long they
    /// take.
    pub give_up_after: Duration,
    /// How long the partner remembers a key. Source: the vendor's page on idempotency, 5 minutes.
    pub key_ttl: Duration,
    /// How far the partner's clock may be behind this machine's. Assumed.
    pub clock_skew: Duration,
}

/// What to do with the job after a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUpStep {
    /// Finish the job with this outcome.
    Finish(Outcome),
    /// Retry after the backoff.
    Retry(RetryReason),
    /// Retry after this delay at the earliest: until then the partner would refuse the key.
    RetryAfter(Duration),
    /// Look the user up again after this delay, for the same reason. No request is sent.
    LookUpAgain(Duration),
}

/// What to do with the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStep {
    /// Finish the job with this outcome.
    Finish(Outcome),
    /// Look the email up in the user list, then call [`after_look_up`].
    UserLookUp(LookUpReason),
    /// Look the user up for the last time, after this delay: until then the last request may still be running.
    LookUpAfter(Duration),
    /// Retry after the backoff.
    Retry(RetryReason),
    /// Send no request for this time; `None`: the backoff decides. Not an attempt.
    Throttle(Option<Duration>),
    /// Send no request until the account problem is solved or the API can be reached. Not an attempt.
    Pause(AccountReason),
}

/// Why a job is retried: what happened to its user isn't known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RetryReason {
    /// There was no answer, or none that can be read.
    #[strum(transparent)]
    NoAnswer(UnknownReason),
    /// A refusal in a shape that the API doesn't document, after a request that may have created the user.
    OddRefusal,
    /// The user exists, but the list doesn't have it yet.
    NotListed,
    /// The list could not be read.
    ListNotRead,
}

impl RetryReason {
    /// Every reason, with one status for all server errors.
    pub const ALL: [Self; 7] = [
        Self::NoAnswer(UnknownReason::Timeout),
        Self::NoAnswer(UnknownReason::ConnectionLost),
        Self::NoAnswer(UnknownReason::ServerError(500)),
        Self::NoAnswer(UnknownReason::Unreadable),
        Self::OddRefusal,
        Self::NotListed,
        Self::ListNotRead,
    ];

    /// Its name in logs and labels.
    pub fn code(self) -> &'static str {
        self.into()
    }
}

/// Why a user is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUpReason {
    /// The partner says that the key was used already.
    KeyUsed,
    /// The partner says that the email exists.
    UserExists,
    /// Attempts or time ran out while the user may have been created.
    AttemptsExhausted,
    /// The partner refuses a job that may have created its user before, with an undocumented code.
    Refused(Problem),
    /// The answer says that the user was created, with this link and without an id.
    IdMissing(VerificationUrl),
}
