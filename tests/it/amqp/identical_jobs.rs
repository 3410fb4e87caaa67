//! Identical jobs on RabbitMQ, and keys that are used again for other data.

use std::collections::BTreeSet;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    Broker, DEAD, Partner, Received, RunningProgram, TestDir, UNROUTED, all_events, job, jobs, user, worker_at,
};

/// Jobs about one person, as many as a broken upstream repeats within seconds. With a request and a look-up for each of
/// them, 600 delayed all other jobs by 43 s.
const IDENTICAL: u32 = 6_000;

const OTHERS: u32 = 50;

/// How much later the others may be finished because of the identical jobs in front of them. 2 s in a release build; an
/// unoptimised one beside other tests publishes the events several times slower.
const DELAY_MAX: Duration = Duration::from_secs(10);

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(20), ..SandboxConfig::default() })
}

/// A job about customer 0, with this id.
fn identical(n: u32) -> String {
    json!({"jobId": format!("again-{n}"), "user": user(0)}).to_string()
}

fn field<'e>(event: &'e Received, name: &str) -> &'e Value {
    &event.body[name]
}

/// A worker on a queue with jobs about customer 0 in front of jobs about [`OTHERS`] other customers.
struct WorkerBehind {
    broker: Broker,
    partner: Partner,
    worker: RunningProgram,
    /// How long the worker needed for the others.
    elapsed: Duration,
    _dir: TestDir,
}

impl WorkerBehind {
    /// Starts the worker when the queue is filled, and waits until it has created the users of the others.
    fn start(identical_jobs: u32) -> Self {
        let (broker, partner, dir) = (Broker::start(), partner(), TestDir::new());
        broker.declare("plu.onboarding");
        broker.publish("plu.onboarding", "bulk", &(0..identical_jobs).map(identical).collect::<Vec<_>>());
        broker.publish("plu.onboarding", "bulk", &jobs(1..1 + OTHERS));
        let mut worker = worker_at(&broker.url(), &dir, &partner).set("api.key_ttl_s", "300").start();
        worker.wait_for_output_times("connected to the broker", 2);
        let start = Instant::now();
        let users = u64::from(OTHERS + identical_jobs.min(1));
        worker.wait_until("the users of the others", || partner.stats().model.created == users);
        Self { broker, partner, worker, elapsed: start.elapsed(), _dir: dir }
    }
}

#[test]
fn thousands_of_identical_jobs_send_one_request_and_do_not_delay_other_jobs() {
    let alone = WorkerBehind::start(0).elapsed;
    let WorkerBehind { broker, partner, worker, elapsed, _dir } = WorkerBehind::start(IDENTICAL);
    assert!(elapsed <= alone + DELAY_MAX, "{elapsed:?}, alone {alone:?}");

    let events = all_events(worker, &broker, IDENTICAL + OTHERS);
    assert_eq!(partner.requests(), u64::from(1 + OTHERS), "no identical job was sent or looked up");
    let repeats: Vec<&Received> =
        events.iter().filter(|event| field(event, "jobId").as_str().unwrap().starts_with("again-")).collect();
    assert_eq!(repeats.len(), IDENTICAL as usize);
    for name in ["id", "type", "serviceId", "verificationUrl", "linkExpiresAt", "idempotencyKey"] {
        let values: BTreeSet<&str> = repeats.iter().map(|event| field(event, name).as_str().unwrap()).collect();
        assert_eq!(values.len(), 1, "{name}");
    }
    let sent: u64 = repeats.iter().map(|event| field(event, "attempts").as_u64().unwrap()).sum();
    assert_eq!(sent, 1);
}

#[test]
fn a_key_that_is_used_again_for_other_data_is_refused_and_dead_lettered() {
    let (broker, partner, dir) = (Broker::start(), partner(), TestDir::new());
    let mut worker = worker_at(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    let with_key = |n: u32| {
        let mut job: Value = serde_json::from_str(&job(n)).unwrap();
        job["idempotencyKey"] = json!("7d3f1c7e-7a3e-4d59-9f57-3a4f0c1b2d3e");
        job.to_string()
    };
    broker.publish("plu.onboarding", "bulk", &[with_key(0), with_key(1), with_key(2), with_key(0)]);
    worker.wait_until("an event for each", || broker.ready(UNROUTED) == 4);
    worker.wait_until("the dead letters", || broker.ready(DEAD) == 2);
    worker.signal("TERM");
    worker.expect_exit(0);
    let events = broker.drain(UNROUTED);
    let jobs_with = |routing_key: &str| -> Vec<&str> {
        let found = events.iter().filter(|event| event.routing_key == routing_key);
        found.map(|event| field(event, "jobId").as_str().unwrap()).collect()
    };
    assert_eq!(jobs_with("user.created"), ["crm-0", "crm-0"]);
    assert_eq!(jobs_with("user.rejected"), ["crm-1", "crm-2"]);
    let refused = events.iter().filter(|event| event.routing_key == "user.rejected");
    for event in refused {
        assert_eq!(field(event, "errors")[0]["code"], "IDEMPOTENCY_KEY_IN_USE");
        assert_eq!(field(event, "errors")[0]["field"], "idempotencyKey");
    }
    assert_eq!(partner.requests(), 1);
}
