//! A worker that stops, is dropped, or dies.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::domain::{Answer, EventType, Lane};
use crate::pipeline::tests::fixture::{Fixture, JANE, POLICY, ScriptedPartner, T0, emails, users};
use crate::pipeline::worker::{WorkerEnd, work};

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_leaves_no_task_running() {
    let fixture = Fixture::new(&ScriptedPartner::default());
    let context = fixture.context();
    let source = |lane| fixture.queue.source(lane).endless();
    let working = work(Arc::clone(&context), source(Lane::Signup), source(Lane::Bulk));
    assert!(timeout(Duration::from_secs(5), working).await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&context), 1, "the scanning task is still running");
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_requests_in_flight_and_requeues_the_rest() {
    let partner = ScriptedPartner::with_latency(Duration::from_secs(2));
    let fixture = Fixture::new(&partner).with_jobs(emails(30));
    let stop = fixture.stop.clone();
    let (end, ()) = tokio::join!(fixture.work(), async move {
        // The first request is sent alone, and takes two seconds.
        sleep(Duration::from_secs(3)).await;
        stop.cancel();
    });
    assert_eq!(end, WorkerEnd::Stopped);
    assert_eq!(fixture.queue.events().len(), 1 + POLICY.concurrency);
    let waiting = fixture.queue.waiting();
    assert_eq!(waiting.len(), 30 - 1 - POLICY.concurrency);
    assert!(waiting.iter().all(|history| history.attempts == 0));
    assert_eq!(partner.sent().len(), 1 + POLICY.concurrency);
}

#[tokio::test(start_paused = true)]
async fn a_request_longer_than_the_grace_leaves_its_job_as_sent() {
    let fixture = Fixture::with_jane(&ScriptedPartner::with_latency(Duration::from_secs(3_600)));
    let stop = fixture.stop.clone();
    let (end, ()) = tokio::join!(fixture.work(), async move {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    assert_eq!(end, WorkerEnd::CutOff { jobs: 1 });
    assert_eq!(fixture.queue.waiting()[0].first_sent_at, Some(T0));
}

#[tokio::test(start_paused = true)]
async fn a_job_in_flight_when_the_worker_died_is_recovered() {
    let fixture = Fixture::with_jane(&ScriptedPartner::with_latency(Duration::from_secs(3_600)));
    assert!(timeout(Duration::from_secs(1), fixture.work()).await.is_err());
    fixture.queue.crash();
    let partner = ScriptedPartner::answering([Answer::UserExists]).listing([users(&[JANE], 1, T0)]);
    let event = Fixture { partner, ..fixture }.event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
}
