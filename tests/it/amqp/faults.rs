//! Faults of the broker and of the network: no job and no event is lost, no job is acknowledged early, the worker
//! resumes by itself, and it logs each change of state once.

use std::collections::BTreeSet;

use crate::support::{
    Broker, DEAD, Partner, Program, Proxy, Received, RunningProgram, TestDir, UNROUTED, all_events, get, jobs,
    quick_partner, worker_at,
};

const BULK: &str = "plu.onboarding.jobs.bulk";

/// Time limits with which a broken connection is noticed within a few seconds.
fn worker(url: &str, dir: &TestDir, partner: &Partner) -> Program {
    worker_at(url, dir, partner)
        .set("worker.concurrency", "4")
        .set("worker.window", "16")
        .set("amqp.heartbeat_s", "2")
        .set("amqp.connect_timeout_s", "8")
        .set("amqp.confirm_timeout_s", "5")
        .with("--listen 0")
}

/// Waits until `/readyz` answers 503 with this state and one of these reasons.
fn until_unready(worker: &mut RunningProgram, address: &str, state: &str, reasons: &[&str]) {
    worker.wait_until(&format!("/readyz answers {state}"), || {
        let reply = get(address, "/readyz");
        let body = reply.json();
        reply.status == 503 && body["state"] == state && reasons.iter().any(|reason| body["reason"] == *reason)
    });
}

fn until_ready(worker: &mut RunningProgram, address: &str) {
    worker.wait_until("/readyz answers 200", || get(address, "/readyz").status == 200);
}

/// Reasons of a lost broker: either connection may break first.
const DOWN: [&str; 2] = ["broker_consumer_down", "broker_publisher_down"];

/// Asserts that every job is done once in effect. Events that were published twice have the same id.
fn assert_each_job_is_done_once(events: &[Received], broker: &Broker, partner: &Partner, jobs: u32) {
    let ids: BTreeSet<&str> = events.iter().map(|event| event.body["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), jobs as usize);
    let others: Vec<_> = events.iter().filter(|event| event.routing_key != "user.created").collect();
    assert!(others.is_empty(), "{:?}", others[0].body);
    assert_eq!(partner.stats().model.created, u64::from(jobs));
    assert_eq!((broker.ready(BULK), broker.ready(DEAD)), (0, 0));
}

/// Waits until this many more users are created.
fn until_created(worker: &mut RunningProgram, partner: &Partner, more: u64) {
    let before = partner.stats().model.created;
    worker.wait_until("more users", || partner.stats().model.created >= before + more);
}

#[test]
fn a_connection_that_is_cut_or_drops_all_packets_is_rebuilt() {
    const JOBS: u32 = 400;
    let (broker, partner, dir) = (Broker::start(), quick_partner(60), TestDir::new());
    let proxy = Proxy::start(broker.port());
    let mut worker = worker(&proxy.url(), &dir, &partner).start();
    let address = worker.status_page_address();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    until_created(&mut worker, &partner, 20);

    proxy.cut();
    worker.wait_for_output_times("connected to the broker", 4);
    let said = worker.output_so_far();
    assert_eq!(said.times("connection to the broker lost"), 2, "{said}");
    // With the name in the broker's list of connections.
    let mut lost = said.stderr.lines().filter(|line| line.contains("connection to the broker lost"));
    assert!(lost.all(|line| line.contains("plu-onboard.worker@")), "{said}");
    until_created(&mut worker, &partner, 20);

    // The publisher misses its confirms, the consumer its heartbeats.
    proxy.discard_all(true);
    worker.wait_for_output_times("connection to the broker lost", 4);
    worker.wait_for_output("the broker stopped answering heartbeats");
    worker.wait_for_output_times("no answer within 8 s", 2);
    until_unready(&mut worker, &address, "disconnected", &DOWN);
    proxy.discard_all(false);
    proxy.cut();
    worker.wait_for_output_times("connected to the broker", 6);
    until_ready(&mut worker, &address);
    until_created(&mut worker, &partner, 20);

    broker.rabbitmqctl(&["close_all_connections", "maintenance"]);
    worker.wait_for_output("maintenance");
    worker.wait_for_output_times("connected to the broker", 8);
    let events = all_events(worker, &broker, JOBS);
    assert_each_job_is_done_once(&events, &broker, &partner, JOBS);
}

#[test]
fn a_worker_notices_a_frozen_broker_and_resumes_after_it() {
    const JOBS: u32 = 200;
    let (broker, partner, dir) = (Broker::start(), quick_partner(50), TestDir::new());
    let mut worker = worker(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    until_created(&mut worker, &partner, 20);
    worker.output_so_far().assert_no_output(&["no answer"]);
    let address = worker.status_page_address();
    until_ready(&mut worker, &address);
    broker.freeze();
    until_unready(&mut worker, &address, "disconnected", &DOWN);
    worker.wait_for_output_times("connection to the broker lost", 2);
    worker.wait_for_output_times("no answer within 8 s: is the broker frozen?", 2);
    until_unready(&mut worker, &address, "disconnected", &DOWN);
    broker.thaw();
    worker.wait_for_output_times("connected to the broker", 4);
    until_ready(&mut worker, &address);
    let events = all_events(worker, &broker, JOBS);
    assert_each_job_is_done_once(&events, &broker, &partner, JOBS);
}

#[test]
fn deleted_queues_are_declared_and_consumed_again() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut worker = worker(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.delete(BULK);
    worker.wait_for_output("the broker cancelled the consumer: was its queue deleted?");
    worker.wait_for_output_times("connected to the broker", 3);
    broker.publish("plu.onboarding", "bulk", &jobs(0..10));
    worker.wait_until("events", || broker.ready(UNROUTED) == 10);
    // The queue of the events: the next event is returned, and published again once the queue is declared, unless the
    // worker has declared it before.
    let events = || if broker.has_queue(UNROUTED) { broker.ready(UNROUTED) } else { 0 };
    broker.delete(UNROUTED);
    broker.publish("plu.onboarding", "bulk", &jobs(10..11));
    worker.wait_until("the event", || events() == 1);
    // The broker closes the publisher's channel.
    broker.delete_exchange("plu.onboarding.events");
    broker.publish("plu.onboarding", "bulk", &jobs(11..12));
    worker.wait_until("the next event", || events() == 2);
    // Only upstreams use this exchange, so nothing fails in the worker.
    broker.delete_exchange("plu.onboarding.jobs");
    worker.wait_until("the exchange", || broker.has_exchange("plu.onboarding.jobs"));
    broker.publish("plu.onboarding", "bulk", &jobs(12..13));
    worker.wait_until("the last event", || events() == 3);
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!((partner.stats().model.created, broker.ready(BULK), broker.ready(DEAD)), (13, 0, 0));
}

#[test]
fn jobs_in_progress_are_finished_after_their_queue_was_deleted() {
    const JOBS: u32 = 16;
    let (broker, partner, dir) = (Broker::start(), quick_partner(200), TestDir::new());
    let mut worker = worker(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    // As many as the prefetch allows.
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    until_created(&mut worker, &partner, 2);
    broker.delete(BULK);
    worker.wait_for_output("was its queue deleted? Jobs in progress");
    worker.wait_for_output_times("connected to the broker", 3);
    broker.publish("plu.onboarding", "bulk", &jobs(JOBS..JOBS + 4));
    let events = all_events(worker, &broker, JOBS + 4);
    assert_eq!(events.len(), JOBS as usize + 4);
    assert_each_job_is_done_once(&events, &broker, &partner, JOBS + 4);
}

#[test]
fn events_wait_for_a_full_queue_and_no_user_is_created_meanwhile() {
    const JOBS: u32 = 100;
    let (broker, partner, dir) = (Broker::start(), quick_partner(100), TestDir::new());
    let mut worker = worker(&broker.url(), &dir, &partner).start();
    let address = worker.status_page_address();
    worker.wait_for_output_times("connected to the broker", 2);
    let full = r#"{"max-length":3,"overflow":"reject-publish"}"#;
    broker.rabbitmqctl(&["set_policy", "full", "unrouted$", full, "--apply-to", "queues"]);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    worker.wait_for_output(
        "routing key \\\"user.created\\\" are refused; if a queue there is full, empty it or raise its limit",
    );
    until_unready(&mut worker, &address, "refused", &["broker_refuses"]);
    // Long enough to create every user.
    broker.rabbitmqctl(&["eval", "timer:sleep(4000)."]);
    let created = partner.stats().model.created;
    assert!(created < u64::from(JOBS) / 2, "{created}");
    // A slow reader: the queue accepts a few events and is full again.
    let mut events = Vec::new();
    while events.len() < 12 {
        events.extend(broker.drain(UNROUTED));
    }
    until_unready(&mut worker, &address, "refused", &["broker_refuses"]);
    let said = worker.output_so_far();
    assert_eq!((said.times("broker refused a message"), said.times("connected to the broker")), (1, 2), "{said}");
    said.assert_no_output(&["accepts messages again"]);
    // The queue has room for all.
    broker.rabbitmqctl(&["clear_policy", "full"]);
    worker.wait_for_output("broker accepts messages again");
    until_ready(&mut worker, &address);
    let read = events.iter().map(|event| event.body["id"].as_str().unwrap()).collect::<BTreeSet<_>>().len();
    events.extend(all_events(worker, &broker, JOBS - u32::try_from(read).unwrap()));
    assert_each_job_is_done_once(&events, &broker, &partner, JOBS);
}

#[test]
fn no_user_is_created_while_connections_break_at_the_first_event() {
    const JOBS: u32 = 200;
    let (broker, partner, dir) = (Broker::start(), quick_partner(100), TestDir::new());
    broker.declare("plu.onboarding");
    broker.rabbitmqctl(&["add_user", "plu", "plu"]);
    let may_write = |what: &str| broker.rabbitmqctl(&["set_permissions", "plu", "^$", what, "^plu"]);
    // No permission for the exchange of events.
    may_write(r"^amq\.default$");
    let url = broker.url().replace("guest:guest", "plu:plu");
    // Room for more jobs than are in flight when the first event is refused.
    let verifying = worker(&url, &dir, &partner).set("amqp.topology", "verify").set("worker.window", "256");
    let mut worker = verifying.start();
    let address = worker.status_page_address();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    worker.wait_for_output("ACCESS_REFUSED");
    until_unready(&mut worker, &address, "disconnected", &DOWN);
    // Until the requests in flight are answered.
    broker.rabbitmqctl(&["eval", "timer:sleep(2000)."]);
    let created = partner.stats().model.created;
    broker.rabbitmqctl(&["eval", "timer:sleep(5000)."]);
    assert_eq!(partner.stats().model.created, created);
    let said = worker.output_so_far();
    assert_eq!((said.times("ACCESS_REFUSED"), said.times("connected to the broker")), (1, 2), "{said}");
    may_write("^(plu|amq)");
    worker.wait_for_output_times("connected to the broker", 3);
    let events = all_events(worker, &broker, JOBS);
    assert_each_job_is_done_once(&events, &broker, &partner, JOBS);
}

#[test]
fn an_alarm_is_logged_once_and_no_job_is_acknowledged_until_it_ends() {
    // Enough jobs for a second alarm, on a busy machine too.
    const JOBS: u32 = 1_000;
    let (broker, partner, dir) = (Broker::start(), quick_partner(50), TestDir::new());
    let mut first = worker(&broker.url(), &dir, &partner).start();
    let address = first.status_page_address();
    first.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    until_created(&mut first, &partner, 20);
    // Events wait for the end of the alarm, and no user is created meanwhile.
    let assert_no_user_is_created = || {
        broker.rabbitmqctl(&["eval", "timer:sleep(1000)."]);
        let created = partner.stats().model.created;
        assert!(created > u64::from(broker.ready(UNROUTED)));
        // Longer than the confirm timeout.
        broker.rabbitmqctl(&["eval", "timer:sleep(5000)."]);
        assert_eq!(partner.stats().model.created, created);
    };

    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    first.wait_for_output("broker alarm (connection.blocked)");
    until_unready(&mut first, &address, "blocked", &["broker_alarm"]);
    let blocked = "plu_onboard_broker_blocked{connection=\"publisher\"}";
    let gauge = || get(&address, "/metrics").body.contains(&format!("{blocked} 1\n"));
    assert!(gauge());
    let before = broker.worker_connections();
    assert_eq!(before.len(), 2, "{before:?}");
    assert_no_user_is_created();
    assert_eq!(broker.worker_connections(), before);
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]);
    first.wait_for_output("broker alarm ended");
    until_ready(&mut first, &address);
    assert!(!gauge());
    until_created(&mut first, &partner, 40);

    broker.rabbitmqctl(&["set_disk_free_limit", "1000000GB"]);
    first.wait_for_output_times("broker alarm (connection.blocked)", 2);
    until_unready(&mut first, &address, "blocked", &["broker_alarm"]);
    assert_no_user_is_created();
    let said = first.kill();
    assert_eq!(said.times("connected to the broker"), 2, "{said}");
    said.assert_no_output(&["lost; reconnecting"]);
    broker.rabbitmqctl(&["set_disk_free_limit", "1MB"]);

    let second = worker(&broker.url(), &dir, &partner).start();
    let events = all_events(second, &broker, JOBS);
    assert_each_job_is_done_once(&events, &broker, &partner, JOBS);
}
