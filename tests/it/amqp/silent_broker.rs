//! The broker confirms nothing, as in a network partition without a closed connection: creations stop within two
//! seconds, and the events are published with their links on the next connection. A slow broker isn't silent.

use std::time::Duration;

use crate::support::{Broker, Proxy, TestDir, all_events, get, jobs, quick_partner, worker_at};

/// Users that are created in a second: requests in flight by seconds of an answer.
const PER_SECOND: u64 = 80;
const CONCURRENCY: u64 = 4;

#[test]
fn creations_stop_within_two_seconds_of_the_last_confirm() {
    const JOBS: u32 = 1_000;
    let (broker, partner, dir) = (Broker::start(), quick_partner(50), TestDir::new());
    let proxy = Proxy::start(broker.port());
    let mut worker = worker_at(&proxy.url(), &dir, &partner)
        .set("worker.concurrency", &CONCURRENCY.to_string())
        .set("worker.window", "256")
        .with("--listen 0")
        .start();
    let address = worker.status_page_address();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    let created = || partner.stats().model.created;
    worker.wait_until("users", || created() > 100);

    let before = created();
    proxy.discard_all(true);
    worker.wait_for_output("the broker hasn't confirmed a message for 1.5 s");
    worker.wait_until("/readyz answers blocked", || {
        let reply = get(&address, "/readyz");
        reply.status == 503 && reply.json()["state"] == "blocked" && reply.json()["reason"] == "broker_silent"
    });
    // Until the requests in flight are answered.
    broker.rabbitmqctl(&["eval", "timer:sleep(1000)."]);
    let unconfirmed = created() - before;
    assert!(unconfirmed <= CONCURRENCY + 2 * PER_SECOND, "{unconfirmed}");
    broker.rabbitmqctl(&["eval", "timer:sleep(2000)."]);
    assert_eq!(created() - before, unconfirmed);

    proxy.discard_all(false);
    proxy.cut();
    worker.wait_for_output_times("connected to the broker", 4);
    let events = all_events(worker, &broker, JOBS);
    let with_link = events.iter().filter(|event| event.body["verificationUrl"].is_string());
    let with_link: std::collections::BTreeSet<_> = with_link.map(|event| event.body["jobId"].to_string()).collect();
    assert_eq!(with_link.len(), JOBS as usize);
    assert_eq!(created(), u64::from(JOBS));
}

#[test]
fn a_broker_that_confirms_slowly_stops_no_creation() {
    const JOBS: u32 = 300;
    let (broker, partner, dir) = (Broker::start(), quick_partner(50), TestDir::new());
    let proxy = Proxy::start(broker.port());
    proxy.delay(Duration::from_millis(300));
    let mut worker = worker_at(&proxy.url(), &dir, &partner).set("worker.concurrency", "4").start();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    worker.wait_until("every user", || partner.stats().model.created == u64::from(JOBS));
    worker.output_so_far().assert_no_output(&["the broker hasn't confirmed"]);
    all_events(worker, &broker, JOBS);
}
