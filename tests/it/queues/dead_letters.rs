//! The `dead` commands: list dead letters without personal data, retry them without creating a user twice, or delete
//! them. They work the same on both kinds of queue.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use plu_onboard::clock::Clock;
use plu_onboard::sandbox::{SandboxConfig, SandboxControl};
use serde_json::{Value, json};

use crate::support::{Broker, Partner, Program, ProgramOutput, Proxy, TestDir, customers, job};

const DEAD: &str = "plu.onboarding.dead";
const BULK: &str = "plu.onboarding.jobs.bulk";
const UNROUTED: &str = "plu.onboarding.events.unrouted";

/// Jobs that fail although their users are created: the answers are lost, and so are those of the look-ups.
const FAILING: u32 = 3;

fn partner() -> Partner {
    let mut config = SandboxConfig::default();
    config.model.key_ttl = Duration::from_secs(1);
    Partner::start(config)
}

fn worker(dir: &TestDir, queue: &str, partner: &Partner) -> Program {
    let arguments = format!("worker --queue {queue} --api-url {} --rate 0", partner.url());
    let worker = dir.program(&arguments).set("api.key_ttl_s", "1").set("api.clock_skew_s", "1");
    worker.set("worker.backoff_initial_ms", "20")
}

/// Makes jobs fail whose users are created: the partner creates them and answers too late.
fn make_jobs_fail(dir: &TestDir, queue: &str, partner: &Partner, failed: impl Fn() -> u32) {
    dir.write("failing.csv", customers(0..FAILING));
    dir.program(&format!("import failing.csv --queue {queue}")).expect_exit(0);
    partner.control(&SandboxControl { latency_ms: Some(3_600_000), ..SandboxControl::default() });
    let mut failing = worker(dir, queue, partner)
        .set("worker.attempts_max", "1")
        .set("api.timeout_s", "1")
        .set("api.connect_timeout_s", "1")
        .start();
    failing.wait_until("the failed events", || failed() == FAILING);
    failing.signal("TERM");
    failing.expect_exit(0);
    partner.control(&SandboxControl { latency_ms: Some(0), ..SandboxControl::default() });
    assert_eq!(partner.stats().model.users, u64::from(FAILING));
}

fn dead(dir: &TestDir, queue: &str, arguments: &str) -> Program {
    dir.program(&format!("dead {arguments} --queue {queue}"))
}

fn listed(dir: &TestDir, queue: &str) -> Vec<Value> {
    let said = dead(dir, queue, "list --json").expect_exit(0);
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(dead_letter: &Value) -> &str {
    dead_letter["id"].as_str().unwrap()
}

/// Asserts that list and show hide personal data. Returns the dead letters.
fn list_without_personal_data(dir: &TestDir, queue: &str) -> Vec<Value> {
    let dead_letters = listed(dir, queue);
    assert_eq!(dead_letters.len(), FAILING as usize);
    for dead_letter in &dead_letters {
        assert_eq!(dead_letter["reason"], "ATTEMPTS_EXHAUSTED");
        assert_eq!((&dead_letter["attempts"], &dead_letter["lane"]), (&json!(1), &json!("bulk")));
        assert!(dead_letter["firstSentAt"].is_string() && dead_letter["deadAt"].is_string(), "{dead_letter}");
    }
    assert_eq!(listed(dir, queue), dead_letters, "listing changed a dead letter");
    let table = dead(dir, queue, "list --limit 1").expect_exit(0);
    table.assert_output(&["and 2 more", "3 dead letters", "3 x ATTEMPTS_EXHAUSTED"]);
    let show = |flags: &str| dead(dir, queue, &format!("show {} {flags}", id(&dead_letters[0]))).expect_exit(0);
    let hidden: [ProgramOutput; 3] = [show(""), show("--json"), table];
    for said in hidden {
        said.assert_no_output(&["example.com", "Ann", "Main Street", "+1415", "203.0.113"]);
    }
    show("").assert_output(&["no definite answer in 1 attempt over", "failing.csv, line", r#""email": "[hidden]""#]);
    show("--reveal").assert_output(&["@example.com", "Main Street"]);
    dead(dir, queue, "show nonsense").expect_exit(2).assert_output(&["no dead letter has the id nonsense"]);
    dead_letters
}

#[test]
fn dead_letters_on_the_embedded_queue_are_listed_retried_and_deleted() {
    let (partner, dir, queue) = (partner(), TestDir::new(), "local:q.db");
    let count = |kind: &str| {
        let events = std::fs::read_to_string(dir.path("q-results/results.ndjson")).unwrap_or_default();
        u32::try_from(events.matches(&format!("\"type\":\"{kind}\"")).count()).unwrap()
    };
    make_jobs_fail(&dir, queue, &partner, || count("user.failed"));
    let dead_letters = list_without_personal_data(&dir, queue);
    dead(&dir, queue, &format!("drop {}", id(&dead_letters[0]))).expect_exit(2).assert_output(&["add --yes"]);
    dead(&dir, queue, &format!("drop {} --yes", id(&dead_letters[0])))
        .expect_exit(0)
        .assert_output(&["1 of 3 dead letters deleted"]);

    // While no worker runs, and while one runs.
    dead(&dir, queue, &format!("retry {}", id(&dead_letters[2])))
        .expect_exit(0)
        .assert_output(&["1 of 2 dead letters requeued"]);
    let mut running = worker(&dir, queue, &partner).start();
    running.wait_until("the retried job's event", || count("user.created") == 1);
    dead(&dir, queue, "retry --reason OTHER").expect_exit(1).assert_output(&["there are 1 x ATTEMPTS_EXHAUSTED"]);
    dead(&dir, queue, "retry --reason ATTEMPTS_EXHAUSTED").expect_exit(0).assert_output(&["1 of 1"]);
    running.wait_until("the retried job's event", || count("user.created") == 2);
    running.signal("TERM");
    running.expect_exit(0);
    dead(&dir, queue, &format!("retry {}", id(&dead_letters[0])))
        .expect_exit(1)
        .assert_output(&["no dead letter has the id"]);
    dead(&dir, queue, "list").expect_exit(0).assert_output(&["There are no dead letters."]);

    assert_eq!(count("user.existing"), 0, "a user whose answer was lost counts as existing before");
    assert_eq!(count("user.failed"), FAILING);
    assert_eq!(partner.stats().model.users, u64::from(FAILING));
}

#[test]
fn dead_letters_on_rabbitmq_are_listed_retried_and_deleted() {
    let (broker, partner, dir) = (Broker::start(), partner(), TestDir::new());
    let queue = broker.url();
    let seen = std::cell::RefCell::new(Vec::new());
    let count = |kind: &str| {
        let mut seen = seen.borrow_mut();
        seen.extend(broker.drain(UNROUTED).into_iter().map(|event| event.routing_key));
        u32::try_from(seen.iter().filter(|key| *key == kind).count()).unwrap()
    };
    make_jobs_fail(&dir, &queue, &partner, || count("user.failed"));
    assert_eq!(broker.ready(DEAD), FAILING);
    let dead_letters = list_without_personal_data(&dir, &queue);
    dead(&dir, &queue, &format!("drop {} --yes", id(&dead_letters[2])))
        .expect_exit(0)
        .assert_output(&["1 of 3 dead letters deleted"]);

    // Listing many times doesn't use up the delivery limit: RabbitMQ 4 deletes a message after 20 deliveries.
    for _ in 0..9 {
        let again = listed(&dir, &queue);
        assert_eq!(again.len(), 2);
        assert!(dead_letters[..2].iter().all(|one| again.contains(one)), "{again:?} instead of {dead_letters:?}");
    }
    let deliveries = |headers: &FieldTable| match headers.inner().get("x-delivery-count") {
        Some(AMQPValue::LongLongInt(count)) => *count,
        _ => 0,
    };
    let headers = broker.headers(DEAD);
    assert!(headers.iter().all(|headers| deliveries(headers) < 6), "{headers:?}");
    let mut running = worker(&dir, &queue, &partner).start();
    running.wait_for_output("connected to the broker");
    dead(&dir, &queue, &format!("retry {}", id(&dead_letters[0])))
        .expect_exit(0)
        .assert_output(&["1 of 2 dead letters requeued"]);
    running.wait_until("the retried job's event", || count("user.created") == 1);
    dead(&dir, &queue, "retry --all").expect_exit(0).assert_output(&["1 of 1"]);
    running.wait_until("the retried job's event", || count("user.created") == 2);
    running.signal("TERM");
    running.expect_exit(0);

    assert_eq!(count("user.existing"), 0, "a user whose answer was lost counts as existing before");
    assert_eq!(partner.stats().model.users, u64::from(FAILING));
    assert_eq!((broker.ready(DEAD), broker.ready(BULK)), (0, 0));
}

#[test]
fn a_dead_letter_on_rabbitmq_has_the_time_of_its_first_request() {
    let (broker, partner, dir) = (Broker::start(), partner(), TestDir::with("people.csv", customers(0..1)));
    let queue = broker.url();
    dir.program(&format!("import people.csv --queue {queue}")).expect_exit(0);
    // Each request creates the user or finds it, and is answered too late.
    partner.control(&SandboxControl { latency_ms: Some(3_600_000), ..SandboxControl::default() });
    let mut failing = worker(&dir, &queue, &partner)
        .set("worker.attempts_max", "2")
        .set("api.timeout_s", "1")
        .set("api.connect_timeout_s", "1")
        .start();
    failing.wait_until("the first request", || partner.stats().model.created == 1);
    let first_request_seen = Clock::System.now();
    failing.wait_until("the dead letter", || broker.ready(DEAD) == 1);
    failing.signal("TERM");
    failing.expect_exit(0);
    let headers = broker.peek(DEAD);
    assert_eq!(headers["x-plu-attempts"], 2);
    assert!(headers["x-plu-first-sent-ms"] <= first_request_seen.unix_ms(), "{headers:?}");
}

#[test]
fn a_job_that_rabbitmq_dead_lettered_counts_as_possibly_sent_when_retried() {
    let (broker, dir) = (Broker::start(), TestDir::with("people.csv", customers(0..2)));
    let queue = broker.url();
    dir.program(&format!("import people.csv --queue {queue} --lane signup")).expect_exit(0);
    broker.requeue_until_dead_lettered("plu.onboarding.jobs.signup");
    assert_eq!(broker.ready(DEAD), 2);
    let dead_letters = listed(&dir, &queue);
    for dead_letter in &dead_letters {
        assert_eq!((&dead_letter["reason"], &dead_letter["lane"]), (&json!("DELIVERY_LIMIT"), &json!("signup")));
        assert!(dead_letter["deadAt"].is_string() && dead_letter["firstSentAt"].is_string(), "{dead_letter}");
    }
    dead(&dir, &queue, "retry --reason DELIVERY_LIMIT").expect_exit(0).assert_output(&["2 of 2"]);
    assert_eq!(broker.ready(DEAD), 0);
    for message in broker.drain("plu.onboarding.jobs.signup") {
        let headers = message.properties.headers().as_ref().unwrap().inner();
        assert!(matches!(headers.get("x-plu-first-sent-ms"), Some(AMQPValue::LongLongInt(_))), "{headers:?}");
        assert!(!headers.contains_key("x-death") && !headers.contains_key("x-plu-reason"), "{headers:?}");
    }
}

#[test]
fn a_retried_dead_letter_is_deleted_even_if_its_acknowledgement_is_lost() {
    let (broker, dir) = (Broker::start(), TestDir::with("people.csv", customers(0..20)));
    let queue = broker.url();
    dir.program(&format!("import people.csv --queue {queue}")).expect_exit(0);
    broker.requeue_until_dead_lettered(BULK);
    assert_eq!(broker.ready(DEAD), 20);
    let first = id(&listed(&dir, &queue)[0]).to_owned();
    // The copies are confirmed on a second connection; meanwhile the first one receives nothing any more.
    let retry = |arguments: &str| {
        let proxy = Proxy::start(broker.port());
        proxy.discard_first_upload();
        dead(&dir, &proxy.url(), arguments)
            .set("amqp.confirm_timeout_s", "2")
            .expect_exit(1)
            .assert_output(&["the connection to the broker broke"]);
    };
    retry(&format!("retry {first}"));
    assert_eq!((broker.ready(DEAD), broker.ready(BULK)), (19, 1));
    retry("retry --all");
    assert_eq!((broker.ready(DEAD), broker.ready(BULK)), (0, 20));
}

#[test]
fn an_expired_job_is_a_dead_letter_and_retried_without_its_expiration() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let queue = broker.url();
    broker.declare("plu.onboarding");
    let properties = BasicProperties::default().with_expiration("1".into());
    broker.publish_with("plu.onboarding", "signup", &[job(1)], &properties);
    let idle = dir.program(&format!("worker --sandbox --queue {queue}"));
    idle.set("amqp.prefix", "idle.sandbox").start().wait_until("the dead letter", || broker.ready(DEAD) == 1);
    let dead_letter = listed(&dir, &queue).remove(0);
    assert_eq!((&dead_letter["reason"], &dead_letter["lane"]), (&json!("EXPIRED"), &json!("signup")));
    dead(&dir, &queue, "retry --reason EXPIRED").expect_exit(0).assert_output(&["1 of 1 dead letter requeued"]);
    let again = broker.drain("plu.onboarding.jobs.signup").remove(0);
    assert_eq!((again.body["jobId"].as_str(), again.properties.expiration()), (Some("crm-1"), &None));
}

#[test]
fn a_mistyped_prefix_fails_and_declares_nothing() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let typo = |arguments: &str| dead(&dir, &broker.url(), arguments).set("amqp.prefix", "plu.tpyo");
    for arguments in ["list", "show x", "retry --all", "drop --all --yes"] {
        typo(arguments)
            .expect_exit(2)
            .assert_output(&["no queue plu.tpyo.dead in the virtual host / ", "check amqp.prefix"]);
    }
    assert!(!broker.has_queue("plu.tpyo.dead"));
    // A dead letter queue without lanes.
    broker.declare_queue("plu.tpyo.dead", &[]);
    typo("list").expect_exit(0).assert_output(&["There are no dead letters."]);
    typo("retry --all").expect_exit(2).assert_output(&["no exchange plu.tpyo.jobs in the virtual host / "]);
    assert!(!broker.has_queue("plu.tpyo.jobs.bulk"));
}

#[test]
fn a_broker_that_cannot_be_reached_ends_the_command() {
    let dir = TestDir::new();
    // No process listens on the discard port of this machine.
    let list = dead(&dir, "amqp://guest:s3cret@127.0.0.1:9", "list").set("amqp.connect_timeout_s", "1").expect_exit(1);
    list.assert_output(&["can't connect to the broker", "nothing was changed"]);
    list.assert_no_output(&["s3cret"]);
    dead(&dir, "local:none.db", "list").expect_exit(2).assert_output(&["there is no queue"]);
}
