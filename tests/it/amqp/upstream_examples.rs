//! The examples for upstreams in Python and Node, in `examples/`, work as they are.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Broker, DEAD, TestDir, UNROUTED, installed, python, quick_partner, root, run_tool, worker_at};

/// Copies the Node examples beside their packages, where Node searches for them. Returns the folder.
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

/// Runs the example that publishes a job, then the example that reads its event. The event arrives three times, first
/// without its link: the reader recognises the repeats and the link.
fn publish_and_read(command: impl Fn(&str) -> Command, [publish, read]: [&str; 2]) {
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
    // The reader's queue must exist before the job, so that it gets the event.
    broker.declare_queue("crm.events", &[("x-queue-type", lapin::types::AMQPValue::LongString("quorum".into()))]);
    broker.bind("crm.events", "plu.onboarding.events", "user.#");
    let job = root().join("examples/job.json");
    run_tool(&mut example(publish, &[job.to_str().unwrap(), "signup"]));
    worker.wait_until("the event of the job", || broker.ready("crm.events") == 1);
    // The same event several times, as after a lost confirm.
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
    // Publishing to an unknown lane fails.
    let mut unroutable = example(publish, &[job.to_str().unwrap(), "nowhere"]);
    let status = unroutable.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(!status.success(), "publishing a job without a queue succeeded");
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
    publish_and_read(command, ["publish_job.py", "read_events.py"]);
}

#[test]
fn the_node_examples_publish_a_job_and_read_its_event() {
    let folder = node_folder();
    let command = |name: &str| {
        let mut command = Command::new("node");
        command.arg(folder.join(name));
        command
    };
    publish_and_read(command, ["publish-job.js", "read-events.js"]);
}
