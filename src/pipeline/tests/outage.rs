//! An API that gives no answers.

use crate::domain::EventType;
use crate::pipeline::tests::fixture::{Fixture, ScriptedPartner, emails, lost};
use crate::pipeline::worker::WorkerEnd;

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_no_attempts_once_the_circuit_is_open() {
    let partner = ScriptedPartner::answering(vec![lost(); 60]);
    let fixture = Fixture::new(&partner).with_jobs(emails(30));
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    let outcomes = fixture.outcomes();
    let is_created = |(outcome, attempts): &(EventType, u32)| *outcome == EventType::Created && *attempts <= 3;
    assert!(outcomes.len() == 30 && outcomes.iter().all(is_created), "{outcomes:?}");
    // Five failures in a row open the circuit. Then a few trials are sent after 5 s, 10 s later, 20 s later, ...
    let sent = partner.sent();
    let gaps = sent.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs());
    let long_gaps: Vec<u64> = gaps.filter(|seconds| *seconds >= 5).collect();
    assert_eq!(long_gaps[..4], [5, 10, 20, 40]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_few_attempts_of_a_short_queue() {
    for jobs in [1, 2, 3] {
        // Hours: each attempt waits longer than the one before.
        let partner = ScriptedPartner::answering(vec![lost(); 200]);
        let mut fixture = Fixture::new(&partner).with_jobs(emails(jobs));
        fixture.policy.limits.attempts_max = 8;
        assert_eq!(fixture.work().await, WorkerEnd::Drained);
        let outcomes = fixture.outcomes();
        let is_created = |(outcome, attempts): &(EventType, u32)| *outcome == EventType::Created && *attempts <= 6;
        assert!(outcomes.len() == jobs && outcomes.iter().all(is_created), "{outcomes:?}");
    }
}
