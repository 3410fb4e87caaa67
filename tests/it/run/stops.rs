//! A run stopped by SIGINT (Ctrl-C) or SIGTERM finishes the requests in flight, keeps the other rows waiting, and
//! prints the command that resumes it.

use std::time::Duration;

use plu_onboard::sandbox::{SandboxConfig, SandboxControl};

use crate::support::{Partner, TestDir, customers};

const ROWS: u64 = 600;

fn partner(latency_ms: u64) -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(latency_ms), ..SandboxConfig::default() })
}

fn stop_and_resume(signal: &str) {
    let partner = partner(100);
    let dir = TestDir::with("people.csv", customers(0..600));
    let arguments = format!("run people.csv --out out --rate 200 --api-url {}", partner.url());
    let mut running = dir.program(&arguments).start();
    running.wait_until("some users", || partner.stats().model.created >= 50);
    running.signal(signal);
    let stopped = running.expect_exit(1);
    let created = partner.stats().model.created;
    assert!((50..ROWS).contains(&created), "{created}");
    stopped.assert_output(&[
        &format!("with {created} created and {} of {ROWS} rows still waiting", ROWS - created),
        "Nothing is lost; resume with:",
        &format!("plu-onboard {arguments}\n"),
    ]);
    let results = dir.results("out");
    assert_eq!(results.events().len() as u64, created, "requests in flight were not finished");
    assert_eq!(results.tally(), [created, 0, 0, 0, ROWS - created]);
    assert_eq!(results.summary()["isComplete"], false);
    assert_eq!(results.table("created").rows.len() as u64, created);

    dir.program(&arguments).expect_exit(0);
    assert_eq!(results.tally(), [ROWS, 0, 0, 0, 0]);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.requests.create), (ROWS, ROWS), "a row was sent twice");
    assert_eq!(results.events().len() as u64, ROWS);
    assert!(results.table("created").column("verificationUrl").iter().all(|link| !link.is_empty()));
}

#[test]
fn sigint_finishes_requests_in_flight_and_prints_how_to_resume() {
    stop_and_resume("INT");
}

#[test]
fn sigterm_finishes_requests_in_flight_and_prints_how_to_resume() {
    stop_and_resume("TERM");
}

#[test]
fn a_second_signal_exits_at_once_and_no_user_is_created_twice() {
    let partner = partner(3_600_000);
    let dir = TestDir::with("people.csv", customers(0..40));
    let run = || {
        let arguments = format!("run people.csv --out out --rate 0 --concurrency 8 --api-url {}", partner.url());
        dir.program(&arguments).set("worker.shutdown_grace_s", "600")
    };
    let mut running = run().start();
    running.wait_until("eight requests that hang", || partner.stats().model.created == 8);
    running.signal("INT");
    running.wait_for_output("a second signal exits at once");
    running.signal_until_exit("INT", 1);
    assert_eq!(partner.stats().model.created, 8, "a request was sent after the signal");

    partner.control(&SandboxControl { latency_ms: Some(0), ..SandboxControl::default() });
    run().expect_exit(0);
    assert_eq!(partner.stats().model.users, 40);
    let results = dir.results("out");
    assert_eq!(results.tally(), [40, 0, 0, 0, 0]);
    assert_eq!(results.summary()["withoutLink"], 8);
    assert_eq!(results.events().iter().filter(|event| event["recovered"] == true).count(), 8);
}

#[test]
fn requests_cancelled_after_the_shutdown_grace_are_looked_up_later() {
    let partner = partner(3_600_000);
    let dir = TestDir::with("people.csv", customers(0..40));
    let run = || {
        let arguments = format!("run people.csv --out out --rate 0 --concurrency 8 --api-url {}", partner.url());
        dir.program(&arguments).set("worker.shutdown_grace_s", "1")
    };
    let mut running = run().start();
    running.wait_until("eight requests that hang", || partner.stats().model.created == 8);
    running.signal("TERM");
    running.expect_exit(1).assert_output(&["40 of 40 rows still waiting", "8 requests were still in flight"]);
    partner.control(&SandboxControl { latency_ms: Some(0), ..SandboxControl::default() });
    run().expect_exit(0);
    assert_eq!(partner.stats().model.users, 40);
    assert_eq!(dir.results("out").tally(), [40, 0, 0, 0, 0]);
}

#[test]
fn a_run_stopped_during_the_import_sends_nothing_and_can_be_resumed() {
    let partner = partner(0);
    let dir = TestDir::with("people.csv", customers(0..6_000));
    let arguments = format!("run people.csv --out out --rate 0 --api-url {}", partner.url());
    let mut running = dir.program(&arguments).start();
    running.wait_until("the queue exists", || dir.path("out/queue.db").exists());
    running.signal("INT");
    running.expect_exit(1).assert_output(&["while reading the file: nothing has been sent", &arguments]);
    assert_eq!(partner.requests(), 0);
    dir.program(&arguments).expect_exit(0);
    assert_eq!(dir.results("out").tally(), [6_000, 0, 0, 0, 0]);
    assert_eq!(partner.stats().model.created, 6_000);
}
