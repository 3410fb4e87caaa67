//! Crash tests: the worker kills itself with SIGKILL at each step of a job, on both queues, over real HTTP.
//!
//! The next worker completes every job. It creates no user twice, and recognises the users of the killed worker as its
//! own: every outcome is `user.created`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plu_onboard::failpoint::POINTS;
use plu_onboard::sandbox::{FaultPlan, ModelConfig, SandboxConfig};
use serde_json::Value;

use crate::support::{Broker, Partner, Program, TestDir, customers, jobs};

const JOBS: u32 = 8;

/// Starts a partner that loses every third answer, so that jobs are requeued and looked up. Its keys expire after a
/// second.
fn partner() -> Partner {
    let model = ModelConfig { key_ttl: Duration::from_secs(1), ..ModelConfig::default() };
    let faults = FaultPlan::parse(&["lost=1/3"]).unwrap();
    Partner::start(SandboxConfig { model, faults, ..SandboxConfig::default() })
}

fn worker(dir: &TestDir, partner: &Partner, queue: &str, prefix: &str) -> Program {
    dir.program(&format!("worker --queue {queue} --api-url {} --rate 0", partner.url()))
        .set("amqp.prefix", prefix)
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("worker.concurrency", "2")
        .set("worker.backoff_initial_ms", "5")
        .set("worker.attempts_max", "20")
        // Every delay is spent on the queue, none in memory.
        .set("worker.delay_in_memory_max_s", "0")
}

/// Runs the test of each fail point, several at the same time, because most of the time is spent waiting for keys to
/// expire.
fn for_each_point(points: impl Iterator<Item = &'static str>, kill_at: impl Fn(&'static str) + Sync) {
    let points: Vec<_> = points.collect();
    std::thread::scope(|scope| {
        for chunk in points.chunks(3) {
            let kill_at = &kill_at;
            scope.spawn(move || chunk.iter().for_each(|point| kill_at(point)));
        }
    });
}

/// Returns the setting of a fail point, which says which pass through it kills the worker: the second. Of look-ups it
/// is the first: one user list scan answers all waiting jobs and is cached, so there may be no second scan.
fn failpoint(point: &str) -> String {
    format!("{point}:{}", if point == "during_look_up" { 1 } else { 2 })
}

/// Checks that each user was created once, and that every outcome of a job is `user.created`.
fn assert_each_created_once(point: &str, partner: &Partner, events: &[Value]) {
    let stats = partner.stats().model;
    assert_eq!((stats.created, stats.users), (u64::from(JOBS), u64::from(JOBS)), "{point}: {stats:?}");
    let mut types: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in events {
        types.entry(event["email"].as_str().unwrap()).or_default().insert(event["type"].as_str().unwrap());
    }
    assert_eq!(types.len(), JOBS as usize, "{point}: {types:?}");
    assert!(types.values().all(|types| *types == BTreeSet::from(["user.created"])), "{point}: {types:?}");
}

#[test]
fn a_worker_killed_at_any_step_resumes_on_the_embedded_queue() {
    // The embedded queue has no acknowledgement: one commit records the outcome and removes the job.
    for_each_point(POINTS.into_iter().filter(|point| !point.starts_with("between")), |point| {
        let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
        dir.program("import people.csv --queue local:q.db").expect_exit(0);
        let killed = worker(&dir, &partner, "local:q.db", "unused").env("PLU_ONBOARD_FAILPOINT", &failpoint(point));
        killed.start().expect_kill();
        let mut restarted = worker(&dir, &partner, "local:q.db", "unused").start();
        let results = dir.results("q-results");
        restarted.wait_until(point, || results.event_lines() == JOBS as usize);
        restarted.signal("TERM");
        restarted.expect_exit(0);
        assert_each_created_once(point, &partner, &results.events());
    });
}

#[test]
fn a_worker_killed_at_any_step_resumes_on_rabbitmq() {
    let broker = Broker::start();
    // RabbitMQ records no intent, so `before_intent` and `after_intent` are the same step.
    for_each_point(POINTS.into_iter().filter(|point| *point != "before_intent"), |point| {
        let (partner, dir, prefix) = (partner(), TestDir::with("people.csv", customers(0..JOBS)), point);
        let killed = worker(&dir, &partner, &broker.url(), prefix).env("PLU_ONBOARD_FAILPOINT", &failpoint(point));
        let mut killed = killed.start();
        killed.wait_for_output("connected to the broker");
        broker.publish(prefix, "bulk", &jobs(0..JOBS));
        killed.expect_kill();
        let mut restarted = worker(&dir, &partner, &broker.url(), prefix).start();
        let mut events: Vec<Value> = Vec::new();
        restarted.wait_until(point, || {
            events.extend(broker.drain(&format!("{prefix}.events.unrouted")).into_iter().map(|event| event.body));
            let done: BTreeSet<&str> = events.iter().map(|event| event["email"].as_str().unwrap()).collect();
            done.len() == JOBS as usize && broker.ready(&format!("{prefix}.jobs.bulk")) == 0
        });
        restarted.signal("TERM");
        restarted.expect_exit(0);
        assert_each_created_once(point, &partner, &events);
        assert_eq!(broker.ready(&format!("{prefix}.dead")), 0, "{point}");
    });
}
