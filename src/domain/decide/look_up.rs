//! Decides on the next step after a look-up in the user list: the second table of [`super`].

use std::time::Duration;

use super::{ATTEMPTS_EXHAUSTED, History, ID_NOT_FOUND, Limits, LookUpReason, LookUpStep, NOT_RECONCILED, RetryReason};
use crate::domain::{LinkLoss, NameMark, Outcome, Problem, ServiceId, Timestamp};

/// What the user list says about an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUpResult {
    /// A user with this email.
    User(FoundUser),
    /// A user with this email that another job or another system created.
    OtherUser(FoundUser),
    /// The whole list was read and the email isn't in it.
    NotFound,
    /// The list could not be read.
    Unavailable,
}

impl LookUpResult {
    /// Turns a user with another name than the job's into [`LookUpResult::OtherUser`].
    #[must_use]
    pub fn compared_with(self, name: Option<NameMark>) -> Self {
        match self {
            Self::User(user) if user.name.zip(name).is_some_and(|(theirs, ours)| theirs != ours) => {
                Self::OtherUser(user)
            }
            result => result,
        }
    }
}

/// A user in the partner's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundUser {
    /// `{slug}-user-{uid}`.
    pub service_id: ServiceId,
    /// `None` where the list doesn't say or can't be read.
    pub created_at: Option<Timestamp>,
    /// `None` where the list has no name, or one that can't be compared.
    pub name: Option<NameMark>,
}

/// Which users a look-up must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUpScope {
    /// Those created after this time. If there is none, the job is sent or looked up again, so that an older one is
    /// found later.
    CreatedAfter(Timestamp),
    /// All.
    WholeList,
}

impl LookUpScope {
    /// Returns whether a look-up of this scope finds every user that one of the other scope finds.
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::WholeList, _) => true,
            (Self::CreatedAfter(_), Self::WholeList) => false,
            (Self::CreatedAfter(ours), Self::CreatedAfter(theirs)) => ours <= theirs,
        }
    }
}

/// Returns which users this look-up must find. The arguments are those of [`look_up_case`].
pub fn look_up_scope(
    reason: &LookUpReason,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> LookUpScope {
    let is_last = history.is_exhausted(now, limits) || before.existed_before();
    match reason {
        LookUpReason::KeyUsed if !is_last => {
            LookUpScope::CreatedAfter(created_after(reason, before, history, now, limits))
        }
        LookUpReason::IdMissing(_) => LookUpScope::CreatedAfter(created_after(reason, before, history, now, limits)),
        LookUpReason::KeyUsed
        | LookUpReason::UserExists
        | LookUpReason::AttemptsExhausted
        | LookUpReason::Refused(_) => LookUpScope::WholeList,
    }
}

/// A case of the table for look-ups. The log names it, so that a test can check which cases a run has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the table's rows and columns")]
pub enum LookUpCase {
    KeyUsedOurs,
    KeyUsedOther,
    KeyUsedNotFound,
    KeyUsedUnavailable,
    KeyUsedExhausted,
    ExistsSentOurs,
    ExistsSentOther,
    ExistsSentNotFound,
    ExistsSentUnavailable,
    ExistsSentExhausted,
    ExistsNewFound,
    ExistsNewNotFound,
    ExistsNewUnavailable,
    ExistsNewExhausted,
    AttemptsExhaustedOurs,
    AttemptsExhaustedOther,
    AttemptsExhaustedNotFound,
    AttemptsExhaustedUnavailable,
    RefusedOurs,
    RefusedOther,
    RefusedEarly,
    RefusedForGood,
    RefusedUnavailable,
    RefusedExhausted,
    IdMissingOurs,
    IdMissingOther,
    IdMissingNotFound,
    IdMissingUnavailable,
    IdMissingExhausted,
}

impl LookUpCase {
    /// Its name in the log.
    pub fn code(self) -> &'static str {
        self.into()
    }
}

/// Returns the case of the table for a look-up. `before` is the history without the request whose answer caused the
/// look-up: a job that was never sent before that request can't have created a user.
pub fn look_up_case(
    reason: &LookUpReason,
    result: &LookUpResult,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> LookUpCase {
    let sent_before = before.first_sent_at.is_some();
    // The user existed before the first request, so no later answer (the key of that request is used, say) matters.
    let is_decided = before.existed_before() && !matches!(reason, LookUpReason::IdMissing(_));
    let reason = if is_decided { &LookUpReason::UserExists } else { reason };
    let is_exhausted = history.is_exhausted(now, limits);
    let ours = |user| is_ours(user, reason, before, history, now, limits);
    match (reason, result) {
        (LookUpReason::UserExists, LookUpResult::User(_) | LookUpResult::OtherUser(_)) if !sent_before => {
            LookUpCase::ExistsNewFound
        }
        (LookUpReason::UserExists, LookUpResult::NotFound) if !sent_before => LookUpCase::ExistsNewNotFound,
        (LookUpReason::UserExists, LookUpResult::Unavailable) if !sent_before && is_exhausted => {
            LookUpCase::ExistsNewExhausted
        }
        (LookUpReason::UserExists, LookUpResult::Unavailable) if !sent_before => LookUpCase::ExistsNewUnavailable,
        (LookUpReason::UserExists, LookUpResult::User(user)) if ours(user) => LookUpCase::ExistsSentOurs,
        (LookUpReason::UserExists, LookUpResult::User(_) | LookUpResult::OtherUser(_)) => LookUpCase::ExistsSentOther,
        (LookUpReason::UserExists, _) if is_exhausted => LookUpCase::ExistsSentExhausted,
        (LookUpReason::UserExists, LookUpResult::NotFound) => LookUpCase::ExistsSentNotFound,
        (LookUpReason::UserExists, LookUpResult::Unavailable) => LookUpCase::ExistsSentUnavailable,
        (LookUpReason::KeyUsed, LookUpResult::User(user)) if ours(user) => LookUpCase::KeyUsedOurs,
        (LookUpReason::KeyUsed, LookUpResult::User(_) | LookUpResult::OtherUser(_)) => LookUpCase::KeyUsedOther,
        (LookUpReason::KeyUsed, _) if is_exhausted => LookUpCase::KeyUsedExhausted,
        (LookUpReason::KeyUsed, LookUpResult::NotFound) => LookUpCase::KeyUsedNotFound,
        (LookUpReason::KeyUsed, LookUpResult::Unavailable) => LookUpCase::KeyUsedUnavailable,
        (LookUpReason::AttemptsExhausted, LookUpResult::User(user)) if ours(user) => LookUpCase::AttemptsExhaustedOurs,
        (LookUpReason::AttemptsExhausted, LookUpResult::User(_) | LookUpResult::OtherUser(_)) => {
            LookUpCase::AttemptsExhaustedOther
        }
        (LookUpReason::AttemptsExhausted, LookUpResult::NotFound) => LookUpCase::AttemptsExhaustedNotFound,
        (LookUpReason::AttemptsExhausted, LookUpResult::Unavailable) => LookUpCase::AttemptsExhaustedUnavailable,
        (LookUpReason::Refused(_), LookUpResult::User(user)) if ours(user) => LookUpCase::RefusedOurs,
        (LookUpReason::Refused(_), LookUpResult::User(_) | LookUpResult::OtherUser(_)) => LookUpCase::RefusedOther,
        (LookUpReason::Refused(_), LookUpResult::NotFound) if had_expired(before, history, limits) => {
            LookUpCase::RefusedForGood
        }
        (LookUpReason::Refused(_), _) if is_exhausted => LookUpCase::RefusedExhausted,
        (LookUpReason::Refused(_), LookUpResult::NotFound) => LookUpCase::RefusedEarly,
        (LookUpReason::Refused(_), LookUpResult::Unavailable) => LookUpCase::RefusedUnavailable,
        (LookUpReason::IdMissing(_), LookUpResult::User(user)) if ours(user) => LookUpCase::IdMissingOurs,
        (LookUpReason::IdMissing(_), LookUpResult::User(_) | LookUpResult::OtherUser(_)) => LookUpCase::IdMissingOther,
        (LookUpReason::IdMissing(_), _) if history.since_last_request(now) >= ID_LOOK_UP_MAX => {
            LookUpCase::IdMissingExhausted
        }
        (LookUpReason::IdMissing(_), LookUpResult::NotFound) => LookUpCase::IdMissingNotFound,
        (LookUpReason::IdMissing(_), LookUpResult::Unavailable) => LookUpCase::IdMissingUnavailable,
    }
}

/// Returns whether the key of every earlier request had expired when the last request was sent. The answer to it is
/// then about the job and not about the key.
fn had_expired(before: &History, history: &History, limits: &Limits) -> bool {
    let life = limits.key_ttl.saturating_add(limits.clock_skew);
    before.last_sent_at.zip(history.last_sent_at).is_some_and(|(earlier, last)| last.since(earlier) >= life)
}

/// Decides on the next step after a look-up, by its case in the table.
pub fn after_look_up(
    reason: LookUpReason,
    result: LookUpResult,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> LookUpStep {
    let case = look_up_case(&reason, &result, before, history, now, limits);
    let service_id = match result {
        LookUpResult::User(user) | LookUpResult::OtherUser(user) => Some(user.service_id),
        LookUpResult::NotFound | LookUpResult::Unavailable => None,
    };
    match case {
        LookUpCase::KeyUsedOurs
        | LookUpCase::ExistsSentOurs
        | LookUpCase::AttemptsExhaustedOurs
        | LookUpCase::RefusedOurs
        | LookUpCase::IdMissingOurs => LookUpStep::Finish(match service_id {
            Some(service_id) => created(service_id, reason),
            // Only a user that was found leads to these cases.
            None => failed(NOT_RECONCILED, history, now),
        }),
        LookUpCase::KeyUsedOther
        | LookUpCase::ExistsSentOther
        | LookUpCase::AttemptsExhaustedOther
        | LookUpCase::RefusedOther
        | LookUpCase::IdMissingOther
        | LookUpCase::ExistsNewFound
        | LookUpCase::ExistsNewNotFound
        | LookUpCase::ExistsNewExhausted => LookUpStep::Finish(Outcome::Existing { service_id }),
        LookUpCase::AttemptsExhaustedNotFound | LookUpCase::AttemptsExhaustedUnavailable => {
            LookUpStep::Finish(failed(ATTEMPTS_EXHAUSTED, history, now))
        }
        LookUpCase::KeyUsedExhausted | LookUpCase::ExistsSentExhausted | LookUpCase::RefusedExhausted => {
            LookUpStep::Finish(failed(NOT_RECONCILED, history, now))
        }
        LookUpCase::RefusedForGood => {
            // Only this reason leads to this case.
            let problem = if let LookUpReason::Refused(problem) = reason { vec![problem] } else { Vec::new() };
            LookUpStep::Finish(Outcome::Rejected(problem))
        }
        LookUpCase::KeyUsedNotFound | LookUpCase::RefusedEarly => {
            LookUpStep::RetryAfter(history.until_key_expires(now, limits))
        }
        LookUpCase::ExistsSentNotFound => LookUpStep::Retry(RetryReason::NotListed),
        LookUpCase::KeyUsedUnavailable
        | LookUpCase::ExistsSentUnavailable
        | LookUpCase::ExistsNewUnavailable
        | LookUpCase::RefusedUnavailable => LookUpStep::Retry(RetryReason::ListNotRead),
        LookUpCase::IdMissingNotFound | LookUpCase::IdMissingUnavailable => {
            // The delay doubles with each look-up.
            let delay = history.since_last_request(now).clamp(ID_LOOK_UP_DELAY_MIN, ID_LOOK_UP_DELAY_MAX);
            LookUpStep::LookUpAgain(delay)
        }
        LookUpCase::IdMissingExhausted => LookUpStep::Finish(id_not_found()),
    }
}

/// How long a user is looked up whose id the API left out. The job is held in memory with its link for this time: less
/// than the ten minutes after which a waiting job is requeued.
const ID_LOOK_UP_MAX: Duration = Duration::from_secs(540);

/// Shortest delay between these look-ups.
const ID_LOOK_UP_DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest delay between these look-ups.
const ID_LOOK_UP_DELAY_MAX: Duration = Duration::from_secs(60);

/// Returns the delay before the next look-up of a user whose id the API left out, which doubles with each one; `None`:
/// it was looked up for long enough.
pub(super) fn id_look_up_delay(history: &History, now: Timestamp) -> Option<Duration> {
    let since = history.since_last_request(now);
    (since < ID_LOOK_UP_MAX).then(|| since.clamp(ID_LOOK_UP_DELAY_MIN, ID_LOOK_UP_DELAY_MAX))
}

/// Returns the outcome of a job whose user was found. `reason` is why the user was looked up.
fn created(service_id: ServiceId, reason: LookUpReason) -> Outcome {
    match reason {
        LookUpReason::IdMissing(link) => Outcome::Created { service_id, link: Ok(link), recovered: false },
        LookUpReason::KeyUsed
        | LookUpReason::UserExists
        | LookUpReason::AttemptsExhausted
        | LookUpReason::Refused(_) => Outcome::Created { service_id, link: Err(LinkLoss::LostAnswer), recovered: true },
    }
}

/// Returns whether this job created the user. The email is unique, so a user that is no older than the job's first
/// request is this job's. Where the list doesn't say how old the user is, the earlier request is the likelier source.
///
/// A key that is used although this job was never sent was used by the same request from another queue or a lost
/// database, within the lifetime of the key.
fn is_ours(
    user: &FoundUser,
    reason: &LookUpReason,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> bool {
    user.created_at.is_none_or(|created_at| created_at > created_after(reason, before, history, now, limits))
}

/// Returns the time after which this job's user was created, by the times in the list.
fn created_after(
    reason: &LookUpReason,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> Timestamp {
    let since = match (before.first_sent_at, reason) {
        (Some(first), _) => first,
        // Counted from the request and not from now: the look-up may have waited until a pause ended.
        (None, LookUpReason::KeyUsed) => history.last_sent_at.unwrap_or(now).minus(limits.key_ttl),
        (None, _) => history.first_sent_at.unwrap_or(history.enqueued_at),
    };
    since.minus(limits.clock_skew + CREATED_AT_STEP)
}

/// A list may truncate the time of creation to whole seconds, and both clocks to milliseconds. Assumed.
const CREATED_AT_STEP: Duration = Duration::from_secs(1);

/// Returns the outcome of a job that has no attempts or time left. Its last request may still be running, so even a
/// list without the email doesn't prove that no user was created.
fn failed(code: &str, history: &History, now: Timestamp) -> Outcome {
    Outcome::Failed { problem: Problem::whole(code, no_definite_answer(history, now)), may_have_been_created: true }
}

/// Returns the outcome of a job whose answer has a link and no id, and whose user isn't in the list.
pub fn id_not_found() -> Outcome {
    let message = "the API created the user and sent its link without a serviceId, and the user isn't in the user list: \
                   the event of this row has the link (verificationUrl), so send it to the person; a retry finds the \
                   serviceId when the list has the user";
    Outcome::Failed { problem: Problem::whole(ID_NOT_FOUND, message), may_have_been_created: true }
}

/// Explains [`ATTEMPTS_EXHAUSTED`] and [`NOT_RECONCILED`] for a job that failed at this time.
pub fn no_definite_answer(history: &History, failed_at: Timestamp) -> String {
    let attempts = match history.attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    let seconds = history.first_sent_at.map_or(0, |first| failed_at.since(first).as_secs());
    format!(
        "no definite answer in {attempts} over {seconds} s; a user may have been created: sending the same row \
         again finds that user, sending it with another email would create a second one"
    )
}
