//! The two halves of a service on one machine: `import` puts files on a queue, `worker` works on it for as long as the
//! machine runs. Files come while it works, either half may die, and people who sign up go first.

use std::fs;
use std::io::Read;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use rusqlite::{Connection, OpenFlags};

use crate::support::{CustomerFile, Partner, Place, Program, Running, customers};

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() })
}

fn worker(place: &Place, partner: &Partner, flags: &str) -> Program {
    place.program(&format!("worker --queue local:q.db --out out --api-url {} {flags}", partner.url()))
}

fn import(place: &Place, arguments: &str) -> Program {
    place.program(&format!("import --queue local:q.db {arguments}"))
}

/// Waits for so many events and ends the worker as a service manager does.
fn stop_after(mut worker: Running, place: &Place, events: usize) {
    worker.until("all events", || place.results("out").lines_so_far() == events);
    worker.signal("TERM");
    worker.ends_with(0);
    assert_eq!(place.results("out").events().len(), events);
}

#[test]
fn a_worker_whose_log_nobody_reads_any_more_works_on_and_stops_when_it_is_told_to() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..20)));
    import(&place, "people.csv").ends_with(0);
    let worker = worker(&place, &partner, "--rate 0").start_unheard();
    stop_after(worker, &place, 20);
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_job_and_is_there_when_somebody_does() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..1_000)));
    import(&place, "people.csv").ends_with(0);
    let (mut worker, mut unread) = worker(&place, &partner, "--rate 0").start_unread();
    worker.until("all events", || place.results("out").lines_so_far() == 1_000);
    let mut log = String::new();
    worker.signal("TERM");
    unread.read_to_string(&mut log).unwrap();
    worker.ends_with(0);
    assert_eq!(log.matches("job finished").count(), 1_000);
    assert!(log.ends_with("stopped; everything else is on the queue\n"), "{log}");
}

#[test]
fn everybody_on_the_queue_is_created_and_files_that_come_later_are_picked_up() {
    let partner = partner();
    let place = Place::with("first.csv", customers(0..100));
    place.write("second.csv", customers(100..150));
    import(&place, "first.csv").ends_with(0).said(&["first.csv: 100 rows", "put on q.db: 100"]);
    let mut worker = worker(&place, &partner, "--rate 0").start();
    worker.until("the first file", || place.results("out").lines_so_far() == 100);
    import(&place, "second.csv").ends_with(0).said(&["put on q.db: 50"]);
    stop_after(worker, &place, 150);
    let events = place.results("out").events();
    assert!(events.iter().all(|event| event["type"] == "user.created" && event["attempts"] == 1));
    let of_second = events.iter().filter(|event| event["source"]["file"] == "second.csv").count();
    assert_eq!(of_second, 50);
    assert_eq!(partner.stats().model.users, 150);
}

#[test]
fn what_is_on_the_queue_or_was_worked_off_is_not_put_on_it_again() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..30));
    import(&place, "people.csv").ends_with(0);
    import(&place, "people.csv").ends_with(0).said(&["put on q.db: 0", "on it from before: 30"]);
    stop_after(worker(&place, &partner, "--rate 0").start(), &place, 30);
    // Another file with some of the same people.
    place.write("more.csv", customers(20..40));
    import(&place, "more.csv").ends_with(0).said(&["put on q.db: 10", "on it from before: 10"]);
    import(&place, "people.csv").ends_with(0).said(&["put on q.db: 0", "on it from before: 30"]);
    stop_after(worker(&place, &partner, "--rate 0").start(), &place, 40);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.requests.create), (40, 40), "{stats:?}");
}

#[test]
fn rows_that_cannot_be_sent_go_to_a_file_that_can_be_mended_and_imported() {
    let place = Place::with("people.csv", CustomerFile::default().with(0..3).with_invalid(3).with(4..5).text);
    let said = import(&place, "people.csv --out rejects").ends_with(3);
    said.said(&["put on q.db: 4", "rejected, not put on it: 1: see rejects/people-rejected.csv"]);
    let mut rejected = place.table("rejects/people-rejected.csv");
    assert_eq!(rejected.column("errorField"), ["email"]);
    assert_eq!(rejected.column("email"), ["p3 at example.com"]);
    rejected.set(0, "email", "p3@example.com");
    rejected.write(&place.path("mended.csv"));
    import(&place, "mended.csv").ends_with(0).said(&["put on q.db: 1"]);
}

#[test]
fn somebody_who_signs_up_does_not_wait_behind_a_migration() {
    let partner = partner();
    let place = Place::with("migration.csv", customers(0..1_500));
    place.write("signups.csv", customers(9_000..9_020));
    import(&place, "migration.csv --lane bulk").ends_with(0);
    let mut worker = worker(&place, &partner, "--rate 300 --concurrency 8").start();
    worker.until("the migration is under way", || place.results("out").lines_so_far() >= 50);
    import(&place, "signups.csv --lane signup").ends_with(0);
    let signups = || place.read("out/results.ndjson").matches("\"file\":\"signups.csv\"").count();
    worker.until("the signups", || signups() == 20);
    let done = place.results("out").lines_so_far();
    assert!(done < 1_000, "the signups came after {done} of 1,500 others");
    worker.signal("TERM");
    worker.ends_with(0);
}

#[test]
fn a_worker_goes_on_while_a_large_file_comes_in() {
    let partner = partner();
    let place = Place::with("first.csv", customers(0..3_000));
    place.write("large.csv", customers(10_000..70_000));
    import(&place, "first.csv").ends_with(0);
    let mut worker = worker(&place, &partner, "--rate 300").start();
    worker.until("it works", || partner.stats().model.created > 0);
    let mut importing = import(&place, "large.csv").start();
    // Twice as many as could be on their way, so the worker must have committed in between; half a second's worth,
    // while the import takes many times that.
    let before = partner.stats().model.created;
    importing.until("the worker goes on", || partner.stats().model.created >= before + 128);
    importing.ends_with(0);
    worker.signal("TERM");
    worker.ends_with(0);
}

#[test]
fn a_worker_does_not_claim_to_have_made_a_queue_that_it_could_not_make() {
    let place = Place::with("people.csv", customers(0..1));
    let ended = place.program("worker --sandbox --queue local:nowhere/q.db").ends_with(1);
    ended.said(&["there is no folder nowhere: make it, or give another path"]);
    assert!(!ended.stderr.contains("made an empty one"), "{}", ended.stderr);
}

#[test]
fn a_second_worker_on_the_queue_is_told_who_the_first_is() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..3));
    import(&place, "people.csv").ends_with(0);
    let mut first = worker(&place, &partner, "").start();
    first.says("working until told to stop");
    let second = worker(&place, &partner, "").ends_with(1);
    second.said(&["q.db is being worked on by", &format!("process {}", first.pid()), "stop that one first"]);
    stop_after(first, &place, 3);
}

#[test]
fn an_import_that_is_killed_is_started_again_and_every_row_is_there_once() {
    // Several transactions of an import that is alone.
    let place = Place::with("people.csv", customers(0..70_000));
    let mut importing = import(&place, "people.csv").start();
    let committed = || -> rusqlite::Result<i64> {
        let queue = Connection::open_with_flags(place.path("q.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        queue.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))
    };
    importing.until("some rows are in", || committed().is_ok_and(|rows| rows > 0));
    importing.kill();
    let said = import(&place, "people.csv").ends_with(0).stdout;
    let count = |what: &str| -> u64 {
        let (_, rest) = said.split_once(what).unwrap_or_else(|| panic!("{what}: {said}"));
        rest.lines().next().unwrap().trim().replace(',', "").parse().unwrap()
    };
    let (new, known) = (count("put on q.db:"), count("on it from before:"));
    assert_eq!(new + known, 70_000, "{said}");
    assert!(new > 0 && known > 0, "it was not killed in the middle: {said}");
    import(&place, "people.csv").ends_with(0).said(&["put on q.db: 0", "on it from before: 70,000"]);
}

#[test]
fn a_worker_that_is_killed_and_started_again_creates_nobody_twice() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..900));
    import(&place, "people.csv").ends_with(0);
    for threshold in [100, 300, 500] {
        let mut running = worker(&place, &partner, "--rate 700").start();
        running.until("enough users", || partner.stats().model.created >= threshold);
        running.kill();
    }
    stop_after(worker(&place, &partner, "--rate 700").start(), &place, 900);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (900, 900), "{stats:?}");
    assert!(place.results("out").events().iter().all(|event| event["type"] == "user.created"));
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1, "a crash leaves no other file behind");
}

#[test]
fn after_a_restored_backup_no_event_is_written_over() {
    let partner = partner();
    let place = Place::with("first.csv", customers(0..20));
    place.write("second.csv", customers(20..50));
    let start = || worker(&place, &partner, "--rate 0").start();
    import(&place, "first.csv").ends_with(0);
    stop_after(start(), &place, 20);
    fs::copy(place.path("q.db"), place.path("backup.db")).unwrap();
    import(&place, "second.csv").ends_with(0);
    stop_after(start(), &place, 50);
    let before = place.read("out/results.ndjson");

    fs::copy(place.path("backup.db"), place.path("q.db")).unwrap();
    import(&place, "second.csv").ends_with(0).said(&["put on q.db: 30"]);
    let mut restored = start();
    restored.says("set aside, a new file is begun");
    stop_after(restored, &place, 30);
    assert_eq!(place.read("out/results.ndjson.aside-1"), before);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (50, 50), "{stats:?}");
    let mut again = start();
    again.says("working until told to stop");
    stop_after(again, &place, 30);
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 2, "the next start has nothing to set aside");
}
