use super::*;
use crate::domain::NameMark;

#[test]
fn recovers_a_user_that_was_created_since_the_first_request() {
    assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(Some(1))), recovered());
    assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(None)), recovered());
    // The partner's clock is behind this machine's, within the tolerance.
    assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(Some(-29))), recovered());
}

#[test]
fn allows_for_a_creation_time_in_whole_seconds_at_the_limit_of_the_clock_skew() {
    let later = |ms: i64, timestamp: Timestamp| Timestamp::from_unix_ms(timestamp.unix_ms() + ms);
    // Sent late in a second and created at once, with the largest tolerated clock skew.
    let before = History::new(T0).with_send(later(999, at(0)));
    let history = before.with_send(at(60));
    for (created_at, expected) in [
        (at(-30), recovered()),
        (later(998, at(-30)), recovered()),
        (later(-1, at(-30)), existing(Some("acme-user-1"))),
    ] {
        let found = FoundUser { service_id: id(), created_at: Some(created_at), name: None };
        let found = LookUpResult::User(found);
        let step = after_look_up(LookUpReason::UserExists, found, &before, &history, at(60), &LIMITS);
        assert_eq!(step, expected, "{created_at}");
    }
}

#[test]
fn takes_a_user_with_another_name_for_existing() {
    let (ann, eve) = (NameMark::of("Ann", "Lee"), NameMark::of("Eve", "Lee"));
    let found = |name| {
        let user = FoundUser { service_id: id(), created_at: Some(at(1)), name };
        LookUpResult::User(user).compared_with(ann)
    };
    for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists, LookUpReason::AttemptsExhausted] {
        assert_eq!(look_up(reason.clone(), &[0, 60], found(eve)), existing(Some("acme-user-1")), "{reason:?}");
        // A name that can't be compared proves nothing.
        for name in [ann, None] {
            assert_eq!(look_up(reason.clone(), &[0, 60], found(name)), recovered(), "{reason:?}");
        }
    }
}

#[test]
fn takes_a_user_older_than_the_first_request_for_existing_although_the_key_is_used() {
    assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], user(Some(-31))), existing(Some("acme-user-1")));
}

#[test]
fn recovers_the_user_of_the_same_request_from_another_queue() {
    assert_eq!(look_up(LookUpReason::KeyUsed, &[10], user(Some(-200))), recovered());
    assert_eq!(look_up(LookUpReason::KeyUsed, &[10], user(Some(-400))), existing(Some("acme-user-1")));
}

#[test]
fn recovers_the_user_of_the_same_request_however_long_the_look_up_took() {
    let (before, history) = sent_at(&[10]);
    let step = after_look_up(LookUpReason::KeyUsed, user(Some(-200)), &before, &history, at(5_000), &LIMITS);
    assert_eq!(step, recovered());
}

#[test]
fn retries_when_the_used_key_has_expired_if_no_user_is_found() {
    let (before, history) = sent_at(&[0, 60]);
    let step = after_look_up(LookUpReason::KeyUsed, LookUpResult::NotFound, &before, &history, at(100), &LIMITS);
    assert_eq!(step, LookUpStep::RetryAfter(Duration::from_secs(60 + 300 + 30 - 100)));
}

#[test]
fn an_email_that_exists_at_the_first_request_existed_before() {
    assert_eq!(look_up(LookUpReason::UserExists, &[0], user(Some(5))), existing(Some("acme-user-1")));
    assert_eq!(look_up(LookUpReason::UserExists, &[0], LookUpResult::NotFound), existing(None));
    assert_eq!(look_up(LookUpReason::UserExists, &[0], LookUpResult::Unavailable), LIST_NOT_READ);
    assert_eq!(look_up(LookUpReason::UserExists, &[0, 1, 2], user(Some(1))), recovered());
}

#[test]
fn a_user_that_existed_before_the_first_request_stays_existing() {
    let fresh = History::new(T0);
    let first = fresh.with_send(at(0)).with_answer(&Answer::UserExists, &fresh, &LIMITS);
    assert!(first.existed_before());
    // The partner still knows the key of that request, or an answer was lost.
    let second = first.with_send(at(60));
    for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists, LookUpReason::AttemptsExhausted] {
        let step = |found, history: &History| after_look_up(reason.clone(), found, &first, history, at(60), &LIMITS);
        assert_eq!(step(user(None), &second), existing(Some("acme-user-1")), "{reason:?}");
        assert_eq!(step(user(Some(1)), &second), existing(Some("acme-user-1")), "{reason:?}");
        assert_eq!(step(LookUpResult::NotFound, &second), existing(None), "{reason:?}");
        assert_eq!(step(LookUpResult::Unavailable, &second), LIST_NOT_READ, "{reason:?}");
        let exhausted = History { attempts: 3, ..second };
        assert_eq!(step(LookUpResult::Unavailable, &exhausted), existing(None), "{reason:?}");
    }
    // A job whose first answer was lost counts as sent before.
    let lost = fresh.with_send(at(0));
    let again = lost.with_send(at(60)).with_answer(&Answer::UserExists, &lost, &LIMITS);
    assert_eq!(again.first_sent_at, Some(at(0)));
}

#[test]
fn recovers_the_user_of_the_same_request_at_the_second_look_up_too() {
    let fresh = History::new(T0);
    let first = fresh.with_send(at(500)).with_answer(&Answer::KeyAlreadyUsed, &fresh, &LIMITS);
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
fn looks_the_user_up_after_an_undocumented_refusal_of_a_job_that_was_sent_before() {
    let refusal = || Answer::Rejected { status: 409, code: "KEY_REUSED".to_owned(), text: "sent before".to_owned() };
    let problem = || Problem::whole("KEY_REUSED", "sent before".to_owned());
    let refused = || LookUpReason::Refused(problem());
    let rejected = || Outcome::Rejected(vec![problem()]);
    let (_, first) = sent_at(&[0]);
    assert_eq!(answered(refusal(), &first, at(0), &LIMITS), JobStep::Finish(rejected()));
    let (_, second) = sent_at(&[0, 60]);
    assert_eq!(answered(refusal(), &second, at(60), &LIMITS), JobStep::UserLookUp(refused()));

    assert_eq!(look_up(refused(), &[0, 60], user(Some(1))), recovered());
    let others = existing(Some("acme-user-1"));
    assert_eq!(look_up(refused(), &[0, 60], user(Some(-600))), others, "the email exists, whatever the code means");
    // The code may mean the used key: when that has expired, the next answer is about the job.
    let (before, history) = sent_at(&[0, 60]);
    let early = after_look_up(refused(), LookUpResult::NotFound, &before, &history, at(61), &LIMITS);
    assert_eq!(early, LookUpStep::RetryAfter(Duration::from_secs(300 + 30 - 1)));
    assert_eq!(look_up(refused(), &[0, 329], LookUpResult::NotFound), LookUpStep::RetryAfter(Duration::from_secs(330)));
    assert_eq!(look_up(refused(), &[0, 330], LookUpResult::NotFound), LookUpStep::Finish(rejected()));
    assert_eq!(look_up(refused(), &[0, 60], LookUpResult::Unavailable), LIST_NOT_READ);
    for found in [LookUpResult::NotFound, LookUpResult::Unavailable] {
        let exhausted = look_up(refused(), &[0, 60, 120], found);
        assert_eq!(failed_as(&exhausted), Some(("NOT_RECONCILED".to_owned(), true)));
    }
}

#[test]
fn recovers_an_existing_user_of_a_job_that_was_sent_before_unless_it_is_older() {
    assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], user(Some(1))), recovered());
    assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], user(Some(-600))), existing(Some("acme-user-1")));
    assert_eq!(
        look_up(LookUpReason::UserExists, &[0, 600], LookUpResult::NotFound),
        LookUpStep::Retry(RetryReason::NotListed)
    );
    assert_eq!(look_up(LookUpReason::UserExists, &[0, 600], LookUpResult::Unavailable), LIST_NOT_READ);
}

#[test]
fn looks_up_before_failing_and_reports_that_a_user_may_have_been_created() {
    let (_, history) = sent_at(&[0, 1, 2]);
    let lost = Answer::Unknown(UnknownReason::Timeout);
    // Until the last request can't be running any more: one minute and the clock skew.
    assert_eq!(answered(lost.clone(), &history, at(2), &LIMITS), JobStep::LookUpAfter(Duration::from_secs(90)));
    assert_eq!(answered(lost.clone(), &history, at(92), &LIMITS), JobStep::UserLookUp(LookUpReason::AttemptsExhausted));
    let (_, early) = sent_at(&[0, 1]);
    assert_eq!(answered(lost, &early, at(2), &LIMITS), TIMED_OUT);

    let sends = &[0, 1, 2];
    assert_eq!(look_up(LookUpReason::AttemptsExhausted, sends, user(Some(1))), recovered());
    assert_eq!(look_up(LookUpReason::AttemptsExhausted, sends, user(Some(-60))), existing(Some("acme-user-1")));
    // The last request may still be running.
    for found in [LookUpResult::NotFound, LookUpResult::Unavailable] {
        let step = look_up(LookUpReason::AttemptsExhausted, sends, found);
        assert_eq!(failed_as(&step), Some(("ATTEMPTS_EXHAUSTED".to_owned(), true)));
    }
}

#[test]
fn a_used_key_at_a_replaying_gateway_means_that_the_first_request_is_running() {
    let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
    let (before, history) = sent_at(&[0, 60]);
    let found = |found| after_look_up(LookUpReason::KeyUsed, found, &before, &history, at(60), &replays);
    // Not found yet: no key has to expire, so the wait is only the clock skew.
    assert_eq!(found(LookUpResult::NotFound), LookUpStep::RetryAfter(Duration::from_secs(30)));
    assert_eq!(found(user(Some(1))), recovered());
    let even = Limits { clock_skew: Duration::ZERO, ..replays };
    let step = after_look_up(LookUpReason::KeyUsed, LookUpResult::NotFound, &before, &history, at(60), &even);
    assert_eq!(step, LookUpStep::RetryAfter(Duration::ZERO), "the backoff decides");
    // Never sent by this job: only a new user can come from the same request in another queue.
    let (before, history) = sent_at(&[60]);
    let found = |found| after_look_up(LookUpReason::KeyUsed, found, &before, &history, at(60), &replays);
    assert_eq!(found(user(Some(40))), recovered());
    assert_eq!(found(user(Some(20))), existing(Some("acme-user-1")));
}

#[test]
fn counts_the_expiry_of_a_key_from_the_last_request() {
    let (before, history) = sent_at(&[0, 10, 200]);
    let limits = Limits { attempts_max: 8, ..LIMITS };
    let step = after_look_up(LookUpReason::KeyUsed, LookUpResult::NotFound, &before, &history, at(201), &limits);
    assert_eq!(step, LookUpStep::RetryAfter(Duration::from_secs(300 + 30 - 1)));
}

#[test]
fn looks_up_a_used_key_again_when_the_list_can_not_be_read() {
    assert_eq!(look_up(LookUpReason::KeyUsed, &[0, 60], LookUpResult::Unavailable), LIST_NOT_READ);
}

#[test]
fn look_ups_without_a_result_end_as_a_failure() {
    for reason in [LookUpReason::KeyUsed, LookUpReason::UserExists] {
        for found in [LookUpResult::NotFound, LookUpResult::Unavailable] {
            let step = look_up(reason.clone(), &[0, 1, 2], found);
            assert_eq!(failed_as(&step), Some(("NOT_RECONCILED".to_owned(), true)), "{reason:?}");
        }
    }
}

#[test]
fn looks_a_user_up_whose_id_is_missing_and_keeps_its_link() {
    let reason = || LookUpReason::IdMissing(link());
    let answer = || Answer::Created { service_id: None, link: Ok(link()) };
    for sends in [&[0][..], &[0, 60]] {
        let (_, history) = sent_at(sends);
        assert_eq!(answered(answer(), &history, at(60), &LIMITS), JobStep::UserLookUp(reason()));
    }
    let created = LookUpStep::Finish(Outcome::Created { service_id: id(), link: Ok(link()), recovered: false });
    assert_eq!(look_up(reason(), &[0], user(Some(1))), created);
    assert_eq!(look_up(reason(), &[0, 1, 2], user(None)), created, "whatever attempts are left");
    assert_eq!(look_up(reason(), &[0], user(Some(-600))), existing(Some("acme-user-1")));
    let (before, history) = sent_at(&[0]);
    let step = |found, seconds| after_look_up(reason(), found, &before, &history, at(seconds), &LIMITS);
    for found in [LookUpResult::NotFound, LookUpResult::Unavailable] {
        for (seconds, delay) in [(0, 1), (1, 1), (8, 8), (59, 59), (539, 60)] {
            assert_eq!(step(found.clone(), seconds), LookUpStep::LookUpAgain(Duration::from_secs(delay)));
        }
        assert_eq!(step(found.clone(), 540), LookUpStep::Finish(id_not_found()));
        assert_eq!(failed_as(&step(found, 540)), Some(("ID_NOT_FOUND".to_owned(), true)));
    }
    // Deleted by the partner after it existed, say.
    let fresh = History::new(T0);
    let existed = fresh.with_send(at(0)).with_answer(&Answer::UserExists, &fresh, &LIMITS);
    let step = after_look_up(reason(), user(Some(60)), &existed, &existed.with_send(at(60)), at(60), &LIMITS);
    assert_eq!(step, created);
}
