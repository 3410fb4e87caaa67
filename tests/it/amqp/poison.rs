//! Poison messages and delayed jobs on RabbitMQ: neither may be redelivered for ever, and neither may be lost.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use plu_onboard::sandbox::{SandboxConfig, SandboxControl};
use serde_json::{Value, json};

use crate::support::{
    Broker, DEAD, Partner, Received, RunningProgram, TestDir, UNROUTED, job, nth, quick_partner, worker_at,
};

const BULK: &str = "plu.onboarding.jobs.bulk";
const NIL_UUID: &str = "00000000-0000-0000-0000-000000000000";

fn header(message: &Received, name: &str) -> Option<AMQPValue> {
    message.properties.headers().as_ref()?.inner().get(&ShortString::from(name)).cloned()
}

fn edited(n: u32, edit: impl FnOnce(&mut Value)) -> String {
    let mut job: Value = serde_json::from_str(&job(n)).unwrap();
    edit(&mut job);
    job.to_string()
}

#[test]
fn a_poison_message_becomes_a_dead_letter_and_the_other_jobs_continue() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut worker = worker_at(&broker.url(), &dir, &partner).set("queue.message_bytes_max", "4096").start();
    worker.wait_for_output_times("connected to the broker", 2);
    let poison = [
        ("not JSON", "not a job".to_owned(), "MALFORMED_JOB"),
        ("not an object", "[]".to_owned(), "MALFORMED_JOB"),
        ("no user", r#"{"jobId": "crm-1"}"#.to_owned(), "MALFORMED_JOB"),
        ("user no object", r#"{"user": 7}"#.to_owned(), "MALFORMED_JOB"),
        ("an unknown member", edited(1, |job| job["urgent"] = json!(true)), "MALFORMED_JOB"),
        ("an unknown field", edited(2, |job| job["user"]["shoeSize"] = json!(43)), "UNKNOWN_FIELD"),
        ("an invalid key", edited(3, |job| job["idempotencyKey"] = json!("k")), "INVALID_IDEMPOTENCY_KEY"),
        ("the nil UUID", edited(3, |job| job["idempotencyKey"] = json!(NIL_UUID)), "INVALID_IDEMPOTENCY_KEY"),
        ("an empty id", edited(4, |job| job["jobId"] = json!("")), "INVALID_ID"),
        ("too large", edited(5, |job| job["metadata"] = json!("x".repeat(4_096))), "MESSAGE_TOO_LARGE"),
    ];
    for (what, body, _) in &poison {
        let properties = BasicProperties::default().with_message_id((*what).into());
        broker.publish_to("plu.onboarding.jobs", "bulk", body.as_bytes(), &properties);
    }
    // Invalid data of a person: rejected, and no dead letter.
    broker.publish("plu.onboarding", "bulk", &[edited(6, |job| job["user"]["email"] = json!("no address")), job(7)]);
    let all = u32::try_from(poison.len()).unwrap() + 2;
    worker.wait_until("an event for each", || broker.ready(UNROUTED) == all);
    worker.wait_until("the dead letters", || broker.ready(DEAD) == all - 2);
    worker.signal("TERM");
    worker.expect_exit(0);

    let (events, dead) = (broker.drain(UNROUTED), broker.drain(DEAD));
    for (what, _, code) in poison {
        let has_id =
            |message: &&Received| message.properties.message_id().as_ref().is_some_and(|id| id.as_str() == what);
        let dead_letter = dead.iter().find(has_id).unwrap_or_else(|| panic!("{what}: no dead letter"));
        assert_eq!(header(dead_letter, "x-plu-reason"), Some(AMQPValue::LongString(code.into())), "{what}");
        assert_eq!(header(dead_letter, "x-plu-lane"), Some(AMQPValue::LongString("bulk".into())), "{what}");
    }
    let rejected = events.iter().filter(|event| event.routing_key == "user.rejected");
    assert_eq!(rejected.count(), all as usize - 1);
    assert_eq!(broker.ready(BULK), 0);
    assert_eq!(partner.stats().model.created, 1);
}

#[test]
fn headers_that_are_longer_than_a_frame_block_no_other_job() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut worker = worker_at(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    let mut headers = FieldTable::default();
    headers.insert("stack".into(), AMQPValue::LongString("at line 1\n".repeat(10_000).into()));
    let long = BasicProperties::default().with_headers(headers);
    broker.publish_to("plu.onboarding.jobs", "bulk", b"not a job", &long.clone().with_message_id("m-1".into()));
    broker.publish_to("plu.onboarding.jobs", "bulk", job(1).as_bytes(), &long);
    broker.publish_to("", DEAD, b"a dead letter", &long);
    broker.publish("plu.onboarding", "bulk", &[job(2)]);
    worker.wait_until("an event for each", || broker.ready(UNROUTED) == 3);
    worker.wait_until("the dead letters", || broker.ready(DEAD) == 2);
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!(partner.stats().model.created, 2);
    dir.program(&format!("dead list --queue {}", broker.url()))
        .expect_exit(0)
        .assert_output(&["MALFORMED_JOB", "2 dead letters"]);
}

#[test]
fn a_copy_has_no_user_id_expiration_or_cc_of_the_upstreams_publish() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    broker.rabbitmqctl(&["add_user", "plu", "plu"]);
    broker.rabbitmqctl(&["set_permissions", "plu", ".*", ".*", ".*"]);
    let mut worker = worker_at(&broker.url().replace("guest:guest", "plu:plu"), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    let mut headers = FieldTable::default();
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString(DEAD.into())].into()));
    // The broker refuses this user_id from a connection of another user.
    let properties = BasicProperties::default().with_user_id("guest".into()).with_expiration("60000".into());
    let properties = properties.with_message_id("m-1".into()).with_headers(headers);
    broker.publish_to("plu.onboarding.jobs", "bulk", b"not a job", &properties);
    worker.wait_until("the dead letter", || broker.ready(DEAD) == 1);
    worker.signal("TERM");
    worker.expect_exit(0).assert_no_output(&["connection to the broker lost"]);
    let dead_letter = broker.drain(DEAD).remove(0).properties;
    assert_eq!(dead_letter.message_id().as_ref().map(ToString::to_string).as_deref(), Some("m-1"));
    assert_eq!((dead_letter.user_id(), dead_letter.expiration()), (&None, &None));
    assert!(!dead_letter.headers().as_ref().unwrap().contains_key("CC"));
    assert_eq!(broker.ready(BULK), 0);
}

#[test]
fn a_job_past_the_delivery_limit_becomes_a_dead_letter() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut worker = worker_at(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    worker.signal("TERM");
    worker.expect_exit(0);
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    // As with a job that kills its worker each time.
    let mut deliveries = 0;
    let mut another = worker_at(&broker.url(), &dir, &partner).set("amqp.prefix", "idle").start();
    another.wait_until("the dead letter", || {
        deliveries += broker.requeue_first(BULK, 500);
        broker.ready(DEAD) == 1
    });
    assert_eq!(deliveries, 101, "the first delivery and the limit");
    assert_eq!(broker.ready(BULK), 0);
}

/// When the jobs below were published, in seconds.
const PUBLISHED_S: u64 = 1_700_000_000;
const DELAYED: &str = "plu.onboarding.delay.signup.5";

/// A worker that spends every delay on a delay queue, and its partner; keys expire after four seconds.
fn delaying_worker(dir: &TestDir, broker: &Broker) -> (RunningProgram, Partner) {
    let mut config = SandboxConfig::default();
    config.model.key_ttl = Duration::from_secs(4);
    let partner = Partner::start(config);
    let mut worker = worker_at(&broker.url(), dir, &partner)
        .set("api.key_ttl_s", "4")
        .set("worker.delay_in_memory_max_s", "0")
        .set("worker.backoff_initial_ms", "3000")
        .start();
    worker.wait_for_output_times("connected to the broker", 2);
    (worker, partner)
}

fn put_on_signup(broker: &Broker, body: &str) {
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_timestamp(PUBLISHED_S);
    broker.publish_to("plu.onboarding.jobs", "signup", body.as_bytes(), &properties);
}

/// Waits until the job is on the shortest delay queue, with the history of one attempt, and then until it is done.
/// Returns its event. `earlier_ms`: time between its first and its last send, as the history has them.
fn until_delayed_and_done(mut worker: RunningProgram, broker: &Broker, earlier_ms: i64) -> Value {
    worker.wait_until("the job on the shortest delay queue", || broker.ready(DELAYED) == 1);
    let history = broker.peek(DELAYED);
    assert_eq!(history["x-plu-attempts"], 1);
    let published_ms = i64::try_from(PUBLISHED_S).unwrap() * 1_000;
    assert_eq!(history["x-plu-first-seen-ms"], published_ms);
    assert!(history["x-plu-first-sent-ms"] > published_ms);
    let sent = |name: &str| history[name];
    assert_eq!(sent("x-plu-last-sent-ms") - sent("x-plu-first-sent-ms"), earlier_ms);
    worker.wait_until("the job's event", || broker.ready(UNROUTED) == 1);
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!((broker.ready(DELAYED), broker.ready(DEAD), broker.ready("plu.onboarding.jobs.signup")), (0, 0, 0));
    broker.drain(UNROUTED).remove(0).body
}

#[test]
fn a_job_whose_key_must_expire_is_delayed_and_then_created() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let (worker, partner) = delaying_worker(&dir, &broker);
    // A request with this key that created no user: the key is used, and no look-up finds a user.
    let key = "22599be7-ca8d-4cee-89f1-1223a607e87f";
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut user: Value = serde_json::from_str(&job(1)).unwrap();
    let blacklisted = user["user"].take().to_string().replace("Lee", "Blacklisted");
    let request = reqwest::Client::new()
        .post(format!("{}/v2/partner/card/users", partner.url()))
        .bearer_auth("sk_staging_sandbox")
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(blacklisted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(request.send()).unwrap().status().is_client_error());
    put_on_signup(&broker, &edited(1, |job| job["idempotencyKey"] = json!(key)));
    // The other request with the key was sent within the key's lifetime.
    let event = until_delayed_and_done(worker, &broker, 4_000);
    assert_eq!((event["type"].as_str(), event["attempts"].as_u64()), (Some("user.created"), Some(2)), "{event}");
    assert!(event["verificationUrl"].is_string() && event["recovered"].is_null(), "{event}");
    assert_eq!(partner.stats().model.created, 1);
}

#[test]
fn a_job_with_a_lost_answer_is_delayed_and_then_recovered() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let (worker, partner) = delaying_worker(&dir, &broker);
    // Every request takes effect, and its answer is lost.
    partner.control(&SandboxControl { lose_every: Some(nth(1)), ..SandboxControl::default() });
    put_on_signup(&broker, &job(1));
    let event = until_delayed_and_done(worker, &broker, 0);
    partner.control(&SandboxControl { lose_every: Some(None), ..SandboxControl::default() });
    assert_eq!((event["type"].as_str(), event["attempts"].as_u64()), (Some("user.created"), Some(2)), "{event}");
    assert_eq!(event["recovered"], true);
    assert_eq!(partner.stats().model.created, 1);
}
