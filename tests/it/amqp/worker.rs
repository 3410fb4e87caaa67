//! The worker on a real RabbitMQ: each job becomes an event, also if the worker or the broker is killed.

use std::collections::HashSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use plu_onboard::clock::Clock;
use serde_json::json;

use crate::support::{Broker, DEAD, Partner, Program, TestDir, UNROUTED, job, jobs, quick_partner, worker_at};

fn worker(dir: &TestDir, broker: &Broker, partner: &Partner) -> Program {
    worker_at(&broker.url(), dir, partner)
}

#[test]
fn a_job_on_the_queue_becomes_a_user_and_an_event() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut worker = worker(&dir, &broker, &partner).start();
    worker.wait_for_output("connected to the broker");
    broker.publish("plu.onboarding", "signup", &jobs(0..1));
    broker.publish("plu.onboarding", "bulk", &jobs(1..3));
    worker.wait_until("all events", || broker.ready(UNROUTED) == 3);
    worker.signal("TERM");
    worker.expect_exit(0);

    assert_eq!(partner.stats().model.created, 3);
    let events = broker.drain(UNROUTED);
    let ids: HashSet<&str> = events.iter().map(|event| event.body["jobId"].as_str().unwrap()).collect();
    assert_eq!(ids, HashSet::from(["crm-0", "crm-1", "crm-2"]));
    for event in &events {
        let (body, properties) = (&event.body, &event.properties);
        assert_eq!(event.routing_key, "user.created");
        assert!(body["verificationUrl"].as_str().unwrap().starts_with("https://"));
        assert_eq!(body["metadata"]["n"], json!(body["jobId"].as_str().unwrap()[4..].parse::<u32>().unwrap()));
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        assert_eq!(text(properties.message_id()).as_deref(), body["id"].as_str());
        assert_eq!(text(properties.correlation_id()).as_deref(), body["jobId"].as_str());
        assert_eq!(text(properties.kind()).as_deref(), Some("user.created"));
        assert_eq!(text(properties.content_type()).as_deref(), Some("application/json"));
        assert_eq!(*properties.delivery_mode(), Some(2));
    }
    for queue in ["plu.onboarding.jobs.signup", "plu.onboarding.jobs.bulk", DEAD] {
        assert_eq!(broker.ready(queue), 0, "{queue}");
    }
}

#[test]
fn a_job_that_is_not_due_yet_is_delayed_again() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let now = Clock::System.now();
    let due_in = |wait| {
        let mut headers = FieldTable::default();
        headers.insert("x-plu-due-ms".into(), AMQPValue::LongLongInt(now.plus(wait).unix_ms()));
        BasicProperties::default().with_headers(headers)
    };
    broker.declare("plu.onboarding");
    broker.publish_with("plu.onboarding", "bulk", &jobs(0..1), &due_in(Duration::from_secs(7_200)));
    broker.publish_with("plu.onboarding", "signup", &jobs(1..2), &due_in(Duration::from_secs(400)));
    broker.publish_with("plu.onboarding", "signup", &jobs(2..3), &due_in(Duration::ZERO));
    let mut worker = worker(&dir, &broker, &partner).start();
    worker.wait_until("the event of the job that is due", || broker.ready(UNROUTED) == 1);
    let (longest, long_enough) = ("plu.onboarding.delay.bulk.1200", "plu.onboarding.delay.signup.400");
    worker.wait_until("the others on delay queues", || broker.ready(longest) + broker.ready(long_enough) == 2);
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!((broker.ready(longest), partner.stats().model.created), (1, 1));
    let is_due_later = |queue: &str| broker.headers(queue)[0].contains_key("x-plu-due-ms");
    // One job is due after 400 s, the other is not due after 1,200 s.
    assert_eq!((is_due_later(longest), is_due_later(long_enough)), (true, false));
}

#[test]
fn a_message_that_is_not_a_job_is_rejected_once_and_dead_lettered() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut worker = worker(&dir, &broker, &partner).start();
    worker.wait_for_output("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &["not a job".to_owned(), job(1)]);
    worker.wait_until("both events", || broker.ready(UNROUTED) == 2);
    worker.wait_until("the dead letter", || broker.ready(DEAD) == 1);
    worker.signal("TERM");
    worker.expect_exit(0);
    let rejected: Vec<_> =
        broker.drain(UNROUTED).into_iter().filter(|event| event.routing_key == "user.rejected").collect();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].body["errors"][0]["code"], "MALFORMED_JOB");
    let dead = broker.drain(DEAD);
    let reason = dead[0].properties.headers().as_ref().unwrap().inner().get("x-plu-reason").cloned();
    assert_eq!(reason, Some(lapin::types::AMQPValue::LongString("MALFORMED_JOB".into())));
    assert_eq!(partner.stats().model.created, 1);
}

#[test]
fn no_user_is_lost_or_created_twice_when_broker_and_worker_are_killed() {
    const JOBS: u32 = 600;
    let (mut broker, partner, dir) = (Broker::start(), quick_partner(20), TestDir::new());
    let mut first = worker(&dir, &broker, &partner).start();
    first.wait_for_output("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    first.wait_until("some users", || partner.stats().model.created >= 100);
    broker.kill();
    first.wait_for_output("connection to the broker lost");
    broker.restart();
    first.wait_until("more users", || partner.stats().model.created >= 300);
    first.kill();
    let mut second = worker(&dir, &broker, &partner).start();
    let mut events = Vec::new();
    let mut done = HashSet::new();
    second.wait_until("an event for each job", || {
        for event in broker.drain(UNROUTED) {
            done.insert(event.body["jobId"].as_str().unwrap().to_owned());
            events.push(event);
        }
        done.len() == JOBS as usize
    });
    second.signal("TERM");
    second.expect_exit(0);

    assert_eq!(partner.stats().model.created, u64::from(JOBS));
    assert!(events.iter().all(|event| event.routing_key == "user.created"), "a user counts as existing before");
    assert_eq!(broker.ready("plu.onboarding.jobs.bulk"), 0);
    assert_eq!(broker.ready(DEAD), 0);
}

#[test]
fn a_stopped_worker_leaves_the_rest_on_the_queue() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(200), TestDir::new());
    let mut worker = worker(&dir, &broker, &partner).set("worker.concurrency", "4").start();
    worker.wait_for_output("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &jobs(0..100));
    worker.wait_until("some users", || partner.stats().model.created >= 8);
    worker.signal("TERM");
    worker.expect_exit(0);
    let created = u32::try_from(partner.stats().model.created).unwrap();
    assert_eq!(broker.ready(UNROUTED), created);
    assert_eq!(broker.ready("plu.onboarding.jobs.bulk"), 100 - created);
}

#[test]
fn a_refused_connection_is_logged_with_a_remedy_and_retried() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    for (url, expected) in [
        (broker.url().replace("guest:guest", "guest:s3cret"), "check user, password and permissions"),
        (format!("{}/nowhere", broker.url()), "check the virtual host"),
    ] {
        let mut worker = dir.program(&format!("worker --queue {url} --api-url {}", partner.url())).start();
        worker.wait_for_output("can't connect to the broker");
        worker.wait_for_output(expected);
        worker.signal("TERM");
        let finished = worker.expect_exit(0);
        assert!(!finished.contains("s3cret"), "{finished}");
    }
}
