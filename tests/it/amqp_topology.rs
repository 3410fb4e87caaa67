//! What has to be there on the broker: made by the worker, or imported by the broker's operators, or wrong, and then
//! the person on call must read what is wrong and what to do.

use std::fs;
use std::path::Path;

use lapin::types::AMQPValue;
use serde_json::Value;

use crate::support::{Broker, Place, UNROUTED, all_events, job, quick_partner, worker_at};

#[test]
fn operators_can_import_what_the_command_prints_and_workers_of_both_modes_accept_it() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    broker.rabbitmqctl(&["add_vhost", "cards"]);
    broker.rabbitmqctl(&["set_permissions", "-p", "cards", "guest", ".*", ".*", ".*"]);
    for (vhost, url) in [("/", broker.url()), ("cards", format!("{}/cards", broker.url()))] {
        let printed = place.program(&format!("topology --queue {url}")).ends_with(0);
        place.write("definitions.json", &printed.stdout);
        broker.rabbitmqctl(&["import_definitions", place.path("definitions.json").to_str().unwrap()]);
        for mode in ["verify", "declare"] {
            let mut worker = worker_at(&url, &place, &partner).set("amqp.topology", mode).start();
            // One connection each for consuming and publishing.
            worker.says_times("connected to the broker", 2);
            worker.signal("TERM");
            worker.ends_with(0).did_not_say(&["can't connect"]);
        }
        let queues = broker.rabbitmqctl(&["list_queues", "-p", vhost, "name"]);
        assert_eq!(queues.matches("plu.onboarding.").count(), 16, "{queues}");
    }
    let mut worker = worker_at(&broker.url(), &place, &partner).set("amqp.topology", "verify").start();
    worker.says("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn the_definitions_in_deploy_are_those_of_the_default_settings() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rabbitmq/definitions.json");
    let printed = Place::new().program("topology").ends_with(0).stdout;
    assert_eq!(fs::read_to_string(file).unwrap(), printed, "plu-onboard topology > deploy/rabbitmq/definitions.json");
}

#[test]
fn the_definitions_carry_the_prefix_and_no_password() {
    let url = "amqp://plu:s3cret@rabbit.example/cards";
    let printed = Place::new().program(&format!("topology --queue {url}")).set("amqp.prefix", "eu.plu").ends_with(0);
    printed.did_not_say(&["s3cret", "plu.onboarding"]);
    let definitions: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(definitions["vhosts"][0]["name"], "cards");
    for kind in ["exchanges", "queues"] {
        for thing in definitions[kind].as_array().unwrap() {
            assert!(thing["name"].as_str().unwrap().starts_with("eu.plu."), "{thing}");
            assert_eq!(thing["vhost"], "cards");
        }
    }
}

#[test]
fn queues_with_other_arguments_are_named_with_what_differs_and_work_begins_once_they_are_mended() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    broker.declare_queue("plu.onboarding.dead", &[]);
    broker.declare_queue(UNROUTED, &[quorum.clone(), ("x-max-length", AMQPValue::LongInt(9))]);
    let mut worker = worker_at(&broker.url(), &place, &partner).start();
    worker.says("can't connect to the broker");
    for sentence in [
        "queue plu.onboarding.dead: x-queue-type is not set and has to be quorum",
        "queue plu.onboarding.events.unrouted: x-max-length is 9 and must not be set",
        "delete it once it is empty",
        "or set amqp.topology to verify",
    ] {
        worker.says(sentence);
    }
    worker.says_times("declared otherwise", 2);
    broker.delete("plu.onboarding.dead");
    broker.delete(UNROUTED);
    worker.says_times("connected to the broker", 2);
    // However often it was tried; the first of the two queues may have been mended a try earlier.
    let told = worker.said_so_far().times("declared otherwise");
    assert!(told <= 4, "told {told} times: {}", worker.said_so_far());
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn verifying_names_everything_that_is_missing_and_makes_nothing() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    let mut declaring = worker_at(&broker.url(), &place, &partner).start();
    declaring.says_times("connected to the broker", 2);
    declaring.signal("TERM");
    declaring.ends_with(0);
    let missing = ["plu.onboarding.dead", "plu.onboarding.delay.bulk.60", "plu.onboarding.jobs.signup"];
    missing.iter().for_each(|queue| broker.delete(queue));
    let mut verifying = worker_at(&broker.url(), &place, &partner).set("amqp.topology", "verify").start();
    verifying.says("the broker lacks queue plu.onboarding.dead, queue plu.onboarding.jobs.signup, queue plu.onboarding.delay.bulk.60: ");
    verifying.says("`plu-onboard topology`");
    verifying.signal("TERM");
    // Once for each of its two connections.
    let lines = verifying.ends_with(0).times("the broker lacks");
    assert!(lines <= 2, "{lines} lines");
    assert!(missing.iter().all(|queue| !broker.has_queue(queue)));
}
