//! What befalls a broker and the way to it, one after the other: no job and no event is lost, nothing is acknowledged
//! early, the worker goes on by itself, and it says each change of state once.

use std::collections::BTreeSet;

use crate::support::{
    Broker, DEAD, Partner, Place, Program, Proxy, Received, Running, UNROUTED, all_events, get, jobs, quick_partner,
    worker_at,
};

const BULK: &str = "plu.onboarding.jobs.bulk";

/// Times that make a broken connection known within a few seconds.
fn worker(url: &str, place: &Place, partner: &Partner) -> Program {
    worker_at(url, place, partner)
        .set("worker.concurrency", "4")
        .set("worker.window", "16")
        .set("amqp.heartbeat_s", "2")
        .set("amqp.connect_timeout_s", "8")
        .set("amqp.confirm_timeout_s", "5")
        .with("--listen 0")
}

/// What `/readyz` says comes to be this: 503 with a state and its reason, or 200.
fn says_unready(worker: &mut Running, address: &str, state: &str, reasons: &[&str]) {
    worker.until(&format!("/readyz says {state}"), || {
        let reply = get(address, "/readyz");
        let said = reply.json();
        reply.status == 503 && said["state"] == state && reasons.iter().any(|reason| said["reason"] == *reason)
    });
}

fn says_ready(worker: &mut Running, address: &str) {
    worker.until("/readyz says that it is ready", || get(address, "/readyz").status == 200);
}

/// Either connection may be told of first.
const DOWN: [&str; 2] = ["broker_consumer_down", "broker_publisher_down"];

/// Every job is done, once in effect; what came twice has the same id.
fn nothing_is_lost(events: &[Received], broker: &Broker, partner: &Partner, jobs: u32) {
    let ids: BTreeSet<&str> = events.iter().map(|event| event.body["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), jobs as usize);
    let others: Vec<_> = events.iter().filter(|event| event.routing_key != "user.created").collect();
    assert!(others.is_empty(), "{:?}", others[0].body);
    assert_eq!(partner.stats().model.created, u64::from(jobs));
    assert_eq!((broker.ready(BULK), broker.ready(DEAD)), (0, 0));
}

/// So many more users than now: the worker goes on.
fn goes_on(worker: &mut Running, partner: &Partner, more: u64) {
    let before = partner.stats().model.created;
    worker.until("it goes on", || partner.stats().model.created >= before + more);
}

#[test]
fn a_connection_that_is_cut_or_swallows_everything_is_made_anew() {
    const JOBS: u32 = 400;
    let (broker, partner, place) = (Broker::start(), quick_partner(60), Place::new());
    let proxy = Proxy::start(broker.port());
    let mut worker = worker(&proxy.url(), &place, &partner).start();
    let address = worker.serves();
    worker.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    goes_on(&mut worker, &partner, 20);

    proxy.cut();
    worker.says_times("connected to the broker", 4);
    let said = worker.said_so_far();
    assert_eq!(said.times("the connection to the broker broke"), 2, "{said}");
    // Under the name that the broker's list of connections shows.
    let mut broke = said.stderr.lines().filter(|line| line.contains("the connection to the broker broke"));
    assert!(broke.all(|line| line.contains("plu-onboard.worker@")), "{said}");
    goes_on(&mut worker, &partner, 20);

    // The publisher misses its confirms, the consumer its heartbeats.
    proxy.swallow(true);
    worker.says_times("the connection to the broker broke", 4);
    worker.says("it stopped answering heartbeats");
    worker.says_times("no answer within 8 s", 2);
    says_unready(&mut worker, &address, "disconnected", &DOWN);
    proxy.swallow(false);
    proxy.cut();
    worker.says_times("connected to the broker", 6);
    says_ready(&mut worker, &address);
    goes_on(&mut worker, &partner, 20);

    broker.rabbitmqctl(&["close_all_connections", "maintenance"]);
    worker.says("maintenance");
    worker.says_times("connected to the broker", 8);
    let events = all_events(worker, &broker, JOBS);
    nothing_is_lost(&events, &broker, &partner, JOBS);
}

#[test]
fn a_frozen_broker_is_noticed_and_waited_for() {
    const JOBS: u32 = 200;
    let (broker, partner, place) = (Broker::start(), quick_partner(50), Place::new());
    let mut worker = worker(&broker.url(), &place, &partner).start();
    worker.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    goes_on(&mut worker, &partner, 20);
    worker.said_so_far().did_not_say(&["no answer"]);
    let address = worker.serves();
    says_ready(&mut worker, &address);
    broker.freeze();
    says_unready(&mut worker, &address, "disconnected", &DOWN);
    worker.says_times("the connection to the broker broke", 2);
    worker.says_times("no answer within 8 s: is it frozen?", 2);
    says_unready(&mut worker, &address, "disconnected", &DOWN);
    broker.thaw();
    worker.says_times("connected to the broker", 4);
    says_ready(&mut worker, &address);
    let events = all_events(worker, &broker, JOBS);
    nothing_is_lost(&events, &broker, &partner, JOBS);
}

#[test]
fn queues_that_are_deleted_are_declared_anew_and_consumed_again() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    let mut worker = worker(&broker.url(), &place, &partner).start();
    worker.says_times("connected to the broker", 2);
    broker.delete(BULK);
    worker.says("the broker cancelled the consumer: was its queue deleted?");
    worker.says_times("connected to the broker", 3);
    broker.publish("plu.onboarding", "bulk", &jobs(0..10));
    worker.until("events", || broker.ready(UNROUTED) == 10);
    // The queue of the events: what is published next comes back, and goes out again once the queue is there; unless the
    // worker has noticed before.
    let events = || if broker.has_queue(UNROUTED) { broker.ready(UNROUTED) } else { 0 };
    broker.delete(UNROUTED);
    broker.publish("plu.onboarding", "bulk", &jobs(10..11));
    worker.until("the event", || events() == 1);
    // The broker closes the publisher's channel.
    broker.delete_exchange("plu.onboarding.events");
    broker.publish("plu.onboarding", "bulk", &jobs(11..12));
    worker.until("the next event", || events() == 2);
    // The upstreams', which the worker doesn't use: nothing fails here.
    broker.delete_exchange("plu.onboarding.jobs");
    worker.until("the exchange", || broker.has_exchange("plu.onboarding.jobs"));
    broker.publish("plu.onboarding", "bulk", &jobs(12..13));
    worker.until("the last event", || events() == 3);
    worker.signal("TERM");
    worker.ends_with(0);
    assert_eq!((partner.stats().model.created, broker.ready(BULK), broker.ready(DEAD)), (13, 0, 0));
}

#[test]
fn jobs_in_hand_outlive_their_queue() {
    const JOBS: u32 = 16;
    let (broker, partner, place) = (Broker::start(), quick_partner(200), Place::new());
    let mut worker = worker(&broker.url(), &place, &partner).start();
    worker.says_times("connected to the broker", 2);
    // As many as the broker hands out.
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    goes_on(&mut worker, &partner, 2);
    broker.delete(BULK);
    worker.says("was its queue deleted? What is in hand");
    worker.says_times("connected to the broker", 3);
    broker.publish("plu.onboarding", "bulk", &jobs(JOBS..JOBS + 4));
    let events = all_events(worker, &broker, JOBS + 4);
    assert_eq!(events.len(), JOBS as usize + 4);
    nothing_is_lost(&events, &broker, &partner, JOBS + 4);
}

#[test]
fn events_that_a_full_queue_refuses_are_published_once_it_has_room_and_nobody_is_created_meanwhile() {
    const JOBS: u32 = 100;
    let (broker, partner, place) = (Broker::start(), quick_partner(100), Place::new());
    let mut worker = worker(&broker.url(), &place, &partner).start();
    let address = worker.serves();
    worker.says_times("connected to the broker", 2);
    let full = r#"{"max-length":3,"overflow":"reject-publish"}"#;
    broker.rabbitmqctl(&["set_policy", "full", "unrouted$", full, "--apply-to", "queues"]);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    worker.says("routing key \\\"user.created\\\" are refused; if a queue there is full, empty it or raise its limit");
    says_unready(&mut worker, &address, "refused", &["broker_refuses"]);
    // Long enough for all of them.
    broker.rabbitmqctl(&["eval", "timer:sleep(4000)."]);
    let created = partner.stats().model.created;
    assert!(created < u64::from(JOBS) / 2, "{created}");
    // A reader that is too slow: the queue takes a few and is full again.
    let mut events = Vec::new();
    while events.len() < 12 {
        events.extend(broker.drain(UNROUTED));
    }
    says_unready(&mut worker, &address, "refused", &["broker_refuses"]);
    let said = worker.said_so_far();
    assert_eq!((said.times("doesn't take a message"), said.times("connected to the broker")), (1, 2), "{said}");
    said.did_not_say(&["takes such messages again"]);
    // A reader makes room.
    broker.rabbitmqctl(&["clear_policy", "full"]);
    worker.says("the broker takes such messages again");
    says_ready(&mut worker, &address);
    let read = events.iter().map(|event| event.body["id"].as_str().unwrap()).collect::<BTreeSet<_>>().len();
    events.extend(all_events(worker, &broker, JOBS - u32::try_from(read).unwrap()));
    nothing_is_lost(&events, &broker, &partner, JOBS);
}

#[test]
fn nobody_is_created_while_each_connection_breaks_at_the_first_outcome() {
    const JOBS: u32 = 200;
    let (broker, partner, place) = (Broker::start(), quick_partner(100), Place::new());
    broker.declare("plu.onboarding");
    broker.rabbitmqctl(&["add_user", "plu", "plu"]);
    let may_write = |what: &str| broker.rabbitmqctl(&["set_permissions", "plu", "^$", what, "^plu"]);
    // Somebody forgot the events.
    may_write(r"^amq\.default$");
    let url = broker.url().replace("guest:guest", "plu:plu");
    // Room for more than the few that are on their way when the first outcome is refused.
    let verifying = worker(&url, &place, &partner).set("amqp.topology", "verify").set("worker.window", "256");
    let mut worker = verifying.start();
    let address = worker.serves();
    worker.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    worker.says("ACCESS_REFUSED");
    says_unready(&mut worker, &address, "disconnected", &DOWN);
    // Those that were on their way.
    broker.rabbitmqctl(&["eval", "timer:sleep(2000)."]);
    let created = partner.stats().model.created;
    broker.rabbitmqctl(&["eval", "timer:sleep(5000)."]);
    assert_eq!(partner.stats().model.created, created);
    let said = worker.said_so_far();
    assert_eq!((said.times("ACCESS_REFUSED"), said.times("connected to the broker")), (1, 2), "{said}");
    may_write("^(plu|amq)");
    worker.says_times("connected to the broker", 3);
    let events = all_events(worker, &broker, JOBS);
    nothing_is_lost(&events, &broker, &partner, JOBS);
}

#[test]
fn an_alarm_is_told_once_and_waited_out_and_nothing_is_acknowledged_meanwhile() {
    // Enough that some are left at the second alarm, on a busy machine too.
    const JOBS: u32 = 1_000;
    let (broker, partner, place) = (Broker::start(), quick_partner(50), Place::new());
    let mut first = worker(&broker.url(), &place, &partner).start();
    let address = first.serves();
    first.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &jobs(0..JOBS));
    goes_on(&mut first, &partner, 20);
    // Outcomes that nobody can be told of yet, and nobody is created any more.
    let nobody_is_created = || {
        broker.rabbitmqctl(&["eval", "timer:sleep(1000)."]);
        let created = partner.stats().model.created;
        assert!(created > u64::from(broker.ready(UNROUTED)));
        // Longer than the limit for a confirm.
        broker.rabbitmqctl(&["eval", "timer:sleep(5000)."]);
        assert_eq!(partner.stats().model.created, created);
    };

    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    first.says("the broker has an alarm (connection.blocked)");
    says_unready(&mut first, &address, "blocked", &["broker_alarm"]);
    let blocked = "plu_onboard_broker_blocked{connection=\"publisher\"}";
    let gauge = || get(&address, "/metrics").body.contains(&format!("{blocked} 1\n"));
    assert!(gauge());
    let before = broker.worker_connections();
    assert_eq!(before.len(), 2, "{before:?}");
    nobody_is_created();
    assert_eq!(broker.worker_connections(), before);
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]);
    first.says("the broker's alarm is over");
    says_ready(&mut first, &address);
    assert!(!gauge());
    goes_on(&mut first, &partner, 40);

    broker.rabbitmqctl(&["set_disk_free_limit", "1000000GB"]);
    first.says_times("the broker has an alarm (connection.blocked)", 2);
    says_unready(&mut first, &address, "blocked", &["broker_alarm"]);
    nobody_is_created();
    let said = first.kill();
    assert_eq!(said.times("connected to the broker"), 2, "{said}");
    said.did_not_say(&["broke; connecting anew"]);
    broker.rabbitmqctl(&["set_disk_free_limit", "1MB"]);

    let second = worker(&broker.url(), &place, &partner).start();
    let events = all_events(second, &broker, JOBS);
    nothing_is_lost(&events, &broker, &partner, JOBS);
}
