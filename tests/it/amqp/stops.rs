//! A worker on RabbitMQ that is stopped while requests hang: its jobs are delivered again, and no user is created
//! twice.

use std::time::Duration;

use plu_onboard::sandbox::{SandboxConfig, SandboxControl};

use crate::support::{Broker, Partner, Program, TestDir, customers};

const BULK: &str = "plu.onboarding.jobs.bulk";
const UNROUTED: &str = "plu.onboarding.events.unrouted";
const JOBS: u32 = 40;

struct StoppedWorkerTest {
    broker: Broker,
    partner: Partner,
    dir: TestDir,
}

/// Jobs on the queue, and a partner that creates users and doesn't answer.
fn start() -> StoppedWorkerTest {
    let mut config = SandboxConfig { latency: Duration::from_secs(3_600), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let (broker, partner) = (Broker::start(), Partner::start(config));
    let dir = TestDir::with("people.csv", customers(0..JOBS));
    dir.program(&format!("import people.csv --queue {}", broker.url())).expect_exit(0);
    StoppedWorkerTest { broker, partner, dir }
}

impl StoppedWorkerTest {
    fn worker(&self, grace_s: &str) -> Program {
        let arguments = format!("worker --queue {} --api-url {} --rate 0", self.broker.url(), self.partner.url());
        let worker = self.dir.program(&arguments).set("worker.shutdown_grace_s", grace_s);
        worker.set("worker.concurrency", "8").set("api.key_ttl_s", "1").set("api.clock_skew_s", "1")
    }

    /// Asserts that a second worker gets every job, and recovers the users that the first one created.
    fn assert_each_user_is_created_once(&self) {
        assert_eq!(self.broker.ready(UNROUTED), 0, "an event without an answer");
        self.partner.control(&SandboxControl { latency_ms: Some(0), ..SandboxControl::default() });
        let mut next = self.worker("20").set("worker.backoff_initial_ms", "20").start();
        next.wait_until("an event for each job", || self.broker.ready(UNROUTED) == JOBS);
        next.signal("TERM");
        next.expect_exit(0);
        assert_eq!(self.partner.stats().model.users, u64::from(JOBS));
        let events = self.broker.drain(UNROUTED);
        assert!(events.iter().all(|event| event.routing_key == "user.created"));
        assert_eq!(events.iter().filter(|event| event.body["recovered"] == true).count(), 8);
        assert_eq!(self.broker.ready(BULK), 0);
    }
}

#[test]
fn a_second_signal_ends_a_worker_at_once_and_its_jobs_are_requeued() {
    let test = start();
    let mut worker = test.worker("600").start();
    worker.wait_until("requests that hang", || test.partner.stats().model.created == 8);
    worker.signal("TERM");
    worker.wait_for_output("a second signal exits at once");
    worker.signal_until_exit("TERM", 1);
    assert_eq!(test.partner.stats().model.created, 8, "a request was sent after the signal");
    test.assert_each_user_is_created_once();
}

#[test]
fn jobs_whose_requests_outlast_the_shutdown_grace_are_requeued() {
    let test = start();
    let mut worker = test.worker("1").start();
    worker.wait_until("requests that hang", || test.partner.stats().model.created == 8);
    worker.signal("TERM");
    worker.expect_exit(0).assert_output(&["stopped with requests in flight; their users will be looked up"]);
    assert_eq!(test.broker.ready(BULK), JOBS);
    test.assert_each_user_is_created_once();
}
