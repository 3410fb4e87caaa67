use tokio::time::timeout;

use crate::domain::answer::NoConnection;
use crate::pipeline::gate::*;

const SCHEDULE: ProbeSchedule = ProbeSchedule { initial: Duration::from_secs(2), max: Duration::from_secs(7) };

const BULK: Request = Request::Create(Lane::Bulk);

async fn waits(gate: &Gate) -> (SendPermit<'_>, Duration) {
    let start = Instant::now();
    let pass = gate.pass(BULK).await;
    (pass, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_paused_gate_lets_one_probe_through_at_growing_intervals() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let first = gate.pass(BULK).await.refused(AccountReason::Unauthorized);
    assert_eq!(first, Some(GateChanged::Paused(AccountReason::Unauthorized)));
    for seconds in [2, 4, 7, 7] {
        let (probe, waited) = waits(&gate).await;
        assert_eq!(waited, Duration::from_secs(seconds));
        let second = tokio::time::timeout(Duration::from_secs(3_600), gate.pass(BULK)).await;
        assert!(second.is_err(), "two probes at once");
        assert_eq!(probe.refused(AccountReason::Unauthorized), None);
    }
    let (probe, _) = waits(&gate).await;
    assert_eq!(probe.answered(false), Some(GateChanged::Opened));
    assert_eq!(waits(&gate).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn answers_that_were_on_their_way_neither_open_nor_prolong_a_pause() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let (early, late) = (gate.pass(BULK).await, gate.pass(BULK).await);
    let _ = gate.pass(BULK).await.refused(AccountReason::PaymentRequired);
    assert_eq!(late.refused(AccountReason::PaymentRequired), None);
    assert_eq!(early.answered(false), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::PaymentRequired));
    assert_eq!(waits(&gate).await.1, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn one_page_among_good_answers_holds_everybody_up_for_a_moment_and_is_not_told() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let (late, later) = (gate.pass(BULK).await, gate.pass(BULK).await);
    assert_eq!(gate.pass(BULK).await.refused(AccountReason::NotTheApi), None);
    assert_eq!(late.refused(AccountReason::NotTheApi), None);
    assert_eq!(gate.state(), GateState::Open);
    let (probe, waited) = waits(&gate).await;
    assert_eq!(waited, PROBE_AFTER_PAGE);
    assert_eq!(probe.answered(false), None);
    assert_eq!((waits(&gate).await.1, gate.openings()), (Duration::ZERO, 1));
    // What is certain isn't kept back for it, and goes by the schedule.
    assert_eq!(gate.pass(BULK).await.refused(AccountReason::NotTheApi), None);
    let revoked = later.refused(AccountReason::Unauthorized);
    assert_eq!(revoked, Some(GateChanged::Paused(AccountReason::Unauthorized)));
    assert_eq!(waits(&gate).await.1, SCHEDULE.initial);
}

#[tokio::test(start_paused = true)]
async fn a_page_and_then_another_for_the_probe_are_a_pause_with_growing_intervals() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::NotTheApi);
    let mut told = Vec::new();
    for ms in [250, 500, 1_000, 2_000, 4_000, 7_000, 7_000] {
        let (probe, waited) = waits(&gate).await;
        assert_eq!(waited, Duration::from_millis(ms));
        told.extend(probe.refused(AccountReason::NotTheApi));
        assert_eq!(gate.state(), GateState::Paused(AccountReason::NotTheApi));
    }
    assert_eq!(told, [GateChanged::Paused(AccountReason::NotTheApi)]);
    assert_eq!(waits(&gate).await.0.answered(false), Some(GateChanged::Opened));
}

#[tokio::test(start_paused = true)]
async fn a_workers_first_request_leaves_alone_for_as_long_as_its_answer_may_take() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT).beginning();
    // One that never leaves is followed by the next at once.
    drop(gate.pass(BULK).await);
    let (first, waited) = waits(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    // However long it waits for the pace, as beside others that are being counted.
    assert!(timeout(FIRST_ALONE * 2, gate.pass(BULK)).await.is_err());
    first.leaves();
    let (others, paused) = tokio::join!(
        async {
            let mut waited = Vec::new();
            for _ in 0..3 {
                waited.push(waits(&gate).await.1);
            }
            waited
        },
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            first.answered(false)
        }
    );
    assert_eq!((others, paused), (vec![Duration::from_millis(300), Duration::ZERO, Duration::ZERO], None));

    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT).beginning();
    let slow = gate.pass(BULK).await;
    slow.leaves();
    assert_eq!(waits(&gate).await.1, FIRST_ALONE);
    assert_eq!(waits(&gate).await.1, Duration::ZERO);
    assert_eq!(slow.refused(AccountReason::Unauthorized), Some(GateChanged::Paused(AccountReason::Unauthorized)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_is_sent_by_the_next_in_line() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::Forbidden);
    let probe = gate.pass(BULK).await;
    drop(probe);
    let (probe, waited) = waits(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    assert_eq!(probe.refused(AccountReason::Forbidden), None);
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_an_answer_waits_like_a_refused_one() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::Unauthorized);
    assert_eq!(gate.pass(BULK).await.unanswered(), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::Unauthorized));
    let (probe, waited) = waits(&gate).await;
    assert_eq!(waited, Duration::from_secs(4));
    // Whoever changes the key because of what was said before would change nothing.
    let no_answer = AccountReason::Unreachable(NoConnection::NoAnswer);
    assert_eq!(probe.unanswered(), Some(GateChanged::Paused(no_answer)));
    assert_eq!(gate.state(), GateState::Paused(no_answer));
    assert_eq!(gate.pass(BULK).await.unanswered(), None);
    let unauthorized = AccountReason::Unauthorized;
    assert_eq!(gate.pass(BULK).await.refused(unauthorized), Some(GateChanged::Paused(unauthorized)));
}

#[tokio::test(start_paused = true)]
async fn without_advice_each_throttled_answer_in_a_row_waits_longer() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let backoff = |n: u32| Duration::from_secs(u64::from(n));
    for seconds in [1, 2, 3] {
        let (pass, _) = waits(&gate).await;
        let told = gate.throttle(None, backoff);
        assert_eq!(told, (seconds == 1).then_some(Duration::from_secs(1)), "told once");
        // Another request of the same moment.
        assert_eq!(gate.throttle(None, backoff), None);
        let _ = pass.throttled();
        let (next, waited) = waits(&gate).await;
        drop(next);
        assert_eq!(waited, Duration::from_secs(seconds));
    }
    let (pass, _) = waits(&gate).await;
    let _ = pass.answered(false);
    assert_eq!(gate.throttle(None, backoff), None, "it goes on, and was told");
    assert_eq!(waits(&gate).await.1, Duration::from_secs(1), "the first in a row again");
}

#[tokio::test(start_paused = true)]
async fn that_it_is_throttled_is_told_when_it_begins_when_it_takes_much_longer_and_when_it_ends() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let never = |_| -> Duration { unreachable!("there is advice") };
    let throttle = |seconds| gate.throttle(Some(Duration::from_secs(seconds)), never).map(|wait| wait.as_secs());
    let [first, second, late] = [gate.pass(BULK).await, gate.pass(BULK).await, gate.pass(BULK).await];
    assert_eq!((throttle(5), throttle(6), throttle(70)), (Some(5), None, Some(70)));
    drop((first, second));
    assert_eq!(late.answered(false), None, "it left before");
    assert_eq!(waits(&gate).await.1, Duration::from_secs(70));
    assert_eq!(throttle(5), None, "it isn't over before a request was answered");
    for _ in 0..5 {
        // A partner who asks for patience every other second: one thing to tell, not a line a second.
        assert_eq!(gate.pass(BULK).await.answered(false), None);
        assert_eq!(throttle(1), None);
    }
    tokio::time::advance(QUIET_FOR).await;
    assert_eq!(gate.pass(Request::Read).await.page_came(), Some(GateChanged::Unthrottled));
    assert_eq!(gate.pass(BULK).await.answered(false), None);
    // A pause tells its own end.
    assert_eq!(throttle(1), Some(1));
    let _ = gate.pass(BULK).await.refused(AccountReason::Unauthorized);
    assert_eq!(gate.pass(BULK).await.answered(false), Some(GateChanged::Opened));
    assert_eq!(gate.pass(BULK).await.answered(false), None);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_gate_opens_exactly_when_it_was_told() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let stale = gate.pass(BULK).await;
    let never = |_| -> Duration { unreachable!("there is advice") };
    gate.throttle(Some(Duration::from_secs(5)), never);
    gate.throttle(Some(Duration::from_secs(1)), never);
    assert!(!stale.is_valid());
    assert_eq!(waits(&gate).await.1, Duration::from_secs(5));
    assert_eq!(gate.state(), GateState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_says_to_go_on_is_believed_enough_for_a_probe_at_once() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::Unauthorized);
    gate.go_on();
    let (probe, waited) = waits(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    // Said while a probe is on its way, which left with the old key.
    gate.go_on();
    assert_eq!(probe.refused(AccountReason::Unauthorized), None);
    let (probe, waited) = waits(&gate).await;
    assert_eq!(waited, Duration::ZERO);
    let still = Some(GateChanged::StillPaused(AccountReason::Unauthorized));
    assert_eq!(probe.refused(AccountReason::Unauthorized), still, "whoever said so is told what came of it");
    let (probe, waited) = waits(&gate).await;
    assert_eq!(waited, Duration::from_secs(4), "and the intervals begin anew");
    assert_eq!(probe.refused(AccountReason::Unauthorized), None, "once");
    gate.go_on();
    let paused = Some(GateChanged::Paused(AccountReason::PaymentRequired));
    assert_eq!(waits(&gate).await.0.refused(AccountReason::PaymentRequired), paused, "for another reason");
    assert_eq!(waits(&gate).await.0.refused(AccountReason::PaymentRequired), None);
}

#[tokio::test(start_paused = true)]
async fn reading_the_list_opens_nothing_but_a_lost_network() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::PaymentRequired);
    for _ in 0..3 {
        assert_eq!(gate.pass(Request::Read).await.page_came(), None);
    }
    assert_eq!(gate.state(), GateState::Paused(AccountReason::PaymentRequired));
    assert_eq!(waits(&gate).await.1, Duration::from_secs(2), "reading is no probe");

    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::Forbidden);
    assert_eq!(gate.pass(Request::Read).await.page_came(), None);
    assert_eq!(gate.state(), GateState::Paused(AccountReason::Forbidden));
    assert_eq!(waits(&gate).await.1, Duration::ZERO, "the probe is left to a creation");

    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let _ = gate.pass(BULK).await.refused(AccountReason::Unreachable(NoConnection::Dns));
    assert_eq!(gate.pass(Request::Read).await.page_came(), Some(GateChanged::Opened));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_only_the_list_is_at_fault_for_ends_with_a_page_that_comes() {
    for (then_by, is_over) in [(Request::Read, true), (BULK, false)] {
        let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
        let on_its_way = gate.pass(then_by).await;
        let paused = gate.pass(Request::Read).await.refused(AccountReason::Unauthorized);
        assert_eq!(paused, Some(GateChanged::Paused(AccountReason::Unauthorized)));
        assert_eq!(on_its_way.refused(AccountReason::Unauthorized), None);
        if then_by == BULK {
            assert_eq!(waits(&gate).await.0.refused(AccountReason::Unauthorized), None);
        }
        let opened = gate.pass(Request::Read).await.page_came();
        assert_eq!(opened == Some(GateChanged::Opened), is_over, "{then_by:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_answers_nothing_is_left_alone_but_for_a_few_trials() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let stale = gate.pass(BULK).await;
    let mut told = Vec::new();
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(1)).await;
        told.extend(gate.pass(BULK).await.unanswered());
    }
    assert_eq!(told, [GateChanged::CircuitOpened { failures: 5, requests: 5 }]);
    assert_eq!(gate.state(), GateState::CircuitOpen);
    assert!(!stale.is_valid());
    let (trial, waited) = waits(&gate).await;
    assert_eq!((waited, trial.is_trial()), (BreakerPolicy::DEFAULT.open_for, true));
    let trials = [trial, gate.pass(BULK).await, gate.pass(BULK).await];
    let fourth = tokio::time::timeout(Duration::from_secs(3_600), gate.pass(BULK)).await;
    assert!(fourth.is_err(), "more trials than were asked for");
    let told: Vec<_> = trials.into_iter().filter_map(|trial| trial.answered(false)).collect();
    assert_eq!(told, [GateChanged::CircuitClosed]);
    assert_eq!(gate.state(), GateState::Open);
}

#[tokio::test(start_paused = true)]
async fn answers_that_take_too_long_are_failures() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let _ = gate.pass(BULK).await.answered(true);
    }
    assert_eq!(gate.state(), GateState::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn one_answer_in_five_lost_is_worked_with() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    for n in 0..1_000 {
        let pass = gate.pass(BULK).await;
        let told = if n % 5 == 0 { pass.unanswered() } else { pass.answered(false) };
        assert_eq!(told, None);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_created_while_outcomes_can_not_be_told() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let stale = gate.pass(BULK).await;
    gate.set_event_sink(false);
    assert!(!stale.is_valid());
    for request in [BULK, Request::Create(Lane::Signup)] {
        assert!(tokio::time::timeout(Duration::from_secs(3_600), gate.pass(request)).await.is_err(), "{request:?}");
    }
    assert!(gate.pass(Request::Read).await.is_valid());
    gate.set_event_sink(true);
    assert_eq!(waits(&gate).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_halt_holds_bulk_and_nobody_else_until_somebody_says_to_go_on() {
    let gate = Gate::new(SCHEDULE, BreakerPolicy::DEFAULT);
    let stale = gate.pass(BULK).await;
    gate.halt();
    assert!(!stale.is_valid() && gate.state() == GateState::Halted);
    let signup = gate.pass(Request::Create(Lane::Signup)).await;
    assert!(signup.is_valid());
    assert!(gate.pass(Request::Read).await.is_valid());
    assert!(tokio::time::timeout(Duration::from_secs(3_600), gate.pass(BULK)).await.is_err());
    assert!(gate.go_on() && !gate.go_on(), "once");
    assert_eq!(waits(&gate).await.1, Duration::ZERO);
}
