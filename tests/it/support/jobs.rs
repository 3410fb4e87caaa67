//! Jobs as an upstream publishes them, and a worker that takes them from a broker.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use serde_json::json;

use super::{Broker, Partner, Program, Received, RunningProgram, TestDir, user};

pub(crate) const UNROUTED: &str = "plu.onboarding.events.unrouted";
pub(crate) const DEAD: &str = "plu.onboarding.dead";

/// Returns the message of a valid job about customer `n`.
pub(crate) fn job(n: u32) -> String {
    json!({"jobId": format!("crm-{n}"), "metadata": {"n": n}, "user": user(n)}).to_string()
}

pub(crate) fn jobs(numbers: Range<u32>) -> Vec<String> {
    numbers.map(job).collect()
}

/// Returns a worker on the broker at `url`, with delays of at most a second or two.
pub(crate) fn worker_at(url: &str, dir: &TestDir, partner: &Partner) -> Program {
    dir.program(&format!("worker --queue {url} --api-url {} --rate 0", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("worker.backoff_initial_ms", "20")
        .set("worker.probe_initial_s", "1")
}

/// Starts a partner whose idempotency keys expire after a second.
pub(crate) fn quick_partner(latency_ms: u64) -> Partner {
    let mut config = SandboxConfig { latency: Duration::from_millis(latency_ms), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    Partner::start(config)
}

/// Waits until every job has an event in the queue of unrouted events, stops the worker and returns the events.
pub(crate) fn all_events(mut worker: RunningProgram, broker: &Broker, jobs: u32) -> Vec<Received> {
    let mut events = Vec::new();
    let mut done = BTreeSet::new();
    worker.wait_until("an event for each job", || {
        for event in broker.drain(UNROUTED) {
            done.insert(event.body["jobId"].as_str().unwrap().to_owned());
            events.push(event);
        }
        done.len() == jobs as usize
    });
    worker.signal("TERM");
    worker.expect_exit(0);
    events
}
