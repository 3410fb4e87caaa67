use super::*;
use crate::domain::{ServiceId, VerificationUrl};

const T0: Timestamp = Timestamp::from_unix_ms(1_000_000_000);
const LIMITS: Limits = recreation_limits(Limits {
    attempts_max: 1,
    give_up_after: Duration::from_secs(86_400),
    key_ttl: Duration::from_secs(300),
    clock_skew: Duration::from_secs(30),
});

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn listed(status: &str) -> ReplaceLookUp {
    ReplaceLookUp::Replaced(UserStatus::parse(status))
}

fn other(created_at: Option<Timestamp>, is_foreign: bool) -> ReplaceLookUp {
    let service_id = ServiceId::parse("acme-user-2").unwrap();
    ReplaceLookUp::Other { user: FoundUser { service_id, created_at, name: None }, is_foreign }
}

fn new() -> History {
    History::new(T0)
}

/// A job that sent this many requests, the last one at this second.
fn sent(attempts: u32, second: u64) -> History {
    History { attempts, ..new().with_send(T0).with_send(at(second)) }
}

fn decide(reason: Option<&LookUpReason>, found: ReplaceLookUp, history: History, second: u64) -> ReplaceStep {
    let before = History { last_sent_at: Some(T0).filter(|_| history.attempts > 0), ..history };
    after_replace_look_up(reason, found, &before, &history, at(second), &LIMITS)
}

fn code(step: &ReplaceStep) -> String {
    match step {
        ReplaceStep::Delete => "delete".to_owned(),
        ReplaceStep::Create => "create".to_owned(),
        ReplaceStep::LookAgain { reason, is_charged, .. } => format!("{reason} {is_charged}"),
        ReplaceStep::Finish(Outcome::Created { recovered, .. }) => format!("created {recovered}"),
        ReplaceStep::Finish(Outcome::Existing { .. }) => "existing".to_owned(),
        ReplaceStep::Finish(Outcome::Rejected(problems)) => problems[0].code.clone(),
        ReplaceStep::Finish(Outcome::Failed { problem, may_have_been_created }) => {
            format!("{} {may_have_been_created}", problem.code)
        }
    }
}

#[test]
fn only_a_listed_user_of_an_unapproved_status_is_deleted() {
    for history in [new(), sent(2, 10)] {
        for status in ["pending", "pending_kyc", "denied"] {
            assert_eq!(code(&decide(None, listed(status), history, 20)), "delete");
        }
        for status in ["approved", "Approved"] {
            assert_eq!(code(&decide(None, listed(status), history, 20)), "REPLACED_USER_APPROVED");
        }
        for status in ["", "manualReview", "needsVerification", "unheard of"] {
            assert_eq!(code(&decide(None, listed(status), history, 20)), "REPLACED_USER_STATUS_UNKNOWN");
        }
        assert_eq!(code(&decide(None, ReplaceLookUp::OtherEmail, history, 20)), "REPLACED_USER_NOT_FOUND");
    }
    // No other reason for a look leads to a deletion without another look.
    let refused = LookUpReason::Refused(Problem::whole("X", "no"));
    for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists, refused] {
        for found in [listed("denied"), listed("approved"), ReplaceLookUp::Neither, ReplaceLookUp::Unavailable] {
            let step = decide(Some(&reason), found, sent(2, 10), 20);
            assert!(matches!(step, ReplaceStep::LookAgain { .. }), "{reason:?} {step:?}");
        }
    }
}

#[test]
fn a_user_that_is_not_listed_is_created_if_a_deletion_may_have_been_sent() {
    assert_eq!(code(&decide(None, ReplaceLookUp::Neither, new(), 0)), "REPLACED_USER_NOT_FOUND");
    assert_eq!(code(&decide(None, ReplaceLookUp::Neither, sent(1, 10), 20)), "create");
    // Redelivered by RabbitMQ: no attempt is known.
    assert_eq!(code(&decide(None, ReplaceLookUp::Neither, sent(0, 10), 20)), "create");
    assert_eq!(code(&decide(None, ReplaceLookUp::Unavailable, new(), 0)), "list_not_read true");
}

#[test]
fn another_user_with_the_email_ends_the_job() {
    for history in [new(), sent(2, 10)] {
        assert_eq!(code(&decide(None, other(Some(at(5)), false), history, 20)), "created true");
        for older in
            [other(Some(T0.minus(Duration::from_secs(40))), false), other(None, false), other(Some(at(5)), true)]
        {
            assert_eq!(code(&decide(None, older, history, 20)), "existing");
        }
    }
    let link = VerificationUrl::parse("https://v.example/1").unwrap();
    let reason = LookUpReason::IdMissing(link);
    for created_at in [None, Some(at(5))] {
        assert_eq!(code(&decide(Some(&reason), other(created_at, false), sent(2, 10), 20)), "created false");
    }
    assert_eq!(code(&decide(Some(&reason), listed("pending"), sent(2, 10), 20)), "id_not_listed false");
    assert_eq!(code(&decide(Some(&reason), ReplaceLookUp::Neither, sent(2, 10), 700)), "ID_NOT_FOUND true");
}

#[test]
fn a_refused_creation_waits_and_looks_again() {
    let wait = |reason, found| decide(Some(&reason), found, sent(2, 10), 20);
    let expiry = Duration::from_secs(320);
    let again = |reason, delay| ReplaceStep::LookAgain { reason, delay, is_charged: false };
    assert_eq!(wait(LookUpReason::KeyUsed, ReplaceLookUp::Neither), again("key_must_expire", expiry));
    assert_eq!(wait(LookUpReason::KeyUsed, listed("pending")), again("key_must_expire", expiry));
    assert_eq!(wait(LookUpReason::UserExists, listed("pending")), again("not_listed", LOOK_AGAIN_MIN));
    let problem = || Problem::whole("ODD", "no");
    let refused = LookUpReason::Refused(problem());
    assert_eq!(wait(refused.clone(), ReplaceLookUp::Neither), again("key_must_expire", expiry));
    let for_good = decide(Some(&refused), ReplaceLookUp::Neither, sent(3, 400), 401);
    assert_eq!(for_good, ReplaceStep::Finish(Outcome::Rejected(vec![problem()])));
}

#[test]
fn a_job_has_five_rounds_and_fails_then() {
    assert_eq!(LIMITS.attempts_max, 10);
    assert_eq!(code(&decide(None, listed("denied"), sent(8, 10), 20)), "delete");
    assert_eq!(code(&decide(None, ReplaceLookUp::Neither, sent(9, 10), 20)), "create");
    assert_eq!(code(&decide(None, listed("denied"), sent(9, 10), 20)), "last_look_up false");
    assert_eq!(code(&decide(None, listed("denied"), sent(9, 10), 200)), "NOT_RECONCILED true");
    assert_eq!(code(&decide(None, ReplaceLookUp::Neither, sent(10, 10), 200)), "ATTEMPTS_EXHAUSTED true");
    let unread = History { attempts: 10, ..new() };
    assert_eq!(code(&decide(None, ReplaceLookUp::Unavailable, unread, 200)), "NOT_RECONCILED false");
    // The last look still finds the user that the last request created.
    assert_eq!(code(&decide(None, other(Some(at(10)), false), sent(10, 10), 200)), "created true");
}
