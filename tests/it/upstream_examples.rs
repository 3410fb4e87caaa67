//! Upstreams are written in other languages: the examples that they begin with must work as they stand.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Broker, DEAD, TestDir, UNROUTED, installed, python, quick_partner, root, run_tool, worker_at};

/// A copy of the Node examples beside their packages, which Node looks for there.
fn node_folder() -> PathBuf {
    let cache = installed("examples/node/package.json", |cache| {
        fs::copy(root().join("examples/node/package.json"), cache.join("package.json")).unwrap();
        run_tool(
            Command::new("npm")
                .args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"])
                .current_dir(cache),
        );
    });
    for name in ["publish-job.js", "read-events.js"] {
        fs::copy(root().join("examples/node").join(name), cache.join(name)).unwrap();
    }
    cache
}

/// Publishes a job, has it done, and reads its event three times: a repeat is recognised, and the link that it may bring.
fn goes_through(command: impl Fn(&str) -> Command, [publish, read]: [&str; 2]) {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::new());
    let example = |name: &str, arguments: &[&str]| {
        let mut command = command(name);
        command
            .args(arguments)
            .env("AMQP_URL", broker.url())
            .env("EVENTS_QUEUE", "crm.events")
            .current_dir(dir.path(""));
        command
    };
    let mut worker = worker_at(&broker.url(), &dir, &partner).start();
    worker.wait_for_output_times("connected to the broker", 2);
    // Before the job, so that the reader's queue is there for its event.
    broker.declare_queue("crm.events", &[("x-queue-type", lapin::types::AMQPValue::LongString("quorum".into()))]);
    broker.bind("crm.events", "plu.onboarding.events", "user.#");
    let job = root().join("examples/job.json");
    run_tool(&mut example(publish, &[job.to_str().unwrap(), "signup"]));
    worker.wait_until("its event", || broker.ready("crm.events") == 1);
    // As after a confirm that was lost.
    let event = broker.drain("crm.events").remove(0);
    let mut recovered = event.body.clone();
    recovered.as_object_mut().unwrap().remove("verificationUrl").expect("a link");
    for body in [&recovered, &event.body, &event.body] {
        let body = body.to_string();
        broker.publish_to("plu.onboarding.events", &event.routing_key, body.as_bytes(), &event.properties);
    }
    let output = run_tool(&mut example(read, &["3"]));
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    let expected = ["user.created crm-1", "user.created crm-1 (now with its link)", "user.created crm-1 (repeat)"];
    assert_eq!(lines, expected);
    assert_eq!((broker.ready("crm.events"), broker.ready(UNROUTED), broker.ready(DEAD)), (0, 0, 0));
    assert_eq!(partner.stats().model.created, 1);
    // A lane that isn't there is told.
    let mut astray = example(publish, &[job.to_str().unwrap(), "nowhere"]);
    let status = astray.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(!status.success(), "a job without a queue was published without a word");
    worker.signal("TERM");
    worker.expect_exit(0);
}

#[test]
fn the_python_examples_publish_a_job_and_read_its_event() {
    let python = python("examples/python/requirements.txt");
    let command = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(root().join("examples/python").join(name));
        command
    };
    goes_through(command, ["publish_job.py", "read_events.py"]);
}

#[test]
fn the_node_examples_publish_a_job_and_read_its_event() {
    let folder = node_folder();
    let command = |name: &str| {
        let mut command = Command::new("node");
        command.arg(folder.join(name));
        command
    };
    goes_through(command, ["publish-job.js", "read-events.js"]);
}
