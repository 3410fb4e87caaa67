//! `import` puts rows on the embedded queue, and a `worker` on the same machine consumes it. Files may arrive while the
//! worker runs, either process may be killed, and signups overtake bulk jobs.

use std::fs;
use std::io::Read;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use rusqlite::{Connection, OpenFlags};

use crate::support::{CustomerFile, Partner, Program, RunningProgram, TestDir, customers};

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() })
}

fn worker(dir: &TestDir, partner: &Partner, flags: &str) -> Program {
    dir.program(&format!("worker --queue local:q.db --out out --api-url {} {flags}", partner.url()))
}

fn import(dir: &TestDir, arguments: &str) -> Program {
    dir.program(&format!("import --queue local:q.db {arguments}"))
}

/// Waits until this many events are recorded, then stops the worker with SIGTERM.
fn stop_after(mut worker: RunningProgram, dir: &TestDir, events: usize) {
    worker.wait_until("all events", || dir.results("out").event_lines() == events);
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!(dir.results("out").events().len(), events);
}

#[test]
fn a_worker_whose_standard_error_was_closed_finishes_its_jobs_and_stops() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..20)));
    import(&dir, "people.csv").expect_exit(0);
    let worker = worker(&dir, &partner, "--rate 0").start_with_closed_stderr();
    stop_after(worker, &dir, 20);
}

#[test]
fn an_unread_log_delays_no_job_and_loses_no_line() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..1_000)));
    import(&dir, "people.csv").expect_exit(0);
    let (mut worker, mut unread) = worker(&dir, &partner, "--rate 0").start_with_unread_stderr();
    worker.wait_until("all events", || dir.results("out").event_lines() == 1_000);
    let mut log = String::new();
    worker.signal("TERM");
    unread.read_to_string(&mut log).unwrap();
    worker.expect_exit(0);
    assert_eq!(log.matches("job finished").count(), 1_000);
    assert!(log.ends_with("stopped; every unfinished job is on the queue\n"), "{log}");
}

#[test]
fn files_imported_while_the_worker_runs_are_processed() {
    let partner = partner();
    let dir = TestDir::with("first.csv", customers(0..100));
    dir.write("second.csv", customers(100..150));
    import(&dir, "first.csv").expect_exit(0).assert_output(&["first.csv: 100 rows", "put on q.db: 100"]);
    let mut worker = worker(&dir, &partner, "--rate 0").start();
    worker.wait_until("the first file", || dir.results("out").event_lines() == 100);
    import(&dir, "second.csv").expect_exit(0).assert_output(&["put on q.db: 50"]);
    stop_after(worker, &dir, 150);
    let events = dir.results("out").events();
    assert!(events.iter().all(|event| event["type"] == "user.created" && event["attempts"] == 1));
    let of_second = events.iter().filter(|event| event["source"]["file"] == "second.csv").count();
    assert_eq!(of_second, 50);
    assert_eq!(partner.stats().model.users, 150);
}

#[test]
fn a_row_that_is_on_the_queue_or_finished_is_not_imported_again() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..30));
    import(&dir, "people.csv").expect_exit(0);
    import(&dir, "people.csv").expect_exit(0).assert_output(&["put on q.db: 0", "already on it or finished: 30"]);
    stop_after(worker(&dir, &partner, "--rate 0").start(), &dir, 30);
    // Another file with some of the same rows.
    dir.write("more.csv", customers(20..40));
    import(&dir, "more.csv").expect_exit(0).assert_output(&["put on q.db: 10", "already on it or finished: 10"]);
    import(&dir, "people.csv").expect_exit(0).assert_output(&["put on q.db: 0", "already on it or finished: 30"]);
    stop_after(worker(&dir, &partner, "--rate 0").start(), &dir, 40);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.requests.create), (40, 40), "{stats:?}");
}

#[test]
fn invalid_rows_go_to_a_file_that_can_be_corrected_and_imported() {
    let dir = TestDir::with("people.csv", CustomerFile::default().with(0..3).with_invalid(3).with(4..5).text);
    let output = import(&dir, "people.csv --out rejects").expect_exit(3);
    output.assert_output(&["put on q.db: 4", "rejected, not put on it: 1: see rejects/people-rejected.csv"]);
    let mut rejected = dir.table("rejects/people-rejected.csv");
    assert_eq!(rejected.column("errorField"), ["email"]);
    assert_eq!(rejected.column("email"), ["p3 at example.com"]);
    rejected.set(0, "email", "p3@example.com");
    rejected.write(&dir.path("corrected.csv"));
    import(&dir, "corrected.csv").expect_exit(0).assert_output(&["put on q.db: 1"]);
}

#[test]
fn a_signup_does_not_wait_behind_a_migration() {
    let partner = partner();
    let dir = TestDir::with("migration.csv", customers(0..1_500));
    dir.write("signups.csv", customers(9_000..9_020));
    import(&dir, "migration.csv --lane bulk").expect_exit(0);
    let mut worker = worker(&dir, &partner, "--rate 300 --concurrency 8").start();
    worker.wait_until("the migration is under way", || dir.results("out").event_lines() >= 50);
    import(&dir, "signups.csv --lane signup").expect_exit(0);
    let signups = || dir.read("out/results.ndjson").matches("\"file\":\"signups.csv\"").count();
    worker.wait_until("the signups", || signups() == 20);
    let done = dir.results("out").event_lines();
    assert!(done < 1_000, "the signups came after {done} of 1,500 others");
    worker.signal("TERM");
    worker.expect_exit(0);
}

#[test]
fn a_worker_keeps_running_during_the_import_of_a_large_file() {
    let partner = partner();
    let dir = TestDir::with("first.csv", customers(0..3_000));
    dir.write("large.csv", customers(10_000..70_000));
    import(&dir, "first.csv").expect_exit(0);
    let mut worker = worker(&dir, &partner, "--rate 300").start();
    worker.wait_until("the first user is created", || partner.stats().model.created > 0);
    let mut importing = import(&dir, "large.csv").start();
    // Twice as many as can be in flight, so the worker must have committed meanwhile. They take half a second, and the
    // import takes many times as long.
    let before = partner.stats().model.created;
    importing.wait_until("128 more users are created", || partner.stats().model.created >= before + 128);
    importing.expect_exit(0);
    worker.signal("TERM");
    worker.expect_exit(0);
}

#[test]
fn a_worker_that_could_not_create_its_queue_does_not_log_that_it_did() {
    let dir = TestDir::with("people.csv", customers(0..1));
    let ended = dir.program("worker --sandbox --queue local:nowhere/q.db").expect_exit(1);
    ended.assert_output(&["there is no folder nowhere: create it, or give another path"]);
    assert!(!ended.stderr.contains("made an empty one"), "{}", ended.stderr);
}

#[test]
fn a_second_worker_on_the_queue_is_refused_with_the_process_of_the_first() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..3));
    import(&dir, "people.csv").expect_exit(0);
    let mut first = worker(&dir, &partner, "").start();
    first.wait_for_output("worker started");
    let second = worker(&dir, &partner, "").expect_exit(1);
    second.assert_output(&["q.db is in use by", &format!("process {}", first.pid()), "stop that one first"]);
    stop_after(first, &dir, 3);
}

#[test]
fn an_import_that_was_killed_is_repeated_and_each_row_is_there_once() {
    // Enough rows for several transactions: without a worker, an import commits large batches.
    let dir = TestDir::with("people.csv", customers(0..70_000));
    let mut importing = import(&dir, "people.csv").start();
    let committed = || -> rusqlite::Result<i64> {
        let queue = Connection::open_with_flags(dir.path("q.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        queue.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))
    };
    importing.wait_until("some rows are in", || committed().is_ok_and(|rows| rows > 0));
    importing.kill();
    let output = import(&dir, "people.csv").expect_exit(0).stdout;
    let count = |what: &str| -> u64 {
        let (_, rest) = output.split_once(what).unwrap_or_else(|| panic!("{what}: {output}"));
        rest.lines().next().unwrap().trim().replace(',', "").parse().unwrap()
    };
    let (new, known) = (count("put on q.db:"), count("already on it or finished:"));
    assert_eq!(new + known, 70_000, "{output}");
    assert!(new > 0 && known > 0, "the import was not killed in the middle: {output}");
    import(&dir, "people.csv").expect_exit(0).assert_output(&["put on q.db: 0", "already on it or finished: 70,000"]);
}

#[test]
fn a_worker_that_is_killed_and_started_again_creates_no_user_twice() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..900));
    import(&dir, "people.csv").expect_exit(0);
    for threshold in [100, 300, 500] {
        let mut running = worker(&dir, &partner, "--rate 700").start();
        running.wait_until("enough users", || partner.stats().model.created >= threshold);
        running.kill();
    }
    stop_after(worker(&dir, &partner, "--rate 700").start(), &dir, 900);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (900, 900), "{stats:?}");
    assert!(dir.results("out").events().iter().all(|event| event["type"] == "user.created"));
    assert_eq!(fs::read_dir(dir.path("out")).unwrap().count(), 1, "a crash left another file behind");
}

#[test]
fn after_a_restored_backup_no_event_is_overwritten() {
    let partner = partner();
    let dir = TestDir::with("first.csv", customers(0..20));
    dir.write("second.csv", customers(20..50));
    let start = || worker(&dir, &partner, "--rate 0").start();
    import(&dir, "first.csv").expect_exit(0);
    stop_after(start(), &dir, 20);
    fs::copy(dir.path("q.db"), dir.path("backup.db")).unwrap();
    import(&dir, "second.csv").expect_exit(0);
    stop_after(start(), &dir, 50);
    let before = dir.read("out/results.ndjson");

    fs::copy(dir.path("backup.db"), dir.path("q.db")).unwrap();
    import(&dir, "second.csv").expect_exit(0).assert_output(&["put on q.db: 30"]);
    let mut restored = start();
    restored.wait_for_output("events file moved and a new one started");
    stop_after(restored, &dir, 30);
    assert_eq!(dir.read("out/results.ndjson.aside-1"), before);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (50, 50), "{stats:?}");
    let mut again = start();
    again.wait_for_output("worker started");
    stop_after(again, &dir, 30);
    assert_eq!(fs::read_dir(dir.path("out")).unwrap().count(), 2, "the next start moved a file");
}
