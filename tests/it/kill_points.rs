//! The worker kills itself, as by `kill -9`, at every step of a job's way, on both queues, over real HTTP. Started again,
//! it must end every job without creating anybody twice and without taking its own user for somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plu_onboard::failpoint::POINTS;
use plu_onboard::sandbox::{FaultPlan, ModelConfig, SandboxConfig};
use serde_json::Value;

use crate::support::{Broker, Partner, Place, Program, customers};

const JOBS: u32 = 8;

/// Every third answer is lost, so that jobs are put back and looked up; keys are forgotten after a second.
fn partner() -> Partner {
    let model = ModelConfig { key_ttl: Duration::from_secs(1), ..ModelConfig::default() };
    let faults = FaultPlan::parse(&["lost=1/3"]).unwrap();
    Partner::start(SandboxConfig { model, faults, ..SandboxConfig::default() })
}

fn worker(place: &Place, partner: &Partner, queue: &str, prefix: &str) -> Program {
    place
        .program(&format!("worker --queue {queue} --api-url {} --rate 0", partner.url()))
        .set("amqp.prefix", prefix)
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("worker.concurrency", "2")
        .set("worker.backoff_initial_ms", "5")
        .set("worker.attempts_max", "20")
        // Every wait is spent on the queue.
        .set("worker.wait_in_hand_max_s", "0")
}

/// Some at once: they mostly wait for keys to expire.
fn each_of(points: impl Iterator<Item = &'static str>, kill_at: impl Fn(&'static str) + Sync) {
    let points: Vec<_> = points.collect();
    std::thread::scope(|scope| {
        for some in points.chunks(3) {
            let kill_at = &kill_at;
            scope.spawn(move || some.iter().for_each(|point| kill_at(point)));
        }
    });
}

/// At which time that it is reached. One sweep answers for all who wait and is remembered, so there may be no second one.
fn dies_at(point: &str) -> String {
    format!("{point}:{}", if point == "during_look_up" { 1 } else { 2 })
}

/// Everybody was created once, and there is one outcome for each, which says so.
fn assert_everybody_once(point: &str, partner: &Partner, events: &[Value]) {
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
fn a_worker_killed_at_any_step_on_the_embedded_queue_goes_on_where_it_was() {
    // There is no acknowledgement: outcome and leaving the queue are one commit.
    each_of(POINTS.into_iter().filter(|point| !point.starts_with("between")), |point| {
        let (partner, place) = (partner(), Place::with("people.csv", customers(0..JOBS)));
        place.program("import people.csv --queue local:q.db").ends_with(0);
        let dying = worker(&place, &partner, "local:q.db", "unused").env("PLU_ONBOARD_FAILPOINT", &dies_at(point));
        dying.start().dies();
        let mut reborn = worker(&place, &partner, "local:q.db", "unused").start();
        let results = place.results("q-results");
        reborn.until(point, || results.lines_so_far() == JOBS as usize);
        reborn.signal("TERM");
        reborn.ends_with(0);
        assert_everybody_once(point, &partner, &results.events());
    });
}

#[test]
fn a_worker_killed_at_any_step_on_rabbitmq_goes_on_where_it_was() {
    let broker = Broker::start();
    // Nothing is recorded before a send; `after_intent` stands for both.
    each_of(POINTS.into_iter().filter(|point| *point != "before_intent"), |point| {
        let (partner, place, prefix) = (partner(), Place::with("people.csv", customers(0..JOBS)), point);
        let dying = worker(&place, &partner, &broker.url(), prefix).env("PLU_ONBOARD_FAILPOINT", &dies_at(point));
        let mut dying = dying.start();
        dying.says("connected to the broker");
        broker.publish(prefix, "bulk", &jobs());
        dying.dies();
        let mut reborn = worker(&place, &partner, &broker.url(), prefix).start();
        let mut events: Vec<Value> = Vec::new();
        reborn.until(point, || {
            events.extend(broker.drain(&format!("{prefix}.events.unrouted")).into_iter().map(|event| event.body));
            let done: BTreeSet<&str> = events.iter().map(|event| event["email"].as_str().unwrap()).collect();
            done.len() == JOBS as usize && broker.ready(&format!("{prefix}.jobs.bulk")) == 0
        });
        reborn.signal("TERM");
        reborn.ends_with(0);
        assert_everybody_once(point, &partner, &events);
        assert_eq!(broker.ready(&format!("{prefix}.dead")), 0, "{point}");
    });
}

fn jobs() -> Vec<String> {
    let job = |n: u32| {
        serde_json::json!({"jobId": format!("crm-{n}"), "user": {
            "firstName": "Ann", "lastName": "Lee", "email": format!("p{n}@example.com"),
            "phoneNumber": "+14155550132", "accountPurpose": "personal use", "ipAddress": "203.0.113.42",
            "isTermsOfServiceAccepted": true, "program": "custodial", "address": format!("{n} Main Street"),
            "city": "Springfield", "region": "IL", "postalCode": "62701", "countryCode": "US",
        }})
        .to_string()
    };
    (0..JOBS).map(job).collect()
}
