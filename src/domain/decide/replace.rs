//! Re-creation: a user who isn't approved is deleted and created again, because the link can't be had in another way.
//!
//! Each round begins with a look at the user list. What the list says about the job's email decides:
//!
//! | listed | condition | next step |
//! | --- | --- | --- |
//! | another user | younger than the job | finish: created (recovered) |
//! | another user | older, of unknown age, or another job's | finish: existing |
//! | the replaced user | its status is one of the closed list of unapproved ones | delete it, then create |
//! | the replaced user | approved, or of unknown status | finish: rejected, nothing was changed |
//! | the replaced user | the creation was refused, because the user exists or the key was used | wait, look again |
//! | neither | a deletion may have been sent | create |
//! | neither | no deletion was sent | finish: rejected |
//! | the replaced user with another email | | finish: rejected |
//! | not read | | look again; counts as an attempt |
//!
//! **Invariants**
//! - The first request of a re-creation is the deletion. So [`History::first_sent_at`] says whether it may have been sent,
//!   on every queue.
//! - The creation has the same key in all rounds, so two deliveries of the job create one user.

use std::time::Duration;

use super::{ATTEMPTS_EXHAUSTED, FoundUser, History, Limits, LookUpReason, NOT_RECONCILED};
use crate::domain::{LinkLoss, Outcome, Problem, Timestamp, UserStatus};

/// Most rounds of deletion and creation. Each takes two requests at least.
const ROUNDS_MAX: u32 = 5;

/// Code of a job whose user to replace doesn't exist.
const REPLACED_USER_NOT_FOUND: &str = "REPLACED_USER_NOT_FOUND";

/// Code of a job whose user to replace is approved.
const REPLACED_USER_APPROVED: &str = "REPLACED_USER_APPROVED";

/// Code of a job whose user to replace may be approved.
const REPLACED_USER_STATUS_UNKNOWN: &str = "REPLACED_USER_STATUS_UNKNOWN";

/// What the user list says about the email of a re-creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaceLookUp {
    /// The user to replace has this email. Its status; `None`: the list doesn't say.
    Replaced(Option<UserStatus>),
    /// Another user has this email.
    Other {
        /// The user.
        user: FoundUser,
        /// Whether it is known to be another person's or another job's.
        is_foreign: bool,
    },
    /// The user to replace has another email, and no user has this one.
    OtherEmail,
    /// No user has this email.
    Neither,
    /// The list could not be read.
    Unavailable,
}

/// What to do with a re-creation after a look at the user list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaceStep {
    /// Delete the user, if the look isn't too old.
    Delete,
    /// Create the user.
    Create,
    /// Finish the job with this outcome.
    Finish(Outcome),
    /// Look again after this delay, or the backoff if that is longer.
    LookAgain {
        /// Code for the log.
        reason: &'static str,
        /// Shortest delay.
        delay: Duration,
        /// Whether this counts as an attempt.
        is_charged: bool,
    },
}

/// Returns the limits of a re-creation: deletions count as attempts too, and each needs another one for the creation.
pub const fn recreation_limits(limits: Limits) -> Limits {
    Limits { attempts_max: 2 * ROUNDS_MAX, ..limits }
}

/// Decides after a look at the user list. `reason`: what the creation was answered; `None` at the start of a round.
/// `before` is the history without the last request. `limits` are those of [`recreation_limits`].
pub fn after_replace_look_up(
    reason: Option<&LookUpReason>,
    found: ReplaceLookUp,
    before: &History,
    history: &History,
    now: Timestamp,
    limits: &Limits,
) -> ReplaceStep {
    if let ReplaceLookUp::Other { user, is_foreign } = found {
        return ReplaceStep::Finish(other_user(reason, user, is_foreign, history, limits));
    }
    if let Some(LookUpReason::IdMissing(_)) = reason {
        return id_missing(history, now);
    }
    match (&found, reason) {
        (ReplaceLookUp::OtherEmail, _) => return rejected(REPLACED_USER_NOT_FOUND, OTHER_EMAIL),
        (ReplaceLookUp::Replaced(status), None | Some(LookUpReason::AttemptsExhausted)) => {
            if let Some(refusal) = refusal(status.as_ref()) {
                return refusal;
            }
        }
        (ReplaceLookUp::Neither, _) if history.first_sent_at.is_none() => {
            return rejected(REPLACED_USER_NOT_FOUND, NOT_LISTED);
        }
        (ReplaceLookUp::Neither | ReplaceLookUp::Replaced(_), Some(LookUpReason::Refused(problem)))
            if had_expired(before, history, limits) =>
        {
            return ReplaceStep::Finish(Outcome::Rejected(vec![problem.clone()]));
        }
        _ => {}
    }
    if let Some(end) = exhausted(&found, history, now, limits) {
        return end;
    }
    let again = |reason, delay| ReplaceStep::LookAgain { reason, delay, is_charged: false };
    match (found, reason) {
        (ReplaceLookUp::Replaced(_), None | Some(LookUpReason::AttemptsExhausted)) => ReplaceStep::Delete,
        (ReplaceLookUp::Neither, None | Some(LookUpReason::AttemptsExhausted)) => ReplaceStep::Create,
        (ReplaceLookUp::Replaced(_) | ReplaceLookUp::Neither, Some(LookUpReason::UserExists)) => {
            again("not_listed", LOOK_AGAIN_MIN)
        }
        (ReplaceLookUp::Replaced(_) | ReplaceLookUp::Neither, Some(_)) => {
            again("key_must_expire", history.until_key_expires(now, limits))
        }
        // Only a list that could not be read is left.
        _ => ReplaceStep::LookAgain { reason: "list_not_read", delay: LOOK_AGAIN_MIN, is_charged: true },
    }
}

/// Shortest delay before the next look.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// Returns the end of a job that has no attempts left, or too few for a deletion and a creation. It waits until its last
/// request can't be running any more.
fn exhausted(found: &ReplaceLookUp, history: &History, now: Timestamp, limits: &Limits) -> Option<ReplaceStep> {
    let needed = if matches!(found, ReplaceLookUp::Replaced(_)) { 2 } else { 1 };
    if history.attempts + needed <= limits.attempts_max && !history.is_exhausted(now, limits) {
        return None;
    }
    let wait = history.until_last_request_is_over(now, limits);
    if wait > Duration::ZERO {
        return Some(ReplaceStep::LookAgain { reason: "last_look_up", delay: wait, is_charged: false });
    }
    let (code, message) = match found {
        ReplaceLookUp::Replaced(_) => (NOT_RECONCILED, "the user to replace is still listed after all attempts"),
        ReplaceLookUp::Neither => (ATTEMPTS_EXHAUSTED, "no definite answer to the creation in all attempts"),
        _ => (NOT_RECONCILED, "the user list could not be read in all attempts"),
    };
    let text = format!("{message}: a retry of this dead letter continues where it ended");
    let may_have_been_created = history.first_sent_at.is_some();
    Some(ReplaceStep::Finish(Outcome::Failed { problem: Problem::whole(code, text), may_have_been_created }))
}

/// Returns the end of a job whose user may not be deleted; `None`: it may.
fn refusal(status: Option<&UserStatus>) -> Option<ReplaceStep> {
    match status {
        Some(status) if status.is_unapproved() => None,
        Some(status) if status.is_approved() => Some(rejected(REPLACED_USER_APPROVED, APPROVED)),
        _ => Some(rejected(REPLACED_USER_STATUS_UNKNOWN, STATUS_UNKNOWN)),
    }
}

const OTHER_EMAIL: &str = "the user in replaces has another email than this job: nothing was changed; correct either";
const NOT_LISTED: &str = "the user list has neither the user in replaces nor this email: nothing was changed; leave \
                          replaces out to create a user";
const APPROVED: &str = "the user in replaces is approved: it needs no new link, and nothing was changed";
const STATUS_UNKNOWN: &str =
    "the user in replaces isn't known to be unapproved: nothing was changed; look at its status";

fn rejected(code: &str, message: &str) -> ReplaceStep {
    let problem = Problem { field: Some("replaces".to_owned()), ..Problem::whole(code, message) };
    ReplaceStep::Finish(Outcome::Rejected(vec![problem]))
}

/// The user isn't listed yet whose creation was answered with a link and without an id.
fn id_missing(history: &History, now: Timestamp) -> ReplaceStep {
    match super::look_up::id_look_up_delay(history, now) {
        Some(delay) => ReplaceStep::LookAgain { reason: "id_not_listed", delay, is_charged: false },
        None => ReplaceStep::Finish(super::id_not_found()),
    }
}

/// Another user has the email. If it is younger than the job, this job or an identical one created it. A job whose
/// creation was answered without an id has created it, if the list doesn't say when.
fn other_user(
    reason: Option<&LookUpReason>,
    user: FoundUser,
    is_foreign: bool,
    history: &History,
    limits: &Limits,
) -> Outcome {
    let since = history.enqueued_at.minus(limits.clock_skew.saturating_add(CREATED_AT_STEP));
    let link = if let Some(LookUpReason::IdMissing(link)) = reason { Some(link.clone()) } else { None };
    let is_ours = !is_foreign && user.created_at.map_or(link.is_some(), |created_at| created_at > since);
    let recovered = link.is_none();
    match is_ours {
        true => Outcome::Created { service_id: user.service_id, link: link.ok_or(LinkLoss::LostAnswer), recovered },
        false => Outcome::Existing { service_id: Some(user.service_id) },
    }
}

/// A list may truncate the time of creation to whole seconds. Assumed.
const CREATED_AT_STEP: Duration = Duration::from_secs(1);

/// Returns whether the key of every earlier request had expired when the last one was sent.
fn had_expired(before: &History, history: &History, limits: &Limits) -> bool {
    let life = limits.key_ttl.saturating_add(limits.clock_skew);
    before.last_sent_at.zip(history.last_sent_at).is_some_and(|(earlier, last)| last.since(earlier) >= life)
}

#[cfg(test)]
mod tests;
