//! A run that dies, whenever it dies, is started again and goes on: nobody is created twice, nobody is lost, and
//! every event is on file once. That is the promise the whole program is built around.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};
use rusqlite::Connection;

use crate::support::{CustomerFile, Partner, Place, Program, customers, nth};

/// A partner that forgets keys so fast that both protections of a user, key and email, come into play.
fn forgetful() -> SandboxConfig {
    let model = ModelConfig { key_ttl: Duration::from_secs(1), ..ModelConfig::default() };
    SandboxConfig { model, latency: Duration::from_millis(5), ..SandboxConfig::default() }
}

/// `run` of `people.csv` into `out`, with waits that suit a test.
fn run(place: &Place, partner: &Partner, rate: u32) -> Program {
    place
        .program(&format!("run people.csv --out out --rate {rate} --api-url {}", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.page_size", "100")
        .set("worker.backoff_initial_ms", "10")
        .set("worker.backoff_max_s", "1")
}

/// Every row was created once, and the files say so.
fn assert_everybody_once(place: &Place, partner: &Partner, rows: u64) {
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (rows, rows), "{stats:?}");
    let results = place.results("out");
    assert_eq!(results.tally(), [rows, 0, 0, 0, 0]);
    assert_eq!(results.summary()["isComplete"], true);
    let created = results.table("created");
    assert_eq!(created.column("email"), place.table("people.csv").column("email"));
    let ids: BTreeSet<&str> = created.column("serviceId").into_iter().collect();
    assert_eq!((ids.len() as u64, ids.contains("")), (rows, false), "everybody has a user of their own");
    let events = results.events();
    assert_eq!(events.len() as u64, rows);
    let mut without_link = 0;
    for event in events {
        if event.get("verificationUrl").is_none() {
            assert_eq!(event["recovered"], true, "only who was found by looking up has no link: {event}");
            without_link += 1;
        }
    }
    assert_eq!(results.summary()["withoutLink"], without_link);
}

/// Kills a run of 2,000 rows at ten points of its progress and then lets it finish.
fn kill_ten_times(config: SandboxConfig) -> (Place, Partner) {
    let partner = Partner::start(config);
    let place = Place::with("people.csv", customers(0..2_000));
    // The first dies while it reads the file in.
    let mut running = run(&place, &partner, 700).start();
    running.until("the queue exists", || place.path("out/queue.db").exists());
    running.kill();
    for threshold in [1, 150, 350, 550, 750, 950, 1_150, 1_350, 1_550] {
        let mut running = run(&place, &partner, 700).start();
        running.until("enough users", || partner.stats().model.created >= threshold);
        running.kill();
    }
    run(&place, &partner, 700).ends_with(0).said(&["every row is accounted for"]);
    (place, partner)
}

#[test]
fn nobody_is_created_twice_or_lost_when_the_run_is_killed_ten_times() {
    let (place, partner) = kill_ten_times(forgetful());
    assert_everybody_once(&place, &partner, 2_000);
    let stats = partner.stats().model;
    assert!(stats.keys_refused + stats.duplicates_refused > 0, "no kill hit a request on its way: {stats:?}");
}

#[test]
fn nobody_is_created_twice_or_lost_when_answers_are_lost_and_the_run_is_killed_ten_times() {
    let (place, partner) = kill_ten_times(SandboxConfig { lose_every: nth(7), error_every: nth(5), ..forgetful() });
    assert_everybody_once(&place, &partner, 2_000);
    let stats = partner.stats();
    assert!(stats.answers_lost > 200 && stats.answers_failed > 200, "{stats:?}");
}

#[test]
fn a_run_killed_in_its_first_moments_starts_again() {
    let partner = Partner::start(forgetful());
    for round in 0..10 {
        let place = Place::with("people.csv", customers(round * 3..round * 3 + 3));
        // What exists at that moment is the folder alone, or the queue as it is being made.
        let sign = if round % 2 == 0 { "out" } else { "out/queue.db" };
        let mut running = run(&place, &partner, 0).start();
        running.until(sign, || place.path(sign).exists());
        running.kill();
        run(&place, &partner, 0).ends_with(0);
        assert_eq!(place.results("out").tally(), [3, 0, 0, 0, 0]);
    }
    assert_eq!(partner.stats().model.users, 30);
}

#[test]
fn a_finished_run_started_again_does_nothing_and_says_so() {
    for (file, code) in
        [(CustomerFile::default().with(0..5), 0), (CustomerFile::default().with(0..4).with_invalid(4), 3)]
    {
        let partner = Partner::start(forgetful());
        let place = Place::with("people.csv", file.text);
        run(&place, &partner, 0).ends_with(code);
        let (requests, created) = (partner.requests(), place.read("out/created.csv"));
        let events = place.read("out/results.ndjson");
        let again = run(&place, &partner, 0).ends_with(code);
        again.said(&["people.csv is finished already: nothing to do", "of 5: every row is accounted for"]);
        assert_eq!(partner.requests(), requests, "a request was sent");
        assert_eq!(place.read("out/created.csv"), created);
        assert_eq!(place.read("out/results.ndjson"), events);
    }
}

#[test]
fn events_that_a_crash_kept_from_the_file_are_there_after_the_next_start() {
    let partner = Partner::start(forgetful());
    let place = Place::with("people.csv", customers(0..20));
    run(&place, &partner, 0).ends_with(0);
    let events = place.read("out/results.ndjson");
    // As a power cut leaves it: all outcomes are in the queue, the file ends in the middle of the 13th event, what
    // was noted of it is older still, and there is no summary yet.
    fs::remove_file(place.path("out/summary.json")).unwrap();
    let kept: usize = events.lines().take(12).map(|line| line.len() + 1).sum();
    let noted: usize = events.lines().take(8).map(|line| line.len() + 1).sum();
    let file = fs::OpenOptions::new().write(true).open(place.path("out/results.ndjson")).unwrap();
    file.set_len(kept as u64 + 30).unwrap();
    file.write_at(b"\0\0\0", kept as u64 + 27).unwrap();
    let queue = Connection::open(place.path("out/queue.db")).unwrap();
    assert_eq!(queue.execute("UPDATE exports SET finished = 8, bytes = ?1", [noted]).unwrap(), 1);
    drop(queue);

    run(&place, &partner, 0).ends_with(0);
    assert_eq!(place.read("out/results.ndjson"), events);
}

#[test]
fn a_file_that_has_changed_is_refused_and_nothing_is_touched() {
    // As long after the first run as the partner has forgotten its keys.
    let model = ModelConfig { key_ttl: Duration::from_millis(1), ..ModelConfig::default() };
    let partner = Partner::start(SandboxConfig { model, ..SandboxConfig::default() });
    let place = Place::with("people.csv", customers(0..5));
    run(&place, &partner, 0).ends_with(0);
    let (requests, created) = (partner.requests(), place.read("out/created.csv"));
    place.write("people.csv", customers(0..6));
    let refused = run(&place, &partner, 0).ends_with(2);
    refused.said(&["people.csv has changed since the run in out began", "nobody is created twice", "--out out-2"]);
    assert_eq!(partner.requests(), requests);
    assert_eq!(place.read("out/created.csv"), created);

    // What the message advises works: who was there comes out as existing.
    let (_, advised) = refused.stderr.lines().last().unwrap().split_once(" run ").unwrap();
    place.program(&format!("run {advised}")).ends_with(0);
    assert_eq!(place.results("out-2").tally(), [1, 5, 0, 0, 0]);
    place.write("people.csv", customers(0..5));
    run(&place, &partner, 0).ends_with(0).said(&["is finished already"]);
}

#[test]
fn whatever_becomes_of_the_file_during_the_run_each_result_stands_beside_its_row() {
    let partner = Partner::start(forgetful());
    let file = customers(0..400);
    let (header, rows) = file.split_once('\n').unwrap();
    let reversed: Vec<&str> = rows.trim_end().lines().rev().collect();
    let place = Place::with("people.csv", &file);
    let mut running = run(&place, &partner, 100).start();
    running.until("some are created", || partner.stats().model.created >= 20);
    // Sorted the other way round and saved where it lies, which leaves it as long as it was; then gone.
    place.write("people.csv", format!("{header}\n{}\n", reversed.join("\n")));
    running.signal("INT");
    running.ends_with(1);
    let refused = run(&place, &partner, 0).ends_with(2);
    refused.said(&["people.csv has changed since", "out/queue.db.input is a copy of it"]);
    fs::copy(place.path("out/queue.db.input"), place.path("people.csv")).unwrap();
    let mut running = run(&place, &partner, 200).start();
    running.until("more are created", || partner.stats().model.created >= 200);
    fs::remove_file(place.path("people.csv")).unwrap();
    running.ends_with(0).said(&["400 + 0 + 0 + 0 + 0 = 400 of 400: every row is accounted for"]);
    let created = place.table("out/created.csv");
    let order: Vec<String> = (0..400).map(|n| format!("p{n}@example.com")).collect();
    assert_eq!(created.column("email"), order);
    let ids: BTreeMap<String, String> = place
        .results("out")
        .events()
        .iter()
        .map(|event| ["email", "serviceId"].map(|name| event[name].as_str().unwrap().to_owned()))
        .map(|[email, id]| (email, id))
        .collect();
    for (email, id) in created.column("email").iter().zip(created.column("serviceId")) {
        assert_eq!(ids[*email], id, "{email} has somebody else's link");
    }
}

#[test]
fn a_copy_that_somebody_changed_and_an_input_that_would_be_written_over_do_no_harm() {
    let partner = Partner::start(forgetful());
    let place = Place::with("people.csv", customers(0..200));
    let mut running = run(&place, &partner, 100).start();
    running.until("some are created", || partner.stats().model.created >= 20);
    fs::remove_file(place.path("out/queue.db.input")).unwrap();
    place.write("out/queue.db.input", customers(0..200).replace("p7@", "p8@"));
    running.ends_with(0);
    assert_eq!(place.read("out/queue.db.input"), customers(0..200));
    assert_everybody_once(&place, &partner, 200);
    let refused = place.program("run out/created.csv --out out --sandbox").ends_with(2);
    refused.said(&["out/created.csv is a result file of out", "give run a copy of it elsewhere"]);
}

#[test]
fn result_files_that_are_gone_are_told_and_can_be_written_anew() {
    let partner = Partner::start(forgetful());
    let place = Place::with("people.csv", customers(0..30));
    run(&place, &partner, 0).ends_with(0);
    let before = ["created.csv", "results.ndjson"].map(|name| place.read(&format!("out/{name}")));
    for name in ["created.csv", "results.ndjson"] {
        fs::remove_file(place.path(&format!("out/{name}"))).unwrap();
    }
    let told = run(&place, &partner, 0).ends_with(0);
    told.said(&["out has no created.csv, results.ndjson any more", "delete out/summary.json"]);
    fs::remove_file(place.path("out/summary.json")).unwrap();
    run(&place, &partner, 0).ends_with(0);
    assert_eq!(["created.csv", "results.ndjson"].map(|name| place.read(&format!("out/{name}"))), before);
    assert_eq!(partner.stats().model.created, 30);
}

#[test]
fn rows_that_an_unclosed_quotation_mark_swallows_are_not_sent_as_part_of_another() {
    let partner = Partner::start(forgetful());
    // Closed again by that of a later row in the same column, so that the number of cells is right.
    let file =
        customers(0..20).replace(",4 Main Street", ",\"4 Main Street").replace(",6 Main Street", ",\"6 Main Street\"");
    let place = Place::with("people.csv", &file);
    let checked = place.program("check people.csv").ends_with(3);
    checked.said(&["QUOTE_NOT_CLOSED", "line 6: a cell of it goes on over several lines"]);
    run(&place, &partner, 0).ends_with(3);
    assert_eq!((place.results("out").tally(), partner.stats().model.created), ([17, 0, 1, 0, 0], 17));
    let sent = place.read("out/created.csv");
    assert!(!["p4@", "p5@", "p6@"].iter().any(|email| sent.contains(email)), "{sent}");
    // An address on several lines is one.
    let file = customers(0..2).replace(",1 Main Street", ",\"1 Main Street\nApartment 4, Staircase B, c/o Lee\"");
    place.write("people.csv", file);
    place.program("check people.csv").ends_with(0);
}

#[test]
fn a_file_mended_after_an_unclosed_quotation_mark_just_runs() {
    let partner = Partner::start(forgetful());
    let good = customers(0..1_200);
    let place = Place::with("people.csv", good.replace("1150 Main Street", "\"1150 Main Street"));
    run(&place, &partner, 0).ends_with(2).said(&["people.csv line 1152", "quotation mark"]);
    assert_eq!(partner.requests(), 0);
    place.write("people.csv", good);
    run(&place, &partner, 0).ends_with(0);
    assert_everybody_once(&place, &partner, 1_200);
}

#[test]
fn results_of_a_rehearsal_are_not_mixed_with_real_ones() {
    let partner = Partner::start(forgetful());
    let place = Place::with("people.csv", customers(0..5));
    place.program("run people.csv --sandbox --rate 0 --out out").ends_with(0);
    let refused = run(&place, &partner, 0).ends_with(2);
    refused.said(&["jobs of the queue out/queue.db were sent to sandbox", &partner.url(), "--out DIR"]);
    assert_eq!(partner.requests(), 0);
}
