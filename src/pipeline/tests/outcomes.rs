//! Outcomes that need no second request.

use crate::domain::{Answer, EventType, Lane};
use crate::pipeline::tests::fixture::{Fixture, JANE, ScriptedPartner, T0, job, lost, users};
use crate::pipeline::worker::WorkerEnd;

#[tokio::test(start_paused = true)]
async fn a_created_user_becomes_an_event_with_its_link() {
    let event = Fixture::with_jane(&ScriptedPartner::default()).event().await;
    assert_eq!(event.event_type, EventType::Created);
    assert_eq!(event.verification_url.as_deref(), Some("https://v.example/1"));
    assert_eq!((event.job_id.as_str(), event.attempts, event.recovered), (JANE, 1, false));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_job_is_rejected_without_a_request() {
    let partner = ScriptedPartner::default();
    let fixture = Fixture::new(&partner);
    fixture.queue.push(Lane::Bulk, job("jane"));
    fixture.queue.push(Lane::Bulk, "not a job");
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    let codes: Vec<String> = fixture.queue.events().iter().map(|event| event.errors[0].code.clone()).collect();
    assert_eq!(codes, ["INVALID_EMAIL", "MALFORMED_JOB"]);
    assert_eq!(partner.sent(), []);
}

#[tokio::test(start_paused = true)]
async fn an_email_that_existed_before_is_existing() {
    let partner = ScriptedPartner::answering([Answer::UserExists]).listing([users(&[JANE], 1, T0)]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!(event.event_type, EventType::Existing);
    assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_job_without_attempts_left_becomes_a_dead_letter() {
    let fixture = Fixture::with_jane(&ScriptedPartner::answering([lost(), lost(), lost()]));
    let event = fixture.event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Failed, 3));
    assert_eq!(event.errors[0].code, "ATTEMPTS_EXHAUSTED");
    assert_eq!(fixture.queue.dead(), 1);
}
