//! Decides on the next step after the answer to a request: the first table of [`super`].

use std::time::Duration;

use super::{History, JobStep, Limits, LookUpReason, RetryReason};
use crate::domain::answer::UnknownReason;
use crate::domain::{AccountReason, Answer, LinkLoss, Outcome, Problem, Timestamp};

/// What to do with a job that comes from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a request.
    Send,
    /// Look the user up for the last time, for [`LookUpReason::AttemptsExhausted`].
    UserLookUp,
    /// Look the user up for the last time, after this delay.
    LookUpAfter(Duration),
}

/// Decides what to do with a job that comes from the queue.
pub fn due(history: &History, now: Timestamp, limits: &Limits) -> Due {
    if history.attempts < limits.attempts_max || history.first_sent_at.is_none() {
        return Due::Send;
    }
    match history.until_last_request_is_over(now, limits) {
        Duration::ZERO => Due::UserLookUp,
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
pub fn after_answer(answer: Answer, before: &History, history: &History, now: Timestamp, limits: &Limits) -> JobStep {
    match answer {
        // A gateway that replays answers gives the link with the next one.
        Answer::Created { service_id: Some(_), link: Err(LinkLoss::LostAnswer) }
            if limits.key_ttl.is_zero() && !history.is_exhausted(now, limits) =>
        {
            JobStep::Retry(RetryReason::NoAnswer(UnknownReason::Unreadable))
        }
        Answer::Created { service_id: Some(service_id), link } => {
            JobStep::Finish(Outcome::Created { service_id, link, recovered: false })
        }
        Answer::Created { service_id: None, link: Ok(link) } => JobStep::UserLookUp(LookUpReason::IdMissing(link)),
        // The reader of answers returns none like this.
        Answer::Created { service_id: None, link: Err(_) } => {
            without_answer(RetryReason::NoAnswer(UnknownReason::Unreadable), history, now, limits)
        }
        // It may come from a proxy, and an earlier request may have created the user: it proves nothing.
        Answer::Rejected { .. } if !answer.is_recognised() && before.first_sent_at.is_some() => {
            without_answer(RetryReason::OddRefusal, history, now, limits)
        }
        Answer::Rejected { ref code, ref text, status } => {
            let message = if text.is_empty() { format!("the API refused it with HTTP {status}") } else { text.clone() };
            let problem = Problem::whole(code, message);
            if before.first_sent_at.is_some() && !answer.is_conclusive() {
                return JobStep::UserLookUp(LookUpReason::Refused(problem));
            }
            JobStep::Finish(Outcome::Rejected(vec![problem]))
        }
        Answer::UserExists => JobStep::UserLookUp(LookUpReason::UserExists),
        Answer::KeyAlreadyUsed => JobStep::UserLookUp(LookUpReason::KeyUsed),
        Answer::Unknown(reason) => without_answer(RetryReason::NoAnswer(reason), history, now, limits),
        Answer::Throttled { retry_after } => JobStep::Throttle(retry_after),
        Answer::Account(reason) => JobStep::Pause(reason),
        Answer::NotSent(reason) => JobStep::Pause(AccountReason::Unreachable(reason)),
    }
}

fn without_answer(reason: RetryReason, history: &History, now: Timestamp, limits: &Limits) -> JobStep {
    match due(history, now, limits) {
        Due::LookUpAfter(wait) => JobStep::LookUpAfter(wait),
        Due::UserLookUp => JobStep::UserLookUp(LookUpReason::AttemptsExhausted),
        Due::Send if history.is_exhausted(now, limits) => JobStep::UserLookUp(LookUpReason::AttemptsExhausted),
        Due::Send => JobStep::Retry(reason),
    }
}
