use super::*;
use crate::domain::answer::UnreachableReason;

#[test]
fn a_retry_names_the_kind_of_answer_that_was_missing() {
    let (_, history) = sent_at(&[0, 60]);
    for reason in [
        UnknownReason::Timeout,
        UnknownReason::ConnectionLost,
        UnknownReason::ServerError(503),
        UnknownReason::Unreadable,
    ] {
        let step = answered(Answer::Unknown(reason), &history, at(60), &LIMITS);
        assert_eq!(step, JobStep::Retry(RetryReason::NoAnswer(reason)));
        assert!(RetryReason::ALL.iter().any(|known| known.code() == reason.code()), "{reason:?}");
    }
    let codes: std::collections::BTreeSet<_> = RetryReason::ALL.into_iter().map(RetryReason::code).collect();
    assert_eq!(codes.len(), RetryReason::ALL.len());
}

#[test]
fn a_refusal_without_a_readable_code_proves_nothing_about_an_earlier_request() {
    let odd = || Answer::Rejected { status: 400, code: "HTTP_400".to_owned(), text: String::new() };
    let (_, first) = sent_at(&[0]);
    assert!(matches!(answered(odd(), &first, at(0), &LIMITS), JobStep::Finish(Outcome::Rejected(_))));
    let (_, second) = sent_at(&[0, 60]);
    assert_eq!(answered(odd(), &second, at(60), &LIMITS), JobStep::Retry(RetryReason::OddRefusal));
    let (_, last) = sent_at(&[0, 60, 120]);
    assert_eq!(answered(odd(), &last, at(120), &LIMITS), JobStep::LookUpAfter(Duration::from_secs(90)));
    // Redelivered in the millisecond in which it was enqueued.
    let redelivered = History { first_sent_at: Some(T0), ..History::new(T0) };
    let again = History { attempts: 1, ..redelivered.with_send(T0) };
    assert_eq!(after_answer(odd(), &redelivered, &again, T0, &LIMITS), JobStep::Retry(RetryReason::OddRefusal));
    let documented = Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() };
    assert!(matches!(answered(documented, &second, at(60), &LIMITS), JobStep::Finish(Outcome::Rejected(_))));
}

#[test]
fn a_job_without_attempts_left_is_looked_up_and_not_sent() {
    let (_, early) = sent_at(&[0, 1]);
    assert_eq!(due(&early, at(2), &LIMITS), Due::Send);
    let (_, history) = sent_at(&[0, 1, 2]);
    assert_eq!(due(&history, at(12), &LIMITS), Due::LookUpAfter(Duration::from_secs(80)));
    assert_eq!(due(&history, at(92), &LIMITS), Due::UserLookUp);
    // A shorter key lifetime limits the wait too; at a gateway that replays it is zero.
    let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
    assert_eq!(due(&history, at(2), &replays), Due::LookUpAfter(Duration::from_secs(30)));
}

#[test]
fn trials_of_the_circuit_breaker_are_no_attempts_before_the_jobs_time_is_up() {
    let (_, history) = sent_at(&[0]);
    assert!(!is_trial_charged(&history, at(86_399), &LIMITS));
    assert!(is_trial_charged(&history, at(86_400), &LIMITS));
    assert!(!is_trial_charged(&History::new(T0), at(100_000), &LIMITS), "never sent");
}

#[test]
fn a_gateway_that_replays_returns_the_first_answer_with_its_link() {
    let (_, history) = sent_at(&[0, 60]);
    let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
    let replayed = Answer::Created { service_id: Some(id()), link: Ok(link()) };
    let created = Outcome::Created { service_id: id(), link: Ok(link()), recovered: false };
    assert_eq!(answered(replayed, &history, at(60), &replays), JobStep::Finish(created));
}

#[test]
fn a_lost_link_is_asked_for_again_only_where_answers_are_replayed() {
    let cut = || Answer::Created { service_id: Some(id()), link: Err(LinkLoss::LostAnswer) };
    let without_link =
        || JobStep::Finish(Outcome::Created { service_id: id(), link: Err(LinkLoss::LostAnswer), recovered: false });
    let (_, first) = sent_at(&[0]);
    assert_eq!(answered(cut(), &first, at(0), &LIMITS), without_link());
    let replays = Limits { key_ttl: Duration::ZERO, ..LIMITS };
    let again = JobStep::Retry(RetryReason::NoAnswer(UnknownReason::Unreadable));
    assert_eq!(answered(cut(), &first, at(0), &replays), again);
    let (_, last) = sent_at(&[0, 60, 120]);
    assert_eq!(answered(cut(), &last, at(120), &replays), without_link());
    let none = Answer::Created { service_id: Some(id()), link: Err(LinkLoss::NotSent) };
    assert!(matches!(answered(none, &first, at(0), &replays), JobStep::Finish(_)));
}

#[test]
fn an_answer_about_the_job_decides_whether_or_not_it_was_sent_before() {
    for sends in [&[0][..], &[0, 60]] {
        let (_, history) = sent_at(sends);
        for reason in LinkLoss::ALL {
            let created = Answer::Created { service_id: Some(id()), link: Err(reason) };
            let outcome = Outcome::Created { service_id: id(), link: Err(reason), recovered: false };
            assert_eq!(answered(created, &history, at(60), &LIMITS), JobStep::Finish(outcome));
        }
        let refused = Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() };
        let step = answered(refused, &history, at(60), &LIMITS);
        assert!(
            matches!(&step, JobStep::Finish(Outcome::Rejected(problems)) if problems[0].code == "USER_BLACKLISTED")
        );
        assert_eq!(
            answered(Answer::KeyAlreadyUsed, &history, at(60), &LIMITS),
            JobStep::UserLookUp(LookUpReason::KeyUsed)
        );
        assert_eq!(
            answered(Answer::UserExists, &history, at(60), &LIMITS),
            JobStep::UserLookUp(LookUpReason::UserExists)
        );
    }
}

#[test]
fn time_alone_does_not_end_a_job_with_fewer_than_three_attempts() {
    let lost = || Answer::Unknown(UnknownReason::Timeout);
    let limits = Limits { attempts_max: 8, ..LIMITS };
    let (_, twice) = sent_at(&[0, 1]);
    assert_eq!(answered(lost(), &twice, at(200_000), &limits), TIMED_OUT);
    let (_, thrice) = sent_at(&[0, 1, 2]);
    assert_eq!(answered(lost(), &thrice, at(3), &limits), TIMED_OUT);
    assert_eq!(answered(lost(), &thrice, at(200_000), &limits), JobStep::UserLookUp(LookUpReason::AttemptsExhausted));
}

#[test]
fn throttling_and_account_problems_neither_finish_nor_retry_the_job() {
    let (_, history) = sent_at(&[0, 1, 2, 3, 4]);
    let wait = Some(Duration::from_secs(7));
    let throttled = Answer::Throttled { retry_after: wait };
    assert_eq!(answered(throttled, &history, at(4), &LIMITS), JobStep::Throttle(wait));
    let revoked = Answer::Account(AccountReason::Unauthorized);
    assert_eq!(answered(revoked, &history, at(4), &LIMITS), JobStep::Pause(AccountReason::Unauthorized));
    let not_sent = Answer::NotSent(UnreachableReason::Dns);
    let pause = JobStep::Pause(AccountReason::Unreachable(UnreachableReason::Dns));
    assert_eq!(answered(not_sent, &history, at(4), &LIMITS), pause);
    let page = Answer::Account(AccountReason::NotTheApi);
    assert_eq!(answered(page, &history, at(4), &LIMITS), JobStep::Pause(AccountReason::NotTheApi));
}

#[test]
fn an_overloaded_api_may_have_created_the_user() {
    let (_, history) = sent_at(&[0]);
    let reason = UnknownReason::Unavailable { retry_after: Duration::from_secs(7) };
    let step = answered(Answer::Unknown(reason), &history, at(0), &LIMITS);
    assert_eq!(step, JobStep::Retry(RetryReason::NoAnswer(reason)));
    assert_eq!(RetryReason::NoAnswer(reason).code(), "server_error");
}

#[test]
fn throttling_and_account_problems_are_no_attempt_and_only_a_page_counts_as_sent() {
    for sends in [&[0][..], &[0, 60]] {
        let (before, history) = sent_at(sends);
        let wait = JobStep::Throttle(Some(Duration::from_secs(7)));
        assert_eq!(history.uncharged(&before, &wait), before);
        for reason in AccountReason::ALL {
            let left = history.uncharged(&before, &JobStep::Pause(reason));
            let expected = match reason {
                AccountReason::NotTheApi => History { attempts: before.attempts, ..history },
                _ => before,
            };
            assert_eq!(left, expected, "{reason:?}");
        }
    }
    // So a later "user exists" may mean this job's own user.
    let (fresh, first) = sent_at(&[0]);
    let before = first.uncharged(&fresh, &JobStep::Pause(AccountReason::NotTheApi));
    let history = before.with_send(at(60)).with_answer(&Answer::UserExists, &before, &LIMITS);
    let step = after_look_up(LookUpReason::UserExists, user(Some(1)), &before, &history, at(60), &LIMITS);
    assert_eq!(step, recovered());
    // The answer "user exists" to the first request stays decisive.
    let existed = fresh.with_send(at(0)).with_answer(&Answer::UserExists, &fresh, &LIMITS);
    let again = existed.with_send(at(60)).uncharged(&existed, &JobStep::Pause(AccountReason::NotTheApi));
    assert!(again.existed_before());
}
