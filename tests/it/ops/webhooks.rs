//! `webhooks` receives KYC webhooks. Each one with a valid signature becomes one event, which is recorded before the
//! partner gets its answer. Requests without a valid signature are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ring::hmac;
use serde_json::{Value, json};

use crate::meta::contract::assert_valid;
use crate::support::{Broker, HttpReply, Program, RunningProgram, TestDir, get, request, request_with};

const SECRET: &str = "whsec_of_the_tests";
const PATH: &str = "/webhooks/plu";
const QUEUE: &str = "crm.kyc";

fn program(dir: &TestDir, arguments: &str) -> Program {
    dir.program(&format!("webhooks --receive 0 {arguments}")).env("PLU_WEBHOOK_SECRET", SECRET)
}

fn approved(n: u32) -> String {
    json!({"event": "user.kyc-event", "timestamp": "2026-02-19T20:49:29.927Z", "data": {
        "serviceId": format!("acme-user-{n}"), "status": "approved", "email": format!("jane{n}@example.com"),
        "firstName": "Janeczka", "lastName": "DoeApproved"}})
    .to_string()
}

fn hex_signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(hmac::sign(&key, body.as_bytes()))
}

fn post(address: &str, body: &str, signature: &str) -> HttpReply {
    request_with(address, "POST", PATH, &format!("x-webhook-signature: {signature}\r\n"), body)
}

fn post_signed(address: &str, body: &str) -> HttpReply {
    post(address, body, &hex_signature(SECRET, body))
}

/// Starts a receiver on a broker, with a queue that gets its KYC events. Returns the addresses of the receiver and of
/// its metrics.
fn on_broker(broker: &Broker, dir: &TestDir) -> (RunningProgram, String, String) {
    broker.declare("plu.onboarding");
    broker.declare_queue(QUEUE, &[]);
    broker.bind(QUEUE, "plu.onboarding.events", "kyc.#");
    let program = program(dir, &format!("--queue {} --listen 0", broker.url()));
    let mut running = program.set("webhooks.publish_timeout_s", "2").set("amqp.confirm_timeout_s", "2").start();
    let ops = running.wait_for_address("metrics and health");
    let address = running.wait_for_address("webhooks are received");
    running.wait_until("/readyz answers 200", || get(&ops, "/readyz").status == 200);
    (running, address, ops)
}

#[test]
fn a_signed_webhook_becomes_an_event_and_a_repeat_has_the_same_id() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let (running, address, ops) = on_broker(&broker, &dir);
    let denied = json!({"event": "user.kyc-event", "timestamp": "2026-02-19T21:01:49.217Z", "data": {
        "serviceId": "acme-user-2", "status": "denied", "reason": "WRONG_USER_REGION, REGULATIONS_VIOLATIONS"}})
    .to_string();
    let link = "https://kyc.example/verify?userId=e5508685";
    let more = json!({"event": "rain.user-event", "data": {
        "serviceId": "acme-user-3", "status": "needsVerification", "verificationLink": link}})
    .to_string();
    for body in [&approved(1), &denied, &more, &approved(1)] {
        let reply = post_signed(&address, body);
        assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("success")));
    }
    let events = broker.drain(QUEUE);
    let types: Vec<&str> = events.iter().map(|event| event.routing_key.as_str()).collect();
    assert_eq!(types, ["kyc.approved", "kyc.denied", "kyc.needs-verification", "kyc.approved"]);
    let body = |n: usize, name: &str| events[n].body[name].clone();
    assert_eq!(body(0, "serviceId"), "acme-user-1");
    assert_eq!((body(0, "time"), body(0, "reasons")), (json!("2026-02-19T20:49:29.927Z"), json!([])));
    assert_eq!(body(1, "reasons"), json!(["WRONG_USER_REGION", "REGULATIONS_VIOLATIONS"]));
    assert_eq!(body(2, "verificationUrl"), link);
    assert_eq!(body(0, "id"), body(3, "id"));
    let lines: String = events.iter().map(|event| format!("{}\n", event.body)).collect();
    assert_valid("kyc-event.schema.json", &lines);
    for event in &events {
        let properties = &event.properties;
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        assert_eq!(text(properties.message_id()).as_deref(), event.body["id"].as_str());
        assert_eq!(text(properties.kind()).as_deref(), Some(event.routing_key.as_str()));
        assert_eq!(text(properties.app_id()).as_deref(), Some("plu-onboard"));
        assert_eq!((*properties.delivery_mode(), properties.headers().as_ref()), (Some(2), None));
    }
    let metrics = get(&ops, "/metrics").body;
    for (result, count) in [("approved", 2), ("denied", 1), ("needs_verification", 1), ("unsigned", 0)] {
        let line = format!("plu_onboard_webhooks_received_total{{result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    running.signal("TERM");
    let output = running.expect_exit(0);
    assert_eq!(output.times("event recorded"), 4, "{output}");
    let output = output.to_string();
    assert!(
        !["jane1", "Janeczka", "acme-user", "kyc.example", SECRET].iter().any(|secret| output.contains(secret)),
        "{output}"
    );
}

#[test]
fn a_webhook_without_a_valid_signature_is_refused_with_the_reason() {
    let dir = TestDir::new();
    let mut running = program(&dir, "--queue local:q.db").start();
    let address = running.wait_for_address("webhooks are received");
    let body = approved(1);
    let wrong = hex_signature("whsec_of_another_partner", &body);
    for (reply, status, why) in [
        (request(&address, "POST", PATH, &body), 401, "there is no header x-webhook-signature"),
        (post(&address, &body, &wrong), 401, "the signature doesn't match"),
        (post(&address, &body, "not hexadecimal"), 401, "the signature doesn't match"),
        (post(&address, &approved(2), &hex_signature(SECRET, &body)), 401, "the signature doesn't match"),
        (post_signed(&address, "no JSON"), 400, "the body is not JSON"),
        (post_signed(&address, &"x".repeat(65_537)), 413, "longer than 65536 bytes"),
        (post_signed(&address, r#"{"event": "card.created"}"#), 200, "ignored"),
    ] {
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.json()["message"].as_str().unwrap().contains(why), "{reply:?}");
    }
    for (method, path, status) in [("GET", PATH, 405), ("POST", "/", 404), ("GET", "/metrics", 404)] {
        assert_eq!(request(&address, method, path, "").status, status, "{method} {path}");
    }
    assert_eq!(dir.read("q-results/kyc.ndjson"), "");
    // A prefix before the signature and upper-case digits are accepted.
    let signature = format!("sha256={}", hex_signature(SECRET, &body).to_uppercase());
    assert_eq!(post(&address, &body, &signature).status, 200);
    running.signal("TERM");
    let output = running.expect_exit(0);
    assert_eq!(output.times("webhook refused"), 1, "unsigned requests can fill the log: {output}");
}

#[test]
fn with_an_embedded_queue_each_event_is_in_the_file_before_the_answer() {
    let dir = TestDir::new();
    let mut running = program(&dir, "--queue local:q.db --out kyc").start();
    let address = running.wait_for_address("webhooks are received");
    let second = program(&dir, "--queue local:q.db --out kyc").expect_exit(2);
    second.assert_output(&["kyc/kyc.ndjson is being written by another `webhooks`"]);
    for n in 0..20 {
        assert_eq!(post_signed(&address, &approved(n)).status, 200);
    }
    running.kill();
    let file = dir.path("kyc/kyc.ndjson");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut running = program(&dir, "--queue local:q.db --out kyc").start();
    let address = running.wait_for_address("webhooks are received");
    assert_eq!(post_signed(&address, &approved(20)).status, 200);
    let users: Vec<String> = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["serviceId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(users, (0..=20).map(|n| format!("acme-user-{n}")).collect::<Vec<_>>());
    running.signal("INT");
    running.expect_exit(0);
}

#[test]
fn a_moved_events_file_is_created_again_and_a_failed_write_is_retried() {
    let dir = TestDir::new();
    let mut running = program(&dir, "--queue local:q.db --out kyc --listen 0").start();
    let ops = running.wait_for_address("metrics and health");
    let address = running.wait_for_address("webhooks are received");
    assert_eq!(post_signed(&address, &approved(1)).status, 200);
    fs::rename(dir.path("kyc/kyc.ndjson"), dir.path("kyc/kyc.ndjson.1")).unwrap();
    assert_eq!(post_signed(&address, &approved(2)).status, 200);
    assert!(dir.read("kyc/kyc.ndjson").contains("acme-user-2"));
    // A directory with the file's name makes writing fail.
    fs::rename(dir.path("kyc/kyc.ndjson"), dir.path("kyc/kyc.ndjson.2")).unwrap();
    fs::create_dir(dir.path("kyc/kyc.ndjson")).unwrap();
    assert_eq!(post_signed(&address, &approved(3)).status, 503);
    assert_eq!((get(&ops, "/readyz").status, get(&ops, "/readyz").json()["state"].clone()), (503, json!("blocked")));
    fs::remove_dir(dir.path("kyc/kyc.ndjson")).unwrap();
    running.wait_until("the event is recorded", || get(&ops, "/readyz").status == 200);
    assert!(dir.read("kyc/kyc.ndjson").contains("acme-user-3"));
    let unknown = approved(4).replace("\"approved\"", "\"pending\"");
    assert_eq!(post_signed(&address, &unknown).status, 200);
    let metrics = get(&ops, "/metrics").body;
    assert!(metrics.contains("plu_onboard_webhooks_received_total{result=\"unknown_status\"} 1\n"), "{metrics}");
    running.signal("TERM");
    running.expect_exit(0).assert_output(&["its verification status is unknown to this version"]);
}

#[test]
fn without_its_broker_the_receiver_answers_503_and_later_records_the_event() {
    let (mut broker, dir) = (Broker::start(), TestDir::new());
    let (mut running, address, ops) = on_broker(&broker, &dir);
    broker.kill();
    // The partner sends the webhook three times, and it is recorded once.
    for _ in 0..3 {
        let reply = post_signed(&address, &approved(1));
        assert_eq!((reply.status, reply.head.contains("retry-after: 5")), (503, true), "{reply:?}");
    }
    running.wait_until("/readyz answers blocked", || {
        let ready = get(&ops, "/readyz");
        ready.status == 503 && ready.json()["state"] == "blocked"
    });
    assert!(get(&ops, "/metrics").body.contains("plu_onboard_webhooks_ready 0\n"));
    dir.program(&format!("health --url http://{ops}/readyz")).expect_exit(1).assert_output(&["answered with 503"]);
    broker.restart();
    running.wait_until("/readyz answers 200", || get(&ops, "/readyz").status == 200);
    // The event is recorded even if the partner doesn't send the webhook again.
    running.wait_for_output_times("event recorded", 1);
    assert_eq!(post_signed(&address, &approved(1)).status, 200);
    let events = broker.drain(QUEUE);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].body["id"], events[1].body["id"]);
    running.signal("TERM");
    running.expect_exit(0);
}

#[test]
fn a_renewed_secret_needs_no_restart_and_a_missing_one_is_refused() {
    let dir = TestDir::with("secret", "whsec_before\n");
    let start = |dir: &TestDir, encoding: &str| {
        dir.program("webhooks --receive 0 --queue local:q.db")
            .set("webhooks.secret_file", "secret")
            .set("webhooks.signature_header", "X-Plu-Signature")
            .set("webhooks.signature_encoding", encoding)
    };
    let mut running = start(&dir, "base64").start();
    let address = running.wait_for_address("webhooks are received");
    let body = approved(1);
    let post = |secret: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, hmac::sign(&key, body.as_bytes()));
        request_with(&address, "POST", PATH, &format!("x-plu-signature: {signature}\r\n"), &body).status
    };
    assert_eq!(post("whsec_before"), 200);
    dir.write("secret", "whsec_after");
    running.wait_until("the new secret is accepted", || post("whsec_after") == 200);
    assert_eq!(post("whsec_before"), 401);
    running.signal("TERM");
    running.expect_exit(0);

    dir.write("secret", " \n");
    start(&dir, "hex").expect_exit(2).assert_output(&["the webhook secret's file secret is empty"]);
    fs::remove_file(dir.path("secret")).unwrap();
    start(&dir, "hex").expect_exit(2).assert_output(&["the webhook secret's file secret can't be read"]);
    dir.program("webhooks --queue local:q.db")
        .expect_exit(2)
        .assert_output(&["no webhook secret", "PLU_WEBHOOK_SECRET"]);
    let pasted = dir.program("webhooks --queue local:q.db").set("webhooks.secret_file", "whsec_abcdef").expect_exit(2);
    assert!(!pasted.to_string().contains("abcdef"), "{pasted}");
    let elsewhere = program(&dir, "--queue amqp://127.0.0.1:1 --out kyc").expect_exit(2);
    elsewhere.assert_output(&["nothing is written into kyc"]);
    assert!(!Path::new(&dir.path("kyc")).exists());
}
