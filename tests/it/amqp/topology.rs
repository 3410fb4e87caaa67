//! The topology on the broker: declared by the worker, or imported by the broker's operators. If it is wrong, the log
//! says what is wrong and what to do.

use std::fs;
use std::path::Path;

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::Value;

use crate::support::{
    Broker, DEAD, Program, TestDir, UNROUTED, all_events, customers, get, job, quick_partner, worker_at,
};

#[test]
fn workers_accept_the_definitions_that_the_topology_command_prints() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    broker.rabbitmqctl(&["add_vhost", "cards"]);
    broker.rabbitmqctl(&["set_permissions", "-p", "cards", "guest", ".*", ".*", ".*"]);
    for (vhost, url) in [("/", broker.url()), ("cards", format!("{}/cards", broker.url()))] {
        let printed = dir.program(&format!("topology --queue {url}")).expect_exit(0);
        dir.write("definitions.json", &printed.stdout);
        broker.rabbitmqctl(&["import_definitions", dir.path("definitions.json").to_str().unwrap()]);
        for mode in ["verify", "declare"] {
            let mut worker = worker_at(&url, &dir, &partner).set("amqp.topology", mode).start();
            // One connection for consuming, one for publishing.
            worker.wait_for_output_times("connected to the broker", 2);
            worker.signal("TERM");
            worker.expect_exit(0).assert_no_output(&["can't connect"]);
        }
        let queues = broker.rabbitmqctl(&["list_queues", "-p", vhost, "name"]);
        assert_eq!(queues.matches("plu.onboarding.").count(), 16, "{queues}");
    }
    let mut worker = worker_at(&broker.url(), &dir, &partner).set("amqp.topology", "verify").start();
    worker.wait_for_output("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn the_definitions_in_deploy_match_the_default_settings() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rabbitmq/definitions.json");
    let printed = TestDir::new().program("topology").expect_exit(0).stdout;
    assert_eq!(fs::read_to_string(file).unwrap(), printed, "plu-onboard topology > deploy/rabbitmq/definitions.json");
}

/// The password is "guest".
const USERS: &str = r#"{"users": [{"name": "guest", "password_hash": "9/1i+jKFRpbTRV1PtRnzFFYibT3cEpP92JeZ8YKGtflf4e/u",
    "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}], "vhosts": [{"name": "/"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]}"#;

#[test]
fn the_broker_settings_in_deploy_give_a_topology_that_a_worker_verifies() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rabbitmq");
    let (dir, partner) = (TestDir::new(), quick_partner(0));
    fs::create_dir(dir.path("definitions.d")).unwrap();
    dir.write("definitions.d/10-users.json", USERS);
    dir.write("definitions.d/20-topology.json", fs::read(deploy.join("definitions.json")).unwrap());
    let settings = fs::read_to_string(deploy.join("rabbitmq.conf")).unwrap();
    let folder = "/etc/rabbitmq/definitions.d";
    assert!(settings.contains(folder));
    // This machine's disk may be nearly full.
    let settings = settings.replace(folder, dir.path("definitions.d").to_str().unwrap()).replace("1GB", "1MB");
    let broker = Broker::start_with(&settings);
    let mut worker = worker_at(&broker.url(), &dir, &partner).set("amqp.topology", "verify").start();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "signup", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn the_definitions_carry_the_prefix_and_no_password() {
    let url = "amqp://plu:s3cret@rabbit.example/cards";
    let printed =
        TestDir::new().program(&format!("topology --queue {url}")).set("amqp.prefix", "eu.plu").expect_exit(0);
    printed.assert_no_output(&["s3cret", "plu.onboarding"]);
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
fn queues_with_other_arguments_are_named_and_a_fix_needs_no_restart() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    broker.declare_queue("plu.onboarding.dead", &[]);
    broker.declare_queue(UNROUTED, &[quorum.clone(), ("x-max-length", AMQPValue::LongInt(9))]);
    broker.declare_queue("plu.onboarding.jobs.bulk", std::slice::from_ref(&quorum));
    let mut worker = worker_at(&broker.url(), &dir, &partner).start();
    worker.wait_for_output("can't connect to the broker");
    for sentence in [
        "queue plu.onboarding.dead: x-queue-type is not set and has to be quorum",
        "queue plu.onboarding.events.unrouted: x-max-length is 9 and must not be set",
        "queue plu.onboarding.jobs.bulk: x-dead-letter-exchange is not set and has to be an empty text: ",
        "delete it once it is empty",
    ] {
        worker.wait_for_output(sentence);
    }
    worker.wait_for_output_times("declared with other arguments", 2);
    // Queues that could lose jobs must not be used as they are.
    worker.output_so_far().assert_no_output(&["amqp.topology"]);
    ["plu.onboarding.dead", "plu.onboarding.jobs.bulk"].iter().for_each(|queue| broker.delete(queue));
    // A bound may have been set on purpose.
    worker.wait_for_output("or set amqp.topology to verify, to use it as it is");
    broker.delete(UNROUTED);
    worker.wait_for_output_times("connected to the broker", 2);
    // Once for each reason and connection; a queue may have been deleted between two attempts.
    let logged = worker.output_so_far().times("declared with other arguments");
    assert!(logged <= 6, "logged {logged} times: {}", worker.output_so_far());
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn verifying_names_everything_that_is_missing_and_declares_nothing() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let mut declaring = worker_at(&broker.url(), &dir, &partner).start();
    declaring.wait_for_output_times("connected to the broker", 2);
    declaring.signal("TERM");
    declaring.expect_exit(0);
    let missing = ["plu.onboarding.dead", "plu.onboarding.delay.bulk.60", "plu.onboarding.jobs.signup"];
    missing.iter().for_each(|queue| broker.delete(queue));
    let mut verifying = worker_at(&broker.url(), &dir, &partner).set("amqp.topology", "verify").start();
    verifying.wait_for_output(
        "missing on the broker: queue plu.onboarding.dead, queue plu.onboarding.jobs.signup, queue \
         plu.onboarding.delay.bulk.60: ",
    );
    verifying.wait_for_output("`plu-onboard topology`");
    verifying.signal("TERM");
    // Once for each of its two connections.
    let lines = verifying.expect_exit(0).times("missing on the broker");
    assert!(lines <= 2, "{lines} lines");
    assert!(missing.iter().all(|queue| !broker.has_queue(queue)));
}

#[test]
fn a_queue_that_is_deleted_during_the_work_is_logged_and_shown_in_metrics() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    broker.declare("plu.onboarding");
    let worker = worker_at(&broker.url(), &dir, &partner).set("amqp.topology", "verify");
    let mut worker = worker.with("--listen 0").start();
    let address = worker.status_page_address();
    let shows = |samples: &[&str]| {
        let metrics = get(&address, "/metrics").body;
        samples.iter().all(|sample| metrics.contains(&format!("{sample}\n")))
    };
    worker.wait_until("the metrics of a full topology", || {
        shows(&["plu_onboard_broker_topology_mismatch 0", "plu_onboard_queue_dead_letters 0"])
    });
    broker.delete("plu.onboarding.delay.signup.15");
    broker.delete(UNROUTED);
    worker.wait_for_output("missing on the broker");
    broker.publish_to("", DEAD, b"no job", &BasicProperties::default());
    worker.wait_until("the metrics without the deleted queue", || {
        shows(&["plu_onboard_broker_topology_mismatch 1", "plu_onboard_queue_dead_letters 1"])
            && !get(&address, "/metrics").body.contains("plu_onboard_queue_unrouted_events ")
    });
    broker.declare("plu.onboarding");
    worker.wait_for_output("broker topology matches again");
    worker.wait_until("the metrics of a full topology again", || {
        shows(&["plu_onboard_broker_topology_mismatch 0", "plu_onboard_queue_unrouted_events 0"])
    });
    worker.signal("TERM");
    worker.expect_exit(0);
}

#[test]
fn a_broker_user_without_configure_permission_can_verify_but_not_declare() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    broker.declare("plu.onboarding");
    broker.rabbitmqctl(&["add_user", "plu", "plu"]);
    // The permissions in docs/rabbitmq.md.
    let (configure, write) = ("^$", r"^(plu\.onboarding\.(jobs|events)|amq\.default)$");
    let read = r"^plu\.onboarding\.(jobs\.(signup|bulk)|dead)$";
    broker.rabbitmqctl(&["set_permissions", "plu", configure, write, read]);
    let url = broker.url().replace("guest:guest", "plu:plu");
    let mut declaring = worker_at(&url, &dir, &partner).start();
    declaring.wait_for_output(
        "the user has no permission for exchange plu.onboarding.jobs, exchange plu.onboarding.events.unrouted, ",
    );
    declaring.wait_for_output("refused for user 'plu'): give it that permission; or ");
    declaring.signal("TERM");
    declaring.expect_exit(0).assert_no_output(&["connected to the broker"]);

    let verify = |program: Program| program.set("amqp.topology", "verify");
    dir.write("people.csv", customers(0..2));
    verify(dir.program(&format!("import people.csv --queue {url}"))).expect_exit(0);
    let mut worker = verify(worker_at(&url, &dir, &partner)).start();
    worker.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &["no job".to_owned()]);
    all_events(worker, &broker, 3);
    let dead = |arguments: &str| verify(dir.program(&format!("dead {arguments} --queue {url}"))).expect_exit(0);
    dead("retry --all").assert_output(&["1 of 1 dead letter requeued"]);
    assert_eq!((broker.ready("plu.onboarding.dead"), broker.ready("plu.onboarding.jobs.bulk")), (0, 1));
}
