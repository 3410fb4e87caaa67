//! Tests of the queue as a whole: every job that was added is delivered and finished once, also after crashes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::adapters::local_queue::export::EventsFileExporter;
use crate::adapters::local_queue::import::{Batch, BatchKind, Enqueued, Importer, RowPosition, batches};
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open, record_target};
use crate::adapters::local_queue::purge::contents;
use crate::adapters::local_queue::report::{self, Tally};
use crate::adapters::local_queue::source::{LocalQueueHandle, LocalQueueSource, WhenEmpty};
use crate::adapters::local_queue::storage::StorageState;
use crate::adapters::local_queue::store::{ClaimResult, LocalQueueStore, OnFinished, StoreConfig};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, Job, Lane, LinkLoss, Outcome, Problem, ServiceId, Timestamp};
use crate::ports::{Delivery, JobSource, Settle};
use crate::testing;

static BATCH: LazyLock<Batch> =
    LazyLock::new(|| Batch { batch_id: "spring".to_owned(), fingerprint: [7; 32], file: "customers.csv".to_owned() });

struct TestQueue {
    _folder: TempDir,
    path: PathBuf,
}

impl TestQueue {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        open(&path, IfMissing::Create, OpenPurpose::Work, 64).unwrap();
        Self { _folder: folder, path }
    }

    fn connection(&self) -> rusqlite::Connection {
        open(&self.path, IfMissing::Fail, OpenPurpose::Work, 64).unwrap()
    }

    fn importer(&self) -> Importer {
        let known = batches(&self.connection(), &self.path).unwrap();
        Importer::begin(self.connection(), &self.path, &BATCH, BatchKind::Run, known.first()).unwrap()
    }

    /// Imports jobs with these emails and cities, from line 2 on.
    fn import(&self, people: &[(&str, &str)]) -> Vec<Enqueued> {
        let mut importer = self.importer();
        let enqueued = (1..).zip(people).map(|(record, (email, city))| {
            let body = message(email, city);
            let (job, _) = Job::parse(body.as_bytes()).unwrap();
            let position = RowPosition { record, line: record + 1 };
            importer.enqueue(position, &job, &body, Lane::Bulk, Timestamp::from_unix_ms(5)).unwrap()
        });
        let enqueued = enqueued.collect();
        importer.finish(true).unwrap();
        enqueued
    }

    fn store(&self) -> LocalQueueStore {
        LocalQueueStore::start(self.connection(), &self.path, StoreConfig::default()).unwrap()
    }

    fn jobs(&self) -> Tally {
        report::jobs(&self.connection(), &self.path).unwrap()
    }

    fn rows(&self) -> Tally {
        report::rows(&self.connection(), &self.path, 1).unwrap()
    }
}

fn calling(on_finished: OnFinished) -> StoreConfig {
    StoreConfig { on_finished, ..StoreConfig::default() }
}

fn source(store: &LocalQueueStore) -> LocalQueueSource {
    let clock = Clock::simulated(Timestamp::from_unix_ms(1_000_000));
    LocalQueueSource::new(store.clone(), Lane::Bulk, WhenEmpty::End, Duration::from_millis(10), clock)
}

fn message(email: &str, city: &str) -> String {
    let mut message = testing::message::message("crm-1", email);
    message["user"]["city"] = json!(city);
    message.to_string()
}

fn event(delivery: &Delivery<LocalQueueHandle>, outcome: Outcome) -> Event {
    let (job, _) = Job::parse(&delivery.body).unwrap();
    Event::of(outcome, job.identity.clone(), job.key, 1, Timestamp::from_unix_ms(9))
}

fn created() -> Outcome {
    let service_id = ServiceId::parse("acme-user-1").unwrap();
    Outcome::Created { service_id, link: Err(LinkLoss::NotSent), recovered: false }
}

const THREE: [(&str, &str); 3] = [("a@example.com", "Rome"), ("b@example.com", "Rome"), ("c@example.com", "Rome")];

#[tokio::test(start_paused = true)]
async fn jobs_are_delivered_in_order_and_the_source_ends_when_all_are_settled() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let store = queue.store();
    let mut source = source(&store);
    for (email, _) in THREE {
        let delivery = source.receive().await.unwrap().unwrap();
        assert_eq!(Job::parse(&delivery.body).unwrap().0.email, email);
        let event = event(&delivery, created());
        delivery.handle.finish(&event).await.unwrap();
    }
    assert!(source.receive().await.unwrap().is_none());
    assert_eq!(queue.jobs(), Tally { created: 3, ..Tally::default() });
}

#[tokio::test(start_paused = true)]
async fn a_source_does_not_end_while_a_job_is_in_progress() {
    let queue = TestQueue::new();
    queue.import(&THREE[..1]);
    let store = queue.store();
    let mut source = source(&store);
    let delivery = source.receive().await.unwrap().unwrap();
    assert_eq!(lane(&store).await, "later");
    delivery.handle.requeue(delivery.history, Duration::ZERO).await.unwrap();
    assert!(source.receive().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_job_in_progress_at_a_crash_is_delivered_again_with_its_intent() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let sent_at = Timestamp::from_unix_ms(77);
    {
        let store = queue.store();
        let mut source = source(&store);
        let mut first = source.receive().await.unwrap().unwrap();
        first.handle.record_intent(sent_at).await.unwrap();
        let second = source.receive().await.unwrap().unwrap();
        let event = event(&second, created());
        second.handle.finish(&event).await.unwrap();
    }
    let store = queue.store();
    let mut source = source(&store);
    let again = source.receive().await.unwrap().unwrap();
    assert_eq!(Job::parse(&again.body).unwrap().0.email, "a@example.com");
    assert_eq!(again.history.first_sent_at, Some(sent_at));
    let third = source.receive().await.unwrap().unwrap();
    assert_eq!(Job::parse(&third.body).unwrap().0.email, "c@example.com");
    assert_eq!(third.history, History::new(Timestamp::from_unix_ms(5)));
}

#[tokio::test(start_paused = true)]
async fn a_requeued_job_is_delivered_once_when_it_is_due() {
    let queue = TestQueue::new();
    queue.import(&THREE[..2]);
    let store = queue.store();
    let mut source = source(&store);
    let first = source.receive().await.unwrap().unwrap();
    let history = History { attempts: 2, ..first.history.with_send(Timestamp::from_unix_ms(50)) };
    first.handle.requeue(history, Duration::from_secs(30)).await.unwrap();
    let second = source.receive().await.unwrap().unwrap();
    let start = tokio::time::Instant::now();
    let first = source.receive().await.unwrap().unwrap();
    assert!((Duration::from_secs(30)..Duration::from_secs(31)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(first.history, history);
    // Both are in progress and due; neither is delivered again.
    assert_eq!(lane(&store).await, "later");
    drop((first, second));
}

/// Result of a claim long after every job of the lane is due.
async fn lane(store: &LocalQueueStore) -> &'static str {
    let late = Timestamp::from_unix_ms(1_000_000_000);
    match store.request_claim(Lane::Bulk, late, 10).await.unwrap().await.unwrap().unwrap() {
        ClaimResult::Jobs(_) => "jobs",
        ClaimResult::Later => "later",
        ClaimResult::Drained => "drained",
    }
}

#[tokio::test]
async fn a_dropped_receive_loses_no_job() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let store = queue.store();
    let mut source = source(&store);
    let mut emails = Vec::new();
    let email_of = |delivery: Delivery<LocalQueueHandle>| Job::parse(&delivery.body).unwrap().0.email;
    for _ in 0..20 {
        // Polled once, so that the claim is requested, then dropped.
        let mut receive = std::pin::pin!(source.receive());
        if let Some(received) = futures_poll_once(receive.as_mut()).await {
            emails.push(email_of(received.unwrap().unwrap()));
            break;
        }
    }
    while emails.len() < THREE.len() {
        let received = tokio::time::timeout(Duration::from_secs(60), source.receive()).await;
        emails.push(email_of(received.expect("a job was lost").unwrap().unwrap()));
    }
    assert_eq!(emails, THREE.map(|(email, _)| email));
}

async fn futures_poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
}

#[test]
fn the_same_request_is_added_once() {
    let queue = TestQueue::new();
    let people =
        [("a@example.com", "Rome"), ("b@example.com", "Rome"), ("A@Example.com", " Rome "), ("b@example.com", "Paris")];
    assert_eq!(
        queue.import(&people),
        [Enqueued::New, Enqueued::New, Enqueued::Repeat { line: 2 }, Enqueued::EmailConflict { line: 3 }]
    );
    assert_eq!(queue.jobs().waiting, 2);
    assert_eq!(queue.rows().waiting, 3);
}

#[test]
fn imports_recognise_each_others_jobs_and_refuse_the_queue_of_a_run() {
    let queue = TestQueue::new();
    let import = |kind| Importer::begin(queue.connection(), &queue.path, &BATCH, kind, None);
    let mut both = [import(BatchKind::Import).unwrap(), import(BatchKind::Import).unwrap()];
    let body = message("a@example.com", "Rome");
    let (job, _) = Job::parse(body.as_bytes()).unwrap();
    let position = RowPosition { record: 1, line: 2 };
    let enqueued = both.each_mut().map(|importer| {
        let enqueued = importer.enqueue(position, &job, &body, Lane::Bulk, Timestamp::from_unix_ms(0)).unwrap();
        importer.commit().unwrap();
        enqueued
    });
    assert_eq!(enqueued, [Enqueued::New, Enqueued::Known]);
    let message = import(BatchKind::Run).unwrap_err().to_string();
    assert!(message.contains("a run has a queue of its own"), "{message}");
    let run = TestQueue::new();
    run.import(&THREE);
    assert!(Importer::begin(run.connection(), &run.path, &BATCH, BatchKind::Import, None).is_err());
}

#[test]
fn an_interrupted_import_that_was_repeated_is_complete() {
    let queue = TestQueue::new();
    let import = || Importer::begin(queue.connection(), &queue.path, &BATCH, BatchKind::Import, None).unwrap();
    let incomplete = || contents(&queue.connection(), &queue.path).unwrap().incomplete;
    import().finish(false).unwrap();
    assert_eq!(incomplete(), ["customers.csv"]);
    import().finish(true).unwrap();
    assert!(incomplete().is_empty());
}

#[test]
fn an_import_commits_more_often_while_a_worker_runs() {
    let queue = TestQueue::new();
    let mut importer = Importer::begin(queue.connection(), &queue.path, &BATCH, BatchKind::Import, None).unwrap();
    assert!(!importer.should_commit_after(1_000).unwrap());
    assert!(importer.should_commit_after(20_000).unwrap(), "the transaction is too long");
    let worker = WorkerLock::acquire(&queue.path, Timestamp::from_unix_ms(0)).unwrap();
    assert!(importer.should_commit_after(1).unwrap());
    drop(worker);
    assert!(!importer.should_commit_after(1_000).unwrap());
}

#[test]
fn another_writer_waits_for_the_end_of_an_imports_transaction() {
    let queue = TestQueue::new();
    let mut importer = Importer::begin(queue.connection(), &queue.path, &BATCH, BatchKind::Import, None).unwrap();
    let body = message("a@example.com", "Rome");
    let (job, _) = Job::parse(body.as_bytes()).unwrap();
    importer.enqueue(RowPosition { record: 1, line: 2 }, &job, &body, Lane::Bulk, Timestamp::from_unix_ms(0)).unwrap();
    // Opening doesn't wait.
    let other = queue.connection();
    std::thread::scope(|scope| {
        let (begins, begun) = std::sync::mpsc::channel();
        let path = &queue.path;
        let writing = scope.spawn(move || {
            begins.send(()).unwrap();
            record_target(&other, path, "https://api.example/")
        });
        begun.recv().unwrap();
        assert!(!writing.is_finished());
        importer.commit().unwrap();
        writing.join().unwrap().unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_with_a_retracted_intent_counts_as_never_sent() {
    let queue = TestQueue::new();
    queue.import(&THREE[..1]);
    {
        let store = queue.store();
        let mut first = source(&store).receive().await.unwrap().unwrap();
        first.handle.record_intent(Timestamp::from_unix_ms(77)).await.unwrap();
        first.handle.retract_intent().await.unwrap();
    }
    let again = source(&queue.store()).receive().await.unwrap().unwrap();
    assert_eq!(again.history.first_sent_at, None);
}

#[tokio::test(start_paused = true)]
async fn a_queue_whose_jobs_were_sent_refuses_another_api() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let record = |api| record_target(&queue.connection(), &queue.path, api).map_err(|error| error.to_string());
    record("https://mistyped.example/").unwrap();
    // No request was sent there.
    record("https://staging.example/").unwrap();
    let store = queue.store();
    let mut first = source(&store).receive().await.unwrap().unwrap();
    first.handle.record_intent(Timestamp::from_unix_ms(1)).await.unwrap();
    record("https://staging.example/").unwrap();
    let message = record("sandbox").unwrap_err();
    assert!(message.contains("were sent to https://staging.example/, not to sandbox"), "{message}");
}

#[test]
fn an_own_key_that_belongs_to_another_request_is_a_conflict() {
    let queue = TestQueue::new();
    let mut importer = queue.importer();
    let mut enqueue = |record, email, own_key: Option<&str>| {
        let mut body: serde_json::Value = serde_json::from_str(&message(email, "Rome")).unwrap();
        body["idempotencyKey"] = json!(own_key);
        let body = body.to_string();
        let (job, _) = Job::parse(body.as_bytes()).unwrap();
        importer
            .enqueue(RowPosition { record, line: record + 1 }, &job, &body, Lane::Bulk, Timestamp::from_unix_ms(0))
            .unwrap()
    };
    let (one, other) = (Some("550e8400-e29b-41d4-a716-446655440000"), Some("650e8400-e29b-41d4-a716-446655440000"));
    assert_eq!(enqueue(1, "a@example.com", one), Enqueued::New);
    assert_eq!(enqueue(2, "b@example.com", one), Enqueued::KeyConflict);
    assert_eq!(enqueue(3, "a@example.com", one), Enqueued::Repeat { line: 2 });
    // A row that isn't added reserves neither its email nor its key.
    assert_eq!(enqueue(4, "a@example.com", other), Enqueued::EmailConflict { line: 2 });
    assert_eq!(enqueue(5, "b@example.com", other), Enqueued::New);
    assert_eq!(enqueue(6, "b@example.com", one), Enqueued::EmailConflict { line: 6 });
    assert_eq!(enqueue(7, "b@example.com", None), Enqueued::EmailConflict { line: 6 });
    drop(importer);
    assert_eq!(queue.jobs().waiting, 2);
}

#[tokio::test(start_paused = true)]
async fn every_row_is_accounted_for() {
    let queue = TestQueue::new();
    queue.import(&[THREE[0], THREE[1], THREE[2], THREE[0], ("d@example.com", "Rome")]);
    let store = queue.store();
    let mut source = source(&store);
    let problem = || Problem::whole("X", "x");
    for outcome in [
        created(),
        Outcome::Rejected(vec![problem()]),
        Outcome::Failed { problem: problem(), may_have_been_created: true },
    ] {
        let delivery = source.receive().await.unwrap().unwrap();
        let event = event(&delivery, outcome);
        delivery.handle.finish(&event).await.unwrap();
    }
    let expected = Tally { created: 1, existing: 1, rejected: 1, failed: 1, waiting: 1 };
    assert_eq!(queue.rows(), expected);
    let mut types = Vec::new();
    report::each_row(&queue.connection(), &queue.path, 1, |row| {
        types.push(row.event_type.map(crate::domain::EventType::short));
        Ok::<(), crate::adapters::local_queue::error::LocalQueueError>(())
    })
    .unwrap();
    assert_eq!(types, [Some("created"), Some("rejected"), Some("failed"), Some("existing"), None]);
}

#[test]
fn a_row_that_fails_in_part_leaves_no_job() {
    let queue = TestQueue::new();
    let mut importer = queue.importer();
    let mut enqueue = |record, email| {
        let body = message(email, "Rome");
        let (job, _) = Job::parse(body.as_bytes()).unwrap();
        let position = RowPosition { record, line: record + 1 };
        importer.enqueue(position, &job, &body, Lane::Bulk, Timestamp::from_unix_ms(0))
    };
    // The second statement of the row fails.
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON emails BEGIN SELECT RAISE(ABORT, 'broken'); END";
    queue.connection().execute_batch(broken).unwrap();
    assert!(enqueue(1, "a@example.com").is_err());
    queue.connection().execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(enqueue(2, "b@example.com").unwrap(), Enqueued::New);
    drop(importer);
    assert_eq!(queue.jobs().waiting, 1);
}

#[test]
fn a_full_disk_is_an_error_and_committed_rows_are_kept() {
    let queue = TestQueue::new();
    let small = open(&queue.path, IfMissing::Fail, OpenPurpose::Import, 1).unwrap();
    let mut importer = Importer::begin(small, &queue.path, &BATCH, BatchKind::Run, None).unwrap();
    let mut failure = None;
    for record in 1..100_000 {
        let body = message(&format!("p{record}@example.com"), "Rome");
        let (job, _) = Job::parse(body.as_bytes()).unwrap();
        let position = RowPosition { record, line: record + 1 };
        if let Err(error) = importer.enqueue(position, &job, &body, Lane::Bulk, Timestamp::from_unix_ms(0)) {
            failure = Some(error.to_string());
            break;
        }
        if record % 100 == 0 {
            importer.commit().unwrap();
        }
    }
    drop(importer);
    let failure = failure.expect("the queue grew over its limit");
    assert!(failure.contains("the disk is full") && failure.contains("no job is lost"), "{failure}");
    let known = batches(&queue.connection(), &queue.path).unwrap().remove(0);
    assert_eq!(known.last_record, queue.jobs().waiting);
    assert!(known.last_record > 0 && known.last_record.is_multiple_of(100), "{}", known.last_record);
    assert!(!known.is_complete);
}

#[tokio::test(start_paused = true)]
async fn the_events_file_holds_each_event_once_through_crashes_and_rotation() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let file = queue.path.with_file_name("results.ndjson");
    let failures = Arc::new(AtomicUsize::new(0));
    let start = || {
        let failures = Arc::clone(&failures);
        let on_failure = move || {
            failures.fetch_add(1, Ordering::SeqCst);
        };
        EventsFileExporter::start(queue.connection(), &queue.path, &file, StorageState::default(), on_failure).unwrap()
    };
    let finish_one = || async {
        let exporter = start();
        let store = LocalQueueStore::start(queue.connection(), &queue.path, calling(exporter.waker())).unwrap();
        let delivery = source(&store).receive().await.unwrap().unwrap();
        let event = event(&delivery, created());
        delivery.handle.finish(&event).await.unwrap();
        drop(store);
        exporter.finish().unwrap();
    };
    let emails = || -> Vec<String> {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap());
        lines.map(|event| event.email.unwrap()).collect()
    };

    finish_one().await;
    assert_eq!(emails(), ["a@example.com"]);
    // A crash before the progress is saved for the first time.
    queue.connection().execute("UPDATE exports SET finished = 0, bytes = 0", []).unwrap();
    start().finish().unwrap();
    assert_eq!(emails(), ["a@example.com"]);
    // A crash after the write and before the progress is saved: the lines behind it are written again, once.
    let saved = std::fs::metadata(&file).unwrap().len();
    finish_one().await;
    queue.connection().execute("UPDATE exports SET finished = 1, bytes = ?1", [saved]).unwrap();
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    start().finish().unwrap();
    assert_eq!(emails(), ["a@example.com", "b@example.com"]);
    assert!(!file.with_file_name("results.ndjson.aside-1").exists(), "the file was moved");
    // After the file is moved away, a new one is started.
    std::fs::remove_file(&file).unwrap();
    finish_one().await;
    assert_eq!(emails(), ["c@example.com"]);
    assert_eq!(failures.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_events_file_with_unknown_events_is_moved_and_not_overwritten() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let file = queue.path.with_file_name("results.ndjson");
    let exporter =
        || EventsFileExporter::start(queue.connection(), &queue.path, &file, StorageState::default(), || {}).unwrap();
    let running = exporter();
    let store = LocalQueueStore::start(queue.connection(), &queue.path, calling(running.waker())).unwrap();
    let delivery = source(&store).receive().await.unwrap().unwrap();
    let event = event(&delivery, created());
    delivery.handle.finish(&event).await.unwrap();
    drop(store);
    running.finish().unwrap();
    let known = std::fs::read_to_string(&file).unwrap();
    // After the event that the queue exports next: a known event, an unknown one, and a torn unknown one.
    let reset = "UPDATE exports SET finished = 0, bytes = 0";
    for (number, surplus) in
        [known.clone(), "{\"of\":\"another life\"}\n".to_owned(), "{\"torn".to_owned()].iter().enumerate()
    {
        let text = format!("{known}{surplus}");
        std::fs::write(&file, &text).unwrap();
        queue.connection().execute(reset, []).unwrap();
        exporter().finish().unwrap();
        let aside = file.with_file_name(format!("results.ndjson.aside-{}", number + 1));
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), text);
        assert_eq!(aside.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), known, "the new file has the events that follow");
    }
    exporter().finish().unwrap();
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 5, "files beside the queue");
}

#[tokio::test(start_paused = true)]
async fn an_events_file_that_is_truncated_starts_with_the_next_event() {
    let queue = TestQueue::new();
    queue.import(&THREE);
    let file = queue.path.with_file_name("results.ndjson");
    let exporter =
        EventsFileExporter::start(queue.connection(), &queue.path, &file, StorageState::default(), || {}).unwrap();
    let wake = exporter.waker();
    let (written, awaited) = std::sync::mpsc::sync_channel(1);
    // Wakes the exporter, then waits until it has written the event.
    let path = file.clone();
    let on_finished = move || {
        wake();
        while !std::fs::read(&path).is_ok_and(|text| text.ends_with(b"\n")) {
            std::thread::yield_now();
        }
        written.send(()).unwrap();
    };
    let store = LocalQueueStore::start(queue.connection(), &queue.path, calling(Box::new(on_finished))).unwrap();
    let mut source = source(&store);
    for _ in 0..2 {
        let delivery = source.receive().await.unwrap().unwrap();
        let event = event(&delivery, created());
        delivery.handle.finish(&event).await.unwrap();
        awaited.recv().unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    }
    let delivery = source.receive().await.unwrap().unwrap();
    let event = event(&delivery, created());
    delivery.handle.finish(&event).await.unwrap();
    awaited.recv().unwrap();
    drop((source, store));
    exporter.finish().unwrap();

    let text = std::fs::read_to_string(&file).unwrap();
    let emails: Vec<_> = text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().email.unwrap()).collect();
    assert_eq!(emails, ["c@example.com"]);
    let saved: u64 = queue.connection().query_row("SELECT bytes FROM exports", [], |row| row.get(0)).unwrap();
    assert_eq!(saved, text.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn users_created_in_a_day_are_counted_after_a_restart() {
    let queue = TestQueue::new();
    queue.import(&[&THREE[..], &[("d@example.com", "Rome"), ("e@example.com", "Rome")]].concat());
    let store = queue.store();
    let mut source = source(&store);
    let minute = 60_000;
    let existing = Outcome::Existing { service_id: None };
    // Before the period, created, not created, without an answer; the last job was never sent.
    for (sent_at, outcome) in
        [(minute, Some(created())), (3 * minute, Some(created())), (3 * minute, Some(existing)), (3 * minute + 1, None)]
    {
        let mut delivery = source.receive().await.unwrap().unwrap();
        delivery.handle.record_intent(Timestamp::from_unix_ms(sent_at)).await.unwrap();
        if let Some(outcome) = outcome {
            let event = event(&delivery, outcome);
            delivery.handle.finish(&event).await.unwrap();
        }
    }
    drop((source, store));
    let since = Timestamp::from_unix_ms(2 * minute);
    let created = report::created_since(&queue.connection(), &queue.path, since).unwrap();
    assert_eq!(created, [(Timestamp::from_unix_ms(3 * minute), 2)]);
}
