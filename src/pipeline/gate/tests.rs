//! The gate on paused time: who may send when, and what is logged.

use tokio::time::{advance, timeout};

use crate::domain::Lane;
use crate::domain::answer::UnreachableReason;
use crate::pipeline::gate::first_request::ALONE_MAX;
use crate::pipeline::gate::pause::{PAGE_FIRST, PROBE_AFTER_PAGE};
use crate::pipeline::gate::throttle::QUIET_FOR;
use crate::pipeline::gate::*;

const SCHEDULE: ProbeSchedule = ProbeSchedule { initial: seconds(2), max: seconds(7) };

const BULK: Request = Request::Create(Lane::Bulk);
const SIGNUP: Request = Request::Create(Lane::Signup);

/// Longer than any wait in these tests.
const HOUR: Duration = seconds(3_600);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn open_gate() -> Gate {
    Gate::new(SCHEDULE, BreakerPolicy::DEFAULT, 64)
}

/// A gate that a refused bulk creation has paused.
async fn paused_gate(reason: AccountReason) -> Gate {
    let gate = open_gate();
    let _ = gate.permit(BULK).await.refused(reason);
    gate
}

/// The next permit for a bulk creation, and how long it took.
async fn timed_permit(gate: &Gate) -> (SendPermit<'_>, Duration) {
    let start = Instant::now();
    let permit = gate.permit(BULK).await;
    (permit, start.elapsed())
}

/// How long the next bulk creation waits, whose permit is dropped.
async fn wait_time(gate: &Gate) -> Duration {
    timed_permit(gate).await.1
}

async fn is_held(gate: &Gate, request: Request) -> bool {
    timeout(HOUR, gate.permit(request)).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_paused_gate_sends_one_probe_at_growing_intervals() {
    let gate = open_gate();
    let first = gate.permit(BULK).await.refused(AccountReason::Unauthorized);
    assert_eq!(first, Some(GateChanged::Paused(AccountReason::Unauthorized)));
    for interval in [2, 4, 7, 7] {
        let (probe, waited) = timed_permit(&gate).await;
        assert_eq!(waited, seconds(interval));
        assert!(is_held(&gate, BULK).await, "two probes at once");
        assert_eq!(probe.refused(AccountReason::Unauthorized), None);
    }
    let (probe, _) = timed_permit(&gate).await;
    assert_eq!(probe.answered(false), Some(GateChanged::Resumed));
    assert_eq!(wait_time(&gate).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn requests_sent_before_a_pause_neither_end_nor_prolong_it() {
    let gate = open_gate();
    let (early, late) = (gate.permit(BULK).await, gate.permit(BULK).await);
    let _ = gate.permit(BULK).await.refused(AccountReason::PaymentRequired);
    assert_eq!(late.refused(AccountReason::PaymentRequired), None);
    assert_eq!(early.answered(false), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::PaymentRequired));
    assert_eq!(wait_time(&gate).await, seconds(2));
}

#[tokio::test(start_paused = true)]
async fn a_single_page_pauses_for_a_moment_and_is_not_logged() {
    let gate = open_gate();
    let (late, later) = (gate.permit(BULK).await, gate.permit(BULK).await);
    assert_eq!(gate.permit(BULK).await.refused(AccountReason::NotTheApi), None);
    assert_eq!(late.refused(AccountReason::NotTheApi), None);
    assert_eq!(gate.state(), GateState::Open);
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, PROBE_AFTER_PAGE + PAGE_FIRST);
    assert_eq!(probe.answered(false), None);
    assert_eq!((wait_time(&gate).await, gate.pauses_ended()), (Duration::ZERO, 1));
    // A certain reason during this short pause is logged at once and uses the schedule.
    assert_eq!(gate.permit(BULK).await.refused(AccountReason::NotTheApi), None);
    let revoked = later.refused(AccountReason::Unauthorized);
    assert_eq!(revoked, Some(GateChanged::Paused(AccountReason::Unauthorized)));
    assert_eq!(wait_time(&gate).await, SCHEDULE.initial);
}

#[tokio::test(start_paused = true)]
async fn a_page_for_the_probe_too_is_a_logged_pause_with_growing_intervals() {
    let gate = paused_gate(AccountReason::NotTheApi).await;
    let mut logged = Vec::new();
    for ms in [300, 550, 1_050, 2_050, 4_050, 7_000, 7_000] {
        let (probe, waited) = timed_permit(&gate).await;
        assert_eq!(waited, Duration::from_millis(ms));
        logged.extend(probe.refused(AccountReason::NotTheApi));
        assert_eq!(gate.state(), GateState::Paused(AccountReason::NotTheApi));
    }
    assert_eq!(logged, [GateChanged::Paused(AccountReason::NotTheApi)]);
    assert_eq!(gate.permit(BULK).await.answered(false), Some(GateChanged::Resumed));
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_sent_alone_until_it_is_answered() {
    let gate = open_gate().with_first_request_alone();
    // After one that isn't sent, the next one is the first at once.
    drop(gate.permit(BULK).await);
    let (mut first, waited) = timed_permit(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    // The first may wait for the rate limiter for long, as while workers are being counted.
    assert!(timeout(ALONE_MAX * 2, gate.permit(BULK)).await.is_err());
    first.sent();
    let (waits, changed) =
        tokio::join!(async { [wait_time(&gate).await, wait_time(&gate).await, wait_time(&gate).await] }, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            first.answered(false)
        });
    assert_eq!((waits, changed), ([Duration::from_millis(300), Duration::ZERO, Duration::ZERO], None));
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_sent_alone_for_a_bounded_time() {
    let gate = open_gate().with_first_request_alone();
    let mut slow = gate.permit(BULK).await;
    slow.sent();
    assert_eq!(wait_time(&gate).await, ALONE_MAX);
    assert_eq!(wait_time(&gate).await, Duration::ZERO);
    assert_eq!(slow.refused(AccountReason::Unauthorized), Some(GateChanged::Paused(AccountReason::Unauthorized)));
}

#[tokio::test(start_paused = true)]
async fn after_a_dropped_probe_the_next_request_is_the_probe() {
    let gate = paused_gate(AccountReason::Forbidden).await;
    drop(gate.permit(BULK).await);
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    assert_eq!(probe.refused(AccountReason::Forbidden), None);
}

#[tokio::test(start_paused = true)]
async fn unanswered_probes_keep_the_schedule_and_change_the_reason() {
    let gate = paused_gate(AccountReason::Unauthorized).await;
    assert_eq!(gate.permit(BULK).await.unanswered(), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::Unauthorized));
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, seconds(4));
    // An operator who changes the key because of the first reason would change nothing.
    let no_answer = AccountReason::Unreachable(UnreachableReason::NoAnswer);
    assert_eq!(probe.unanswered(), Some(GateChanged::Paused(no_answer)));
    assert_eq!(gate.state(), GateState::Paused(no_answer));
    assert_eq!(gate.permit(BULK).await.unanswered(), None);
    let unauthorized = AccountReason::Unauthorized;
    assert_eq!(gate.permit(BULK).await.refused(unauthorized), Some(GateChanged::Paused(unauthorized)));
}

#[tokio::test(start_paused = true)]
async fn without_advice_each_throttled_answer_in_a_row_waits_longer() {
    let gate = open_gate();
    let backoff = |n: u32| seconds(u64::from(n));
    for wait in [1, 2, 3] {
        let permit = gate.permit(BULK).await;
        let logged = gate.throttle(None, backoff);
        assert_eq!(logged, (wait == 1).then_some(seconds(1)), "logged once");
        // Another request of the same moment.
        assert_eq!(gate.throttle(None, backoff), None);
        let _ = permit.throttled();
        assert_eq!(wait_time(&gate).await, seconds(wait));
    }
    let _ = gate.permit(BULK).await.answered(false);
    assert_eq!(gate.throttle(None, backoff), None, "the throttling continues and was logged");
    assert_eq!(wait_time(&gate).await, seconds(1), "the first in a row again");
}

#[tokio::test(start_paused = true)]
async fn throttling_is_logged_when_it_begins_gets_much_longer_and_ends() {
    let gate = open_gate();
    let unused = |_| -> Duration { unreachable!("there is advice") };
    let throttle = |wait| gate.throttle(Some(seconds(wait)), unused).map(|wait| wait.as_secs());
    let [first, second, late] = [gate.permit(BULK).await, gate.permit(BULK).await, gate.permit(BULK).await];
    assert_eq!((throttle(5), throttle(6), throttle(70)), (Some(5), None, Some(70)));
    drop((first, second));
    assert_eq!(late.answered(false), None, "it was sent before");
    assert_eq!(wait_time(&gate).await, seconds(70));
    assert_eq!(throttle(5), None, "it doesn't end before a request is answered");
    for _ in 0..5 {
        // A partner that answers 429 every other second: one log line, not one a second.
        assert_eq!(gate.permit(BULK).await.answered(false), None);
        assert_eq!(throttle(1), None);
    }
    advance(QUIET_FOR).await;
    assert_eq!(gate.permit(Request::Read).await.page_read(), Some(GateChanged::ThrottleEnded));
    assert_eq!(gate.permit(BULK).await.answered(false), None);
    // The end of a pause is logged instead.
    assert_eq!(throttle(1), Some(1));
    let _ = gate.permit(BULK).await.refused(AccountReason::Unauthorized);
    assert_eq!(gate.permit(BULK).await.answered(false), Some(GateChanged::Resumed));
    assert_eq!(gate.permit(BULK).await.answered(false), None);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_gate_opens_at_the_end_of_the_longest_advice() {
    let gate = open_gate();
    let stale = gate.permit(BULK).await;
    let unused = |_| -> Duration { unreachable!("there is advice") };
    gate.throttle(Some(seconds(5)), unused);
    gate.throttle(Some(seconds(1)), unused);
    assert!(!stale.is_valid());
    assert_eq!(gate.state(), GateState::Throttled(Instant::now() + seconds(5)));
    assert_eq!(wait_time(&gate).await, seconds(5));
    assert_eq!(gate.state(), GateState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_resumes_gets_a_probe_at_once_and_its_result() {
    let gate = paused_gate(AccountReason::Unauthorized).await;
    gate.resume();
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    // Resumed again while a probe is in flight, which was sent with the old key.
    gate.resume();
    assert_eq!(probe.refused(AccountReason::Unauthorized), None);
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    let still = Some(GateChanged::StillPaused(AccountReason::Unauthorized));
    assert_eq!(probe.refused(AccountReason::Unauthorized), still);
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, seconds(4), "the intervals start again");
    assert_eq!(probe.refused(AccountReason::Unauthorized), None, "logged once");
    gate.resume();
    let paused = Some(GateChanged::Paused(AccountReason::PaymentRequired));
    assert_eq!(gate.permit(BULK).await.refused(AccountReason::PaymentRequired), paused, "for another reason");
    assert_eq!(gate.permit(BULK).await.refused(AccountReason::PaymentRequired), None);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_read_ends_only_a_pause_without_a_network() {
    let gate = paused_gate(AccountReason::PaymentRequired).await;
    for _ in 0..3 {
        assert_eq!(gate.permit(Request::Read).await.page_read(), None);
    }
    assert_eq!(gate.state(), GateState::Paused(AccountReason::PaymentRequired));
    assert_eq!(wait_time(&gate).await, seconds(2), "reading is no probe");

    let gate = paused_gate(AccountReason::Forbidden).await;
    assert_eq!(gate.permit(Request::Read).await.page_read(), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::Forbidden));
    assert_eq!(wait_time(&gate).await, Duration::ZERO, "a creation is the probe");

    let gate = paused_gate(AccountReason::Unreachable(UnreachableReason::Dns)).await;
    assert_eq!(gate.permit(Request::Read).await.page_read(), Some(GateChanged::Resumed));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_read_ends_a_pause_that_only_pages_caused() {
    for (then_refused, ends) in [(Request::Read, true), (BULK, false)] {
        let gate = open_gate();
        let in_flight = gate.permit(then_refused).await;
        let paused = gate.permit(Request::Read).await.refused(AccountReason::Unauthorized);
        assert_eq!(paused, Some(GateChanged::Paused(AccountReason::Unauthorized)));
        assert_eq!(in_flight.refused(AccountReason::Unauthorized), None);
        if then_refused == BULK {
            assert_eq!(gate.permit(BULK).await.refused(AccountReason::Unauthorized), None);
        }
        let opened = gate.permit(Request::Read).await.page_read();
        assert_eq!(opened == Some(GateChanged::Resumed), ends, "{then_refused:?}");
    }
}

/// A permit for a bulk creation that is sent.
async fn sent(gate: &Gate) -> SendPermit<'_> {
    let mut permit = gate.permit(BULK).await;
    permit.wait_for_room().await;
    permit.sent();
    permit
}

/// A gate whose circuit breaker losses have opened, and what was logged.
async fn gate_after_losses(losses: usize) -> (Gate, Vec<GateChanged>) {
    let gate = open_gate();
    let mut logged = Vec::new();
    for _ in 0..losses {
        logged.extend(sent(&gate).await.unanswered());
    }
    (gate, logged)
}

#[tokio::test(start_paused = true)]
async fn after_four_losses_in_a_row_only_a_page_is_read_then_one_creation_is_tried() {
    let (gate, logged) = gate_after_losses(4).await;
    assert_eq!(logged, [GateChanged::LinksBeingLost { in_a_row: 3 }]);
    assert_eq!((gate.links_being_lost(), gate.in_flight_allowed()), (Some(4), 1));
    assert!(is_held(&gate, BULK).await && is_held(&gate, Request::Read).await);
    let page = gate.permit(Request::ReadProbe).await;
    assert!(is_held(&gate, Request::ReadProbe).await);
    assert_eq!((page.page_read(), gate.state()), (None, GateState::Open), "open for a moment, which isn't shown");
    let trial = sent(&gate).await;
    assert!(trial.is_trial() && is_held(&gate, BULK).await);
    assert_eq!(trial.answered(false), Some(GateChanged::LinksKept));
    assert_eq!((gate.links_being_lost(), gate.in_flight_allowed()), (None, 5));
}

#[tokio::test(start_paused = true)]
async fn while_pages_fail_no_creation_is_tried() {
    let (gate, _) = gate_after_losses(4).await;
    let start = Instant::now();
    let mut logged = Vec::new();
    for seconds in [0, 5, 15, 35, 75] {
        let page = gate.permit(Request::ReadProbe).await;
        assert_eq!(start.elapsed().as_secs(), seconds);
        logged.extend(page.unanswered());
        assert_eq!(gate.state(), GateState::CircuitOpen);
        assert!(timeout(Duration::from_millis(1), gate.permit(BULK)).await.is_err());
    }
    let open_for = BreakerPolicy::DEFAULT.open_for;
    assert_eq!(logged, [GateChanged::CircuitOpened { failures: 4, requests: 4, open_for }]);
    assert_eq!(gate.permit(Request::ReadProbe).await.page_read(), None);
    assert_eq!(sent(&gate).await.answered(false), Some(GateChanged::CircuitClosed));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_never_sent_leaves_the_trial_to_others() {
    let (gate, _) = gate_after_losses(4).await;
    let _ = gate.permit(Request::ReadProbe).await.page_read();
    let delays = ProbeDelays { probe: Duration::ZERO, trial: seconds(1) };
    let start = Instant::now();
    drop(gate.wait_for_permit(BULK, delays).await);
    assert_eq!(start.elapsed(), seconds(1));
    assert_eq!(wait_time(&gate).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_read_after_a_pause_closes_no_circuit_breaker() {
    let (gate, _) = gate_after_losses(4).await;
    let no_network = AccountReason::Unreachable(UnreachableReason::Refused);
    assert_eq!(gate.permit(Request::ReadProbe).await.refused(no_network), Some(GateChanged::Paused(no_network)));
    assert!(is_held(&gate, Request::ReadProbe).await, "the pause has its own probe");
    assert_eq!(gate.permit(Request::Read).await.page_read(), Some(GateChanged::Resumed));
    assert!(sent(&gate).await.is_trial());
}

/// A gate whose creations were lost until the circuit breaker opened, and whose network then broke.
async fn gate_without_network_after_losses() -> Gate {
    let (gate, _) = gate_after_losses(4).await;
    let no_network = AccountReason::Unreachable(UnreachableReason::Refused);
    let _ = gate.permit(Request::ReadProbe).await.refused(no_network);
    gate
}

#[tokio::test(start_paused = true)]
async fn a_throttled_probe_after_an_outage_lets_creations_go_on() {
    for request in [BULK, Request::Read] {
        let gate = gate_without_network_after_losses().await;
        assert_eq!(gate.permit(request).await.throttled(), Some(GateChanged::Resumed), "{request:?}");
        let trial = timeout(seconds(1), sent(&gate)).await.unwrap();
        let _ = trial.answered(false);
        let _ = timeout(seconds(1), sent(&gate)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_that_a_deletion_ends_creations_go_on() {
    let delete = Request::Delete(Lane::Bulk);
    let paused = gate_without_network_after_losses().await;
    assert_eq!(paused.permit(delete).await.answered(false), Some(GateChanged::Resumed));
    let (tried, _) = gate_after_losses(4).await;
    let _ = tried.permit(Request::ReadProbe).await.page_read();
    let _ = tried.permit(delete).await.answered(false);
    for gate in [paused, tried] {
        assert_eq!(gate.in_flight_allowed(), 1);
        let _ = timeout(seconds(1), sent(&gate)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_page_does_not_end_a_pause_of_creations() {
    let gate = paused_gate(AccountReason::Forbidden).await;
    assert_eq!(gate.permit(Request::Read).await.throttled(), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::Forbidden));
    assert_eq!(wait_time(&gate).await, Duration::ZERO, "a creation is the probe");
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_gateway_count_as_losses_and_a_page_of_the_list_is_read_first() {
    let gate = open_gate();
    for lost in 1..=4 {
        let _ = sent(&gate).await.refused(AccountReason::NotTheApi);
        assert_eq!(gate.in_flight_allowed(), if lost == 4 { 1 } else { 64 >> (lost - 1) });
        let start = Instant::now();
        let (page, creation) = tokio::join!(gate.permit(Request::ReadProbe), timeout(PROBE_AFTER_PAGE, sent(&gate)));
        assert!(creation.is_err() && start.elapsed() == PROBE_AFTER_PAGE, "a creation was the probe");
        assert_eq!(page.page_read(), None);
    }
    assert_eq!(gate.links_being_lost(), Some(4));
    // The breaker reads its own page before it tries a creation.
    assert!(timeout(HOUR, gate.permit(BULK)).await.is_err());
    let _ = gate.permit(Request::ReadProbe).await.page_read();
    let trial = sent(&gate).await;
    assert!(trial.is_trial());
    // After a page for the trial, the next one isn't tried sooner than after a lost one.
    let _ = trial.refused(AccountReason::NotTheApi);
    let start = Instant::now();
    let _ = gate.permit(Request::ReadProbe).await.page_read();
    let _ = gate.permit(Request::ReadProbe).await.page_read();
    assert_eq!(start.elapsed(), BreakerPolicy::DEFAULT.open_for);
    assert_eq!(sent(&gate).await.answered(false), Some(GateChanged::CircuitClosed));
}

#[tokio::test(start_paused = true)]
async fn if_the_list_fails_for_long_a_creation_is_the_probe() {
    let gate = paused_gate(AccountReason::NotTheApi).await;
    for ms in [250, 500, 1_000, 2_000, 4_000] {
        let start = Instant::now();
        let page = gate.permit(Request::ReadProbe).await;
        assert_eq!(start.elapsed(), Duration::from_millis(ms));
        let _ = page.unanswered();
        assert_eq!(gate.state(), GateState::Paused(AccountReason::NotTheApi));
    }
    assert!(is_held(&gate, Request::ReadProbe).await);
    assert_eq!(gate.permit(BULK).await.answered(false), Some(GateChanged::Resumed));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_never_processed_leaves_the_probe_to_others() {
    let gate = paused_gate(AccountReason::Unreachable(UnreachableReason::NotProcessed)).await;
    let refused = ProbeDelays { probe: Duration::from_millis(100), trial: seconds(1) };
    let never_sent = ProbeDelays { probe: Duration::ZERO, trial: seconds(1) };
    let other = async { gate.wait_for_permit(SIGNUP, never_sent).await.answered(false) };
    let refused = timeout(PROBE_AFTER_PAGE, gate.wait_for_permit(BULK, refused));
    assert!(tokio::join!(refused, other).0.is_ok(), "the other one is the probe and ends the pause");
    assert_eq!(gate.pauses_ended(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_refused_leaves_the_trial_to_others_in_the_end() {
    let (gate, _) = gate_after_losses(4).await;
    let refused = ProbeDelays { probe: Duration::from_millis(100), trial: Duration::ZERO };
    for waits in [0, 0, 0, 0, 0, 2] {
        let _ = gate.permit(Request::ReadProbe).await.page_read();
        let start = Instant::now();
        let mut trial = gate.wait_for_permit(BULK, refused).await;
        assert_eq!(start.elapsed(), seconds(waits));
        trial.sent();
        let _ = trial.unanswered();
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_heeds_a_later_429_and_a_later_halt() {
    let gate = paused_gate(AccountReason::Forbidden).await;
    let probe = gate.permit(BULK).await;
    gate.throttle(Some(seconds(60)), |_| Duration::ZERO);
    assert!(!probe.is_valid());
    drop(probe);
    let (probe, waited) = timed_permit(&gate).await;
    assert_eq!(waited, seconds(60));
    gate.halt();
    assert!(!probe.is_valid());
}

#[tokio::test(start_paused = true)]
async fn slots_are_used_again_when_creations_end() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT, 2);
    let permits = [sent(&gate).await, sent(&gate).await];
    assert!(timeout(HOUR, sent(&gate)).await.is_err());
    let [first, second] = permits;
    let _ = first.answered(false);
    let third = timeout(HOUR, sent(&gate)).await.unwrap();
    drop(second);
    let fourth = timeout(HOUR, sent(&gate)).await.unwrap();
    let _ = (third.throttled(), fourth.refused(AccountReason::Unauthorized));
}

#[tokio::test(start_paused = true)]
async fn slow_answers_open_the_circuit_breaker() {
    let gate = open_gate();
    for _ in 0..20 {
        let _ = sent(&gate).await.answered(true);
    }
    assert_eq!((gate.state(), gate.links_being_lost()), (GateState::CircuitOpen, None));
}

#[tokio::test(start_paused = true)]
async fn an_api_that_loses_one_answer_in_five_is_used() {
    let gate = open_gate();
    for n in 0..1_000 {
        let permit = sent(&gate).await;
        let changed = if n % 5 == 0 { permit.unanswered() } else { permit.answered(false) };
        assert_eq!(changed, None);
    }
}

#[tokio::test(start_paused = true)]
async fn no_user_is_created_while_events_can_not_be_published() {
    let gate = open_gate();
    let stale = gate.permit(BULK).await;
    gate.set_event_sink_open(false);
    assert!(!stale.is_valid());
    for request in [BULK, SIGNUP] {
        assert!(is_held(&gate, request).await, "{request:?}");
    }
    assert!(gate.permit(Request::Read).await.is_valid());
    gate.set_event_sink_open(true);
    assert_eq!(wait_time(&gate).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_halt_holds_only_bulk_jobs_until_an_operator_resumes() {
    let gate = open_gate();
    let stale = gate.permit(BULK).await;
    gate.halt();
    assert!(!stale.is_valid() && gate.state() == GateState::Halted);
    let signup = gate.permit(SIGNUP).await;
    assert!(signup.is_valid());
    assert!(gate.permit(Request::Read).await.is_valid());
    assert!(is_held(&gate, BULK).await);
    assert!(gate.resume());
    assert!(!gate.resume(), "it was not halted any more");
    assert_eq!(wait_time(&gate).await, Duration::ZERO);
}
