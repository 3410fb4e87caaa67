//! Jobs that are delivered more than once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::domain::{AccountReason, Answer, EventType, Lane};
use crate::pipeline::tests::fixture::{Fixture, ScriptedPartner};
use crate::pipeline::worker::{WorkerEnd, work};
use crate::ports::{Delivery, JobSource, QueueError};
use crate::testing::memory::MemoryQueue;

#[tokio::test(start_paused = true)]
async fn a_job_that_the_broker_redelivered_is_sent_once() {
    let partner = ScriptedPartner::answering([Answer::Account(AccountReason::PaymentRequired)]);
    let mut fixture = Fixture::new(&partner);
    fixture.queue = MemoryQueue::like_a_broker(fixture.clock);
    fixture.policy.concurrency = 1;
    let fixture = fixture.with_jobs(["a@example.com", "b@example.com", "c@example.com"]);
    let connection_breaks = async {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(fixture.queue.crash_of(0).len(), 3);
    };
    let (end, ()) = tokio::join!(fixture.work(), connection_breaks);
    assert_eq!(end, WorkerEnd::Drained);
    assert_eq!(partner.sent().len(), 1 + 3, "both deliveries of a job were sent");
    assert_eq!(fixture.queue.events().len(), 3);
}

/// Counts the deliveries of a source.
struct CountingSource<S> {
    source: S,
    deliveries: Arc<Mutex<u64>>,
}

impl<S: JobSource> JobSource for CountingSource<S> {
    type Handle = S::Handle;

    async fn receive(&mut self) -> Result<Option<Delivery<S::Handle>>, QueueError> {
        let delivery = self.source.receive().await;
        *self.deliveries.lock().unwrap() += 1;
        delivery
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_requeued_during_a_long_pause_and_keeps_its_attempts() {
    let partner = ScriptedPartner::answering(vec![Answer::Account(AccountReason::PaymentRequired); 60]);
    let fixture = Fixture::with_jane(&partner);
    let deliveries = Arc::new(Mutex::new(0));
    let bulk = CountingSource { source: fixture.queue.source(Lane::Bulk), deliveries: Arc::clone(&deliveries) };
    let signup = CountingSource { source: fixture.queue.source(Lane::Signup), deliveries: Arc::default() };
    let start = Instant::now();
    assert_eq!(work(fixture.context(), signup, bulk).await.unwrap(), WorkerEnd::Drained);
    assert_eq!(fixture.outcomes(), [(EventType::Created, 1)]);
    let deliveries = *deliveries.lock().unwrap();
    assert!(deliveries >= start.elapsed().as_secs() / 660 && deliveries > 4, "{deliveries} in {:?}", start.elapsed());
}
