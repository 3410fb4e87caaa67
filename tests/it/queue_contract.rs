//! One contract, three queues: what the pipeline relies on holds in memory, on the embedded queue and on RabbitMQ.
//!
//! Each case gets a queue of its own. A *life* is one start of a worker: its sources, and whatever keeps them going;
//! dropping it is the worker's death.

use std::any::Any;
use std::time::Duration;

use plu_onboard::adapters::amqp::connection::link::LinkConfig;
use plu_onboard::adapters::amqp::consume::fleet::OnCount;
use plu_onboard::adapters::amqp::consume::source::{AmqpSource, ConsumeConfig, Consuming, consume};
use plu_onboard::adapters::amqp::publish::publisher::{PublishConfig, Publisher, Unroutable};
use plu_onboard::adapters::amqp::topology::{Names, Topology};
use plu_onboard::adapters::local_queue::export::Exporter;
use plu_onboard::adapters::local_queue::import::{Batch, Importer, Kind, Place as RowPlace};
use plu_onboard::adapters::local_queue::open::{IfMissing, Purpose, open};
use plu_onboard::adapters::local_queue::report;
use plu_onboard::adapters::local_queue::source::{LocalSource, WhenEmpty};
use plu_onboard::adapters::local_queue::store::Store;
use plu_onboard::clock::Clock;
use plu_onboard::domain::decide::History;
use plu_onboard::domain::{Event, Job, Lane, Outcome, Problem};
use plu_onboard::ports::{Delivery, JobSource, QueueError, Settle};
use plu_onboard::telemetry::Metrics;
use plu_onboard::testing::memory::{MemoryQueue, MemorySource};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, Place};

/// Far more than a delivery takes; the shortest delay queue of RabbitMQ is five seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A start of a worker on a queue.
struct Life<S> {
    signup: S,
    bulk: S,
    guard: Box<dyn Any>,
}

/// A queue and what can be seen of it from outside.
trait Queue {
    type Source: JobSource;
    fn push(&mut self, lane: Lane, body: &str);
    fn start(&mut self, runtime: &Runtime) -> Life<Self::Source>;
    /// The orderly end of a life.
    fn stop(&mut self, _runtime: &Runtime, life: Life<Self::Source>) {
        drop(life);
    }
    /// The ids of all events so far, as readers get them.
    fn events(&mut self) -> Vec<String>;
    fn dead(&mut self) -> usize;
}

type Handle<Q> = <<Q as Queue>::Source as JobSource>::Handle;

fn receive<S: JobSource>(runtime: &Runtime, source: &mut S) -> Delivery<S::Handle> {
    let received = runtime.block_on(async { timeout(DEADLINE, source.receive()).await });
    received.expect("no delivery came").unwrap().expect("the source has ended")
}

fn finish<H: Settle>(runtime: &Runtime, delivery: Delivery<H>, outcome: Outcome) -> String {
    let (job, _) = Job::parse(&delivery.body).unwrap();
    let event = Event::of(outcome, job.identity.clone(), job.key, 1, Clock::System.now());
    let id = event.id.to_string();
    runtime.block_on(delivery.handle.finish(&event)).unwrap();
    id
}

fn email<H>(delivery: &Delivery<H>) -> String {
    Job::parse(&delivery.body).unwrap().0.email
}

fn created() -> Outcome {
    Outcome::Created { service_id: "acme-user-1".to_owned(), verification_url: None, recovered: false }
}

fn job(n: u32) -> String {
    json!({"jobId": format!("crm-{n}"), "user": {
        "firstName": "Ann", "lastName": "Lee", "email": format!("p{n}@example.com"), "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": "1 Main Street", "city": "Springfield", "region": "IL",
        "postalCode": "62701", "countryCode": "US",
    }})
    .to_string()
}

type Case<Q> = fn(&Runtime, &mut Q);

fn keeps_the_contract<Q: Queue>(mut fresh: impl FnMut(&str) -> Q) {
    let cases: [(&str, Case<Q>); 8] = [
        ("as_it_was", a_job_comes_out_as_it_was_put_in),
        ("lanes", each_lane_has_its_own_jobs),
        ("finished", a_finished_job_has_its_event_and_never_comes_back),
        ("reborn", a_job_in_hand_at_a_death_comes_back_and_is_known_to_be_sent),
        ("returned", a_job_that_is_put_back_untouched_comes_again_as_it_was),
        ("delayed", a_job_that_has_to_wait_comes_back_later_with_its_history),
        ("dead", only_a_failed_job_is_a_dead_letter),
        ("cancelled", receiving_that_is_given_up_loses_no_job),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (name, case) in cases {
        let mut queue = fresh(name);
        case(&runtime, &mut queue);
    }
}

fn a_job_comes_out_as_it_was_put_in<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    let before = Clock::System.now();
    queue.push(Lane::Signup, &job(1));
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.signup);
    assert_eq!(String::from_utf8_lossy(&delivery.body), job(1));
    assert_eq!(delivery.lane, Lane::Signup);
    let History { enqueued_at, first_sent_at, last_sent_at, attempts } = delivery.history;
    assert_eq!((first_sent_at, last_sent_at, attempts), (None, None, 0));
    assert!(enqueued_at >= before && enqueued_at <= Clock::System.now(), "{enqueued_at:?}");
}

fn each_lane_has_its_own_jobs<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Bulk, &job(1));
    queue.push(Lane::Signup, &job(2));
    queue.push(Lane::Bulk, &job(3));
    let mut life = queue.start(runtime);
    assert_eq!(email(&receive(runtime, &mut life.signup)), "p2@example.com");
    let bulk = [(); 2].map(|()| email(&receive(runtime, &mut life.bulk)));
    assert_eq!(bulk, ["p1@example.com", "p3@example.com"]);
}

fn a_finished_job_has_its_event_and_never_comes_back<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Bulk, &job(1));
    queue.push(Lane::Bulk, &job(2));
    let mut life = queue.start(runtime);
    let first = receive(runtime, &mut life.bulk);
    let id = finish(runtime, first, created());
    assert_eq!(queue.events(), [id]);
    queue.stop(runtime, life);
    let mut life = queue.start(runtime);
    // Only the other one is left.
    assert_eq!(email(&receive(runtime, &mut life.bulk)), "p2@example.com");
    let nothing = runtime.block_on(async { timeout(Duration::from_millis(200), life.bulk.receive()).await });
    assert!(!matches!(nothing, Ok(Ok(Some(_)))), "a finished job came back");
}

fn a_job_in_hand_at_a_death_comes_back_and_is_known_to_be_sent<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Bulk, &job(1));
    let mut life = queue.start(runtime);
    let mut delivery = receive(runtime, &mut life.bulk);
    let sent_at = Clock::System.now();
    runtime.block_on(delivery.handle.record_intent(sent_at)).unwrap();
    drop(delivery);
    drop(life);
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.bulk);
    let first_sent_at = delivery.history.first_sent_at.expect("the send was forgotten");
    // Earlier is safe: a user that is younger is taken for ours.
    assert!(first_sent_at <= sent_at, "{first_sent_at:?} is after {sent_at:?}");
    assert!(queue.events().is_empty());
}

fn a_job_that_is_put_back_untouched_comes_again_as_it_was<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Signup, &job(1));
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.signup);
    let history = delivery.history;
    runtime.block_on(delivery.handle.requeue(history, Duration::ZERO)).unwrap();
    let again = receive(runtime, &mut life.signup);
    assert_eq!(email(&again), "p1@example.com");
    assert_eq!(again.history.attempts, 0);
}

fn a_job_that_has_to_wait_comes_back_later_with_its_history<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    const DELAY: Duration = Duration::from_secs(2);
    queue.push(Lane::Bulk, &job(1));
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.bulk);
    let history = History { attempts: 3, ..delivery.history.with_send(Clock::System.now()) };
    let start = Instant::now();
    runtime.block_on(delivery.handle.requeue(history, DELAY)).unwrap();
    // Another life: waiting isn't something that a worker does.
    queue.stop(runtime, life);
    let mut life = queue.start(runtime);
    let again = receive(runtime, &mut life.bulk);
    let waited = start.elapsed();
    assert_eq!(again.history, history);
    // Both ends of the wait are whole milliseconds.
    assert!(waited >= DELAY.saturating_sub(Duration::from_millis(2)), "{waited:?}");
}

fn only_a_failed_job_is_a_dead_letter<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    let problem = || Problem::whole("ATTEMPTS_EXHAUSTED", "no answer".to_owned());
    let outcomes = [
        Outcome::Failed { problem: problem(), may_have_been_created: true },
        Outcome::Rejected(vec![Problem::whole("USER_BLACKLISTED", "no".to_owned())]),
        Outcome::Existing { service_id: None },
        created(),
    ];
    for n in 0..4 {
        queue.push(Lane::Bulk, &job(n));
    }
    let mut life = queue.start(runtime);
    let mut ids: Vec<String> =
        outcomes.map(|outcome| finish(runtime, receive(runtime, &mut life.bulk), outcome)).into();
    let mut events = queue.events();
    ids.sort_unstable();
    events.sort_unstable();
    assert_eq!(events, ids);
    assert_eq!(queue.dead(), 1);
}

fn receiving_that_is_given_up_loses_no_job<Q: Queue>(runtime: &Runtime, queue: &mut Q) {
    const JOBS: usize = 20;
    let mut life = queue.start(runtime);
    let mut emails = std::collections::BTreeSet::new();
    for n in 0..JOBS {
        // A wait that is dropped while nothing is there, and one that is dropped while a job may be on its way.
        for patience_ms in [0, 3] {
            let given_up: Result<Result<Option<Delivery<Handle<Q>>>, QueueError>, _> =
                runtime.block_on(async { timeout(Duration::from_millis(patience_ms), life.bulk.receive()).await });
            if let Ok(received) = given_up {
                emails.insert(email(&received.unwrap().unwrap()));
            }
        }
        queue.push(Lane::Bulk, &job(u32::try_from(n).unwrap()));
    }
    while emails.len() < JOBS {
        emails.insert(email(&receive(runtime, &mut life.bulk)));
    }
}

struct InMemory(MemoryQueue);

impl Queue for InMemory {
    type Source = MemorySource;

    fn push(&mut self, lane: Lane, body: &str) {
        self.0.push(lane, body);
    }

    fn start(&mut self, _runtime: &Runtime) -> Life<MemorySource> {
        self.0.crash();
        let source = |lane| self.0.source(lane).for_ever();
        Life { signup: source(Lane::Signup), bulk: source(Lane::Bulk), guard: Box::new(()) }
    }

    fn events(&mut self) -> Vec<String> {
        self.0.events().iter().map(|event| event.id.to_string()).collect()
    }

    fn dead(&mut self) -> usize {
        self.0.dead()
    }
}

#[test]
fn the_queue_in_memory_keeps_the_contract() {
    keeps_the_contract(|_| InMemory(MemoryQueue::new(Clock::System)));
}

struct Local {
    place: Place,
    rows: u64,
}

impl Local {
    fn path(&self) -> std::path::PathBuf {
        self.place.path("q.db")
    }

    fn connection(&self) -> rusqlite::Connection {
        open(&self.path(), IfMissing::Create, Purpose::Work, 64).unwrap()
    }
}

impl Queue for Local {
    type Source = LocalSource;

    fn push(&mut self, lane: Lane, body: &str) {
        self.rows += 1;
        // A batch for each, as if each were a file of its own.
        let batch = Batch {
            batch_id: format!("batch-{}", self.rows),
            fingerprint: [u8::try_from(self.rows).unwrap(); 32],
            file: "customers.csv".to_owned(),
        };
        let mut importer = Importer::begin(self.connection(), &self.path(), &batch, Kind::Import, None).unwrap();
        let (job, _) = Job::parse(body.as_bytes()).unwrap();
        let place = RowPlace { record: 1, line: 2 };
        importer.enqueue(place, &job, body, lane, Clock::System.now()).unwrap();
        importer.finish(true).unwrap();
    }

    fn start(&mut self, _runtime: &Runtime) -> Life<LocalSource> {
        let store = Store::start(self.connection(), &self.path(), Box::new(|| {})).unwrap();
        let poll = Duration::from_millis(5);
        let source = |lane| LocalSource::new(store.clone(), lane, WhenEmpty::Wait, poll, Clock::System);
        Life { signup: source(Lane::Signup), bulk: source(Lane::Bulk), guard: Box::new(store) }
    }

    fn events(&mut self) -> Vec<String> {
        let file = self.place.path("results.ndjson");
        Exporter::start(self.connection(), &self.path(), &file, || ()).unwrap().finish().unwrap();
        let id =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        std::fs::read_to_string(file).unwrap().lines().map(id).collect()
    }

    fn dead(&mut self) -> usize {
        usize::try_from(report::jobs(&self.connection(), &self.path()).unwrap().failed).unwrap()
    }
}

#[test]
fn the_embedded_queue_keeps_the_contract() {
    keeps_the_contract(|_| Local { place: Place::new(), rows: 0 });
}

struct Rabbit<'b> {
    broker: &'b Broker,
    prefix: String,
    events: Vec<String>,
}

impl Rabbit<'_> {
    fn consume_config(&self) -> ConsumeConfig {
        let names = Names::new(&self.prefix);
        let link = LinkConfig {
            uri: self.broker.url().parse().unwrap(),
            tls: None,
            password_file: None,
            connect_timeout: DEADLINE,
            topology: Topology::new(&names),
            declares: true,
            metrics: Metrics::new().unwrap(),
        };
        ConsumeConfig {
            link,
            names,
            name: "contract".to_owned(),
            prefetch: 100,
            seed: 1,
            on_count: OnCount::new(|_, _| {}),
        }
    }
}

impl Queue for Rabbit<'_> {
    type Source = AmqpSource;

    fn push(&mut self, lane: Lane, body: &str) {
        self.broker.publish(&self.prefix, lane.name(), &[body.to_owned()]);
    }

    fn start(&mut self, runtime: &Runtime) -> Life<AmqpSource> {
        let _in_runtime = runtime.enter();
        let config = self.consume_config();
        let publisher = Publisher::start(PublishConfig {
            link: config.link.clone(),
            name: "contract".to_owned(),
            confirm_timeout: DEADLINE,
            seed: 1,
            unroutable: Unroutable::Wait,
        });
        let stop = CancellationToken::new();
        let (consuming, signup, bulk) = consume(config, &publisher, Clock::System, stop.clone());
        Life { signup, bulk, guard: Box::new((consuming, stop)) }
    }

    fn stop(&mut self, runtime: &Runtime, life: Life<AmqpSource>) {
        let guard = life.guard.downcast::<(Consuming, CancellationToken)>().unwrap();
        let (consuming, stop) = *guard;
        stop.cancel();
        runtime.block_on(consuming.close());
    }

    fn events(&mut self) -> Vec<String> {
        let queue = Names::new(&self.prefix).unrouted();
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().to_string();
        self.events.extend(self.broker.drain(&queue).iter().map(|event| text(event.properties.message_id())));
        self.events.clone()
    }

    fn dead(&mut self) -> usize {
        self.broker.ready(&Names::new(&self.prefix).dead_queue()) as usize
    }
}

#[test]
fn the_queue_on_rabbitmq_keeps_the_contract() {
    let broker = Broker::start();
    keeps_the_contract(|case| {
        let prefix = format!("contract.{case}");
        broker.declare(&prefix);
        Rabbit { broker: &broker, prefix, events: Vec::new() }
    });
}
