use super::RequestHealth::{Failed, Good, Unknown};
use super::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    window: seconds(10),
    requests_min: 4,
    // Out of reach: failures in a row have tests of their own.
    failures_in_a_row: 100,
    failure_share: 0.5,
    open_for: seconds(5),
    open_for_max: seconds(15),
    trials: 2,
    ..BreakerPolicy::DEFAULT
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A breaker after these results, one a second, and the last change.
fn after(results: &[RequestHealth]) -> (CircuitBreaker, Instant, Option<BreakerChanged>) {
    let mut now = Instant::now();
    let mut breaker = CircuitBreaker::new(POLICY, now);
    let mut changed = None;
    for health in results {
        now += seconds(1);
        let ticket = breaker.admit(now).unwrap();
        changed = breaker.record(ticket, *health, now);
    }
    (breaker, now, changed)
}

/// A breaker that has opened, and when.
fn opened() -> (CircuitBreaker, Instant) {
    let (breaker, now, _) = after(&[Failed, Failed, Failed, Failed]);
    assert!(breaker.is_open());
    (breaker, now)
}

#[tokio::test]
async fn opens_when_the_failure_share_of_enough_answers_is_reached() {
    assert_eq!(after(&[Failed, Failed, Failed]).2, None);
    assert_eq!(after(&[Good, Failed, Good, Good, Failed]).2, None);
    let (breaker, _, changed) = after(&[Good, Failed, Good, Failed]);
    assert_eq!(changed, Some(BreakerChanged::Opened { failures: 2, requests: 4, open_for: seconds(5) }));
    assert!(breaker.is_open());
}

/// The change after each of these results, which come at this interval.
fn changes(results: &[RequestHealth], interval: Duration) -> Vec<Option<BreakerChanged>> {
    let policy = BreakerPolicy { failures_in_a_row: 3, requests_min: 100, ..POLICY };
    let mut now = Instant::now();
    let mut breaker = CircuitBreaker::new(policy, now);
    let mut record = |health| {
        now += interval;
        let ticket = breaker.admit(now).unwrap();
        breaker.record(ticket, health, now)
    };
    results.iter().map(|health| record(*health)).collect()
}

#[tokio::test]
async fn opens_after_failures_in_a_row_when_there_are_few_answers() {
    let opened = Some(BreakerChanged::Opened { failures: 3, requests: 3, open_for: seconds(5) });
    for interval in [seconds(1), seconds(100)] {
        assert_eq!(changes(&[Good, Failed, Failed, Failed], interval), [None, None, None, opened]);
        assert_eq!(changes(&[Failed, Failed, Good, Failed, Failed], interval), [None; 5], "not in a row");
        assert_eq!(changes(&[Failed, Failed, Unknown, Failed], interval), [None, None, None, opened]);
    }
}

#[tokio::test]
async fn a_burst_of_failures_does_not_open_it() {
    let burst = changes(&[Failed; 99], Duration::from_millis(1));
    assert!(burst.iter().all(Option::is_none), "all were in flight during one hiccup");
    let after_good_answers = [[Good; 100].as_slice(), &[Failed; 50]].concat();
    assert!(changes(&after_good_answers, Duration::from_millis(1)).iter().all(Option::is_none));
}

#[tokio::test]
async fn failures_before_it_closed_do_not_count_as_in_a_row() {
    let policy = BreakerPolicy { failures_in_a_row: 2, requests_min: 100, trials: 1, ..POLICY };
    let now = Instant::now();
    let mut breaker = CircuitBreaker::new(policy, now);
    let mut record = |health, at| {
        let ticket = breaker.admit(at).unwrap();
        breaker.record(ticket, health, at)
    };
    assert_eq!((record(Failed, now), record(Failed, now + seconds(2)).is_some()), (None, true));
    let later = now + seconds(7);
    assert_eq!(record(Good, later), Some(BreakerChanged::Closed));
    assert_eq!((record(Failed, later), record(Failed, later + seconds(2)).is_some()), (None, true));
}

#[tokio::test]
async fn answers_older_than_the_window_do_not_count() {
    let (mut breaker, now, _) = after(&[Failed, Failed, Failed]);
    let later = now + seconds(11);
    let ticket = breaker.admit(later).unwrap();
    assert_eq!(breaker.record(ticket, Failed, later), None);
}

#[tokio::test]
async fn an_open_breaker_admits_trials_after_its_time_and_closes_when_all_are_good() {
    let (mut breaker, now) = opened();
    assert_eq!(breaker.admit(now + seconds(4)), Err(Some(now + seconds(5))));
    let later = now + seconds(5);
    let trials = [breaker.admit(later).unwrap(), breaker.admit(later).unwrap()];
    assert!(trials.iter().all(|trial| trial.is_trial));
    assert_eq!(breaker.admit(later), Err(None));
    assert_eq!(breaker.record(trials[0], Good, later), None);
    assert_eq!(breaker.admit(later), Err(None), "one good answer is not enough, and no third trial is needed");
    assert_eq!(breaker.record(trials[1], Good, later), Some(BreakerChanged::Closed));
    assert!(!breaker.admit(later).unwrap().is_trial);
}

#[tokio::test]
async fn failed_trials_open_it_for_twice_as_long_up_to_a_limit() {
    let (mut breaker, mut now) = opened();
    now += seconds(5);
    for open_for in [10, 15, 15] {
        let trials = [breaker.admit(now).unwrap(), breaker.admit(now).unwrap()];
        let changes = trials.map(|trial| breaker.record(trial, Failed, now));
        assert_eq!(changes, [None; 2], "logged when it opened first");
        assert_eq!(breaker.admit(now), Err(Some(now + seconds(open_for))));
        now += seconds(open_for);
    }
}

#[tokio::test]
async fn after_mixed_results_the_share_of_more_trials_decides() {
    for (failed_in_all, closes) in [(3, true), (4, false)] {
        let (mut breaker, now) = opened();
        let later = now + seconds(5);
        let mut changes = Vec::new();
        for n in 0..8 {
            assert!(breaker.is_open() && changes.iter().all(Option::is_none), "decided by {n} of 8");
            let trial = breaker.admit(later).unwrap();
            // The first fails, the second doesn't.
            let health = if n == 0 || (2..=failed_in_all).contains(&n) { Failed } else { Good };
            changes.push(breaker.record(trial, health, later));
        }
        assert_eq!((changes[7] == Some(BreakerChanged::Closed), breaker.is_open()), (closes, !closes));
    }
}

#[tokio::test]
async fn an_api_that_loses_three_answers_in_five_is_used_and_one_that_is_down_is_not() {
    // Requests that are sent in ten minutes at 50 a second.
    let sent = |lost_percent: u64| {
        let mut rng = fastrand::Rng::with_seed(lost_percent);
        let mut now = Instant::now();
        let mut breaker = CircuitBreaker::new(BreakerPolicy::DEFAULT, now);
        let mut sent = 0;
        for _ in 0..30_000 {
            now += Duration::from_millis(20);
            let Ok(ticket) = breaker.admit(now) else { continue };
            let health = if rng.u64(0..100) < lost_percent { Failed } else { Good };
            breaker.record(ticket, health, now);
            sent += 1;
        }
        sent
    };
    assert!(sent(33) == 30_000 && sent(60) > 27_000, "{} {}", sent(33), sent(60));
    assert!(sent(100) < 100, "{}", sent(100));
}

#[tokio::test]
async fn a_trial_without_a_result_is_repeated() {
    let (mut breaker, now) = opened();
    let later = now + seconds(5);
    let (first, _second) = (breaker.admit(later).unwrap(), breaker.admit(later).unwrap());
    assert_eq!(breaker.record(first, Unknown, later), None);
    assert!(breaker.admit(later).unwrap().is_trial);
}

#[tokio::test]
async fn results_of_requests_from_an_earlier_state_are_ignored() {
    let now = Instant::now();
    let mut breaker = CircuitBreaker::new(POLICY, now);
    let tickets: Vec<BreakerTicket> = (0..8).map(|_| breaker.admit(now).unwrap()).collect();
    let opened = tickets.iter().filter_map(|ticket| breaker.record(*ticket, Failed, now)).count();
    assert_eq!(opened, 1, "logged once");
    let later = now + seconds(5);
    let trial = breaker.admit(later).unwrap();
    assert_eq!(breaker.record(tickets[7], Good, later), None);
    assert!(breaker.is_open() && breaker.is_valid(trial) && !breaker.is_valid(tickets[0]));
}

#[tokio::test]
async fn an_operator_who_resumes_gets_a_trial_at_once() {
    let (mut breaker, now) = opened();
    breaker.resume(now);
    assert!(breaker.admit(now).unwrap().is_trial);
}
