//! What happens to a job next: the protocol of the lost answer, as a pure function.
//!
//! The partner's idempotency keys refuse instead of replaying and expire, so after a lost answer a retry can
//! say only "key already used" or "user exists". The decision needs what the job went through ([`History`]),
//! the answer, and, where a look-up was made, what it found:
//!
//! | answer | decision |
//! | --- | --- |
//! | created | finished: created |
//! | refused | finished: rejected; sent before and under a code that isn't documented: look the user up; in words that can't be read and sent before: like no answer |
//! | key already used, user exists | look the user up |
//! | no answer | send again after a while; attempts used up: look the user up once nothing can be on its way any more, then give up |
//! | throttled | wait as told; no attempt |
//! | about the account | pause; no attempt, and the request is forgotten |
//! | something else than the API | pause; no attempt, but the user may have been created |
//!
//! | look-up after | user found, ours | found, somebody else | not found | can't look |
//! | --- | --- | --- | --- | --- |
//! | key already used | created (recovered) | existing | send again once the key has expired | look again later |
//! | user exists, sent before | created (recovered) | existing | look again later | look again later |
//! | user exists, never sent | existing | existing | existing, without id | look again later; existing, without id |
//! | any, told before that the user exists, never sent otherwise | existing | existing | existing, without id | look again later; existing, without id |
//! | giving up | created (recovered) | existing | failed, may have been created | failed, may have been created |
//! | refused, sent before | created (recovered) | existing | send again once the key has expired; refused again then: rejected | look again later |

use std::time::Duration;

use crate::domain::answer::UnknownReason;
use crate::domain::{AccountReason, Answer, NameMark, Outcome, Problem, Timestamp};

/// The code of a job that was given up: no definite answer to any of its requests, and nobody found.
pub const ATTEMPTS_EXHAUSTED: &str = "ATTEMPTS_EXHAUSTED";

/// The code of a job that was given up: the partner says that it was sent, or that its user exists, and nobody is found.
pub const NOT_RECONCILED: &str = "NOT_RECONCILED";

/// What a job went through before the answer at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// When the job was put on the queue.
    pub enqueued_at: Timestamp,
    /// When the job was first sent in a way that may have created its user; `None`: never.
    pub first_sent_at: Option<Timestamp>,
    /// When it was last sent in a way that may have reached the partner. Without the former: it was told that the user
    /// exists before anything of it could have created one, so that they were there before.
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
        let first_sent_at = if self.was_told_existing() { None } else { Some(self.first_sent_at.unwrap_or(now)) };
        Self { first_sent_at, last_sent_at: Some(now), ..self }
    }

    /// Notes what the answer to a request proves about it. `before`: without the request.
    ///
    /// Who is told that the user exists has created nobody with this request. Who is told that the key is used and has
    /// never sent it was sent by an earlier life, within the key's life.
    #[must_use]
    pub fn learning(self, answer: &Answer, before: &Self, limits: &Limits) -> Self {
        let is_first = before.first_sent_at.is_none() && !before.was_told_existing();
        let first_sent_at = match answer {
            Answer::AlreadyThere if is_first => None,
            Answer::KeyAlreadyUsed if is_first => self.last_sent_at.map(|sent_at| sent_at.minus(limits.key_ttl)),
            _ => self.first_sent_at,
        };
        Self { first_sent_at, ..self }
    }

    /// What is left of a request whose answer was nobody's fault: it is no attempt, and counts as sent only where
    /// something may have answered in the API's place. `before`: without the request.
    #[must_use]
    pub const fn uncharged(self, before: &Self, step: &Step) -> Self {
        match step {
            Step::Pause(reason) if reason.may_have_created() => Self { attempts: before.attempts, ..self },
            _ => *before,
        }
    }

    /// Whether the partner said that the user exists when nothing of this job could have created one.
    pub const fn was_told_existing(&self) -> bool {
        self.first_sent_at.is_none() && self.last_sent_at.is_some()
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
    UserLookup(LookUpReason),
    /// Give up, but first look the user up, and not before this time has passed: until then the last request may still
    /// be worked on.
    LookUpAfter(Duration),
    /// Try again after the backoff of this many attempts.
    Retry(RetryReason),
    /// Try again, but not before this time has passed: until then the partner would refuse the key.
    RetryAfter(Duration),
    /// Nobody sends before this time has passed; `None`: the backoff decides. Not an attempt.
    Throttle(Option<Duration>),
    /// Nobody sends before the account is well again, or the API is there again. Not an attempt.
    Pause(AccountReason),
}

/// Why nothing definite is known of a job, so that it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// There was no answer, or none that says anything.
    NoAnswer(UnknownReason),
    /// A refusal in a shape that the API doesn't document, after a request that may have created the user.
    OddRefusal,
    /// The user must be there, and the list doesn't show them yet.
    NotListed,
    /// The list could not be read.
    ListNotRead,
}

impl RetryReason {
    /// All of them, with one status for all.
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
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoAnswer(reason) => reason.code(),
            Self::OddRefusal => "odd_refusal",
            Self::NotListed => "not_listed",
            Self::ListNotRead => "list_not_read",
        }
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
    GivingUp,
    /// The partner refuses a job that may have created its user before, under a code that may mean anything.
    Refused(Problem),
}

/// What the user list says about an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A user with this email.
    User(FoundUser),
    /// A user with this email and with another name than the job's: somebody else created them.
    Stranger(FoundUser),
    /// The whole list was read and it isn't there.
    Nobody,
    /// The list could not be read.
    Unavailable,
}

impl Found {
    /// As a job for somebody of this name sees it.
    #[must_use]
    pub fn seen_by(self, name: Option<NameMark>) -> Self {
        match self {
            Self::User(user) if user.name.zip(name).is_some_and(|(theirs, ours)| theirs != ours) => {
                Self::Stranger(user)
            }
            found => found,
        }
    }
}

/// A user in the partner's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundUser {
    /// `{slug}-user-{uid}`.
    pub service_id: String,
    /// `None` where the list doesn't say or can't be read.
    pub created_at: Option<Timestamp>,
    /// `None` where the list doesn't say, or it proves nothing.
    pub name: Option<NameMark>,
}

/// What a job is due for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A request.
    Send,
    /// Its last look-up, for [`LookUpReason::GivingUp`].
    UserLookup,
    /// The same after this time.
    LookUpAfter(Duration),
}

/// Decides on what to do with a job that is taken in hand.
pub fn due(history: &History, now: Timestamp, limits: &Limits) -> Due {
    if history.attempts < limits.attempts_max || history.first_sent_at.is_none() {
        return Due::Send;
    }
    match until_nothing_is_on_its_way(history, now, limits) {
        Duration::ZERO => Due::UserLookup,
        wait => Due::LookUpAfter(wait),
    }
}

/// Whether a request that only tried whether a broken API works again is charged to its job. Not as a rule: then a long
/// outage would use up everybody's attempts. But a job whose time is up must end.
pub fn is_trial_charged(history: &History, now: Timestamp, limits: &Limits) -> bool {
    history.was_told_existing() || age(history, now) >= limits.give_up_after
}

/// Decides on the answer to a request. `before`: without it; `history`: with it.
pub fn after_answer(answer: Answer, before: &History, history: &History, now: Timestamp, limits: &Limits) -> Step {
    match answer {
        Answer::Created { service_id, verification_url } => {
            Step::Finish(Outcome::Created { service_id, verification_url, recovered: false })
        }
        // Perhaps of something on the way, and an earlier request may have created the user: it proves nothing.
        Answer::Rejected { .. } if !answer.is_recognised() && before.first_sent_at.is_some() => {
            without_answer(RetryReason::OddRefusal, history, now, limits)
        }
        Answer::Rejected { ref code, ref text, status } => {
            let message = if text.is_empty() { format!("the API refused it with HTTP {status}") } else { text.clone() };
            let problem = Problem::whole(code, message);
            if before.first_sent_at.is_some() && !answer.is_conclusive() {
                return Step::UserLookup(LookUpReason::Refused(problem));
            }
            Step::Finish(Outcome::Rejected(vec![problem]))
        }
        Answer::AlreadyThere => Step::UserLookup(LookUpReason::UserExists),
        Answer::KeyAlreadyUsed => Step::UserLookup(LookUpReason::KeyUsed),
        Answer::Unknown(reason) => without_answer(RetryReason::NoAnswer(reason), history, now, limits),
        Answer::Throttled { retry_after } => Step::Throttle(retry_after),
        Answer::Account(reason) => Step::Pause(reason),
        Answer::NotSent(why) => Step::Pause(AccountReason::Unreachable(why)),
    }
}

fn without_answer(reason: RetryReason, history: &History, now: Timestamp, limits: &Limits) -> Step {
    match due(history, now, limits) {
        Due::LookUpAfter(wait) => Step::LookUpAfter(wait),
        Due::UserLookup => Step::UserLookup(LookUpReason::GivingUp),
        Due::Send if is_used_up(history, now, limits) => Step::UserLookup(LookUpReason::GivingUp),
        Due::Send => Step::Retry(reason),
    }
}

/// A cell of the table for look-ups, so that it can be told which decisions a test or a run has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the table's rows and columns")]
pub enum Row {
    KeyUsedOurs,
    KeyUsedOther,
    KeyUsedNobody,
    KeyUsedUnavailable,
    KeyUsedUsedUp,
    ExistsSentOurs,
    ExistsSentOther,
    ExistsSentNobody,
    ExistsSentUnavailable,
    ExistsSentUsedUp,
    ExistsNewFound,
    ExistsNewNobody,
    ExistsNewUnavailable,
    ExistsNewUsedUp,
    GivingUpOurs,
    GivingUpOther,
    GivingUpNobody,
    GivingUpUnavailable,
    RefusedOurs,
    RefusedOther,
    RefusedEarly,
    RefusedForGood,
    RefusedUnavailable,
    RefusedUsedUp,
}

impl Row {
    /// Every cell.
    pub const ALL: [Self; 24] = [
        Self::KeyUsedOurs,
        Self::KeyUsedOther,
        Self::KeyUsedNobody,
        Self::KeyUsedUnavailable,
        Self::KeyUsedUsedUp,
        Self::ExistsSentOurs,
        Self::ExistsSentOther,
        Self::ExistsSentNobody,
        Self::ExistsSentUnavailable,
        Self::ExistsSentUsedUp,
        Self::ExistsNewFound,
        Self::ExistsNewNobody,
        Self::ExistsNewUnavailable,
        Self::ExistsNewUsedUp,
        Self::GivingUpOurs,
        Self::GivingUpOther,
        Self::GivingUpNobody,
        Self::GivingUpUnavailable,
        Self::RefusedOurs,
        Self::RefusedOther,
        Self::RefusedEarly,
        Self::RefusedForGood,
        Self::RefusedUnavailable,
        Self::RefusedUsedUp,
    ];

    /// Its name in the log.
    pub const fn code(self) -> &'static str {
        match self {
            Self::KeyUsedOurs => "key_used_ours",
            Self::KeyUsedOther => "key_used_other",
            Self::KeyUsedNobody => "key_used_nobody",
            Self::KeyUsedUnavailable => "key_used_unavailable",
            Self::KeyUsedUsedUp => "key_used_used_up",
            Self::ExistsSentOurs => "exists_sent_ours",
            Self::ExistsSentOther => "exists_sent_other",
            Self::ExistsSentNobody => "exists_sent_nobody",
            Self::ExistsSentUnavailable => "exists_sent_unavailable",
            Self::ExistsSentUsedUp => "exists_sent_used_up",
            Self::ExistsNewFound => "exists_new_found",
            Self::ExistsNewNobody => "exists_new_nobody",
            Self::ExistsNewUnavailable => "exists_new_unavailable",
            Self::ExistsNewUsedUp => "exists_new_used_up",
            Self::GivingUpOurs => "giving_up_ours",
            Self::GivingUpOther => "giving_up_other",
            Self::GivingUpNobody => "giving_up_nobody",
            Self::GivingUpUnavailable => "giving_up_unavailable",
            Self::RefusedOurs => "refused_ours",
            Self::RefusedOther => "refused_other",
            Self::RefusedEarly => "refused_early",
            Self::RefusedForGood => "refused_for_good",
            Self::RefusedUnavailable => "refused_unavailable",
            Self::RefusedUsedUp => "refused_used_up",
        }
    }
}

/// Which cell of the table a look-up leads to. `before` is the history without the request whose answer led here: a job
/// that was never sent before can't have created anybody.
pub fn row(
    reason: &LookUpReason,
    found: &Found,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> Row {
    let sent_before = before.first_sent_at.is_some();
    // Whatever was heard since then, such as that the key of that request is used.
    let reason = if before.was_told_existing() { &LookUpReason::UserExists } else { reason };
    let is_used_up = is_used_up(history, now, limits);
    let ours = |user| is_ours(user, reason, before, history, now, limits);
    match (reason, found) {
        (LookUpReason::UserExists, Found::User(_) | Found::Stranger(_)) if !sent_before => Row::ExistsNewFound,
        (LookUpReason::UserExists, Found::Nobody) if !sent_before => Row::ExistsNewNobody,
        (LookUpReason::UserExists, Found::Unavailable) if !sent_before && is_used_up => Row::ExistsNewUsedUp,
        (LookUpReason::UserExists, Found::Unavailable) if !sent_before => Row::ExistsNewUnavailable,
        (LookUpReason::UserExists, Found::User(user)) if ours(user) => Row::ExistsSentOurs,
        (LookUpReason::UserExists, Found::User(_) | Found::Stranger(_)) => Row::ExistsSentOther,
        (LookUpReason::UserExists, _) if is_used_up => Row::ExistsSentUsedUp,
        (LookUpReason::UserExists, Found::Nobody) => Row::ExistsSentNobody,
        (LookUpReason::UserExists, Found::Unavailable) => Row::ExistsSentUnavailable,
        (LookUpReason::KeyUsed, Found::User(user)) if ours(user) => Row::KeyUsedOurs,
        (LookUpReason::KeyUsed, Found::User(_) | Found::Stranger(_)) => Row::KeyUsedOther,
        (LookUpReason::KeyUsed, _) if is_used_up => Row::KeyUsedUsedUp,
        (LookUpReason::KeyUsed, Found::Nobody) => Row::KeyUsedNobody,
        (LookUpReason::KeyUsed, Found::Unavailable) => Row::KeyUsedUnavailable,
        (LookUpReason::GivingUp, Found::User(user)) if ours(user) => Row::GivingUpOurs,
        (LookUpReason::GivingUp, Found::User(_) | Found::Stranger(_)) => Row::GivingUpOther,
        (LookUpReason::GivingUp, Found::Nobody) => Row::GivingUpNobody,
        (LookUpReason::GivingUp, Found::Unavailable) => Row::GivingUpUnavailable,
        (LookUpReason::Refused(_), Found::User(user)) if ours(user) => Row::RefusedOurs,
        (LookUpReason::Refused(_), Found::User(_) | Found::Stranger(_)) => Row::RefusedOther,
        (LookUpReason::Refused(_), Found::Nobody) if had_expired(before, history, limits) => Row::RefusedForGood,
        (LookUpReason::Refused(_), _) if is_used_up => Row::RefusedUsedUp,
        (LookUpReason::Refused(_), Found::Nobody) => Row::RefusedEarly,
        (LookUpReason::Refused(_), Found::Unavailable) => Row::RefusedUnavailable,
    }
}

/// Whether the partner had forgotten the key of all earlier requests when the last one left, so that its answer is about the job
/// and not about the key.
fn had_expired(before: &History, history: &History, limits: &Limits) -> bool {
    let life = limits.key_ttl.saturating_add(limits.clock_skew);
    before.last_sent_at.zip(history.last_sent_at).is_some_and(|(earlier, last)| last.since(earlier) >= life)
}

/// Decides on what a look-up found: what each cell of the table says.
pub fn after_look_up(
    reason: LookUpReason,
    found: Found,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> Step {
    let row = row(&reason, &found, before, history, now, limits);
    let service_id = match found {
        Found::User(user) | Found::Stranger(user) => Some(user.service_id),
        Found::Nobody | Found::Unavailable => None,
    };
    match row {
        Row::KeyUsedOurs | Row::ExistsSentOurs | Row::GivingUpOurs | Row::RefusedOurs => {
            Step::Finish(Outcome::Created {
                service_id: service_id.unwrap_or_default(),
                verification_url: None,
                recovered: true,
            })
        }
        Row::KeyUsedOther
        | Row::ExistsSentOther
        | Row::GivingUpOther
        | Row::RefusedOther
        | Row::ExistsNewFound
        | Row::ExistsNewNobody
        | Row::ExistsNewUsedUp => Step::Finish(Outcome::Existing { service_id }),
        Row::GivingUpNobody | Row::GivingUpUnavailable => Step::Finish(failed(ATTEMPTS_EXHAUSTED, history, now)),
        Row::KeyUsedUsedUp | Row::ExistsSentUsedUp | Row::RefusedUsedUp => {
            Step::Finish(failed(NOT_RECONCILED, history, now))
        }
        Row::RefusedForGood => {
            // The row says why it was looked up.
            let problem = if let LookUpReason::Refused(problem) = reason { vec![problem] } else { Vec::new() };
            Step::Finish(Outcome::Rejected(problem))
        }
        Row::KeyUsedNobody | Row::RefusedEarly => Step::RetryAfter(until_key_expires(history, now, limits)),
        Row::ExistsSentNobody => Step::Retry(RetryReason::NotListed),
        Row::KeyUsedUnavailable | Row::ExistsSentUnavailable | Row::ExistsNewUnavailable | Row::RefusedUnavailable => {
            Step::Retry(RetryReason::ListNotRead)
        }
    }
}

/// A user that is no older than the job's first send can only be ours: the email is unique. Where the list
/// doesn't say how old it is, the earlier send is the likelier explanation.
///
/// A key that is used although this job was never sent was used by an earlier life of the same request (another
/// queue, a lost database), within the life of the key.
fn is_ours(
    user: &FoundUser,
    reason: &LookUpReason,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> bool {
    let since = match (before.first_sent_at, reason) {
        (Some(first), _) => first,
        // Counted from the request: a look-up may have waited for a pause to end.
        (None, LookUpReason::KeyUsed) => history.last_sent_at.unwrap_or(now).minus(limits.key_ttl),
        (None, _) => history.first_sent_at.unwrap_or(history.enqueued_at),
    };
    user.created_at.is_none_or(|created_at| created_at > since.minus(limits.clock_skew + CREATED_AT_STEP))
}

/// A list may cut the time of creation off to whole seconds, and both clocks to milliseconds. Assumed.
const CREATED_AT_STEP: Duration = Duration::from_secs(1);

/// Time alone doesn't end a job: it may have been spent on a pause.
const ATTEMPTS_MIN: u32 = 3;

fn is_used_up(history: &History, now: Timestamp, limits: &Limits) -> bool {
    let is_old = age(history, now) >= limits.give_up_after && history.attempts >= ATTEMPTS_MIN;
    history.attempts >= limits.attempts_max || is_old
}

fn age(history: &History, now: Timestamp) -> Duration {
    history.first_sent_at.map_or(Duration::ZERO, |first| now.since(first))
}

/// How long a partner works on a request at most, after which its key says nothing new either. Assumed.
const REQUEST_LIFE_MAX: Duration = Duration::from_secs(60);

/// A look-up proves more when the last request is over. A request outlives its key in no case, nor this bound.
fn until_nothing_is_on_its_way(history: &History, now: Timestamp, limits: &Limits) -> Duration {
    let life = limits.key_ttl.min(REQUEST_LIFE_MAX) + limits.clock_skew;
    history.last_sent_at.map_or(Duration::ZERO, |last| last.plus(life).since(now))
}

/// The key's life began with a send that the partner saw, at the latest with the last one before now.
fn until_key_expires(history: &History, now: Timestamp, limits: &Limits) -> Duration {
    let expires = history.last_sent_at.unwrap_or(now).plus(limits.key_ttl).plus(limits.clock_skew);
    expires.since(now)
}

/// A job that is given up. That its requests are over is assumed, so that not even a list without the email proves that
/// nobody was created.
fn failed(code: &str, history: &History, now: Timestamp) -> Outcome {
    Outcome::Failed { problem: Problem::whole(code, no_definite_answer(history, now)), may_have_been_created: true }
}

/// What [`ATTEMPTS_EXHAUSTED`] and [`NOT_RECONCILED`] mean for a job that was given up at this time.
pub fn no_definite_answer(history: &History, given_up_at: Timestamp) -> String {
    let attempts = match history.attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    let seconds = history.first_sent_at.map_or(0, |first| given_up_at.since(first).as_secs());
    format!(
        "no definite answer in {attempts} over {seconds} s; a user may have been created: sending the same row \
         again finds them, sending it with another email would create a second one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::NoConnection;

    const T0: Timestamp = Timestamp::from_unix_ms(1_000_000_000);
    const LIMITS: Limits = Limits {
        attempts_max: 3,
        give_up_after: Duration::from_secs(86_400),
        key_ttl: Duration::from_secs(300),
        clock_skew: Duration::from_secs(30),
    };

    const TIMED_OUT: Step = Step::Retry(RetryReason::NoAnswer(UnknownReason::Timeout));
    const LIST_NOT_READ: Step = Step::Retry(RetryReason::ListNotRead);

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

    /// The decision on an answer to the last of a job's requests.
    fn answered(answer: Answer, history: &History, now: Timestamp, limits: &Limits) -> Step {
        let before = if history.attempts > 1 { *history } else { History::new(T0) };
        after_answer(answer, &before, history, now, limits)
    }

    fn look_up(reason: LookUpReason, sends: &[i64], found: Found) -> Step {
        let (before, history) = sent_at(sends);
        after_look_up(reason, found, &before, &history, at(*sends.last().unwrap()), &LIMITS)
    }

    fn user(created_second: Option<i64>) -> Found {
        Found::User(FoundUser { service_id: "acme-user-1".to_owned(), created_at: created_second.map(at), name: None })
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
    fn a_time_of_creation_in_whole_seconds_takes_nobody_from_us_even_at_the_bound() {
        let later = |ms: i64, timestamp: Timestamp| Timestamp::from_unix_ms(timestamp.unix_ms() + ms);
        // Sent late in a second and created at once; the clocks differ by as much as they may.
        let before = History::new(T0).with_send(later(999, at(0)));
        let history = before.with_send(at(60));
        for (created_at, expected) in [
            (at(-30), recovered()),
            (later(998, at(-30)), recovered()),
            (later(-1, at(-30)), existing(Some("acme-user-1"))),
        ] {
            let found = FoundUser { service_id: "acme-user-1".to_owned(), created_at: Some(created_at), name: None };
            let found = Found::User(found);
            let step = after_look_up(LookUpReason::UserExists, found, &before, &history, at(60), &LIMITS);
            assert_eq!(step, expected, "{created_at}");
        }
    }

    #[test]
    fn a_user_of_another_name_is_nobody_whom_this_job_created() {
        let (ann, eve) = (NameMark::of("Ann", "Lee"), NameMark::of("Eve", "Lee"));
        let found = |name| {
            let user = FoundUser { service_id: "acme-user-1".to_owned(), created_at: Some(at(1)), name };
            Found::User(user).seen_by(ann)
        };
        for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists, LookUpReason::GivingUp] {
            assert_eq!(look_up(reason.clone(), &[0, 60], found(eve)), existing(Some("acme-user-1")), "{reason:?}");
            // A name that can't be compared proves nothing.
            for name in [ann, None] {
                assert_eq!(look_up(reason.clone(), &[0, 60], found(name)), recovered(), "{reason:?}");
            }
        }
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
    fn a_key_used_by_an_earlier_life_recovers_its_user_however_long_the_look_up_took() {
        let (before, history) = sent_at(&[10]);
        let step = after_look_up(LookUpReason::KeyUsed, user(Some(-200)), &before, &history, at(5_000), &LIMITS);
        assert_eq!(step, recovered());
    }

    #[test]
    fn a_repetition_says_what_kind_of_answer_was_missing() {
        let (_, history) = sent_at(&[0, 60]);
        for reason in [
            UnknownReason::Timeout,
            UnknownReason::ConnectionLost,
            UnknownReason::ServerError(503),
            UnknownReason::Unreadable,
        ] {
            let step = answered(Answer::Unknown(reason), &history, at(60), &LIMITS);
            assert_eq!(step, Step::Retry(RetryReason::NoAnswer(reason)));
            assert!(RetryReason::ALL.iter().any(|known| known.code() == reason.code()), "{reason:?}");
        }
        let codes: std::collections::BTreeSet<_> = RetryReason::ALL.into_iter().map(RetryReason::code).collect();
        assert_eq!(codes.len(), RetryReason::ALL.len());
    }

    #[test]
    fn every_cell_of_the_table_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Row::ALL.into_iter().map(Row::code).collect();
        assert_eq!(names.len(), Row::ALL.len());
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
        assert_eq!(look_up(LookUpReason::UserExists, &[0], Found::Unavailable), LIST_NOT_READ);
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 1, 2], user(Some(1))), recovered());
    }

    #[test]
    fn who_was_told_existing_before_anything_was_created_stays_so_whatever_is_heard_later() {
        let fresh = History::new(T0);
        let first = fresh.with_send(at(0)).learning(&Answer::AlreadyThere, &fresh, &LIMITS);
        assert!(first.was_told_existing());
        // The key of that request is still known, or an answer was lost; the list doesn't say how old the user is.
        let second = first.with_send(at(60));
        for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists, LookUpReason::GivingUp] {
            let step =
                |found, history: &History| after_look_up(reason.clone(), found, &first, history, at(60), &LIMITS);
            assert_eq!(step(user(None), &second), existing(Some("acme-user-1")), "{reason:?}");
            assert_eq!(step(user(Some(1)), &second), existing(Some("acme-user-1")), "{reason:?}");
            assert_eq!(step(Found::Nobody, &second), existing(None), "{reason:?}");
            assert_eq!(step(Found::Unavailable, &second), LIST_NOT_READ, "{reason:?}");
            let used_up = History { attempts: 3, ..second };
            assert_eq!(step(Found::Unavailable, &used_up), existing(None), "{reason:?}");
        }
        // One that was sent before, with a lost answer, stays a job that was sent.
        let lost = fresh.with_send(at(0));
        let told = lost.with_send(at(60)).learning(&Answer::AlreadyThere, &lost, &LIMITS);
        assert_eq!(told.first_sent_at, Some(at(0)));
    }

    #[test]
    fn a_key_used_by_an_earlier_life_recovers_its_user_at_the_second_look_too() {
        let fresh = History::new(T0);
        let first = fresh.with_send(at(500)).learning(&Answer::KeyAlreadyUsed, &fresh, &LIMITS);
        assert_eq!(first.first_sent_at, Some(at(200)));
        let step = |reason, created| {
            after_look_up(reason, user(Some(created)), &first, &first.with_send(at(900)), at(900), &LIMITS)
        };
        for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists] {
            assert_eq!(step(reason.clone(), 300), recovered(), "{reason:?}");
            assert_eq!(step(reason.clone(), 100), existing(Some("acme-user-1")), "{reason:?}");
        }
    }

    #[test]
    fn a_refusal_that_can_not_be_read_proves_nothing_about_an_earlier_request() {
        let odd = || Answer::Rejected { status: 400, code: "HTTP_400".to_owned(), text: String::new() };
        let (_, first) = sent_at(&[0]);
        assert!(matches!(answered(odd(), &first, at(0), &LIMITS), Step::Finish(Outcome::Rejected(_))));
        let (_, second) = sent_at(&[0, 60]);
        assert_eq!(answered(odd(), &second, at(60), &LIMITS), Step::Retry(RetryReason::OddRefusal));
        let (_, last) = sent_at(&[0, 60, 120]);
        assert_eq!(answered(odd(), &last, at(120), &LIMITS), Step::LookUpAfter(Duration::from_secs(90)));
        // Redelivered within the millisecond in which it was enqueued.
        let redelivered = History { first_sent_at: Some(T0), ..History::new(T0) };
        let again = History { attempts: 1, ..redelivered.with_send(T0) };
        assert_eq!(after_answer(odd(), &redelivered, &again, T0, &LIMITS), Step::Retry(RetryReason::OddRefusal));
        let told = Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() };
        assert!(matches!(answered(told, &second, at(60), &LIMITS), Step::Finish(Outcome::Rejected(_))));
    }

    #[test]
    fn a_refusal_under_a_code_that_is_not_documented_is_looked_up_where_the_user_may_have_been_created() {
        let refusal =
            || Answer::Rejected { status: 409, code: "KEY_REUSED".to_owned(), text: "sent before".to_owned() };
        let problem = || Problem::whole("KEY_REUSED", "sent before".to_owned());
        let refused = || LookUpReason::Refused(problem());
        let rejected = || Step::Finish(Outcome::Rejected(vec![problem()]));
        let (_, first) = sent_at(&[0]);
        assert_eq!(answered(refusal(), &first, at(0), &LIMITS), rejected());
        let (_, second) = sent_at(&[0, 60]);
        assert_eq!(answered(refusal(), &second, at(60), &LIMITS), Step::UserLookup(refused()));

        assert_eq!(look_up(refused(), &[0, 60], user(Some(1))), recovered());
        let others = existing(Some("acme-user-1"));
        assert_eq!(look_up(refused(), &[0, 60], user(Some(-600))), others, "the email is taken, whatever it meant");
        // It may have been the key: with a new one the partner says what it means.
        let (before, history) = sent_at(&[0, 60]);
        let early = after_look_up(refused(), Found::Nobody, &before, &history, at(61), &LIMITS);
        assert_eq!(early, Step::RetryAfter(Duration::from_secs(300 + 30 - 1)));
        assert_eq!(look_up(refused(), &[0, 329], Found::Nobody), Step::RetryAfter(Duration::from_secs(330)));
        assert_eq!(look_up(refused(), &[0, 330], Found::Nobody), rejected());
        assert_eq!(look_up(refused(), &[0, 60], Found::Unavailable), LIST_NOT_READ);
        for found in [Found::Nobody, Found::Unavailable] {
            let used_up = look_up(refused(), &[0, 60, 120], found);
            assert_eq!(failed_as(&used_up), Some(("NOT_RECONCILED".to_owned(), true)));
        }
    }

    #[test]
    fn an_existing_email_of_a_job_that_was_sent_before_is_ours_unless_it_is_older() {
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], user(Some(1))), recovered());
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], user(Some(-600))), existing(Some("acme-user-1")));
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], Found::Nobody), Step::Retry(RetryReason::NotListed));
        assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], Found::Unavailable), LIST_NOT_READ);
    }

    #[test]
    fn giving_up_looks_first_and_says_whether_somebody_may_have_been_created() {
        let (_, history) = sent_at(&[0, 1, 2]);
        let lost = Answer::Unknown(UnknownReason::Timeout);
        // Until the last request can't be on its way any more: a minute, and the clocks' difference.
        assert_eq!(answered(lost.clone(), &history, at(2), &LIMITS), Step::LookUpAfter(Duration::from_secs(90)));
        assert_eq!(answered(lost.clone(), &history, at(92), &LIMITS), Step::UserLookup(LookUpReason::GivingUp));
        let (_, early) = sent_at(&[0, 1]);
        assert_eq!(answered(lost, &early, at(2), &LIMITS), TIMED_OUT);

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
    fn a_job_without_attempts_left_is_looked_up_and_not_sent_however_often_it_comes_back() {
        let (_, early) = sent_at(&[0, 1]);
        assert_eq!(due(&early, at(2), &LIMITS), Due::Send);
        let (_, history) = sent_at(&[0, 1, 2]);
        assert_eq!(due(&history, at(12), &LIMITS), Due::LookUpAfter(Duration::from_secs(80)));
        assert_eq!(due(&history, at(92), &LIMITS), Due::UserLookup);
        // A key that lives shorter bounds the request's life too; a gateway that replays has none.
        let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
        assert_eq!(due(&history, at(2), &replays), Due::LookUpAfter(Duration::from_secs(30)));
    }

    #[test]
    fn trials_of_a_broken_api_cost_a_job_nothing_before_its_time_is_up() {
        let (_, history) = sent_at(&[0]);
        assert!(!is_trial_charged(&history, at(86_399), &LIMITS));
        assert!(is_trial_charged(&history, at(86_400), &LIMITS));
        assert!(!is_trial_charged(&History::new(T0), at(100_000), &LIMITS), "never sent");
    }

    #[test]
    fn a_gateway_that_replays_gives_the_first_answer_and_its_link_again() {
        let (_, history) = sent_at(&[0, 60]);
        let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
        let replayed = Answer::Created {
            service_id: "acme-user-1".to_owned(),
            verification_url: Some("https://v.example/1".to_owned()),
        };
        let Step::Finish(Outcome::Created { verification_url, recovered, .. }) =
            answered(replayed, &history, at(60), &replays)
        else {
            unreachable!("it is a creation")
        };
        assert_eq!((verification_url.as_deref(), recovered), (Some("https://v.example/1"), false));
    }

    #[test]
    fn a_replaying_gateway_that_says_key_used_is_still_at_work_on_the_first_request() {
        let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
        let (before, history) = sent_at(&[0, 60]);
        let found = |found| after_look_up(LookUpReason::KeyUsed, found, &before, &history, at(60), &replays);
        // Nobody yet: there is no key to expire, only the clocks' difference to wait for.
        assert_eq!(found(Found::Nobody), Step::RetryAfter(Duration::from_secs(30)));
        assert_eq!(found(user(Some(1))), recovered());
        let even = Limits { clock_skew: Duration::ZERO, ..replays };
        let step = after_look_up(LookUpReason::KeyUsed, Found::Nobody, &before, &history, at(60), &even);
        assert_eq!(step, Step::RetryAfter(Duration::ZERO), "the backoff decides");
        // Never sent by this job: only who is brand-new can be of an earlier life.
        let (before, history) = sent_at(&[60]);
        let found = |found| after_look_up(LookUpReason::KeyUsed, found, &before, &history, at(60), &replays);
        assert_eq!(found(user(Some(40))), recovered());
        assert_eq!(found(user(Some(20))), existing(Some("acme-user-1")));
    }

    #[test]
    fn a_key_expires_counted_from_the_last_request_that_may_have_reached_the_partner() {
        let (before, history) = sent_at(&[0, 10, 200]);
        let limits = Limits { attempts_max: 8, ..LIMITS };
        let step = after_look_up(LookUpReason::KeyUsed, Found::Nobody, &before, &history, at(201), &limits);
        assert_eq!(step, Step::RetryAfter(Duration::from_secs(300 + 30 - 1)));
    }

    #[test]
    fn a_used_key_that_can_not_be_looked_up_is_tried_again_later() {
        assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], Found::Unavailable), LIST_NOT_READ);
    }

    #[test]
    fn an_answer_about_the_job_ends_it_whether_or_not_it_was_sent_before() {
        for sends in [&[0][..], &[0, 60]] {
            let (_, history) = sent_at(sends);
            let created = Answer::Created { service_id: "acme-user-1".to_owned(), verification_url: None };
            let step = answered(created, &history, at(60), &LIMITS);
            assert!(matches!(step, Step::Finish(Outcome::Created { recovered: false, .. })), "{step:?}");
            let refused = Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() };
            let step = answered(refused, &history, at(60), &LIMITS);
            assert!(
                matches!(&step, Step::Finish(Outcome::Rejected(problems)) if problems[0].code == "USER_BLACKLISTED")
            );
            assert_eq!(
                answered(Answer::KeyAlreadyUsed, &history, at(60), &LIMITS),
                Step::UserLookup(LookUpReason::KeyUsed)
            );
            assert_eq!(
                answered(Answer::AlreadyThere, &history, at(60), &LIMITS),
                Step::UserLookup(LookUpReason::UserExists)
            );
        }
    }

    #[test]
    fn looking_again_and_again_ends_as_a_failure_that_says_what_is_unknown() {
        for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists] {
            for found in [Found::Nobody, Found::Unavailable] {
                let step = look_up(reason.clone(), &[0, 1, 2], found);
                assert_eq!(failed_as(&step), Some(("NOT_RECONCILED".to_owned(), true)), "{reason:?}");
            }
        }
    }

    #[test]
    fn time_alone_does_not_end_a_job_that_was_hardly_tried() {
        let lost = || Answer::Unknown(UnknownReason::Timeout);
        let limits = Limits { attempts_max: 8, ..LIMITS };
        let (_, twice) = sent_at(&[0, 1]);
        assert_eq!(answered(lost(), &twice, at(200_000), &limits), TIMED_OUT);
        let (_, thrice) = sent_at(&[0, 1, 2]);
        assert_eq!(answered(lost(), &thrice, at(3), &limits), TIMED_OUT);
        assert_eq!(answered(lost(), &thrice, at(200_000), &limits), Step::UserLookup(LookUpReason::GivingUp));
    }

    #[test]
    fn answers_that_are_nobodys_fault_neither_finish_nor_retry_the_job() {
        let (_, history) = sent_at(&[0, 1, 2, 3, 4]);
        let wait = Some(Duration::from_secs(7));
        let throttled = Answer::Throttled { retry_after: wait };
        assert_eq!(answered(throttled, &history, at(4), &LIMITS), Step::Throttle(wait));
        let revoked = Answer::Account(AccountReason::Unauthorized);
        assert_eq!(answered(revoked, &history, at(4), &LIMITS), Step::Pause(AccountReason::Unauthorized));
        let not_sent = Answer::NotSent(NoConnection::Dns);
        let pause = Step::Pause(AccountReason::Unreachable(NoConnection::Dns));
        assert_eq!(answered(not_sent, &history, at(4), &LIMITS), pause);
        let page = Answer::Account(AccountReason::NotTheApi);
        assert_eq!(answered(page, &history, at(4), &LIMITS), Step::Pause(AccountReason::NotTheApi));
    }

    #[test]
    fn what_is_nobodys_fault_is_no_attempt_and_only_a_page_in_the_apis_place_counts_as_sent() {
        for sends in [&[0][..], &[0, 60]] {
            let (before, history) = sent_at(sends);
            let wait = Step::Throttle(Some(Duration::from_secs(7)));
            assert_eq!(history.uncharged(&before, &wait), before);
            for reason in AccountReason::ALL {
                let left = history.uncharged(&before, &Step::Pause(reason));
                let expected = match reason {
                    AccountReason::NotTheApi => History { attempts: before.attempts, ..history },
                    _ => before,
                };
                assert_eq!(left, expected, "{reason:?}");
            }
        }
        // Hence who is told afterwards that the user exists knows that it may be the job's own.
        let (fresh, first) = sent_at(&[0]);
        let before = first.uncharged(&fresh, &Step::Pause(AccountReason::NotTheApi));
        let history = before.with_send(at(60)).learning(&Answer::AlreadyThere, &before, &LIMITS);
        let step = after_look_up(LookUpReason::UserExists, user(Some(1)), &before, &history, at(60), &LIMITS);
        assert_eq!(step, recovered());
        // Who was told before anything of it was sent stays told.
        let told = fresh.with_send(at(0)).learning(&Answer::AlreadyThere, &fresh, &LIMITS);
        let again = told.with_send(at(60)).uncharged(&told, &Step::Pause(AccountReason::NotTheApi));
        assert!(again.was_told_existing());
    }
}
