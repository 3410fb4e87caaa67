//! Answers about the account: throttled, paused.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::domain::answer::UnreachableReason;
use crate::domain::{AccountReason, Answer, EventType, Lane};
use crate::pipeline::tests::fixture::{Fixture, JANE, ScriptedPartner, T0, created, emails, lost, page, users};
use crate::pipeline::worker::{WorkerEnd, work};

#[tokio::test(start_paused = true)]
async fn a_throttled_answer_waits_for_retry_after_and_is_no_attempt() {
    let wait = Duration::from_secs(17);
    let partner = ScriptedPartner::answering([Answer::Throttled { retry_after: Some(wait) }]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
    let sent = partner.sent();
    assert_eq!(sent[1].at - sent[0].at, wait);
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_the_account_pauses_and_is_no_attempt() {
    for answer in [Answer::Account(AccountReason::PaymentRequired), Answer::NotSent(UnreachableReason::Other)] {
        // The first request is sent alone.
        let answers = [vec![created()], vec![answer.clone(); 5]].concat();
        let partner = ScriptedPartner::answering_after(Duration::from_millis(1), answers);
        let fixture = Fixture::new(&partner).with_jobs(emails(6));
        fixture.work().await;
        assert_eq!(fixture.outcomes(), [(EventType::Created, 1); 6], "{answer:?}");
        // Four are in flight; then one probe at a time, after 10 s and after 20 s more.
        assert_eq!(partner.sent_at_seconds(), [0, 0, 0, 0, 0, 10, 30, 30, 30, 30, 30], "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_costs_one_request_also_while_workers_are_counted() {
    let answers = vec![Answer::Account(AccountReason::Unauthorized); 60];
    let partner = ScriptedPartner::answering_after(Duration::from_millis(1_500), answers);
    let fixture = Fixture::new(&partner).with_jobs(emails(40)).with_rate(100);
    let context = fixture.context();
    context.rate_limiter.share_with_fleet();
    let counting = async {
        // Long enough for the first request to be sent and answered.
        for _ in 0..10 {
            sleep(Duration::from_secs(1)).await;
            context.rate_limiter.counted(Instant::now(), NonZeroU32::new(3).unwrap());
        }
    };
    let working = work(Arc::clone(&context), fixture.queue.source(Lane::Signup), fixture.queue.source(Lane::Bulk));
    tokio::select! { biased; () = counting => {}, _ = working => unreachable!("the key stays revoked") }
    let sent = partner.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].at - fixture.began > Duration::from_secs(2), "the count took less time than the first is alone");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_probe_is_no_attempt() {
    let refused = Answer::Account(AccountReason::Unauthorized);
    let answers = [vec![refused; 2], vec![lost(); 40]].concat();
    let fixture = Fixture::new(&ScriptedPartner::answering(answers)).with_jobs([JANE, "joe@example.com"]);
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!(fixture.outcomes(), [(EventType::Created, 1); 2], "a job has three attempts");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_works_now_and_then_fails_no_job() {
    for reason in [AccountReason::PaymentRequired, AccountReason::Forbidden] {
        // After each job that is paid for, the others in flight are refused, and the next probe is paid for again.
        let round = [vec![created()], vec![Answer::Account(reason); 3]].concat();
        let answers = (0..200).flat_map(|_| round.clone());
        let partner = ScriptedPartner::answering_after(Duration::from_millis(100), answers);
        let fixture = Fixture::new(&partner).with_jobs(emails(100));
        assert_eq!(fixture.work().await, WorkerEnd::Drained);
        let outcomes = fixture.outcomes();
        assert_eq!(outcomes.len(), 100);
        assert!(outcomes.iter().all(|(outcome, _)| *outcome == EventType::Created), "{reason:?}: {outcomes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_is_no_attempt_but_counts_as_sent() {
    for second in [Answer::UserExists, Answer::KeyAlreadyUsed] {
        // The list is read by the probe, then by the look-up.
        let lists = [users(&[JANE], 1, T0), users(&[JANE], 1, T0)];
        let partner = ScriptedPartner::answering([page(), second]).listing(lists);
        let event = Fixture::with_jane(&partner).event().await;
        assert_eq!((event.event_type, event.recovered, event.attempts), (EventType::Created, true, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_gets_only_pages_survives_a_crash_as_sent() {
    let partner = ScriptedPartner::answering(vec![page(); 20]);
    let fixture = Fixture::with_jane(&partner);
    assert!(timeout(Duration::from_secs(400), fixture.work()).await.is_err());
    fixture.queue.crash();
    let waiting = fixture.queue.waiting();
    assert_eq!((waiting[0].attempts, waiting[0].first_sent_at), (0, Some(T0)));
    assert!((5..20).contains(&partner.sent().len()), "{}", partner.sent().len());
    let event = fixture.event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
}

#[tokio::test(start_paused = true)]
async fn a_page_now_and_then_hardly_slows_a_run_down() {
    let answers = (1..=220).map(|n| if n % 20 == 0 { page() } else { created() });
    let fixture = Fixture::new(&ScriptedPartner::answering(answers)).with_jobs(emails(200)).with_rate(50);
    let start = Instant::now();
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!(fixture.outcomes(), vec![(EventType::Created, 1); 200]);
    // Four seconds at the rate limit, and ten pages.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_only_job_is_sent_with_the_first_probe_after_a_long_pause() {
    let partner = ScriptedPartner::answering(vec![Answer::Account(AccountReason::Unauthorized); 5]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
    assert_eq!(partner.sent_at_seconds(), [0, 10, 30, 70, 130, 190]);
}
