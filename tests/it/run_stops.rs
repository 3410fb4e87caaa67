//! A person who presses Ctrl-C, or a machine that is shut down, must not have to think about what was on its way: it
//! is finished, the rest waits, and the program says how to go on.

use std::time::Duration;

use plu_onboard::sandbox::{Control, SandboxConfig};

use crate::support::{Partner, Place, customers};

const ROWS: u64 = 600;

fn partner(latency_ms: u64) -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(latency_ms), ..SandboxConfig::default() })
}

fn stop_and_resume(signal: &str) {
    let partner = partner(100);
    let place = Place::with("people.csv", customers(0..600));
    let arguments = format!("run people.csv --out out --rate 200 --api-url {}", partner.url());
    let mut running = place.program(&arguments).start();
    running.until("some users", || partner.stats().model.created >= 50);
    running.signal(signal);
    let stopped = running.ends_with(1);
    let created = partner.stats().model.created;
    assert!((50..ROWS).contains(&created), "{created}");
    stopped.said(&[
        &format!("with {created} created and {} of {ROWS} rows still waiting", ROWS - created),
        "Nothing is lost; go on with:",
        &format!("plu-onboard {arguments}\n"),
    ]);
    let results = place.results("out");
    assert_eq!(results.events().len() as u64, created, "what was in flight is finished");
    assert_eq!(results.tally(), [created, 0, 0, 0, ROWS - created]);
    assert_eq!(results.summary()["isComplete"], false);
    assert_eq!(results.table("created").rows.len() as u64, created);

    place.program(&arguments).ends_with(0);
    assert_eq!(results.tally(), [ROWS, 0, 0, 0, 0]);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.requests.create), (ROWS, ROWS), "somebody was sent twice");
    assert_eq!(results.events().len() as u64, ROWS);
    assert!(results.table("created").column("verificationUrl").iter().all(|link| !link.is_empty()));
}

#[test]
fn ctrl_c_finishes_what_is_on_its_way_and_says_how_to_go_on() {
    stop_and_resume("INT");
}

#[test]
fn a_shutdown_of_the_machine_does_the_same_as_ctrl_c() {
    stop_and_resume("TERM");
}

#[test]
fn a_second_signal_ends_at_once_while_requests_hang_and_nobody_is_created_twice() {
    let partner = partner(3_600_000);
    let place = Place::with("people.csv", customers(0..40));
    let run = || {
        let arguments = format!("run people.csv --out out --rate 0 --concurrency 8 --api-url {}", partner.url());
        place.program(&arguments).set("worker.shutdown_grace_s", "600")
    };
    let mut running = run().start();
    running.until("requests that hang", || partner.stats().model.created == 8);
    running.signal("INT");
    running.says("once more ends at once");
    running.signal_until_it_ends("INT", 1);
    assert_eq!(partner.stats().model.created, 8, "a request left after the signal");

    partner.control(&Control { latency_ms: Some(0), ..Control::default() });
    run().ends_with(0);
    assert_eq!(partner.stats().model.users, 40);
    let results = place.results("out");
    assert_eq!(results.tally(), [40, 0, 0, 0, 0]);
    assert_eq!(results.summary()["withoutLink"], 8);
    assert_eq!(results.events().iter().filter(|event| event["recovered"] == true).count(), 8);
}

#[test]
fn requests_that_outlast_the_grace_are_cut_off_and_looked_up_by_the_next_run() {
    let partner = partner(3_600_000);
    let place = Place::with("people.csv", customers(0..40));
    let run = || {
        let arguments = format!("run people.csv --out out --rate 0 --concurrency 8 --api-url {}", partner.url());
        place.program(&arguments).set("worker.shutdown_grace_s", "1")
    };
    let mut running = run().start();
    running.until("requests that hang", || partner.stats().model.created == 8);
    running.signal("TERM");
    running.ends_with(1).said(&["40 of 40 rows still waiting", "8 requests were still on their way"]);
    partner.control(&Control { latency_ms: Some(0), ..Control::default() });
    run().ends_with(0);
    assert_eq!(partner.stats().model.users, 40);
    assert_eq!(place.results("out").tally(), [40, 0, 0, 0, 0]);
}

#[test]
fn a_signal_while_the_file_is_read_in_sends_nothing_and_the_next_start_goes_on() {
    let partner = partner(0);
    let place = Place::with("people.csv", customers(0..6_000));
    let arguments = format!("run people.csv --out out --rate 0 --api-url {}", partner.url());
    let mut running = place.program(&arguments).start();
    running.until("the queue exists", || place.path("out/queue.db").exists());
    running.signal("INT");
    running.ends_with(1).said(&["while reading the file: nothing has been sent", &arguments]);
    assert_eq!(partner.requests(), 0);
    place.program(&arguments).ends_with(0);
    assert_eq!(place.results("out").tally(), [6_000, 0, 0, 0, 0]);
    assert_eq!(partner.stats().model.created, 6_000);
}
