//! Messages that can never become a user, and jobs that have to wait: neither may go round and round, nor be lost.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use plu_onboard::sandbox::{Control, SandboxConfig};
use serde_json::{Value, json};

use crate::support::{Broker, DEAD, Partner, Place, Received, Running, UNROUTED, job, nth, quick_partner, worker_at};

const BULK: &str = "plu.onboarding.jobs.bulk";

fn header(message: &Received, name: &str) -> Option<AMQPValue> {
    message.properties.headers().as_ref()?.inner().get(&ShortString::from(name)).cloned()
}

fn edited(n: u32, edit: impl FnOnce(&mut Value)) -> String {
    let mut job: Value = serde_json::from_str(&job(n)).unwrap();
    edit(&mut job);
    job.to_string()
}

#[test]
fn a_poison_message_is_rejected_and_dead_at_once_with_its_reason_and_the_others_go_on() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    let mut worker = worker_at(&broker.url(), &place, &partner).set("queue.message_bytes_max", "4096").start();
    worker.says_times("connected to the broker", 2);
    let poison = [
        ("not JSON", "not a job".to_owned(), "MALFORMED_JOB"),
        ("not an object", "[]".to_owned(), "MALFORMED_JOB"),
        ("no user", r#"{"jobId": "crm-1"}"#.to_owned(), "MALFORMED_JOB"),
        ("user no object", r#"{"user": 7}"#.to_owned(), "MALFORMED_JOB"),
        ("an unknown member", edited(1, |job| job["urgent"] = json!(true)), "MALFORMED_JOB"),
        ("an unknown field", edited(2, |job| job["user"]["shoeSize"] = json!(43)), "UNKNOWN_FIELD"),
        ("a key that is none", edited(3, |job| job["idempotencyKey"] = json!("k")), "INVALID_IDEMPOTENCY_KEY"),
        ("an empty id", edited(4, |job| job["jobId"] = json!("")), "INVALID_ID"),
        ("too large", edited(5, |job| job["metadata"] = json!("x".repeat(4_096))), "MESSAGE_TOO_LARGE"),
    ];
    for (what, body, _) in &poison {
        let properties = BasicProperties::default().with_message_id((*what).into());
        broker.publish_to("plu.onboarding.jobs", "bulk", body.as_bytes(), &properties);
    }
    // The data of a person, which nobody has to look at among the dead letters.
    broker.publish("plu.onboarding", "bulk", &[edited(6, |job| job["user"]["email"] = json!("nobody")), job(7)]);
    let all = u32::try_from(poison.len()).unwrap() + 2;
    worker.until("an event for each", || broker.ready(UNROUTED) == all);
    worker.until("the dead letters", || broker.ready(DEAD) == all - 2);
    worker.signal("TERM");
    worker.ends_with(0);

    let (events, dead) = (broker.drain(UNROUTED), broker.drain(DEAD));
    for (what, _, code) in poison {
        let has_id =
            |message: &&Received| message.properties.message_id().as_ref().is_some_and(|id| id.as_str() == what);
        let letter = dead.iter().find(has_id).unwrap_or_else(|| panic!("{what}: no dead letter"));
        assert_eq!(header(letter, "x-plu-reason"), Some(AMQPValue::LongString(code.into())), "{what}");
        assert_eq!(header(letter, "x-plu-lane"), Some(AMQPValue::LongString("bulk".into())), "{what}");
    }
    let rejected = events.iter().filter(|event| event.routing_key == "user.rejected");
    assert_eq!(rejected.count(), all as usize - 1);
    assert_eq!(broker.ready(BULK), 0);
    assert_eq!(partner.stats().model.created, 1);
}

#[test]
fn headers_longer_than_a_frame_of_ours_hold_up_nobody() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    let mut worker = worker_at(&broker.url(), &place, &partner).start();
    worker.says_times("connected to the broker", 2);
    let mut headers = FieldTable::default();
    headers.insert("stack".into(), AMQPValue::LongString("at line 1\n".repeat(10_000).into()));
    let long = BasicProperties::default().with_headers(headers);
    broker.publish_to("plu.onboarding.jobs", "bulk", b"not a job", &long.clone().with_message_id("m-1".into()));
    broker.publish_to("plu.onboarding.jobs", "bulk", job(1).as_bytes(), &long);
    broker.publish_to("", DEAD, b"buried by somebody", &long);
    broker.publish("plu.onboarding", "bulk", &[job(2)]);
    worker.until("an event for each", || broker.ready(UNROUTED) == 3);
    worker.until("the dead letters", || broker.ready(DEAD) == 2);
    worker.signal("TERM");
    worker.ends_with(0);
    assert_eq!(partner.stats().model.created, 2);
    place
        .program(&format!("dead list --queue {}", broker.url()))
        .ends_with(0)
        .said(&["MALFORMED_JOB", "2 dead letters"]);
}

#[test]
fn what_an_upstream_meant_for_its_own_publish_is_not_done_again_with_a_copy() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    broker.rabbitmqctl(&["add_user", "plu", "plu"]);
    broker.rabbitmqctl(&["set_permissions", "plu", ".*", ".*", ".*"]);
    let mut worker = worker_at(&broker.url().replace("guest:guest", "plu:plu"), &place, &partner).start();
    worker.says_times("connected to the broker", 2);
    let mut headers = FieldTable::default();
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString(DEAD.into())].into()));
    // The broker has checked this user, and refuses it from anybody else.
    let properties = BasicProperties::default().with_user_id("guest".into()).with_expiration("60000".into());
    let properties = properties.with_message_id("m-1".into()).with_headers(headers);
    broker.publish_to("plu.onboarding.jobs", "bulk", b"not a job", &properties);
    worker.until("the dead letter", || broker.ready(DEAD) == 1);
    worker.signal("TERM");
    worker.ends_with(0).did_not_say(&["the connection to the broker broke"]);
    let letter = broker.drain(DEAD).remove(0).properties;
    assert_eq!(letter.message_id().as_ref().map(ToString::to_string).as_deref(), Some("m-1"));
    assert_eq!((letter.user_id(), letter.expiration()), (&None, &None));
    assert!(!letter.headers().as_ref().unwrap().contains_key("CC"));
    assert_eq!(broker.ready(BULK), 0);
}

#[test]
fn a_job_that_is_given_back_over_and_over_ends_among_the_dead_letters() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    let mut worker = worker_at(&broker.url(), &place, &partner).start();
    worker.says_times("connected to the broker", 2);
    worker.signal("TERM");
    worker.ends_with(0);
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    // As a job does that kills its worker each time.
    let mut deliveries = 0;
    let mut another = worker_at(&broker.url(), &place, &partner).set("amqp.prefix", "idle").start();
    another.until("the broker gives up", || {
        deliveries += broker.give_back(BULK, 500);
        broker.ready(DEAD) == 1
    });
    assert_eq!(deliveries, 101, "the first one and as many again as the limit says");
    assert_eq!(broker.ready(BULK), 0);
}

/// When the jobs below were published, in seconds.
const PUBLISHED_S: u64 = 1_700_000_000;
const DELAYED: &str = "plu.onboarding.delay.signup.5";

/// A worker that spends every wait on the queue, and its partner; keys live for four seconds.
fn waiting_worker(place: &Place, broker: &Broker) -> (Running, Partner) {
    let mut config = SandboxConfig::default();
    config.model.key_ttl = Duration::from_secs(4);
    let partner = Partner::start(config);
    let mut worker = worker_at(&broker.url(), place, &partner)
        .set("api.key_ttl_s", "4")
        .set("worker.wait_in_hand_max_s", "0")
        .set("worker.backoff_initial_ms", "3000")
        .start();
    worker.says_times("connected to the broker", 2);
    (worker, partner)
}

fn put_on_signup(broker: &Broker, body: &str) {
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_timestamp(PUBLISHED_S);
    broker.publish_to("plu.onboarding.jobs", "signup", body.as_bytes(), &properties);
}

/// The job waits on the shortest delay queue, with the history of one attempt, and ends after it came back.
/// `earlier_ms`: how long before its only request of now it counts as sent first.
fn comes_back(mut worker: Running, broker: &Broker, earlier_ms: i64) -> Value {
    worker.until("it waits on the shortest delay queue", || broker.ready(DELAYED) == 1);
    let history = broker.peek(DELAYED);
    assert_eq!(history["x-plu-attempts"], 1);
    let published_ms = i64::try_from(PUBLISHED_S).unwrap() * 1_000;
    assert_eq!(history["x-plu-first-seen-ms"], published_ms);
    assert!(history["x-plu-first-sent-ms"] > published_ms);
    let sent = |name: &str| history[name];
    assert_eq!(sent("x-plu-last-sent-ms") - sent("x-plu-first-sent-ms"), earlier_ms);
    worker.until("its event", || broker.ready(UNROUTED) == 1);
    worker.signal("TERM");
    worker.ends_with(0);
    assert_eq!((broker.ready(DELAYED), broker.ready(DEAD), broker.ready("plu.onboarding.jobs.signup")), (0, 0, 0));
    broker.drain(UNROUTED).remove(0).body
}

#[test]
fn a_job_whose_key_must_expire_waits_on_a_delay_queue_and_is_created_then() {
    let (broker, place) = (Broker::start(), Place::new());
    let (worker, partner) = waiting_worker(&place, &broker);
    // A request with this key that created nobody: the key is used, and no user will be found.
    let key = "22599be7-ca8d-4cee-89f1-1223a607e87f";
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut user: Value = serde_json::from_str(&job(1)).unwrap();
    let spoilt = user["user"].take().to_string().replace("Lee", "Blacklisted");
    let request = reqwest::Client::new()
        .post(format!("{}/v2/partner/card/users", partner.url()))
        .bearer_auth("sk_staging_sandbox")
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(spoilt);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(request.send()).unwrap().status().is_client_error());
    put_on_signup(&broker, &edited(1, |job| job["idempotencyKey"] = json!(key)));
    // Whoever used the key did so within its life.
    let event = comes_back(worker, &broker, 4_000);
    assert_eq!((event["type"].as_str(), event["attempts"].as_u64()), (Some("user.created"), Some(2)), "{event}");
    assert!(event["verificationUrl"].is_string() && event["recovered"].is_null(), "{event}");
    assert_eq!(partner.stats().model.created, 1);
}

#[test]
fn a_job_without_an_answer_waits_on_a_delay_queue_and_its_user_is_recovered_then() {
    let (broker, place) = (Broker::start(), Place::new());
    let (worker, partner) = waiting_worker(&place, &broker);
    // Every request takes effect, and its answer is lost.
    partner.control(&Control { lose_every: Some(nth(1)), ..Control::default() });
    put_on_signup(&broker, &job(1));
    let event = comes_back(worker, &broker, 0);
    partner.control(&Control { lose_every: Some(None), ..Control::default() });
    assert_eq!((event["type"].as_str(), event["attempts"].as_u64()), (Some("user.created"), Some(2)), "{event}");
    assert_eq!(event["recovered"], true);
    assert_eq!(partner.stats().model.created, 1);
}
