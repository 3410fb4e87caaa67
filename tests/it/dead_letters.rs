//! A person looks after the jobs that were given up: sees why without seeing whom, has them tried again without creating
//! anybody twice, or deletes them. The same commands for both kinds of queue.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use plu_onboard::sandbox::{Control, SandboxConfig};
use serde_json::{Value, json};

use crate::support::{Broker, Finished, Partner, Place, Program, Proxy, customers, job};

const DEAD: &str = "plu.onboarding.dead";
const BULK: &str = "plu.onboarding.jobs.bulk";
const UNROUTED: &str = "plu.onboarding.events.unrouted";

/// Jobs that fail: their users are created, nobody learns of it, and nobody can look them up.
const FAILING: u32 = 3;

fn partner() -> Partner {
    let mut config = SandboxConfig::default();
    config.model.key_ttl = Duration::from_secs(1);
    Partner::start(config)
}

fn worker(place: &Place, queue: &str, partner: &Partner) -> Program {
    let arguments = format!("worker --queue {queue} --api-url {} --rate 0", partner.url());
    let worker = place.program(&arguments).set("api.key_ttl_s", "1").set("api.clock_skew_s", "1");
    worker.set("worker.backoff_initial_ms", "20")
}

/// Lets jobs fail whose users are created nevertheless: the partner does what it is asked and answers too late.
fn let_jobs_fail(place: &Place, queue: &str, partner: &Partner, failed: impl Fn() -> u32) {
    place.write("failing.csv", customers(0..FAILING));
    place.program(&format!("import failing.csv --queue {queue}")).ends_with(0);
    partner.control(&Control { latency_ms: Some(3_600_000), ..Control::default() });
    let mut failing = worker(place, queue, partner)
        .set("worker.attempts_max", "1")
        .set("api.timeout_s", "1")
        .set("api.connect_timeout_s", "1")
        .start();
    failing.until("the failures", || failed() == FAILING);
    failing.signal("TERM");
    failing.ends_with(0);
    partner.control(&Control { latency_ms: Some(0), ..Control::default() });
    assert_eq!(partner.stats().model.users, u64::from(FAILING));
}

fn dead(place: &Place, queue: &str, arguments: &str) -> Program {
    place.program(&format!("dead {arguments} --queue {queue}"))
}

fn listed(place: &Place, queue: &str) -> Vec<Value> {
    let said = dead(place, queue, "list --json").ends_with(0);
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(letter: &Value) -> &str {
    letter["id"].as_str().unwrap()
}

/// What a person sees before doing anything.
fn is_shown_without_personal_data(place: &Place, queue: &str) -> Vec<Value> {
    let letters = listed(place, queue);
    assert_eq!(letters.len(), FAILING as usize);
    for letter in &letters {
        assert_eq!(letter["reason"], "ATTEMPTS_EXHAUSTED");
        assert_eq!((&letter["attempts"], &letter["lane"]), (&json!(1), &json!("bulk")));
        assert!(letter["firstSentAt"].is_string() && letter["deadAt"].is_string(), "{letter}");
    }
    assert_eq!(listed(place, queue), letters, "a list changed what it lists");
    let table = dead(place, queue, "list --limit 1").ends_with(0);
    table.said(&["and 2 more", "3 dead letters", "3 x ATTEMPTS_EXHAUSTED"]);
    let show = |flags: &str| dead(place, queue, &format!("show {} {flags}", id(&letters[0]))).ends_with(0);
    let hidden: [Finished; 3] = [show(""), show("--json"), table];
    for said in hidden {
        said.did_not_say(&["example.com", "Ann", "Main Street", "+1415", "203.0.113"]);
    }
    show("").said(&["no definite answer in 1 attempt over", "failing.csv, line", r#""email": "[hidden]""#]);
    show("--reveal").said(&["@example.com", "Main Street"]);
    dead(place, queue, "show nonsense").ends_with(2).said(&["no dead letter has the id nonsense"]);
    letters
}

#[test]
fn failed_jobs_of_the_embedded_queue_are_listed_tried_again_and_deleted() {
    let (partner, place, queue) = (partner(), Place::new(), "local:q.db");
    let count = |kind: &str| {
        let events = std::fs::read_to_string(place.path("q-results/results.ndjson")).unwrap_or_default();
        u32::try_from(events.matches(&format!("\"type\":\"{kind}\"")).count()).unwrap()
    };
    let_jobs_fail(&place, queue, &partner, || count("user.failed"));
    let letters = is_shown_without_personal_data(&place, queue);
    dead(&place, queue, &format!("drop {}", id(&letters[0]))).ends_with(2).said(&["add --yes"]);
    dead(&place, queue, &format!("drop {} --yes", id(&letters[0]))).ends_with(0).said(&["1 of 3 dead letters deleted"]);

    // When no worker works on the queue, and while one does.
    dead(&place, queue, &format!("retry {}", id(&letters[2]))).ends_with(0).said(&["1 of 2 dead letters put back"]);
    let mut running = worker(&place, queue, &partner).start();
    running.until("its outcome", || count("user.created") == 1);
    dead(&place, queue, "retry --reason OTHER").ends_with(1).said(&["there are 1 x ATTEMPTS_EXHAUSTED"]);
    dead(&place, queue, "retry --reason ATTEMPTS_EXHAUSTED").ends_with(0).said(&["1 of 1"]);
    running.until("its outcome", || count("user.created") == 2);
    running.signal("TERM");
    running.ends_with(0);
    dead(&place, queue, &format!("retry {}", id(&letters[0]))).ends_with(1).said(&["no dead letter has the id"]);
    dead(&place, queue, "list").ends_with(0).said(&["There are no dead letters."]);

    assert_eq!(count("user.existing"), 0, "somebody whom the lost request created passed for somebody else");
    assert_eq!(count("user.failed"), FAILING);
    assert_eq!(partner.stats().model.users, u64::from(FAILING));
}

#[test]
fn dead_letters_on_rabbitmq_are_listed_tried_again_and_deleted() {
    let (broker, partner, place) = (Broker::start(), partner(), Place::new());
    let queue = broker.url();
    let seen = std::cell::RefCell::new(Vec::new());
    let count = |kind: &str| {
        let mut seen = seen.borrow_mut();
        seen.extend(broker.drain(UNROUTED).into_iter().map(|event| event.routing_key));
        u32::try_from(seen.iter().filter(|key| *key == kind).count()).unwrap()
    };
    let_jobs_fail(&place, &queue, &partner, || count("user.failed"));
    assert_eq!(broker.ready(DEAD), FAILING);
    let letters = is_shown_without_personal_data(&place, &queue);
    dead(&place, &queue, &format!("drop {} --yes", id(&letters[2])))
        .ends_with(0)
        .said(&["1 of 3 dead letters deleted"]);

    // Looking many times brings no letter nearer to a delivery limit: RabbitMQ 4 deletes at 20 deliveries.
    for _ in 0..9 {
        let again = listed(&place, &queue);
        assert_eq!(again.len(), 2);
        assert!(letters[..2].iter().all(|letter| again.contains(letter)), "{again:?} instead of {letters:?}");
    }
    let deliveries = |headers: &FieldTable| match headers.inner().get("x-delivery-count") {
        Some(AMQPValue::LongLongInt(count)) => *count,
        _ => 0,
    };
    let headers = broker.headers(DEAD);
    assert!(headers.iter().all(|headers| deliveries(headers) < 6), "{headers:?}");
    let mut running = worker(&place, &queue, &partner).start();
    running.says("connected to the broker");
    dead(&place, &queue, &format!("retry {}", id(&letters[0]))).ends_with(0).said(&["1 of 2 dead letters put back"]);
    running.until("its outcome", || count("user.created") == 1);
    dead(&place, &queue, "retry --all").ends_with(0).said(&["1 of 1"]);
    running.until("its outcome", || count("user.created") == 2);
    running.signal("TERM");
    running.ends_with(0);

    assert_eq!(count("user.existing"), 0, "somebody whom the lost request created passed for somebody else");
    assert_eq!(partner.stats().model.users, u64::from(FAILING));
    assert_eq!((broker.ready(DEAD), broker.ready(BULK)), (0, 0));
}

#[test]
fn a_job_that_rabbitmq_gave_up_on_is_shown_with_its_reason_and_tried_again_as_one_that_may_have_been_sent() {
    let (broker, place) = (Broker::start(), Place::with("people.csv", customers(0..2)));
    let queue = broker.url();
    place.program(&format!("import people.csv --queue {queue} --lane signup")).ends_with(0);
    broker.return_until_dead("plu.onboarding.jobs.signup");
    assert_eq!(broker.ready(DEAD), 2);
    let letters = listed(&place, &queue);
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["lane"]), (&json!("DELIVERY_LIMIT"), &json!("signup")));
        assert!(letter["deadAt"].is_string() && letter["firstSentAt"].is_string(), "{letter}");
    }
    dead(&place, &queue, "retry --reason DELIVERY_LIMIT").ends_with(0).said(&["2 of 2"]);
    assert_eq!(broker.ready(DEAD), 0);
    for message in broker.drain("plu.onboarding.jobs.signup") {
        let headers = message.properties.headers().as_ref().unwrap().inner();
        assert!(matches!(headers.get("x-plu-first-sent-ms"), Some(AMQPValue::LongLongInt(_))), "{headers:?}");
        assert!(!headers.contains_key("x-death") && !headers.contains_key("x-plu-reason"), "{headers:?}");
    }
}

#[test]
fn a_letter_that_is_done_does_not_stay_behind_where_its_acknowledgement_is_lost() {
    let (broker, place) = (Broker::start(), Place::with("people.csv", customers(0..20)));
    let queue = broker.url();
    place.program(&format!("import people.csv --queue {queue}")).ends_with(0);
    broker.return_until_dead(BULK);
    assert_eq!(broker.ready(DEAD), 20);
    let first = id(&listed(&place, &queue)[0]).to_owned();
    // The copies go over a second connection and are confirmed; then nothing is heard on the first one any more.
    let retry = |arguments: &str| {
        let proxy = Proxy::start(broker.port());
        proxy.deafen_the_first();
        dead(&place, &proxy.url(), arguments)
            .set("amqp.confirm_timeout_s", "2")
            .ends_with(1)
            .said(&["the broker went away"]);
    };
    retry(&format!("retry {first}"));
    assert_eq!((broker.ready(DEAD), broker.ready(BULK)), (19, 1));
    retry("retry --all");
    assert_eq!((broker.ready(DEAD), broker.ready(BULK)), (0, 20));
}

#[test]
fn a_job_whose_upstream_let_it_expire_is_told_and_tried_again_without_its_expiration() {
    let (broker, place) = (Broker::start(), Place::new());
    let queue = broker.url();
    broker.declare("plu.onboarding");
    let properties = BasicProperties::default().with_expiration("1".into());
    broker.publish_with("plu.onboarding", "signup", &[job(1)], &properties);
    let idle = place.program(&format!("worker --sandbox --queue {queue}"));
    idle.set("amqp.prefix", "idle.sandbox").start().until("it expires", || broker.ready(DEAD) == 1);
    let letter = listed(&place, &queue).remove(0);
    assert_eq!((&letter["reason"], &letter["lane"]), (&json!("EXPIRED"), &json!("signup")));
    dead(&place, &queue, "retry --reason EXPIRED").ends_with(0).said(&["1 of 1 dead letter put back"]);
    let again = broker.drain("plu.onboarding.jobs.signup").remove(0);
    assert_eq!((again.body["jobId"].as_str(), again.properties.expiration()), (Some("crm-1"), &None));
}

#[test]
fn names_that_nothing_has_are_told_and_nothing_is_made_under_them() {
    let (broker, place) = (Broker::start(), Place::new());
    let typo = |arguments: &str| dead(&place, &broker.url(), arguments).set("amqp.prefix", "plu.tpyo");
    for arguments in ["list", "show x", "retry --all", "drop --all --yes"] {
        typo(arguments).ends_with(2).said(&["no queue plu.tpyo.dead in the virtual host / ", "check amqp.prefix"]);
    }
    assert!(!broker.has_queue("plu.tpyo.dead"));
    // Letters without a lane to go back to.
    broker.declare_queue("plu.tpyo.dead", &[]);
    typo("list").ends_with(0).said(&["There are no dead letters."]);
    typo("retry --all").ends_with(2).said(&["no exchange plu.tpyo.jobs in the virtual host / "]);
    assert!(!broker.has_queue("plu.tpyo.jobs.bulk"));
}

#[test]
fn a_broker_that_cannot_be_reached_ends_the_command() {
    let place = Place::new();
    // Nothing listens on the discard port of this machine.
    let list = dead(&place, "amqp://guest:s3cret@127.0.0.1:9", "list").set("amqp.connect_timeout_s", "1").ends_with(1);
    list.said(&["can't connect to the broker", "nothing was changed"]);
    list.did_not_say(&["s3cret"]);
    dead(&place, "local:none.db", "list").ends_with(2).said(&["there is no queue"]);
}
