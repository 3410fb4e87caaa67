//! Several workers on one RabbitMQ while the API key is revoked: each worker pauses by itself, sends one probe at a
//! time, counts no attempt, and resumes by itself.

use std::time::Duration;

use plu_onboard::sandbox::{AccountState, SandboxConfig};
use tokio::time::Instant;

use crate::support::{Broker, Partner, RunningProgram, TestDir, jobs};

const WORKERS: u64 = 3;

/// Most requests of a worker that are in flight when the key is revoked.
const CONCURRENCY: u64 = 2;

#[test]
fn each_worker_pauses_with_one_probe_at_a_time_and_resumes_by_itself() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let partner = Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() });
    let arguments =
        format!("worker --queue {} --api-url {} --rate 60 --concurrency {CONCURRENCY}", broker.url(), partner.url());
    let program = || {
        // A constant interval between probes, so that they can be counted.
        dir.program(&arguments).set("worker.probe_initial_s", "2").set("worker.probe_max_s", "2")
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|_| program().start()).collect();
    workers[0].wait_for_output("shared by the workers on this queue workers=3");
    broker.publish("plu.onboarding", "bulk", &jobs(0..900));
    workers[0].wait_until("some users", || partner.stats().model.created >= 60);

    let (before, since) = (partner.requests(), Instant::now());
    partner.set_account(AccountState::KeyRevoked);
    for worker in &mut workers {
        worker.wait_for_output("paused: the API key is refused (401)");
    }
    let probes = 4;
    workers[0].wait_until("some probes", || since.elapsed() >= Duration::from_secs(2 * probes));
    let (requests, elapsed) = (partner.requests() - before, since.elapsed().as_secs());
    // The requests in flight, then one probe of each worker every two seconds.
    let most = WORKERS * (CONCURRENCY + 1 + elapsed / 2);
    assert!((WORKERS..=most).contains(&requests), "{requests} requests while the key was revoked, {most} at most");

    partner.set_account(AccountState::Ok);
    workers[0].wait_until("every user is created", || partner.stats().model.created == 900);
    until_queue_is_empty(&broker, &mut workers[0]);
    for worker in workers {
        worker.signal("TERM");
        worker.expect_exit(0);
    }
    assert_eq!(broker.ready("plu.onboarding.dead"), 0);
}

fn until_queue_is_empty(broker: &Broker, worker: &mut RunningProgram) {
    worker.wait_until("the queue is empty", || broker.ready("plu.onboarding.jobs.bulk") == 0);
}
