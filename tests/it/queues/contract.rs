//! The contract of a queue, which the pipeline relies on: it holds in memory, on the embedded queue and on RabbitMQ.
//!
//! Each case has a queue of its own. A [`WorkerLife`] is one start of a worker: its sources, and what they need to run.
//! Dropping it is the worker's crash.

use std::any::Any;
use std::time::Duration;

use plu_onboard::adapters::amqp::connection::config::AmqpConnectionConfig;
use plu_onboard::adapters::amqp::consume::config::ConsumeConfig;
use plu_onboard::adapters::amqp::consume::consumer::{AmqpConsumer, consume};
use plu_onboard::adapters::amqp::consume::source::AmqpSource;
use plu_onboard::adapters::amqp::consume::worker_count::OnWorkerCount;
use plu_onboard::adapters::amqp::publish::publisher::{PublishConfig, Publisher, Unroutable};
use plu_onboard::adapters::amqp::topology::{Names, Topology};
use plu_onboard::adapters::local_queue::export::EventsFileExporter;
use plu_onboard::adapters::local_queue::import::{Batch, BatchKind, Importer, RowPosition};
use plu_onboard::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use plu_onboard::adapters::local_queue::report;
use plu_onboard::adapters::local_queue::source::{LocalQueueSource, WhenEmpty};
use plu_onboard::adapters::local_queue::storage::StorageState;
use plu_onboard::adapters::local_queue::store::{LocalQueueStore, StoreConfig};
use plu_onboard::clock::Clock;
use plu_onboard::domain::decide::History;
use plu_onboard::domain::{Event, Job, Lane, LinkLoss, Outcome, Problem, ServiceId};
use plu_onboard::ports::{Delivery, JobSource, QueueError, Settle};
use plu_onboard::telemetry::Metrics;
use plu_onboard::testing::memory::{MemoryQueue, MemorySource};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, TestDir, job};

/// Far more than a delivery takes: the shortest delay queue on RabbitMQ has five seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// One start of a worker on a queue.
struct WorkerLife<S> {
    signup: S,
    bulk: S,
    guard: Box<dyn Any>,
}

/// A queue, and what can be observed from outside.
trait TestQueue {
    type Source: JobSource;
    fn push(&mut self, lane: Lane, body: &str);
    fn start(&mut self, runtime: &Runtime) -> WorkerLife<Self::Source>;
    /// Stops a worker in good order.
    fn stop(&mut self, _runtime: &Runtime, life: WorkerLife<Self::Source>) {
        drop(life);
    }
    /// Returns the ids of all events so far, as readers get them.
    fn event_ids(&mut self) -> Vec<String>;
    fn dead_letters(&mut self) -> usize;
}

type QueueHandle<Q> = <<Q as TestQueue>::Source as JobSource>::Handle;

fn receive<S: JobSource>(runtime: &Runtime, source: &mut S) -> Delivery<S::Handle> {
    let received = runtime.block_on(async { timeout(DEADLINE, source.receive()).await });
    received.expect("no delivery").unwrap().expect("the source has ended")
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
    let service_id = ServiceId::parse("acme-user-1").unwrap();
    Outcome::Created { service_id, link: Err(LinkLoss::NotSent), recovered: false }
}

type Case<Q> = fn(&Runtime, &mut Q);

fn fulfils_the_contract<Q: TestQueue>(mut fresh: impl FnMut(&str) -> Q) {
    let cases: [(&str, Case<Q>); 8] = [
        ("as_it_was", a_job_is_delivered_as_it_was_published),
        ("lanes", each_lane_has_its_own_jobs),
        ("finished", a_finished_job_has_its_event_and_is_not_delivered_again),
        ("crashed", after_a_crash_a_job_is_delivered_again_and_counts_as_sent),
        ("requeued", an_unchanged_job_that_is_requeued_is_delivered_as_it_was),
        ("delayed", a_delayed_job_is_delivered_later_with_its_history),
        ("dead", only_a_failed_job_is_a_dead_letter),
        ("cancelled", a_cancelled_receive_loses_no_job),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (name, case) in cases {
        let mut queue = fresh(name);
        case(&runtime, &mut queue);
    }
}

fn a_job_is_delivered_as_it_was_published<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
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

fn each_lane_has_its_own_jobs<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Bulk, &job(1));
    queue.push(Lane::Signup, &job(2));
    queue.push(Lane::Bulk, &job(3));
    let mut life = queue.start(runtime);
    assert_eq!(email(&receive(runtime, &mut life.signup)), "p2@example.com");
    let bulk = [(); 2].map(|()| email(&receive(runtime, &mut life.bulk)));
    assert_eq!(bulk, ["p1@example.com", "p3@example.com"]);
}

fn a_finished_job_has_its_event_and_is_not_delivered_again<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Bulk, &job(1));
    queue.push(Lane::Bulk, &job(2));
    let mut life = queue.start(runtime);
    let first = receive(runtime, &mut life.bulk);
    let id = finish(runtime, first, created());
    assert_eq!(queue.event_ids(), [id]);
    queue.stop(runtime, life);
    let mut life = queue.start(runtime);
    // Only the other job is left.
    assert_eq!(email(&receive(runtime, &mut life.bulk)), "p2@example.com");
    let nothing = runtime.block_on(async { timeout(Duration::from_millis(200), life.bulk.receive()).await });
    assert!(!matches!(nothing, Ok(Ok(Some(_)))), "a finished job was delivered again");
}

fn after_a_crash_a_job_is_delivered_again_and_counts_as_sent<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Bulk, &job(1));
    let mut life = queue.start(runtime);
    let mut delivery = receive(runtime, &mut life.bulk);
    let sent_at = Clock::System.now();
    runtime.block_on(delivery.handle.record_intent(sent_at)).unwrap();
    drop(delivery);
    drop(life);
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.bulk);
    let first_sent_at = delivery.history.first_sent_at.expect("the intent is lost");
    // An earlier time is safe: a user that was created later counts as this job's.
    assert!(first_sent_at <= sent_at, "{first_sent_at:?} is after {sent_at:?}");
    assert!(queue.event_ids().is_empty());
}

fn an_unchanged_job_that_is_requeued_is_delivered_as_it_was<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
    queue.push(Lane::Signup, &job(1));
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.signup);
    let history = delivery.history;
    runtime.block_on(delivery.handle.requeue(history, Duration::ZERO)).unwrap();
    let again = receive(runtime, &mut life.signup);
    assert_eq!(email(&again), "p1@example.com");
    assert_eq!(again.history.attempts, 0);
}

fn a_delayed_job_is_delivered_later_with_its_history<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
    const DELAY: Duration = Duration::from_secs(2);
    queue.push(Lane::Bulk, &job(1));
    let mut life = queue.start(runtime);
    let delivery = receive(runtime, &mut life.bulk);
    let history = History { attempts: 3, ..delivery.history.with_send(Clock::System.now()) };
    let start = Instant::now();
    runtime.block_on(delivery.handle.requeue(history, DELAY)).unwrap();
    // Another worker: the delay must not depend on the first one.
    queue.stop(runtime, life);
    let mut life = queue.start(runtime);
    let again = receive(runtime, &mut life.bulk);
    let waited = start.elapsed();
    assert_eq!(again.history, history);
    // Both ends of the delay are rounded to milliseconds.
    assert!(waited >= DELAY.saturating_sub(Duration::from_millis(2)), "{waited:?}");
}

fn only_a_failed_job_is_a_dead_letter<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
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
    let mut events = queue.event_ids();
    ids.sort_unstable();
    events.sort_unstable();
    assert_eq!(events, ids);
    assert_eq!(queue.dead_letters(), 1);
}

fn a_cancelled_receive_loses_no_job<Q: TestQueue>(runtime: &Runtime, queue: &mut Q) {
    const JOBS: usize = 20;
    let mut life = queue.start(runtime);
    let mut emails = std::collections::BTreeSet::new();
    for n in 0..JOBS {
        // A receive that is dropped while the queue is empty, and one while a delivery may be arriving.
        for timeout_ms in [0, 3] {
            let received: Result<Result<Option<Delivery<QueueHandle<Q>>>, QueueError>, _> =
                runtime.block_on(async { timeout(Duration::from_millis(timeout_ms), life.bulk.receive()).await });
            if let Ok(received) = received {
                emails.insert(email(&received.unwrap().unwrap()));
            }
        }
        queue.push(Lane::Bulk, &job(u32::try_from(n).unwrap()));
    }
    while emails.len() < JOBS {
        emails.insert(email(&receive(runtime, &mut life.bulk)));
    }
}

struct MemoryTestQueue(MemoryQueue);

impl TestQueue for MemoryTestQueue {
    type Source = MemorySource;

    fn push(&mut self, lane: Lane, body: &str) {
        self.0.push(lane, body);
    }

    fn start(&mut self, _runtime: &Runtime) -> WorkerLife<MemorySource> {
        self.0.crash();
        let source = |lane| self.0.source(lane).endless();
        WorkerLife { signup: source(Lane::Signup), bulk: source(Lane::Bulk), guard: Box::new(()) }
    }

    fn event_ids(&mut self) -> Vec<String> {
        self.0.events().iter().map(|event| event.id.to_string()).collect()
    }

    fn dead_letters(&mut self) -> usize {
        self.0.dead()
    }
}

#[test]
fn the_queue_in_memory_fulfils_the_contract() {
    fulfils_the_contract(|_| MemoryTestQueue(MemoryQueue::new(Clock::System)));
}

struct LocalTestQueue {
    dir: TestDir,
    rows: u64,
}

impl LocalTestQueue {
    fn path(&self) -> std::path::PathBuf {
        self.dir.path("q.db")
    }

    fn connection(&self) -> rusqlite::Connection {
        open(&self.path(), IfMissing::Create, OpenPurpose::Work, 64).unwrap()
    }
}

impl TestQueue for LocalTestQueue {
    type Source = LocalQueueSource;

    fn push(&mut self, lane: Lane, body: &str) {
        self.rows += 1;
        // A batch for each job, as if each were imported from a file of its own.
        let batch = Batch {
            batch_id: format!("batch-{}", self.rows),
            fingerprint: [u8::try_from(self.rows).unwrap(); 32],
            file: "customers.csv".to_owned(),
        };
        let mut importer = Importer::begin(self.connection(), &self.path(), &batch, BatchKind::Import, None).unwrap();
        let (job, _) = Job::parse(body.as_bytes()).unwrap();
        let dir = RowPosition { record: 1, line: 2 };
        importer.enqueue(dir, &job, body, lane, Clock::System.now()).unwrap();
        importer.finish(true).unwrap();
    }

    fn start(&mut self, _runtime: &Runtime) -> WorkerLife<LocalQueueSource> {
        let store = LocalQueueStore::start(self.connection(), &self.path(), StoreConfig::default()).unwrap();
        let poll = Duration::from_millis(5);
        let source = |lane| LocalQueueSource::new(store.clone(), lane, WhenEmpty::Wait, poll, Clock::System);
        WorkerLife { signup: source(Lane::Signup), bulk: source(Lane::Bulk), guard: Box::new(store) }
    }

    fn event_ids(&mut self) -> Vec<String> {
        let file = self.dir.path("results.ndjson");
        EventsFileExporter::start(self.connection(), &self.path(), &file, StorageState::default(), || ())
            .unwrap()
            .finish()
            .unwrap();
        let id =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        std::fs::read_to_string(file).unwrap().lines().map(id).collect()
    }

    fn dead_letters(&mut self) -> usize {
        usize::try_from(report::jobs(&self.connection(), &self.path()).unwrap().failed).unwrap()
    }
}

#[test]
fn the_embedded_queue_fulfils_the_contract() {
    fulfils_the_contract(|_| LocalTestQueue { dir: TestDir::new(), rows: 0 });
}

struct RabbitTestQueue<'b> {
    broker: &'b Broker,
    prefix: String,
    events: Vec<String>,
}

impl RabbitTestQueue<'_> {
    fn consume_config(&self) -> ConsumeConfig {
        let names = Names::new(&self.prefix);
        let connection = AmqpConnectionConfig {
            uri: self.broker.url().parse().unwrap(),
            tls: None,
            password_file: None,
            connect_timeout: DEADLINE,
            topology: Topology::new(&names),
            declares: true,
            metrics: Metrics::new().unwrap(),
        };
        ConsumeConfig {
            connection,
            names,
            name: "contract".to_owned(),
            prefetch: 100,
            seed: 1,
            on_count: OnWorkerCount::new(|_, _| {}),
        }
    }
}

impl TestQueue for RabbitTestQueue<'_> {
    type Source = AmqpSource;

    fn push(&mut self, lane: Lane, body: &str) {
        self.broker.publish(&self.prefix, lane.name(), &[body.to_owned()]);
    }

    fn start(&mut self, runtime: &Runtime) -> WorkerLife<AmqpSource> {
        let _in_runtime = runtime.enter();
        let config = self.consume_config();
        let publisher = Publisher::start(PublishConfig {
            connection: config.connection.clone(),
            name: "contract".to_owned(),
            confirm_timeout: DEADLINE,
            seed: 1,
            unroutable: Unroutable::Wait,
        });
        let stop = CancellationToken::new();
        let (consumer, signup, bulk) = consume(config, &publisher, Clock::System, stop.clone());
        WorkerLife { signup, bulk, guard: Box::new((consumer, stop)) }
    }

    fn stop(&mut self, runtime: &Runtime, life: WorkerLife<AmqpSource>) {
        let guard = life.guard.downcast::<(AmqpConsumer, CancellationToken)>().unwrap();
        let (consumer, stop) = *guard;
        stop.cancel();
        runtime.block_on(consumer.close());
    }

    fn event_ids(&mut self) -> Vec<String> {
        let queue = Names::new(&self.prefix).unrouted();
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().to_string();
        self.events.extend(self.broker.drain(&queue).iter().map(|event| text(event.properties.message_id())));
        self.events.clone()
    }

    fn dead_letters(&mut self) -> usize {
        self.broker.ready(&Names::new(&self.prefix).dead_queue()) as usize
    }
}

#[test]
fn the_queue_on_rabbitmq_fulfils_the_contract() {
    let broker = Broker::start();
    fulfils_the_contract(|case| {
        let prefix = format!("contract.{case}");
        broker.declare(&prefix);
        RabbitTestQueue { broker: &broker, prefix, events: Vec::new() }
    });
}
