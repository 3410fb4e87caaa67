//! Look-ups for jobs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::domain::{Answer, EventType, IdempotencyKey, Lane};
use crate::pipeline::Context;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::tests::fixture::{Fixture, JANE, POLICY, ScriptedPartner, T0, lost, users};
use crate::pipeline::worker::work;
use crate::ports::{ListError, PartnerApi, UserList, UserListPage};
use crate::telemetry::Metrics;

#[tokio::test(start_paused = true)]
async fn one_scan_answers_all_jobs_that_wait() {
    let emails = ["a@example.com", "b@example.com", "c@example.com"];
    let partner = ScriptedPartner::answering([Answer::UserExists, Answer::UserExists, Answer::UserExists])
        .listing([users(&emails, 3, T0), Err(ListError::Failed("read twice"))]);
    let fixture = Fixture::new(&partner).with_jobs(emails);
    fixture.work().await;
    let found: Vec<_> = fixture.queue.events().into_iter().filter_map(|event| event.service_id).collect();
    assert_eq!(found.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_shrinks_during_a_scan_proves_no_user_missing() {
    let partner = ScriptedPartner::answering([lost(), Answer::KeyAlreadyUsed, Answer::KeyAlreadyUsed]).listing([
        users(&["x@example.com"], 3, T0),
        users(&["y@example.com"], 2, T0),
        users(&["x@example.com", JANE], 2, T0),
    ]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
}

#[tokio::test(start_paused = true)]
async fn the_last_look_up_waits_until_the_last_request_is_over() {
    let partner = ScriptedPartner::answering([lost(), lost(), lost()]).listing([users(&[JANE], 1, T0)]);
    let event = Fixture::with_jane(&partner).event().await;
    let sent = partner.sent();
    assert_eq!((event.event_type, event.recovered, sent.len()), (EventType::Created, true, 3));
    assert!(sent[2].at.elapsed() >= Duration::from_secs(90), "{:?}", sent[2].at.elapsed());
}

/// A user list that takes a second for each page of one user.
#[derive(Clone)]
struct LongList {
    partner: ScriptedPartner,
    users: u64,
}

impl PartnerApi for LongList {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        self.partner.create(key, body).await
    }
}

impl UserList for LongList {
    async fn page(&self, skip: u64, _limit: u32) -> Result<UserListPage, ListError> {
        sleep(Duration::from_secs(1)).await;
        users(&[&format!("user{skip}@elsewhere.example")], self.users, T0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_continues_although_its_job_is_requeued_meanwhile() {
    let partner = ScriptedPartner::answering([lost(), lost(), lost()]);
    let fixture = Fixture::with_jane(&partner);
    let list = LongList { partner: partner.clone(), users: 3_000 };
    let (metrics, rate_limiter) = (Metrics::new().unwrap(), RateLimiter::new(None));
    let context = Context::new(list, POLICY, rate_limiter, fixture.clock, metrics, fixture.stop.clone());
    let start = Instant::now();
    work(Arc::new(context), fixture.queue.source(Lane::Signup), fixture.queue.source(Lane::Bulk)).await.unwrap();
    assert_eq!(fixture.outcomes(), [(EventType::Failed, 3)]);
    assert_eq!(partner.sent().len(), 3, "sent again for each look-up");
    assert!(start.elapsed() < Duration::from_secs(4_000), "{:?}", start.elapsed());
}
