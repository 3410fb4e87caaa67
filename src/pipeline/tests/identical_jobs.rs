//! One person's many jobs: identical ones, keys that are used again, and jobs that wait for each other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::domain::decide::LookUpReason;
use crate::domain::{Answer, Event, EventType, Job, Lane};
use crate::pipeline::guards::halt::{HaltAction, HaltPolicy};
use crate::pipeline::tests::fixture::{
    Fixture, JANE, ScriptedPartner, T0, blacklisted, created, created_as, emails, job, lost, users,
};
use crate::pipeline::worker::{WorkerEnd, work};
use crate::testing::memory::MemoryQueue;
use crate::testing::message::message;

const DAY: Duration = Duration::from_secs(86_400);

/// A fixture on a queue like RabbitMQ, which takes identical jobs.
fn fixture(partner: &ScriptedPartner) -> Fixture {
    let mut fixture = Fixture::new(partner);
    fixture.queue = MemoryQueue::like_a_broker(fixture.clock);
    fixture
}

/// A job about this person, changed.
fn edited(job_id: &str, email: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut job = message(job_id, email);
    edit(&mut job);
    job.to_string()
}

/// The events by type: job and serviceId.
fn reported(fixture: &Fixture, event_type: EventType) -> Vec<(String, Option<String>)> {
    let events = fixture.queue.events().into_iter().filter(|event| event.event_type == event_type);
    events.map(|event| (event.job_id, event.service_id)).collect()
}

#[tokio::test(start_paused = true)]
async fn identical_jobs_get_the_user_and_the_link_of_the_first_without_a_request() {
    let partner = ScriptedPartner::with_latency(Duration::from_secs(2));
    let fixture = fixture(&partner);
    for n in 0..3 {
        fixture.queue.push(Lane::Bulk, edited(&format!("crm-{n}"), JANE, |job| job["metadata"] = json!({"n": n})));
    }
    let mut context = fixture.context();
    Arc::get_mut(&mut context).unwrap().link_ttl = Some(DAY);
    let metrics = context.metrics.clone();
    let (signup, bulk) = (fixture.queue.source(Lane::Signup), fixture.queue.source(Lane::Bulk).endless());
    let working = tokio::spawn(work(context, signup, bulk));
    sleep(Duration::from_secs(60)).await;
    fixture.queue.push(Lane::Bulk, job(JANE));
    sleep(Duration::from_secs(1)).await;
    working.abort();

    let events = fixture.queue.events();
    assert_eq!((partner.sent().len(), events.len()), (1, 4));
    let first = &events[0];
    for (n, event) in events.iter().enumerate() {
        let job_id = if n == 3 { JANE.to_owned() } else { format!("crm-{n}") };
        assert_eq!((event.job_id.as_str(), event.attempts), (job_id.as_str(), u32::from(n == 0)));
        let user = |event: &Event| (event.id, event.event_type, event.service_id.clone(), event.recovered);
        assert_eq!(user(event), user(first));
        let link = |event: &Event| (event.verification_url.clone(), event.link_expires_at);
        assert!(link(event) == link(first) && event.verification_url.is_some());
    }
    assert_eq!(first.link_expires_at, Some(first.time.plus(DAY)));
    assert!(events[3].time.since(first.time) > Duration::from_secs(50), "its own time");
    assert!(events[1].metadata.as_ref().is_some_and(|metadata| metadata.get() == r#"{"n":1}"#));
    let metrics = metrics.render();
    assert!(metrics.contains("plu_onboard_jobs_repeated_total 3"), "{metrics}");
    assert!(metrics.contains(r#"plu_onboard_jobs_completed_total{lane="bulk",outcome="created"} 4"#), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn an_identical_job_is_sent_when_the_key_has_expired() {
    let partner = ScriptedPartner::answering([created(), Answer::UserExists]).listing([users(&[JANE], 1, T0)]);
    let fixture = fixture(&partner).with_jobs([JANE]);
    let (signup, bulk) = (fixture.queue.source(Lane::Signup), fixture.queue.source(Lane::Bulk).endless());
    let (end, ()) = tokio::join!(work(fixture.context(), signup, bulk), async {
        sleep(Duration::from_secs(299)).await;
        fixture.queue.push(Lane::Bulk, job(JANE));
        sleep(Duration::from_secs(2)).await;
        fixture.queue.push(Lane::Bulk, job(JANE));
        sleep(Duration::from_secs(10)).await;
        fixture.stop.cancel();
    });
    assert_eq!((end.unwrap(), partner.sent().len()), (WorkerEnd::Stopped, 2));
    assert_eq!(fixture.outcomes(), [(EventType::Created, 1), (EventType::Created, 0), (EventType::Existing, 1)]);
}

#[tokio::test(start_paused = true)]
async fn identical_jobs_count_once_for_the_halt() {
    let partner = ScriptedPartner::answering([Answer::UserExists]).listing([users(&[JANE], 1, T0.minus(DAY))]);
    let mut fixture = fixture(&partner).with_jobs([JANE; 20]);
    fixture.policy.halt =
        HaltPolicy { window: 2, existing_share: 0.5, halt_action: HaltAction::Stop, ..HaltPolicy::NEVER };
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!((fixture.queue.events().len(), partner.sent().len()), (20, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_job_is_no_outcome_for_identical_ones() {
    let partner = ScriptedPartner::answering([blacklisted()]);
    let fixture = fixture(&partner).with_jobs([JANE, JANE]);
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!(fixture.outcomes(), [(EventType::Rejected, 1), (EventType::Created, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_answers_were_lost_gets_the_outcome_of_an_identical_one() {
    // It waits on the queue for its last look-up while the identical job is sent.
    let partner = ScriptedPartner::answering([lost(), lost(), lost()]);
    let fixture = fixture(&partner).with_jobs([JANE, JANE]);
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!(fixture.outcomes(), [(EventType::Created, 1), (EventType::Created, 3)]);
    assert!(fixture.queue.events().iter().all(|event| event.verification_url.is_some()));
    assert_eq!(partner.sent().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_job_does_not_resume_the_look_up_of_an_identical_one() {
    let partner = ScriptedPartner::default();
    let fixture = fixture(&partner).with_jobs([JANE]);
    let context = fixture.context();
    let key = *Job::parse(job(JANE).as_bytes()).unwrap().0.key.uuid();
    context.look_up.interrupt(key, JANE, LookUpReason::UserExists, Instant::now());
    work(context, fixture.queue.source(Lane::Signup), fixture.queue.source(Lane::Bulk)).await.unwrap();
    assert_eq!((fixture.outcomes(), partner.sent().len()), (vec![(EventType::Created, 1)], 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_used_again_for_other_data_is_refused() {
    let partner = ScriptedPartner::default();
    let fixture = fixture(&partner);
    let key = json!("7d3f1c7e-7a3e-4d59-9f57-3a4f0c1b2d3e");
    let with_key = |job_id: &str, email: &str| edited(job_id, email, |job| job["idempotencyKey"] = key.clone());
    for (job_id, email) in [("a", JANE), ("b", "joe@example.com"), ("c", "ann@example.com"), ("d", JANE)] {
        fixture.queue.push(Lane::Bulk, with_key(job_id, email));
    }
    assert_eq!(fixture.work().await, WorkerEnd::Drained);
    assert_eq!(partner.sent().len(), 1);
    let jane = Some(format!("id-of-{JANE}"));
    assert_eq!(reported(&fixture, EventType::Created), [("a".to_owned(), jane.clone()), ("d".to_owned(), jane)]);
    assert_eq!(reported(&fixture, EventType::Rejected), [("b".to_owned(), None), ("c".to_owned(), None)]);
    let events = fixture.queue.events();
    let [b, c] = ["b", "c"].map(|job| events.iter().find(|event| event.job_id == job).unwrap());
    assert_eq!(b.errors[0].code, "IDEMPOTENCY_KEY_IN_USE");
    assert_eq!((b.errors[0].field.as_deref(), b.idempotency_key), (Some("idempotencyKey"), None));
    assert_eq!((b.email.as_deref(), b.attempts), (Some("joe@example.com"), 0));
    assert_ne!(b.id, c.id, "they are different jobs");
}

#[tokio::test(start_paused = true)]
async fn one_user_is_never_reported_for_two_persons() {
    const JOE: &str = "joe@example.com";
    // The second answer is a replay of the first. Then the list has the user of the second job.
    let partner = ScriptedPartner::answering([created_as("acme-user-1"), created_as("acme-user-1")]).listing([users(
        &[JOE],
        1,
        T0.plus(Duration::from_secs(1)),
    )]);
    let replayed = fixture(&partner).with_jobs([JANE, JOE]);
    assert_eq!(replayed.work().await, WorkerEnd::Drained);
    let id = |id: &str| Some(id.to_owned());
    assert_eq!(
        reported(&replayed, EventType::Created),
        [(JANE.to_owned(), id("acme-user-1")), (JOE.to_owned(), id("id-of-joe@example.com"))]
    );
    // The list has the user of the first job under the email of the second.
    let wrong = || {
        users(&[JANE], 1, T0).map(|mut page| {
            page.users[0].0 = JOE.to_owned();
            page
        })
    };
    let partner = ScriptedPartner::answering([created()].into_iter().chain(vec![Answer::UserExists; 3])).listing([
        wrong(),
        wrong(),
        wrong(),
    ]);
    let wrong_list = fixture(&partner).with_jobs([JANE, JOE]);
    assert_eq!(wrong_list.work().await, WorkerEnd::Drained);
    assert_eq!(reported(&wrong_list, EventType::Existing), [(JOE.to_owned(), None)]);
}

/// Returns when the last of 50 jobs about other persons is finished, if these jobs are in front of them.
async fn others_behind(jobs: impl IntoIterator<Item = String>) -> Duration {
    let partner = ScriptedPartner::with_latency(Duration::from_millis(20));
    let fixture = fixture(&partner);
    jobs.into_iter().for_each(|job| fixture.queue.push(Lane::Bulk, job));
    let others = emails(50);
    others.iter().for_each(|email| fixture.queue.push(Lane::Bulk, job(email)));
    let events_of_others = || {
        let events = fixture.queue.events().into_iter();
        events.filter(|event| others.contains(&event.job_id)).collect::<Vec<_>>()
    };
    let all_finished = async {
        while events_of_others().len() < others.len() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = all_finished => {}
        _ = fixture.work() => {}
    }
    let events = events_of_others();
    assert_eq!(events.len(), others.len());
    events.iter().map(|event| event.time.since(T0)).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn many_jobs_about_one_person_do_not_delay_the_jobs_of_others() {
    let alone = others_behind([]).await;
    let identical = (0..2_000).map(|n| edited(&format!("crm-{n}"), JANE, |_| ()));
    // Each of these is sent, one after the other.
    let address = |n| move |job: &mut Value| job["user"]["address"] = json!(format!("{n} Main Street"));
    let different = (0..2_000).map(|n| edited(&format!("crm-{n}"), JANE, address(n)));
    let (identical, different) = (others_behind(identical).await, others_behind(different).await);
    for elapsed in [identical, different] {
        assert!(elapsed <= alone + Duration::from_secs(1), "{identical:?}, {different:?}, alone {alone:?}");
    }
}
