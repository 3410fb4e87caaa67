//! Jobs as upstreams publish them, and a worker that takes them from a broker.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use serde_json::json;

use super::{Broker, Partner, Place, Program, Received, Running};

pub(crate) const UNROUTED: &str = "plu.onboarding.events.unrouted";
pub(crate) const DEAD: &str = "plu.onboarding.dead";

/// A valid job; they differ from each other.
pub(crate) fn job(n: u32) -> String {
    json!({"jobId": format!("crm-{n}"), "metadata": {"n": n}, "user": {
        "firstName": "Ann", "lastName": "Lee", "email": format!("p{n}@example.com"), "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": format!("{n} Main Street"), "city": "Springfield", "region": "IL",
        "postalCode": "62701", "countryCode": "US",
    }})
    .to_string()
}

pub(crate) fn jobs(numbers: Range<u32>) -> Vec<String> {
    numbers.map(job).collect()
}

/// A worker on the broker behind this URL, with times that a test can wait for.
pub(crate) fn worker_at(url: &str, place: &Place, partner: &Partner) -> Program {
    place
        .program(&format!("worker --queue {url} --api-url {} --rate 0", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("worker.backoff_initial_ms", "20")
        .set("worker.probe_initial_s", "1")
}

/// A partner that forgets a key after a second.
pub(crate) fn quick_partner(latency_ms: u64) -> Partner {
    let mut config = SandboxConfig { latency: Duration::from_millis(latency_ms), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    Partner::start(config)
}

/// Waits until every job has an event in the queue of unrouted ones, stops the worker and returns the events.
pub(crate) fn all_events(mut worker: Running, broker: &Broker, jobs: u32) -> Vec<Received> {
    let mut events = Vec::new();
    let mut done = BTreeSet::new();
    worker.until("an event for each job", || {
        for event in broker.drain(UNROUTED) {
            done.insert(event.body["jobId"].as_str().unwrap().to_owned());
            events.push(event);
        }
        done.len() == jobs as usize
    });
    worker.signal("TERM");
    worker.ends_with(0);
    events
}
