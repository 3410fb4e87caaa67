//! A worker on RabbitMQ that is told to end while requests hang: what it had in hand comes back, and nobody is created
//! twice.

use std::time::Duration;

use plu_onboard::sandbox::{Control, SandboxConfig};

use crate::support::{Broker, Partner, Place, Program, customers};

const BULK: &str = "plu.onboarding.jobs.bulk";
const UNROUTED: &str = "plu.onboarding.events.unrouted";
const JOBS: u32 = 40;

struct Scene {
    broker: Broker,
    partner: Partner,
    place: Place,
}

/// Jobs on the queue, and a partner that creates users and doesn't answer.
fn scene() -> Scene {
    let mut config = SandboxConfig { latency: Duration::from_secs(3_600), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let (broker, partner) = (Broker::start(), Partner::start(config));
    let place = Place::with("people.csv", customers(0..JOBS));
    place.program(&format!("import people.csv --queue {}", broker.url())).ends_with(0);
    Scene { broker, partner, place }
}

impl Scene {
    fn worker(&self, grace_s: &str) -> Program {
        let arguments = format!("worker --queue {} --api-url {} --rate 0", self.broker.url(), self.partner.url());
        let worker = self.place.program(&arguments).set("worker.shutdown_grace_s", grace_s);
        worker.set("worker.concurrency", "8").set("api.key_ttl_s", "1").set("api.clock_skew_s", "1")
    }

    /// Everything is on the queue again; the next worker does it, and finds those whom the first one created.
    fn everybody_is_created_once(&self) {
        assert_eq!(self.broker.ready(UNROUTED), 0, "an event without an answer");
        self.partner.control(&Control { latency_ms: Some(0), ..Control::default() });
        let mut next = self.worker("20").set("worker.backoff_initial_ms", "20").start();
        next.until("every job is back and has its event", || self.broker.ready(UNROUTED) == JOBS);
        next.signal("TERM");
        next.ends_with(0);
        assert_eq!(self.partner.stats().model.users, u64::from(JOBS));
        let events = self.broker.drain(UNROUTED);
        assert!(events.iter().all(|event| event.routing_key == "user.created"));
        assert_eq!(events.iter().filter(|event| event.body["recovered"] == true).count(), 8);
        assert_eq!(self.broker.ready(BULK), 0);
    }
}

#[test]
fn a_second_signal_ends_a_worker_at_once_and_its_jobs_come_back() {
    let scene = scene();
    let mut worker = scene.worker("600").start();
    worker.until("requests that hang", || scene.partner.stats().model.created == 8);
    worker.signal("TERM");
    worker.says("once more ends at once");
    worker.signal_until_it_ends("TERM", 1);
    assert_eq!(scene.partner.stats().model.created, 8, "a request left after the signal");
    scene.everybody_is_created_once();
}

#[test]
fn requests_that_outlast_the_grace_go_back_to_the_queue() {
    let scene = scene();
    let mut worker = scene.worker("1").start();
    worker.until("requests that hang", || scene.partner.stats().model.created == 8);
    worker.signal("TERM");
    worker.ends_with(0).said(&["requests were still on their way and will be looked up"]);
    assert_eq!(scene.broker.ready(BULK), JOBS);
    scene.everybody_is_created_once();
}
