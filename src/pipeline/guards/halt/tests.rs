use crate::domain::job::Identity;
use crate::domain::{Field, IdempotencyKey, LinkLoss, Outcome, Problem, ServiceId, Timestamp, VerificationUrl};
use crate::pipeline::guards::halt::*;

const POLICY: HaltPolicy = HaltPolicy {
    window: 4,
    rejected_share: 0.5,
    existing_share: 0.75,
    lost_link_share: 0.5,
    canary: 0,
    halt_action: HaltAction::Stop,
    queue_forgets: false,
};

fn event(outcome: Outcome, attempts: u32) -> Event {
    let key = IdempotencyKey::of_canonical(b"customer");
    Event::of(outcome, Identity::default(), key, attempts, Timestamp::from_unix_ms(0))
}

fn created() -> Event {
    created_with(Ok(VerificationUrl::parse("https://v.example/1").unwrap()))
}

fn created_with(link: Result<VerificationUrl, LinkLoss>) -> Event {
    event(Outcome::Created { service_id: ServiceId::parse("a-user-1").unwrap(), link, recovered: false }, 1)
}

fn existing() -> Event {
    event(Outcome::Existing { service_id: None }, 1)
}

fn rejected(problem: Problem) -> Event {
    event(Outcome::Rejected(vec![problem]), 1)
}

fn blacklisted() -> Event {
    rejected(Problem::whole("USER_BLACKLISTED", "jane@example.com is blacklisted"))
}

fn last_notice(halt: &Halt, events: &[Event]) -> Option<HaltNotice> {
    events.iter().fold(None, |_, event| halt.record(Lane::Bulk, event, EarlierRequest::None))
}

#[test]
fn too_many_rejected_jobs_halt_once_and_are_clustered_by_field_and_code() {
    let halt = Halt::new(POLICY);
    let invalid = rejected(Problem::of(Field::Email, "INVALID_EMAIL", "no"));
    assert_eq!(
        last_notice(&halt, &[created(), blacklisted(), created(), blacklisted()]),
        None,
        "half is not over half"
    );
    let Some(HaltNotice::Halted(mix)) = last_notice(&halt, &[invalid]) else { unreachable!("three of the last four") };
    assert_eq!(mix.to_string(), "1 created, 3 rejected (2 x USER_BLACKLISTED, 1 x email: INVALID_EMAIL)");
    assert_eq!(last_notice(&halt, &[blacklisted()]), None, "reported once");
}

#[test]
fn users_who_existed_before_and_rows_of_another_run_halt_too() {
    let halt = Halt::new(POLICY);
    assert_eq!(last_notice(&halt, &[created(), existing(), existing(), existing()]), None);
    assert!(matches!(last_notice(&halt, &[existing()]), Some(HaltNotice::Halted(_))));
    halt.clear();
    assert_eq!(last_notice(&halt, &[existing(), existing(), existing()]), None, "a new window begins");
    let Some(HaltNotice::Halted(mix)) = halt.record(Lane::Bulk, &created(), EarlierRequest::ByAnotherRun) else {
        unreachable!("all four existed before")
    };
    assert_eq!(mix.to_string(), "4 existing (1 x sent minutes ago by another run and reported as created)");
}

#[test]
fn too_many_created_users_without_a_link_halt_and_are_counted_by_reason() {
    let halt = Halt::new(POLICY);
    let lost = |reason| created_with(Err(reason));
    let half = [created(), created(), lost(LinkLoss::LostAnswer), lost(LinkLoss::NotSent)];
    assert_eq!(last_notice(&halt, &half), None, "half is not over half");
    assert_eq!(last_notice(&halt, &[created()]), None);
    let Some(HaltNotice::Halted(mix)) = last_notice(&halt, &[lost(LinkLoss::NotSent)]) else {
        unreachable!("three of the last four")
    };
    let expected = "4 created (2 x without a link: the API sent none, 1 x without a link: the answer was lost)";
    assert_eq!(mix.to_string(), expected);
}

#[test]
fn the_share_of_lost_links_needs_enough_created_users_or_a_window_of_them() {
    let halt = Halt::new(POLICY);
    let lost = || created_with(Err(LinkLoss::LostAnswer));
    assert_eq!(last_notice(&halt, &[lost(), lost(), lost(), existing()]), None, "one of four existed before");
    let halt = Halt::new(HaltPolicy { window: 100, existing_share: 1.0, ..POLICY });
    let few = |count| (0..100).map(|n| if n < count { lost() } else { existing() }).collect::<Vec<_>>();
    assert_eq!(last_notice(&halt, &few(CREATED_MIN - 1)), None);
    halt.clear();
    assert!(matches!(last_notice(&halt, &few(CREATED_MIN)), Some(HaltNotice::Halted(_))));
    let never = Halt::new(HaltPolicy { lost_link_share: 1.0, ..POLICY });
    assert_eq!(last_notice(&never, &[lost(), lost(), lost(), lost()]), None);
}

#[test]
fn an_api_that_sends_no_links_is_noticed_before_the_window_is_full() {
    let policy = HaltPolicy { window: 200, ..POLICY };
    let events = |count, reason| (0..count).map(|_| created_with(Err(reason))).collect::<Vec<_>>();
    for reason in [LinkLoss::NotSent, LinkLoss::Unusable] {
        let halt = Halt::new(policy);
        assert_eq!(last_notice(&halt, &events(CREATED_MIN - 1, reason)), None);
        assert!(matches!(last_notice(&halt, &events(1, reason)), Some(HaltNotice::Halted(_))), "{reason:?}");
    }
    let halt = Halt::new(policy);
    assert_eq!(last_notice(&halt, &events(199, LinkLoss::LostAnswer)), None, "a killed run may have lost them");
    assert!(matches!(last_notice(&halt, &[created()]), Some(HaltNotice::Halted(_))));
}

#[test]
fn links_lost_with_a_killed_worker_do_not_halt_the_next_one() {
    let halt = Halt::new(POLICY);
    let record = |reason| halt.record(Lane::Bulk, &created_with(Err(reason)), EarlierRequest::InEarlierDelivery);
    assert!((0..10).all(|_| record(LinkLoss::LostAnswer).is_none()));
    assert!((0..4).any(|_| matches!(record(LinkLoss::NotSent), Some(HaltNotice::Halted(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_canary_of_created_users_without_a_link_halts() {
    for canary in [1, 5, 20] {
        let halt = Halt::new(HaltPolicy { canary, window: 200, ..POLICY });
        let events: Vec<_> = (0..canary).map(|_| created_with(Err(LinkLoss::NotSent))).collect();
        assert!(matches!(last_notice(&halt, &events), Some(HaltNotice::Halted(_))), "{canary}");
    }
}

#[test]
fn repeats_do_not_halt_if_the_queue_forgets_deliveries() {
    let halt = Halt::new(HaltPolicy { queue_forgets: true, ..POLICY });
    assert!((0..10).all(|_| halt.record(Lane::Bulk, &created(), EarlierRequest::ByAnotherRun).is_none()));
}

#[test]
fn the_text_of_the_api_is_never_in_a_cluster() {
    let halt = Halt::new(POLICY);
    let wordy = rejected(Problem::whole("Jane is not welcome", "Jane is not welcome"));
    let notice = last_notice(&halt, &[wordy.clone(), wordy.clone(), wordy.clone(), wordy]);
    assert!(format!("{notice:?}").contains("OTHER") && !format!("{notice:?}").contains("Jane"), "{notice:?}");
}

#[test]
fn rows_that_were_not_sent_and_signups_at_a_worker_do_not_count() {
    let halt = Halt::new(HaltPolicy { halt_action: HaltAction::HoldBulk, ..POLICY });
    let unsent = event(Outcome::Rejected(vec![Problem::whole("INVALID_EMAIL", "no")]), 0);
    for _ in 0..10 {
        assert_eq!(halt.record(Lane::Bulk, &unsent, EarlierRequest::None), None);
        assert_eq!(halt.record(Lane::Signup, &blacklisted(), EarlierRequest::None), None);
    }
}

#[tokio::test(start_paused = true)]
async fn other_jobs_wait_for_the_canary_and_follow_when_it_passed() {
    let halt = Halt::new(HaltPolicy { canary: 2, ..POLICY });
    let waits =
        async |was_sent| tokio::time::timeout(std::time::Duration::from_secs(1), halt.canary_permit(was_sent)).await;
    let (first, second) = (halt.canary_permit(false).await, halt.canary_permit(false).await);
    assert!(waits(false).await.is_err());
    assert!(waits(true).await.is_ok(), "a job that was sent before is part of the canary");
    // Requeued unsent: another job takes its permit.
    drop(first);
    let third = waits(false).await.unwrap();
    second.use_up();
    third.use_up();
    assert!(waits(false).await.is_err());
    assert_eq!(last_notice(&halt, &[created()]), None);
    assert!(matches!(last_notice(&halt, &[blacklisted()]), Some(HaltNotice::CanaryPassed(_))));
    waits(false).await.unwrap().use_up();
    waits(false).await.unwrap().use_up();
}

#[tokio::test(start_paused = true)]
async fn a_canary_with_bad_outcomes_halts_before_other_jobs_are_sent() {
    let halt = Halt::new(HaltPolicy { canary: 1, ..POLICY });
    halt.canary_permit(false).await.use_up();
    assert!(matches!(last_notice(&halt, &[blacklisted()]), Some(HaltNotice::Halted(_))));
    let next = tokio::time::timeout(std::time::Duration::from_secs(3_600), halt.canary_permit(false)).await;
    assert!(next.is_err());
}
