//! The disk becomes full: nothing more is sent, the answers in flight are written into the room that is kept for them,
//! and the work resumes when there is space again. No link is lost, also if the process is killed meanwhile.

use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use serde_json::Value;

use crate::support::{Partner, Program, RunningProgram, SmallDisk, TestDir, customers, get};

/// Enough to use up the write-ahead log behind the room that is kept: then a full disk is noticed.
const JOBS: u32 = 2_000;

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: Duration::from_millis(50), ..SandboxConfig::default() })
}

/// Returns the events of a folder, each of which must have a link.
fn events_with_links(dir: &TestDir, folder: &str, count: usize) {
    let events: Vec<Value> = dir.results(folder).events();
    assert_eq!(events.len(), count);
    let without: Vec<&Value> = events.iter().filter(|event| !event["verificationUrl"].is_string()).collect();
    assert!(without.is_empty(), "{} without a link, such as {}", without.len(), without[0]);
}

/// Waits until `/readyz` says that outcomes can't be written.
fn until_unwritable(running: &mut RunningProgram) {
    running.wait_for_output("outcomes can't be written");
    let address = running.status_page_address();
    running.wait_until("/readyz answers blocked", || {
        let reply = get(&address, "/readyz");
        reply.status == 503 && reply.json()["state"] == "blocked" && reply.json()["reason"] == "queue_unwritable"
    });
    let metrics = get(&address, "/metrics").body;
    assert!(metrics.contains("\nplu_onboard_queue_unwritable 1\n"), "{metrics}");
}

#[test]
fn a_run_waits_for_space_on_a_full_disk_and_completes() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let disk = SmallDisk::mount(dir.path("disk"), 48);
    let command = format!("run people.csv --out disk/out --rate 0 --listen 0 --api-url {}", partner.url());
    let mut running = dir.program(&command).start();
    running.wait_until("users", || partner.stats().model.created > 100);
    disk.fill();
    until_unwritable(&mut running);
    assert!(partner.stats().model.created < u64::from(JOBS));
    disk.free();
    running.wait_for_output("outcomes can be written again");
    running.expect_exit(0);
    let results = dir.results("disk/out");
    assert_eq!(results.tally(), [u64::from(JOBS), 0, 0, 0, 0]);
    assert!(results.table("created").column("verificationUrl").iter().all(|link| link.starts_with("https://")));
    events_with_links(&dir, "disk/out", JOBS as usize);
}

/// Imports jobs onto a queue on the disk. The events file is on another disk, so that the queue is what fails.
fn queue_on(dir: &TestDir) {
    dir.program("import people.csv --queue local:disk/q.db").expect_exit(0);
}

fn worker(dir: &TestDir, partner: &Partner) -> Program {
    dir.program(&format!(
        "worker --queue local:disk/q.db --out out --rate 0 --listen 0 --concurrency 16 --api-url {}",
        partner.url()
    ))
}

/// Fills the disk while a worker runs, and waits until every answer is written all the same.
fn fill_during_work(dir: &TestDir, partner: &Partner, disk: &SmallDisk) -> RunningProgram {
    let mut running = worker(dir, partner).start();
    running.wait_until("users", || partner.stats().model.created > 100);
    disk.fill();
    until_unwritable(&mut running);
    let created = || usize::try_from(partner.stats().model.created).unwrap();
    running.wait_until("an event for each user", || dir.results("out").event_lines() == created());
    assert!(created() < JOBS as usize);
    running
}

#[test]
fn a_worker_writes_each_answer_onto_a_full_disk_and_waits_for_space() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let disk = SmallDisk::mount(dir.path("disk"), 48);
    queue_on(&dir);
    let mut running = fill_during_work(&dir, &partner, &disk);
    disk.free();
    running.wait_until("all events", || dir.results("out").event_lines() == JOBS as usize);
    running.signal("TERM");
    running.expect_exit(0);
    events_with_links(&dir, "out", JOBS as usize);
}

#[test]
fn a_worker_that_is_killed_while_the_disk_is_full_loses_no_link() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let disk = SmallDisk::mount(dir.path("disk"), 48);
    queue_on(&dir);
    fill_during_work(&dir, &partner, &disk).kill();
    disk.free();
    let mut running = worker(&dir, &partner).start();
    running.wait_until("all events", || dir.results("out").event_lines() == JOBS as usize);
    running.signal("TERM");
    running.expect_exit(0);
    events_with_links(&dir, "out", JOBS as usize);
}

#[test]
fn a_worker_stops_at_once_while_the_disk_is_full() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..JOBS)));
    let disk = SmallDisk::mount(dir.path("disk"), 48);
    queue_on(&dir);
    let running = fill_during_work(&dir, &partner, &disk);
    running.signal("TERM");
    let said = running.expect_exit(0);
    said.assert_output(&["stopped; every unfinished job is on the queue"]);
}
