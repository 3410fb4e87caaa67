//! Both tables of the protocol (`docs/lost-answer.md`), case by case.

use super::*;
use crate::domain::{Answer, LinkLoss, ServiceId, Timestamp};

mod after_answer;
mod look_up;

const T0: Timestamp = Timestamp::from_unix_ms(1_000_000_000);
const LIMITS: Limits = Limits {
    attempts_max: 3,
    give_up_after: Duration::from_secs(86_400),
    key_ttl: Duration::from_secs(300),
    clock_skew: Duration::from_secs(30),
};

const TIMED_OUT: JobStep = JobStep::Retry(RetryReason::NoAnswer(UnknownReason::Timeout));
const LIST_NOT_READ: LookUpStep = LookUpStep::Retry(RetryReason::ListNotRead);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(T0.unix_ms() + seconds * 1_000)
}

/// The history of a job that was sent at these seconds after it was enqueued, without and with the last request.
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

/// Decides on the answer to the last request of this history.
fn answered(answer: Answer, history: &History, now: Timestamp, limits: &Limits) -> JobStep {
    let before = if history.attempts > 1 { *history } else { History::new(T0) };
    after_answer(answer, &before, history, now, limits)
}

fn look_up(reason: LookUpReason, sends: &[i64], found: LookUpResult) -> LookUpStep {
    let (before, history) = sent_at(sends);
    after_look_up(reason, found, &before, &history, at(*sends.last().unwrap()), &LIMITS)
}

fn id() -> ServiceId {
    ServiceId::parse("acme-user-1").unwrap()
}

fn link() -> VerificationUrl {
    VerificationUrl::parse("https://v.example/1").unwrap()
}

fn user(created_second: Option<i64>) -> LookUpResult {
    LookUpResult::User(FoundUser { service_id: id(), created_at: created_second.map(at), name: None })
}

fn recovered() -> LookUpStep {
    LookUpStep::Finish(Outcome::Created { service_id: id(), link: Err(LinkLoss::LostAnswer), recovered: true })
}

fn existing(id: Option<&str>) -> LookUpStep {
    LookUpStep::Finish(Outcome::Existing { service_id: id.and_then(ServiceId::parse) })
}

fn failed_as(step: &LookUpStep) -> Option<(String, bool)> {
    match step {
        LookUpStep::Finish(Outcome::Failed { problem, may_have_been_created }) => {
            Some((problem.code.clone(), *may_have_been_created))
        }
        _ => None,
    }
}
