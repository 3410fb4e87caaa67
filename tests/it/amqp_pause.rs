//! Several workers on one RabbitMQ, and an account that refuses everybody for a while: each finds out by itself and asks
//! with one probe at a time, nobody is charged, and all go on by themselves.

use std::time::Duration;

use plu_onboard::sandbox::{AccountState, SandboxConfig};
use tokio::time::Instant;

use crate::support::{Broker, Partner, Place, Running, jobs};

const WORKERS: u64 = 3;

/// Requests of a worker that may be on their way when the key is revoked.
const CONCURRENCY: u64 = 2;

#[test]
fn workers_of_a_fleet_find_out_with_one_probe_each() {
    let (broker, place) = (Broker::start(), Place::new());
    let partner = Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() });
    let arguments =
        format!("worker --queue {} --api-url {} --rate 60 --concurrency {CONCURRENCY}", broker.url(), partner.url());
    let program = || {
        // The same distance between all probes, so that they can be counted.
        place.program(&arguments).set("worker.probe_initial_s", "2").set("worker.probe_max_s", "2")
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|_| program().start()).collect();
    workers[0].says("shared by the workers on this queue workers=3");
    broker.publish("plu.onboarding", "bulk", &jobs(0..900));
    workers[0].until("some users", || partner.stats().model.created >= 60);

    let (before, since) = (partner.requests(), Instant::now());
    partner.set_account(AccountState::KeyRevoked);
    for worker in &mut workers {
        worker.says("paused, every job is kept: the API key is refused (401)");
    }
    let probes = 4;
    workers[0].until("some probes", || since.elapsed() >= Duration::from_secs(2 * probes));
    let (requests, elapsed) = (partner.requests() - before, since.elapsed().as_secs());
    // Those on their way, and then one probe each every two seconds.
    let most = WORKERS * (CONCURRENCY + 1 + elapsed / 2);
    assert!((WORKERS..=most).contains(&requests), "{requests} requests while everybody was refused, {most} at most");

    partner.set_account(AccountState::Ok);
    workers[0].until("everybody is created", || partner.stats().model.created == 900);
    broker_is_empty(&broker, &mut workers[0]);
    for worker in workers {
        worker.signal("TERM");
        worker.ends_with(0);
    }
    assert_eq!(broker.ready("plu.onboarding.dead"), 0);
}

fn broker_is_empty(broker: &Broker, worker: &mut Running) {
    worker.until("the queue is empty", || broker.ready("plu.onboarding.jobs.bulk") == 0);
}
