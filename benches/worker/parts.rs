//! The measurements. Each starts a broker and a mock API of its own.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use plu_onboard::adapters::local_queue::import::{Batch, BatchKind, Importer, RowPosition};
use plu_onboard::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use plu_onboard::clock::Clock;
use plu_onboard::domain::{Job, Lane};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::Broker;
use crate::jobs::{message, write_csv};
use crate::process::Process;
use crate::table::{median, percentile, row, title};

const PREFIX: &str = "plu.onboarding";
const BULK: &str = "plu.onboarding.jobs.bulk";
const UNROUTED: &str = "plu.onboarding.events.unrouted";
const JOBS: usize = 20_000;
/// Interval at which the progress is read.
const POLL_EVERY: Duration = Duration::from_millis(10);

pub(crate) fn run(words: &[&str]) {
    let wanted = |part: &str| words.is_empty() || words.contains(&part);
    println!("Medians of {} interleaved rounds.", rounds());
    if wanted("broker") {
        throughput();
        slow_api();
    }
    if wanted("latency") {
        latency();
    }
    if wanted("embedded") {
        embedded();
    }
    if wanted("idle") {
        idle();
    }
    if wanted("memory") {
        memory();
    }
    if wanted("scale") {
        scale();
    }
}

fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// A broker with the worker's topology, and a channel to publish to it and to read its queues.
struct BenchBroker {
    broker: Broker,
    runtime: Runtime,
    channel: Channel,
    _connection: Connection,
    folder: tempfile::TempDir,
}

impl BenchBroker {
    fn new() -> Self {
        let broker = Broker::start();
        broker.declare(PREFIX);
        let runtime = Runtime::new().expect("threads");
        let (connection, channel) = runtime.block_on(async {
            let connection =
                Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("a broker");
            let channel = connection.create_channel().await.expect("a channel");
            (connection, channel)
        });
        Self { broker, runtime, channel, _connection: connection, folder: tempfile::tempdir().expect("a folder") }
    }

    fn url(&self) -> String {
        self.broker.url()
    }

    fn ready(&self, queue: &str) -> usize {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let state = self.runtime.block_on(self.channel.queue_declare(queue.into(), options, FieldTable::default()));
        state.expect("a queue").message_count() as usize
    }

    fn purge(&self) {
        for queue in [BULK, UNROUTED] {
            self.empty(queue);
        }
    }

    fn empty(&self, queue: &str) {
        let purged = self.runtime.block_on(self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()));
        purged.expect("a queue");
    }

    fn fill(&self, jobs: std::ops::Range<usize>) {
        let jobs: Vec<usize> = jobs.collect();
        for chunk in jobs.chunks(10_000) {
            let bodies: Vec<String> = chunk.iter().copied().map(message).collect();
            self.broker.publish(PREFIX, "bulk", &bodies);
        }
    }

    fn pause(&self, duration: Duration) {
        self.runtime.block_on(async { sleep(duration).await });
    }

    fn events(&self) -> Consumer {
        let consumer = self.channel.basic_consume(
            UNROUTED.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        self.runtime.block_on(consumer).expect("a consumer")
    }

    /// Starts `plu-onboard worker` on this broker.
    fn worker(&self, api: &str, concurrency: usize, rate: u32) -> Process {
        let arguments =
            format!("worker --queue {} --api-url {api} --rate {rate} --concurrency {concurrency}", self.url());
        Process::onboard(self.folder.path(), &arguments, &[])
    }

    /// Waits until `jobs` events are published. Returns the jobs per second since the first events, and the CPU seconds
    /// of the consumer for 1,000 jobs.
    fn drained(&self, consumer: &Process, jobs: usize) -> (f64, f64) {
        let (mut start, mut first) = (Instant::now(), 0);
        loop {
            let done = self.ready(UNROUTED);
            if first == 0 && done > 0 {
                (start, first) = (Instant::now(), done);
            }
            if done >= jobs {
                let rate = (done - first) as f64 / start.elapsed().as_secs_f64();
                return (rate, consumer.cpu_s() * 1_000.0 / done as f64);
            }
            self.pause(POLL_EVERY);
        }
    }
}

fn mock_api(latency_ms: u64) -> (Process, String) {
    let mut process = Process::this_program(&["mock-api", &latency_ms.to_string()]);
    let url = format!("http://127.0.0.1:{}/api", process.line());
    (process, url)
}

/// A consumer that is measured.
#[derive(Clone, Copy)]
enum Contestant {
    Worker(usize),
    Minimal(usize),
    /// Publishes the event without a request to the API.
    LapinAlone(usize),
}

impl Contestant {
    fn name(self) -> String {
        match self {
            Self::Worker(in_flight) => format!("plu-onboard, {in_flight} in flight"),
            Self::Minimal(in_flight) => format!("minimal loop, {in_flight} in flight"),
            Self::LapinAlone(in_flight) => format!("lapin alone, {in_flight} in flight"),
        }
    }

    fn start(self, broker: &BenchBroker, api: &str) -> Process {
        match self {
            Self::Worker(in_flight) => broker.worker(api, in_flight, 0),
            Self::Minimal(in_flight) => Process::this_program(&["minimal", &broker.url(), api, &in_flight.to_string()]),
            Self::LapinAlone(in_flight) => Process::this_program(&["lapin", &broker.url(), &in_flight.to_string()]),
        }
    }
}

fn throughput() {
    let contestants = [
        Contestant::Worker(64),
        Contestant::Worker(256),
        Contestant::Minimal(64),
        Contestant::Minimal(256),
        Contestant::LapinAlone(256),
    ];
    let mut bare_costs = Vec::new();
    let mut rates = vec![Vec::new(); contestants.len()];
    let mut costs = rates.clone();
    let mut memory = rates.clone();
    let broker = BenchBroker::new();
    for _ in 0..rounds() {
        for (n, contestant) in contestants.into_iter().enumerate() {
            broker.purge();
            broker.fill(0..JOBS);
            let (_api, url) = mock_api(0);
            let process = contestant.start(&broker, &url);
            let (rate, cost) = broker.drained(&process, JOBS);
            rates[n].push(rate);
            costs[n].push(cost);
            memory[n].push(process.memory_mib().0);
        }
        let (_api, url) = mock_api(0);
        let cpu_s: f64 =
            Process::this_program(&["reqwest", &url, "64", &JOBS.to_string()]).line().parse().expect("a number");
        bare_costs.push(cpu_s * 1_000.0 / JOBS as f64);
    }
    let base = (median(&mut rates[3]), median(&mut costs[3]));
    title(
        "20,000 jobs from RabbitMQ, API at 0 ms",
        &["loop", "jobs/s", "CPU s per 1,000", "peak MiB", "jobs/s of minimal 256", "CPU of minimal 256"],
    );
    for (n, contestant) in contestants.into_iter().enumerate() {
        let (rate, cost) = (median(&mut rates[n]), median(&mut costs[n]));
        row(&[
            contestant.name(),
            format!("{rate:.0}"),
            format!("{cost:.4}"),
            format!("{:.1}", median(&mut memory[n])),
            format!("{:.2}", rate / base.0),
            format!("{:.2}", cost / base.1),
        ]);
    }
    let bare = median(&mut bare_costs);
    cost_row("reqwest alone, 64 in flight", bare, base.1);
    cost_row("lapin alone and reqwest alone", bare + median(&mut costs[4]), base.1);
}

/// Prints a row of the throughput table that has only CPU time.
fn cost_row(name: &str, cost: f64, base: f64) {
    let none = String::new;
    row(&[name.to_owned(), none(), format!("{cost:.4}"), none(), none(), format!("{:.2}", cost / base)]);
}

fn slow_api() {
    const REQUESTS: usize = 10_000;
    let broker = BenchBroker::new();
    let (mut worker, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        broker.purge();
        broker.fill(0..REQUESTS);
        let (api, url) = mock_api(20);
        let process = broker.worker(&url, 64, 0);
        worker.push(broker.drained(&process, REQUESTS).0);
        drop(process);
        let start = Instant::now();
        Process::this_program(&["bare", &url, "64", &REQUESTS.to_string()]).wait();
        bare.push(REQUESTS as f64 / start.elapsed().as_secs_f64());
        drop(api);
    }
    title("API at 20 ms, 64 requests in flight", &["", "jobs/s", "of the bare client"]);
    let base = median(&mut bare);
    row(&["bare HTTP client".to_owned(), format!("{base:.0}"), "1.00".to_owned()]);
    let rate = median(&mut worker);
    row(&["plu-onboard".to_owned(), format!("{rate:.0}"), format!("{:.3}", rate / base)]);
}

/// Publishes jobs one at a time and measures the time until each event is read, in ms.
fn each_alone(broker: &BenchBroker, events: &mut Consumer, lane: &str, first: usize, count: usize) -> Vec<f64> {
    let mut times = Vec::with_capacity(count);
    for n in first..first + count {
        let (id, body) = (format!("crm-{n:07}"), message(n));
        let start = Instant::now();
        broker.runtime.block_on(async {
            let publish = broker.channel.basic_publish(
                "plu.onboarding.jobs".into(),
                lane.into(),
                BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                body.as_bytes(),
                BasicProperties::default().with_delivery_mode(2),
            );
            publish.await.expect("a channel");
            loop {
                let event = timeout(Duration::from_secs(30), events.next()).await.expect("an event in time");
                let event = event.expect("a consumer").expect("an event");
                // The minimal loop's events have no job id, but only one job is in flight.
                let is_it = event.properties.correlation_id().as_ref().is_none_or(|own| own.as_str() == id);
                if is_it {
                    times.push(start.elapsed().as_secs_f64() * 1_000.0);
                }
                event.ack(BasicAckOptions::default()).await.expect("an acknowledgement");
                if is_it {
                    break;
                }
            }
        });
    }
    times
}

fn latency() {
    const SIGNUPS: usize = 300;
    let broker = BenchBroker::new();
    let (_api, url) = mock_api(0);
    title("Enqueue to event", &["", "p50 ms", "p99 ms"]);
    let mut starts = Vec::new();
    for n in 0..rounds() {
        let mut events = broker.events();
        broker.fill(n..n + 1);
        let start = Instant::now();
        let worker = broker.worker(&url, 64, 0);
        let event = broker.runtime.block_on(events.next()).expect("a consumer").expect("an event");
        starts.push(start.elapsed().as_secs_f64() * 1_000.0);
        broker.runtime.block_on(event.ack(BasicAckOptions::default())).expect("an acknowledgement");
        let tag = events.tag();
        broker.runtime.block_on(broker.channel.basic_cancel(tag, Default::default())).expect("a consumer");
        drop(worker);
    }
    let mut events = broker.events();
    let report = |name: &str, mut times: Vec<f64>| {
        let p50 = percentile(&mut times, 0.5);
        row(&[name.to_owned(), format!("{p50:.1}"), format!("{:.1}", percentile(&mut times, 0.99))]);
    };
    report("start of the process to the first event", starts);
    let minimal = Contestant::Minimal(64).start(&broker, &url);
    let _ = each_alone(&broker, &mut events, "bulk", 100, 20);
    report("idle minimal loop", each_alone(&broker, &mut events, "bulk", 1_000, SIGNUPS));
    drop(minimal);
    let worker = broker.worker(&url, 64, 0);
    let _ = each_alone(&broker, &mut events, "signup", 2_000, 20);
    report("idle worker", each_alone(&broker, &mut events, "signup", 3_000, SIGNUPS));
    drop(worker);
    broker.purge();
    broker.fill(200_000..300_000);
    let worker = broker.worker(&url, 64, 200);
    let _ = each_alone(&broker, &mut events, "signup", 5_000, 20);
    report(
        "100,000 bulk jobs wait, 200 requests a second",
        each_alone(&broker, &mut events, "signup", 10_000, SIGNUPS),
    );
    drop(worker);
    embedded_latency(report);
}

/// A client of an embedded queue: enqueues signups and reads their events from the events file.
struct EmbeddedClient {
    importer: Importer,
    events: std::fs::File,
}

impl EmbeddedClient {
    /// Opens the queue, and the events file of the worker that writes to `results`.
    fn new(queue: &Path, results: &Path) -> Self {
        let connection = open(queue, IfMissing::Create, OpenPurpose::Work, 4_096).expect("a queue");
        let batch = Batch { batch_id: "signups".to_owned(), fingerprint: [7; 32], file: "signups".to_owned() };
        let importer = Importer::begin(connection, queue, &batch, BatchKind::Import, None).expect("a queue");
        let path = results.join("results.ndjson");
        let start = Instant::now();
        while !path.exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "no worker");
            std::thread::yield_now();
        }
        Self { importer, events: std::fs::File::open(path).expect("an events file") }
    }

    /// Enqueues signups one at a time and measures the time until each event is in the file, in ms.
    fn each_alone(&mut self, first: usize, count: usize) -> Vec<f64> {
        let mut times = Vec::with_capacity(count);
        let mut read = String::new();
        for n in first..first + count {
            let (id, body) = (format!("\"crm-{n:07}\""), message(n));
            let (job, _) = Job::parse(body.as_bytes()).expect("a job");
            let place = RowPosition { record: n as u64, line: n as u64 + 1 };
            let start = Instant::now();
            self.importer.enqueue(place, &job, &body, Lane::Signup, Clock::System.now()).expect("a queue");
            self.importer.commit().expect("a queue");
            loop {
                self.events.read_to_string(&mut read).expect("a file");
                if read.contains(&id) {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(30), "no event in time");
                // Keeps the last line, which may be incomplete.
                read.drain(..read.rfind('\n').map_or(0, |at| at + 1));
                std::thread::yield_now();
            }
            times.push(start.elapsed().as_secs_f64() * 1_000.0);
        }
        times
    }
}

/// [`latency`] on the embedded queue.
fn embedded_latency(report: impl Fn(&str, Vec<f64>)) {
    const SIGNUPS: usize = 200;
    let (_api, url) = mock_api(0);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let worker = |rate: u32| {
        let arguments = format!("worker --queue local:q.db --out out --api-url {url} --rate {rate}");
        Process::onboard(folder.path(), &arguments, &[])
    };
    let working = worker(0);
    report("embedded queue, idle worker", EmbeddedClient::new(&path("q.db"), &path("out")).each_alone(0, SIGNUPS));
    drop(working);
    write_csv(&path("customers.csv"), 100_000);
    let _ = timed(folder.path(), "import customers.csv --queue local:q.db");
    let _working = worker(200);
    let mut client = EmbeddedClient::new(&path("q.db"), &path("out"));
    let _ = client.each_alone(200_000, 20);
    report("embedded queue, 100,000 bulk jobs wait, 200 requests a second", client.each_alone(300_000, SIGNUPS));
}

fn embedded() {
    const ROWS: usize = 100_000;
    let folder = tempfile::tempdir().expect("a folder");
    write_csv(&folder.path().join("customers.csv"), ROWS);
    let (mut runs, mut imports, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let (_api, url) = mock_api(0);
        let (seconds, peak) = timed(folder.path(), &format!("run customers.csv --out run --api-url {url} --rate 0"));
        runs.push(ROWS as f64 / seconds);
        memory.push(peak);
        let (seconds, _) = timed(folder.path(), "import customers.csv --queue local:import.db");
        imports.push(ROWS as f64 / seconds);
        std::fs::remove_dir_all(folder.path().join("run")).expect("the results");
        for name in ["import.db", "import.db-wal", "import.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(name));
        }
    }
    title("Embedded queue, 100,000 rows, API at 0 ms", &["", "rows/s", "peak MiB"]);
    row(&[
        "run (import, send, result files)".to_owned(),
        format!("{:.0}", median(&mut runs)),
        format!("{:.1}", median(&mut memory)),
    ]);
    row(&["import alone".to_owned(), format!("{:.0}", median(&mut imports)), String::new()]);
}

/// Runs a command. Returns its seconds and its peak memory in MiB.
fn timed(folder: &Path, arguments: &str) -> (f64, f64) {
    let start = Instant::now();
    let mut process = Process::onboard(folder, arguments, &[]);
    let mut peak: f64 = 0.0;
    while let Some((high, _)) = process.memory_while_running() {
        peak = peak.max(high);
    }
    process.wait();
    (start.elapsed().as_secs_f64(), peak)
}

fn idle() {
    const WATCHED: Duration = Duration::from_secs(20);
    let broker = BenchBroker::new();
    let (_api, url) = mock_api(0);
    title("Idle for 20 s", &["", "% of a core", "MiB"]);
    let local = format!("worker --queue local:idle.db --api-url {url}");
    for (name, process) in [
        ("worker on RabbitMQ", broker.worker(&url, 64, 20)),
        ("worker on the embedded queue", Process::onboard(broker.folder.path(), &local, &[])),
    ] {
        broker.pause(Duration::from_secs(3));
        let before = process.cpu_s();
        broker.pause(WATCHED);
        let share = (process.cpu_s() - before) / WATCHED.as_secs_f64() * 100.0;
        row(&[name.to_owned(), format!("{share:.2}"), format!("{:.1}", process.memory_mib().1)]);
    }
}

fn memory() {
    let broker = BenchBroker::new();
    title("Peak memory of the worker after 20,000 jobs", &["queued", "peak MiB", "of the rounds"]);
    for queued in [20_000, 1_000_000] {
        broker.purge();
        broker.fill(0..queued);
        let mut peaks = Vec::new();
        for _ in 0..rounds() {
            let missing = queued.saturating_sub(broker.ready(BULK));
            broker.fill(0..missing);
            broker.empty(UNROUTED);
            let (_api, url) = mock_api(0);
            let process = broker.worker(&url, 64, 0);
            let _ = broker.drained(&process, JOBS);
            peaks.push(process.memory_mib().0);
        }
        let peak = median(&mut peaks);
        let all: Vec<String> = peaks.iter().map(|peak| format!("{peak:.1}")).collect();
        row(&[queued.to_string(), format!("{peak:.1}"), all.join(", ")]);
    }
}

fn scale() {
    title("run, API at 0 ms", &["rows", "s", "s per 1,000 rows", "peak MiB"]);
    for rows in [10_000, 100_000, 1_000_000] {
        let folder = tempfile::tempdir().expect("a folder");
        write_csv(&folder.path().join("customers.csv"), rows);
        let (_api, url) = mock_api(0);
        let (seconds, peak) = timed(folder.path(), &format!("run customers.csv --out run --api-url {url} --rate 0"));
        row(&[
            rows.to_string(),
            format!("{seconds:.1}"),
            format!("{:.4}", seconds * 1_000.0 / rows as f64),
            format!("{peak:.1}"),
        ]);
    }
}
