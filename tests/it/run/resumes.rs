//! A run that was killed at any moment resumes when it is started again: no user is created twice, no row is lost, and
//! each event is recorded once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};
use rusqlite::Connection;

use crate::support::{CustomerFile, Partner, Program, TestDir, customers, nth};

/// A partner whose keys expire so soon that duplicates are refused by the key and, later, by the email.
fn short_key_ttl() -> SandboxConfig {
    let model = ModelConfig { key_ttl: Duration::from_secs(1), ..ModelConfig::default() };
    SandboxConfig { model, latency: Duration::from_millis(5), ..SandboxConfig::default() }
}

/// Returns a `run` of `people.csv` into `out` with short delays.
fn run(dir: &TestDir, partner: &Partner, rate: u32) -> Program {
    dir.program(&format!("run people.csv --out out --rate {rate} --api-url {}", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("worker.backoff_initial_ms", "10")
        .set("worker.backoff_max_s", "1")
}

/// Checks that every row was created once, at the partner and in the result files.
fn assert_each_created_once(dir: &TestDir, partner: &Partner, rows: u64) {
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (rows, rows), "{stats:?}");
    let results = dir.results("out");
    assert_eq!(results.tally(), [rows, 0, 0, 0, 0]);
    assert_eq!(results.summary()["isComplete"], true);
    let created = results.table("created");
    assert_eq!(created.column("email"), dir.table("people.csv").column("email"));
    let ids: BTreeSet<&str> = created.column("serviceId").into_iter().collect();
    assert_eq!((ids.len() as u64, ids.contains("")), (rows, false), "rows share a user, or have none");
    let events = results.events();
    assert_eq!(events.len() as u64, rows);
    let mut without_link = 0;
    for event in events {
        if event.get("verificationUrl").is_none() {
            assert_eq!(event["recovered"], true, "only a recovered user has no link: {event}");
            without_link += 1;
        }
    }
    assert_eq!(results.summary()["withoutLink"], without_link);
}

/// Kills a run of 2,000 rows at ten points of its progress, then lets it finish.
fn kill_ten_times(config: SandboxConfig) -> (TestDir, Partner) {
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", customers(0..2_000));
    // The first run is killed during the import.
    let mut running = run(&dir, &partner, 700).start();
    running.wait_until("the queue exists", || dir.path("out/queue.db").exists());
    running.kill();
    for threshold in [1, 150, 350, 550, 750, 950, 1_150, 1_350, 1_550] {
        let mut running = run(&dir, &partner, 700).start();
        running.wait_until("enough users", || partner.stats().model.created >= threshold);
        running.kill();
    }
    run(&dir, &partner, 700).expect_exit(0).assert_output(&["every row is accounted for"]);
    (dir, partner)
}

#[test]
fn no_user_is_created_twice_or_lost_when_a_run_is_killed_ten_times() {
    let (dir, partner) = kill_ten_times(short_key_ttl());
    assert_each_created_once(&dir, &partner, 2_000);
    let stats = partner.stats().model;
    assert!(stats.keys_refused + stats.duplicates_refused > 0, "no kill hit a request in flight: {stats:?}");
}

#[test]
fn no_user_is_created_twice_or_lost_with_lost_answers_and_ten_kills() {
    let (dir, partner) = kill_ten_times(SandboxConfig { lose_every: nth(7), error_every: nth(5), ..short_key_ttl() });
    assert_each_created_once(&dir, &partner, 2_000);
    let stats = partner.stats();
    assert!(stats.answers_lost > 200 && stats.answers_failed > 200, "{stats:?}");
}

#[test]
fn each_of_20_kills_costs_the_links_in_flight_and_those_being_committed() {
    const KILLS: u64 = 20;
    const CONCURRENCY: u64 = 8;
    let partner = Partner::start(SandboxConfig { latency: Duration::from_millis(40), ..short_key_ttl() });
    let dir = TestDir::with("people.csv", customers(0..2_000));
    let run = || run(&dir, &partner, 0).set("worker.concurrency", &CONCURRENCY.to_string());
    for kill in 1..=KILLS {
        let mut running = run().start();
        running.wait_until("enough users", || partner.stats().model.created >= kill * 90);
        running.kill();
    }
    run().expect_exit(0);
    assert_each_created_once(&dir, &partner, 2_000);
    let lost = dir.results("out").summary()["withoutLink"].as_u64().unwrap();
    // An answer makes room for the next request before its outcome is committed.
    assert!((1..=2 * KILLS * CONCURRENCY).contains(&lost), "{lost}");
}

#[test]
fn a_run_killed_during_its_start_can_be_started_again() {
    let partner = Partner::start(short_key_ttl());
    for round in 0..10 {
        let dir = TestDir::with("people.csv", customers(round * 3..round * 3 + 3));
        // At that moment only the folder exists, or the queue is being created.
        let sign = if round % 2 == 0 { "out" } else { "out/queue.db" };
        let mut running = run(&dir, &partner, 0).start();
        running.wait_until(sign, || dir.path(sign).exists());
        running.kill();
        run(&dir, &partner, 0).expect_exit(0);
        assert_eq!(dir.results("out").tally(), [3, 0, 0, 0, 0]);
    }
    assert_eq!(partner.stats().model.users, 30);
}

#[test]
fn a_finished_run_started_again_does_nothing_and_reports_it() {
    for (file, code) in
        [(CustomerFile::default().with(0..5), 0), (CustomerFile::default().with(0..4).with_invalid(4), 3)]
    {
        let partner = Partner::start(short_key_ttl());
        let dir = TestDir::with("people.csv", file.text);
        run(&dir, &partner, 0).expect_exit(code);
        let (requests, created) = (partner.requests(), dir.read("out/created.csv"));
        let events = dir.read("out/results.ndjson");
        let again = run(&dir, &partner, 0).expect_exit(code);
        again.assert_output(&["people.csv is finished already: nothing to do", "of 5: every row is accounted for"]);
        assert_eq!(partner.requests(), requests, "a request was sent");
        assert_eq!(dir.read("out/created.csv"), created);
        assert_eq!(dir.read("out/results.ndjson"), events);
    }
}

#[test]
fn events_missing_in_the_file_after_a_crash_are_written_by_the_next_run() {
    let partner = Partner::start(short_key_ttl());
    let dir = TestDir::with("people.csv", customers(0..20));
    run(&dir, &partner, 0).expect_exit(0);
    let events = dir.read("out/results.ndjson");
    // The state after a power failure: the queue holds all outcomes, the file ends within the 13th event, the recorded
    // position is that of the eighth, and there is no summary.
    fs::remove_file(dir.path("out/summary.json")).unwrap();
    let kept: usize = events.lines().take(12).map(|line| line.len() + 1).sum();
    let recorded: usize = events.lines().take(8).map(|line| line.len() + 1).sum();
    let file = fs::OpenOptions::new().write(true).open(dir.path("out/results.ndjson")).unwrap();
    file.set_len(kept as u64 + 30).unwrap();
    file.write_at(b"\0\0\0", kept as u64 + 27).unwrap();
    let queue = Connection::open(dir.path("out/queue.db")).unwrap();
    assert_eq!(queue.execute("UPDATE exports SET finished = 8, bytes = ?1", [recorded]).unwrap(), 1);
    drop(queue);

    run(&dir, &partner, 0).expect_exit(0);
    assert_eq!(dir.read("out/results.ndjson"), events);
}

#[test]
fn a_changed_input_file_is_refused_and_the_results_stay() {
    // Keys expire at once, so that the second run gets DUP_USER.
    let model = ModelConfig { key_ttl: Duration::from_millis(1), ..ModelConfig::default() };
    let partner = Partner::start(SandboxConfig { model, ..SandboxConfig::default() });
    let dir = TestDir::with("people.csv", customers(0..5));
    run(&dir, &partner, 0).expect_exit(0);
    let (requests, created) = (partner.requests(), dir.read("out/created.csv"));
    dir.write("people.csv", customers(0..6));
    let refused = run(&dir, &partner, 0).expect_exit(2);
    refused.assert_output(&[
        "people.csv has changed since the run in out began",
        "creates no user twice",
        "--out out-2",
    ]);
    assert_eq!(partner.requests(), requests);
    assert_eq!(dir.read("out/created.csv"), created);

    // The command of the message works: users of the first run have the outcome `existing`.
    let (_, advised) = refused.stderr.lines().last().unwrap().split_once(" run ").unwrap();
    dir.program(&format!("run {advised}")).expect_exit(0);
    assert_eq!(dir.results("out-2").tally(), [1, 5, 0, 0, 0]);
    dir.write("people.csv", customers(0..5));
    run(&dir, &partner, 0).expect_exit(0).assert_output(&["is finished already"]);
}

#[test]
fn results_match_their_rows_when_the_input_changes_during_a_run() {
    let partner = Partner::start(short_key_ttl());
    let file = customers(0..400);
    let (header, rows) = file.split_once('\n').unwrap();
    let reversed: Vec<&str> = rows.trim_end().lines().rev().collect();
    let dir = TestDir::with("people.csv", &file);
    let mut running = run(&dir, &partner, 100).start();
    running.wait_until("some users", || partner.stats().model.created >= 20);
    // First the file is sorted in reverse, which keeps its length. Later it is deleted.
    dir.write("people.csv", format!("{header}\n{}\n", reversed.join("\n")));
    running.signal("INT");
    running.expect_exit(1);
    let refused = run(&dir, &partner, 0).expect_exit(2);
    refused.assert_output(&["people.csv has changed since", "out/queue.db.input is a copy of it"]);
    fs::copy(dir.path("out/queue.db.input"), dir.path("people.csv")).unwrap();
    let mut running = run(&dir, &partner, 200).start();
    running.wait_until("more users", || partner.stats().model.created >= 200);
    fs::remove_file(dir.path("people.csv")).unwrap();
    running.expect_exit(0).assert_output(&["400 + 0 + 0 + 0 + 0 = 400 of 400: every row is accounted for"]);
    let created = dir.table("out/created.csv");
    let order: Vec<String> = (0..400).map(|n| format!("p{n}@example.com")).collect();
    assert_eq!(created.column("email"), order);
    let ids: BTreeMap<String, String> = dir
        .results("out")
        .events()
        .iter()
        .map(|event| ["email", "serviceId"].map(|name| event[name].as_str().unwrap().to_owned()))
        .map(|[email, id]| (email, id))
        .collect();
    for (email, id) in created.column("email").iter().zip(created.column("serviceId")) {
        assert_eq!(ids[*email], id, "{email} has the user of another row");
    }
}

#[test]
fn a_changed_copy_of_the_input_is_restored_and_a_result_file_is_no_input() {
    let partner = Partner::start(short_key_ttl());
    let dir = TestDir::with("people.csv", customers(0..200));
    let mut running = run(&dir, &partner, 100).start();
    running.wait_until("some users", || partner.stats().model.created >= 20);
    fs::remove_file(dir.path("out/queue.db.input")).unwrap();
    dir.write("out/queue.db.input", customers(0..200).replace("p7@", "p8@"));
    running.expect_exit(0);
    assert_eq!(dir.read("out/queue.db.input"), customers(0..200));
    assert_each_created_once(&dir, &partner, 200);
    let refused = dir.program("run out/created.csv --out out --sandbox").expect_exit(2);
    refused.assert_output(&["out/created.csv is a result file of out", "copy it to another folder first"]);
}

#[test]
fn missing_result_files_are_named_and_can_be_written_again() {
    let partner = Partner::start(short_key_ttl());
    let dir = TestDir::with("people.csv", customers(0..30));
    run(&dir, &partner, 0).expect_exit(0);
    let before = ["created.csv", "results.ndjson"].map(|name| dir.read(&format!("out/{name}")));
    for name in ["created.csv", "results.ndjson"] {
        fs::remove_file(dir.path(&format!("out/{name}"))).unwrap();
    }
    let repeated = run(&dir, &partner, 0).expect_exit(0);
    repeated.assert_output(&["out has no created.csv, results.ndjson any more", "delete out/summary.json"]);
    fs::remove_file(dir.path("out/summary.json")).unwrap();
    run(&dir, &partner, 0).expect_exit(0);
    assert_eq!(["created.csv", "results.ndjson"].map(|name| dir.read(&format!("out/{name}"))), before);
    assert_eq!(partner.stats().model.created, 30);
}

#[test]
fn rows_swallowed_by_an_unclosed_quotation_mark_are_not_sent() {
    let partner = Partner::start(short_key_ttl());
    // A quotation mark of a later row in the same column closes the cell, so the number of cells is right.
    let file =
        customers(0..20).replace(",4 Main Street", ",\"4 Main Street").replace(",6 Main Street", ",\"6 Main Street\"");
    let dir = TestDir::with("people.csv", &file);
    let checked = dir.program("check people.csv").expect_exit(3);
    checked.assert_output(&["QUOTE_NOT_CLOSED", "line 6: has a cell that spans several lines"]);
    run(&dir, &partner, 0).expect_exit(3);
    assert_eq!((dir.results("out").tally(), partner.stats().model.created), ([17, 0, 1, 0, 0], 17));
    let sent = dir.read("out/created.csv");
    assert!(!["p4@", "p5@", "p6@"].iter().any(|email| sent.contains(email)), "{sent}");
    // A cell with several lines is fine if it is an address.
    let file = customers(0..2).replace(",1 Main Street", ",\"1 Main Street\nApartment 4, Staircase B, c/o Lee\"");
    dir.write("people.csv", file);
    dir.program("check people.csv").expect_exit(0);
}

#[test]
fn a_file_corrected_after_an_unclosed_quotation_mark_can_be_run() {
    let partner = Partner::start(short_key_ttl());
    let good = customers(0..1_200);
    let dir = TestDir::with("people.csv", good.replace("1150 Main Street", "\"1150 Main Street"));
    run(&dir, &partner, 0).expect_exit(2).assert_output(&["people.csv line 1152", "quotation mark"]);
    assert_eq!(partner.requests(), 0);
    dir.write("people.csv", good);
    run(&dir, &partner, 0).expect_exit(0);
    assert_each_created_once(&dir, &partner, 1_200);
}

#[test]
fn results_of_a_sandbox_run_are_not_mixed_with_real_ones() {
    let partner = Partner::start(short_key_ttl());
    let dir = TestDir::with("people.csv", customers(0..5));
    dir.program("run people.csv --sandbox --rate 0 --out out").expect_exit(0);
    let refused = run(&dir, &partner, 0).expect_exit(2);
    refused.assert_output(&["jobs of the queue out/queue.db were sent to sandbox", &partner.url(), "--out DIR"]);
    assert_eq!(partner.requests(), 0);
}
