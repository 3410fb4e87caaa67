//! Halt and canary.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::domain::{Answer, Lane};
use crate::pipeline::gate::GateState;
use crate::pipeline::guards::halt::{HaltAction, HaltPolicy};
use crate::pipeline::tests::fixture::{Fixture, POLICY, ScriptedPartner, T0, blacklisted, created, emails, job, lost};
use crate::pipeline::worker::{WorkerEnd, work};

const HALT: HaltPolicy = HaltPolicy {
    window: 10,
    rejected_share: 0.5,
    existing_share: 0.5,
    lost_link_share: 0.5,
    canary: 0,
    halt_action: HaltAction::Stop,
    queue_forgets: false,
};

#[tokio::test(start_paused = true)]
async fn bad_outcomes_halt_before_all_rows_are_sent() {
    let partner = ScriptedPartner::answering(vec![blacklisted(); 100]);
    let mut fixture = Fixture::new(&partner).with_jobs(emails(100));
    fixture.policy.halt = HALT;
    assert_eq!(fixture.work().await, WorkerEnd::Stopped);
    let finished = fixture.queue.events().len();
    assert!((10..=10 + POLICY.concurrency).contains(&finished), "{finished}");
    assert_eq!(fixture.queue.waiting().len(), 100 - finished);
}

#[tokio::test(start_paused = true)]
async fn a_halted_worker_holds_bulk_jobs_until_an_operator_resumes() {
    let partner = ScriptedPartner::answering(vec![blacklisted(); 10]);
    let mut fixture = Fixture::new(&partner).with_jobs(emails(100));
    fixture.policy.halt = HaltPolicy { halt_action: HaltAction::HoldBulk, ..HALT };
    let context = fixture.context();
    let queue = fixture.queue.clone();
    let (signup, bulk) = (queue.source(Lane::Signup).endless(), queue.source(Lane::Bulk).endless());
    let working = tokio::spawn(work(Arc::clone(&context), signup, bulk));
    sleep(Duration::from_secs(60)).await;
    let halted = queue.events().len();
    assert!(halted < 20 && context.gate.state() == GateState::Halted, "{halted}");
    queue.push(Lane::Signup, job("late@example.com"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.events().len(), halted + 1);
    assert!(context.resume());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.events().len(), 101);
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn the_canary_is_sent_alone_until_its_outcomes_are_known() {
    // One of the five gets no answer and waits for its key to expire; the other jobs wait for it.
    let answers = [lost(), created(), created(), created(), Answer::KeyAlreadyUsed];
    let partner = ScriptedPartner::answering_after(Duration::from_secs(1), answers);
    let mut fixture = Fixture::new(&partner).with_jobs(emails(50));
    fixture.policy.halt = HaltPolicy { canary: 5, ..HALT };
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!(fixture.queue.events().len(), 50);
    let fifth = fixture.queue.events()[4].time;
    let before = partner.sent().iter().filter(|request| T0.plus(request.at - fixture.began) < fifth).count();
    assert!((6..=8).contains(&before), "five jobs and their retries: {before}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_with_bad_outcomes_halts_before_other_jobs_are_sent() {
    let partner = ScriptedPartner::answering(vec![blacklisted(); 50]);
    let mut fixture = Fixture::new(&partner).with_jobs(emails(50));
    fixture.policy.halt = HaltPolicy { canary: 5, ..HALT };
    assert_eq!(fixture.work().await, WorkerEnd::Stopped);
    assert_eq!(partner.sent().len(), 5);
    assert_eq!(fixture.queue.waiting().len(), 45);
}
