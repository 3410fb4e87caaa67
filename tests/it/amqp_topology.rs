//! What has to be there on the broker: made by the worker, or imported by the broker's operators, or wrong, and then
//! the person on call must read what is wrong and what to do.

use std::fs;
use std::path::Path;

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::Value;

use crate::support::{
    Broker, DEAD, Place, Program, UNROUTED, all_events, customers, get, job, quick_partner, worker_at,
};

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

/// The password is "guest".
const USERS: &str = r#"{"users": [{"name": "guest", "password_hash": "9/1i+jKFRpbTRV1PtRnzFFYibT3cEpP92JeZ8YKGtflf4e/u",
    "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}], "vhosts": [{"name": "/"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]}"#;

#[test]
fn the_broker_of_compose_starts_with_its_settings_and_has_what_a_worker_verifies() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rabbitmq");
    let (place, partner) = (Place::new(), quick_partner(0));
    fs::create_dir(place.path("definitions.d")).unwrap();
    place.write("definitions.d/10-users.json", USERS);
    place.write("definitions.d/20-topology.json", fs::read(deploy.join("definitions.json")).unwrap());
    let settings = fs::read_to_string(deploy.join("rabbitmq.conf")).unwrap();
    let folder = "/etc/rabbitmq/definitions.d";
    assert!(settings.contains(folder));
    // This machine's disk may be nearly full.
    let settings = settings.replace(folder, place.path("definitions.d").to_str().unwrap()).replace("1GB", "1MB");
    let broker = Broker::start_with(&settings);
    let mut worker = worker_at(&broker.url(), &place, &partner).set("amqp.topology", "verify").start();
    worker.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "signup", &[job(1)]);
    all_events(worker, &broker, 1);
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
    broker.declare_queue("plu.onboarding.jobs.bulk", std::slice::from_ref(&quorum));
    let mut worker = worker_at(&broker.url(), &place, &partner).start();
    worker.says("can't connect to the broker");
    for sentence in [
        "queue plu.onboarding.dead: x-queue-type is not set and has to be quorum",
        "queue plu.onboarding.events.unrouted: x-max-length is 9 and must not be set",
        "queue plu.onboarding.jobs.bulk: x-dead-letter-exchange is not set and has to be an empty text: ",
        "delete it once it is empty",
    ] {
        worker.says(sentence);
    }
    worker.says_times("declared otherwise", 2);
    // What is there could lose jobs.
    worker.said_so_far().did_not_say(&["amqp.topology"]);
    ["plu.onboarding.dead", "plu.onboarding.jobs.bulk"].iter().for_each(|queue| broker.delete(queue));
    // A bound may be meant.
    worker.says("or set amqp.topology to verify, to use it as it is");
    broker.delete(UNROUTED);
    worker.says_times("connected to the broker", 2);
    // However often it was tried; one or two of the queues may have been mended a try earlier.
    let told = worker.said_so_far().times("declared otherwise");
    assert!(told <= 6, "told {told} times: {}", worker.said_so_far());
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

#[test]
fn a_queue_that_is_deleted_while_it_works_is_told_and_counted_and_hides_no_other() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    broker.declare("plu.onboarding");
    let worker = worker_at(&broker.url(), &place, &partner).set("amqp.topology", "verify");
    let mut worker = worker.with("--listen 0").start();
    let address = worker.serves();
    let shows = |samples: &[&str]| {
        let metrics = get(&address, "/metrics").body;
        samples.iter().all(|sample| metrics.contains(&format!("{sample}\n")))
    };
    worker.until("all is there", || shows(&["plu_onboard_broker_topology_amiss 0", "plu_onboard_queue_dead_jobs 0"]));
    broker.delete("plu.onboarding.delay.signup.15");
    broker.delete(UNROUTED);
    worker.says("the broker lacks");
    broker.publish_to("", DEAD, b"no job", &BasicProperties::default());
    worker.until("the rest is shown", || {
        shows(&["plu_onboard_broker_topology_amiss 1", "plu_onboard_queue_dead_jobs 1"])
            && !get(&address, "/metrics").body.contains("plu_onboard_queue_unrouted_events ")
    });
    broker.declare("plu.onboarding");
    worker.says("everything that is needed on the broker is there again");
    worker.until("it is mended", || {
        shows(&["plu_onboard_broker_topology_amiss 0", "plu_onboard_queue_unrouted_events 0"])
    });
    worker.signal("TERM");
    worker.ends_with(0);
}

#[test]
fn a_user_who_may_only_use_what_is_there_is_told_so_and_works_where_it_is_verified() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::new());
    broker.declare("plu.onboarding");
    broker.rabbitmqctl(&["add_user", "plu", "plu"]);
    // As README.md says.
    let (configure, write) = ("^$", r"^(plu\.onboarding\.(jobs|events)|amq\.default)$");
    let read = r"^plu\.onboarding\.(jobs\.(signup|bulk)|dead)$";
    broker.rabbitmqctl(&["set_permissions", "plu", configure, write, read]);
    let url = broker.url().replace("guest:guest", "plu:plu");
    let mut declaring = worker_at(&url, &place, &partner).start();
    declaring
        .says("the user has no permission for exchange plu.onboarding.jobs, exchange plu.onboarding.events.unrouted, ");
    declaring.says("refused for user 'plu'): give it that permission; or ");
    declaring.signal("TERM");
    declaring.ends_with(0).did_not_say(&["connected to the broker"]);

    let verify = |program: Program| program.set("amqp.topology", "verify");
    place.write("people.csv", customers(0..2));
    verify(place.program(&format!("import people.csv --queue {url}"))).ends_with(0);
    let mut worker = verify(worker_at(&url, &place, &partner)).start();
    worker.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &["no job".to_owned()]);
    all_events(worker, &broker, 3);
    let dead = |arguments: &str| verify(place.program(&format!("dead {arguments} --queue {url}"))).ends_with(0);
    dead("retry --all").said(&["1 of 1 dead letter put back"]);
    assert_eq!((broker.ready("plu.onboarding.dead"), broker.ready("plu.onboarding.jobs.bulk")), (0, 1));
}
