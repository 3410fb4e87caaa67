//! Commits hang, here because another process has locked the queue: nothing more is sent, and the answers wait. If the
//! process ends before they can be committed, they are in the emergency file, which the next worker reads.

use std::fs;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use rusqlite::Connection;

use crate::support::{Partner, Program, RunningProgram, SmallDisk, TestDir, customers};

const JOBS: u32 = 600;

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(50), ..SandboxConfig::default() })
}

/// A worker whose folder for temporary files is on another disk than its queue.
fn worker(dir: &TestDir, partner: &Partner) -> Program {
    let arguments = "worker --queue local:disk/q.db --out disk/out --rate 0 --concurrency 8";
    dir.program(&format!("{arguments} --api-url {}", partner.url()))
        .set("worker.window", "64")
        .set("worker.shutdown_grace_s", "1")
        .env("TMPDIR", dir.path("tmp").to_str().unwrap())
}

/// Locks the queue while a worker runs, and waits until its answers are copied.
fn lock_during_work(dir: &TestDir, partner: &Partner) -> (RunningProgram, Connection) {
    fs::create_dir(dir.path("tmp")).unwrap();
    dir.program("import people.csv --queue local:disk/q.db").expect_exit(0);
    let mut running = worker(dir, partner).start();
    running.wait_until("users", || partner.stats().model.created > 100);
    let lock = Connection::open(dir.path("disk/q.db")).unwrap();
    lock.busy_timeout(Duration::from_secs(60)).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    running.wait_for_output("the queue's disk hasn't answered for 2 s, or another process has locked the queue");
    running.wait_for_output("were copied to a file");
    let users = partner.stats().model.created;
    assert!(users < u64::from(JOBS) / 2, "{users}");
    assert_eq!(fs::read_dir(dir.path("tmp")).unwrap().count(), 1);
    (running, lock)
}

/// Starts a worker again, and checks that every job has an event with a link.
fn finish(dir: &TestDir, partner: &Partner) {
    let mut running = worker(dir, partner).start();
    running.wait_for_output("outcomes that an earlier process could not write to the queue were read from a file");
    running.wait_until("all events", || dir.results("disk/out").event_lines() == JOBS as usize);
    running.signal("TERM");
    running.expect_exit(0);
    assert_every_link(dir);
}

fn assert_every_link(dir: &TestDir) {
    let events = dir.results("disk/out").events();
    assert_eq!(events.len(), JOBS as usize);
    assert!(events.iter().all(|event| event["verificationUrl"].is_string()));
    assert_eq!(fs::read_dir(dir.path("tmp")).unwrap().count(), 0, "the emergency file is deleted");
}

#[test]
fn answers_wait_until_a_commit_that_hangs_ends() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let _disk = SmallDisk::mount(dir.path("disk"), 48);
    let (mut running, lock) = lock_during_work(&dir, &partner);
    drop(lock);
    running.wait_for_output("outcomes can be written again");
    running.wait_until("all events", || dir.results("disk/out").event_lines() == JOBS as usize);
    running.signal("TERM");
    running.expect_exit(0);
    assert_every_link(&dir);
}

#[test]
fn a_worker_that_is_stopped_meanwhile_says_where_its_answers_are() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let _disk = SmallDisk::mount(dir.path("disk"), 48);
    let (running, lock) = lock_during_work(&dir, &partner);
    running.signal("TERM");
    let said = running.expect_exit(1);
    said.assert_output(&["outcomes could not be written to the queue", "no link is lost", "serviceIds: "]);
    said.assert_no_output(&["@example.com", "https://"]);
    drop(lock);
    finish(&dir, &partner);
}

#[test]
fn a_worker_that_is_killed_meanwhile_loses_no_link() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let _disk = SmallDisk::mount(dir.path("disk"), 48);
    let (running, lock) = lock_during_work(&dir, &partner);
    running.kill();
    drop(lock);
    let file = fs::read_dir(dir.path("tmp")).unwrap().next().unwrap().unwrap().path();
    let content = fs::read(&file).unwrap();
    finish(&dir, &partner);
    // A file that no worker has read is neither left nor deleted in silence.
    fs::write(&file, content).unwrap();
    let purge = || {
        let purge = dir.program("purge --queue local:disk/q.db --out disk/out --yes");
        purge.env("TMPDIR", dir.path("tmp").to_str().unwrap())
    };
    purge().expect_exit(1).assert_output(&["could not be written to the queue: start the worker once"]);
    purge().with("--force").expect_exit(0);
    assert!(!file.exists());
}
