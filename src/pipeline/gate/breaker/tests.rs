use super::CreationHealth::{Good, Lost, Slow, Unknown};
use super::*;
use crate::pipeline::wait_until::WaitUntil;

const POLICY: BreakerPolicy = BreakerPolicy {
    window: seconds(10),
    requests_min: 4,
    failure_share: 0.5,
    open_for: seconds(5),
    open_for_max: seconds(15),
    ..BreakerPolicy::DEFAULT
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const OPENED: Option<BreakerChanged> = Some(BreakerChanged::Opened { failures: 4, requests: 4, open_for: seconds(5) });

/// A breaker after these results, one a second, and the last change.
fn after(results: &[CreationHealth]) -> (CircuitBreaker, Instant, Option<BreakerChanged>) {
    let mut now = Instant::now();
    let mut breaker = CircuitBreaker::new(POLICY, now);
    let mut changed = None;
    for health in results {
        now += seconds(1);
        let ticket = breaker.admit_creation(Duration::ZERO, now).unwrap();
        changed = breaker.record(ticket, *health, now);
    }
    (breaker, now, changed)
}

/// A breaker that four losses in a row have opened, and when.
fn opened() -> (CircuitBreaker, Instant) {
    let now = Instant::now();
    let mut breaker = CircuitBreaker::new(POLICY, now);
    breaker.open_after_losses(4, now);
    (breaker, now)
}

/// A breaker whose trial is in flight, the trial, and the time.
fn in_trial() -> (CircuitBreaker, BreakerTicket, Instant) {
    let (mut breaker, now) = opened();
    let page = breaker.admit_probe(now).unwrap();
    breaker.page_answered(page, now);
    let trial = breaker.admit_creation(Duration::ZERO, now).unwrap();
    (breaker, trial, now)
}

#[tokio::test]
async fn opens_when_the_failure_share_of_enough_answers_is_reached() {
    assert_eq!(after(&[Lost, Lost, Lost]).2, None);
    assert_eq!(after(&[Good, Lost, Good, Good, Lost]).2, None);
    for failure in [Lost, Slow] {
        let (mut breaker, now, changed) = after(&[Good, failure, Good, failure]);
        assert_eq!(changed, Some(BreakerChanged::Opened { failures: 2, requests: 4, open_for: seconds(5) }));
        assert!(breaker.is_known_open());
        assert_eq!(breaker.admit_probe(now), Err(WaitUntil::Time(now + seconds(5))));
    }
}

#[tokio::test]
async fn answers_older_than_the_window_do_not_count() {
    let (mut breaker, now, _) = after(&[Lost, Lost, Lost]);
    let later = now + seconds(11);
    let ticket = breaker.admit_creation(Duration::ZERO, later).unwrap();
    assert_eq!(breaker.record(ticket, Lost, later), None);
}

#[tokio::test]
async fn after_losses_a_page_is_read_at_once_and_only_then_one_creation_is_tried() {
    let (mut breaker, now) = opened();
    assert_eq!((breaker.admit_creation(Duration::ZERO, now), breaker.admits_pages()), (Err(WaitUntil::Change), false));
    let page = breaker.admit_probe(now).unwrap();
    assert_eq!(breaker.admit_probe(now), Err(WaitUntil::Change), "a second page");
    assert_eq!(breaker.admit_creation(Duration::ZERO, now), Err(WaitUntil::Change));
    breaker.page_answered(page, now);
    assert!(breaker.admits_pages());
    let trial = breaker.admit_creation(Duration::ZERO, now).unwrap();
    assert!(trial.is_trial);
    assert_eq!(breaker.admit_creation(Duration::ZERO, now), Err(WaitUntil::Change), "a second trial");
    assert_eq!(breaker.record(trial, Good, now), None, "it opened for a moment, which is not logged");
    assert!(!breaker.admit_creation(Duration::ZERO, now).unwrap().is_trial);
}

#[tokio::test]
async fn a_trial_is_left_to_other_creations_for_the_given_time() {
    let (mut breaker, now) = opened();
    let page = breaker.admit_probe(now).unwrap();
    breaker.page_answered(page, now);
    let delay = seconds(1);
    assert_eq!(breaker.admit_creation(delay, now), Err(WaitUntil::Time(now + delay)));
    assert!(breaker.admit_creation(delay, now + delay).is_ok());
}

#[tokio::test]
async fn failed_pages_double_the_interval_and_are_logged_once() {
    let (mut breaker, mut now) = opened();
    let mut logged = Vec::new();
    for interval in [5, 10, 15] {
        let page = breaker.admit_probe(now).unwrap();
        logged.push(breaker.page_failed(page, now));
        assert_eq!(breaker.admit_probe(now), Err(WaitUntil::Time(now + seconds(interval))));
        now += seconds(interval);
    }
    assert_eq!(logged, [OPENED, None, None]);
}

#[tokio::test]
async fn when_pages_fail_for_long_a_creation_is_tried_all_the_same() {
    let (mut breaker, mut now) = opened();
    for interval in [5, 10, 15] {
        let page = breaker.admit_probe(now).unwrap();
        breaker.page_failed(page, now);
        now += seconds(interval);
    }
    for _ in 0..2 {
        let page = breaker.admit_probe(now).unwrap();
        assert_eq!(breaker.page_failed(page, now), None);
        let trial = breaker.admit_creation(Duration::ZERO, now).unwrap();
        assert_eq!(breaker.record(trial, Lost, now), None);
        assert_eq!(breaker.admit_probe(now), Err(WaitUntil::Time(now + seconds(15))));
        now += seconds(15);
    }
}

#[tokio::test]
async fn a_trial_that_fails_opens_it_for_longer() {
    for failure in [Lost, Slow] {
        let (mut breaker, trial, now) = in_trial();
        assert_eq!(breaker.record(trial, failure, now), OPENED);
        assert_eq!(breaker.admit_probe(now), Err(WaitUntil::Time(now + seconds(5))));
        let page = breaker.admit_probe(now + seconds(5)).unwrap();
        breaker.page_answered(page, now);
        let trial = breaker.admit_creation(Duration::ZERO, now).unwrap();
        assert_eq!(breaker.record(trial, Good, now), Some(BreakerChanged::Closed));
    }
}

#[tokio::test]
async fn a_trial_or_a_page_without_a_result_is_repeated() {
    let (mut breaker, trial, now) = in_trial();
    assert_eq!(breaker.record(trial, Unknown, now), None);
    assert!(breaker.admit_creation(Duration::ZERO, now).unwrap().is_trial);
    let (mut breaker, now) = opened();
    let page = breaker.admit_probe(now).unwrap();
    breaker.page_dropped(page, now);
    assert!(breaker.admit_probe(now).is_ok());
}

#[tokio::test]
async fn results_of_requests_from_an_earlier_state_are_ignored() {
    let now = Instant::now();
    let mut breaker = CircuitBreaker::new(POLICY, now);
    let tickets: Vec<BreakerTicket> = (0..8).map(|_| breaker.admit_creation(Duration::ZERO, now).unwrap()).collect();
    let opened = tickets.iter().filter_map(|ticket| breaker.record(*ticket, Lost, now)).count();
    assert_eq!(opened, 1, "logged once");
    let later = now + seconds(5);
    let page = breaker.admit_probe(later).unwrap();
    assert_eq!(breaker.record(tickets[7], Good, later), None);
    assert!(!breaker.is_closed() && breaker.is_valid(page) && !breaker.is_valid(tickets[0]));
}

#[tokio::test]
async fn an_operator_who_resumes_gets_a_page_at_once() {
    let (mut breaker, now, _) = after(&[Lost, Lost, Lost, Lost]);
    breaker.resume(now);
    assert!(breaker.admit_probe(now).is_ok());
}

#[tokio::test]
async fn an_answered_page_that_was_not_its_own_lets_it_try_a_creation() {
    let (mut breaker, now, _) = after(&[Lost, Lost, Lost, Lost]);
    breaker.reached(now);
    assert!(breaker.admit_creation(Duration::ZERO, now).unwrap().is_trial);
    let (mut breaker, _, now) = in_trial();
    breaker.reached(now);
    assert_eq!(breaker.admit_creation(Duration::ZERO, now), Err(WaitUntil::Change));
}
