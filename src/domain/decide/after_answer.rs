//! Decides on the next step after the answer to a request: the first table of [`super`].

use std::time::Duration;

use super::{History, Limits, LookUpReason, RetryReason, Step};
use crate::domain::{AccountReason, Answer, Outcome, Problem, Timestamp};

/// What to do with a job that comes from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a request.
    Send,
    /// Look the user up for the last time, for [`LookUpReason::GivingUp`].
    UserLookup,
    /// Look the user up for the last time, after this delay.
    LookUpAfter(Duration),
}

/// Decides what to do with a job that comes from the queue.
pub fn due(history: &History, now: Timestamp, limits: &Limits) -> Due {
    if history.attempts < limits.attempts_max || history.first_sent_at.is_none() {
        return Due::Send;
    }
    match history.until_last_request_is_over(now, limits) {
        Duration::ZERO => Due::UserLookup,
        wait => Due::LookUpAfter(wait),
    }
}

/// Returns whether a trial request of the open circuit breaker that fails counts as an attempt of its job. Normally it
/// doesn't: a long outage would use up the attempts of every job. But a job whose time is up must end.
pub fn is_trial_charged(history: &History, now: Timestamp, limits: &Limits) -> bool {
    history.existed_before() || history.age(now) >= limits.give_up_after
}

/// Decides on the next step after the answer to a request. `before` is the history without the request, `history` is
/// the one with it.
pub fn after_answer(answer: Answer, before: &History, history: &History, now: Timestamp, limits: &Limits) -> Step {
    match answer {
        Answer::Created { service_id, verification_url } => {
            Step::Finish(Outcome::Created { service_id, verification_url, recovered: false })
        }
        // It may come from a proxy, and an earlier request may have created the user: it proves nothing.
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
        Answer::UserExists => Step::UserLookup(LookUpReason::UserExists),
        Answer::KeyAlreadyUsed => Step::UserLookup(LookUpReason::KeyUsed),
        Answer::Unknown(reason) => without_answer(RetryReason::NoAnswer(reason), history, now, limits),
        Answer::Throttled { retry_after } => Step::Throttle(retry_after),
        Answer::Account(reason) => Step::Pause(reason),
        Answer::NotSent(reason) => Step::Pause(AccountReason::Unreachable(reason)),
    }
}

fn without_answer(reason: RetryReason, history: &History, now: Timestamp, limits: &Limits) -> Step {
    match due(history, now, limits) {
        Due::LookUpAfter(wait) => Step::LookUpAfter(wait),
        Due::UserLookup => Step::UserLookup(LookUpReason::GivingUp),
        Due::Send if history.is_exhausted(now, limits) => Step::UserLookup(LookUpReason::GivingUp),
        Due::Send => Step::Retry(reason),
    }
}
