//! `import` of a file to RabbitMQ, with crashes of both: no row is lost, no confirmed row is published twice, and the
//! command says how far it is and how to continue.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lapin::types::AMQPValue;
use plu_onboard::sandbox::SandboxConfig;
use tokio::time::Instant;

use crate::support::{Broker, CustomerFile, Partner, Program, TestDir, customers};

const BULK: &str = "plu.onboarding.jobs.bulk";
const SIGNUP: &str = "plu.onboarding.jobs.signup";
const UNROUTED: &str = "plu.onboarding.events.unrouted";

/// Most rows that are published twice after a kill, as the program promises.
const UNSAVED_MAX: usize = 2_000;

fn import(dir: &TestDir, broker: &Broker, arguments: &str) -> Program {
    dir.program(&format!("import --queue {} {arguments}", broker.url()))
}

/// Returns the checkpoint files of imports.
fn checkpoints(dir: &TestDir) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.path(".")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("-import-")).collect()
}

/// Takes every message from the queue. Returns the number of messages of each email.
fn emails(broker: &Broker, queue: &str) -> HashMap<String, usize> {
    let mut emails = HashMap::new();
    for message in broker.drain(queue) {
        *emails.entry(message.body["user"]["email"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    emails
}

#[test]
fn valid_rows_become_messages_and_a_finished_import_is_not_repeated() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let conflicting = customers(1..2).lines().nth(1).unwrap().replace("1 Main Street", "9 Side Street");
    let repeated = customers(2..3).lines().nth(1).unwrap().to_owned();
    let text = CustomerFile::default().with(0..3).with_invalid(3).text + &repeated + "\n" + &conflicting + "\n";
    dir.write("people.csv", text);
    import(&dir, &broker, "people.csv --out rejects").expect_exit(3).assert_output(&[
        "people.csv: 6 rows",
        "put on plu.onboarding.jobs.bulk: 3\n",
        "put on it by an earlier start: 0",
        "repeat an earlier row: 1",
        "rejected, not put on it: 2: see rejects/people-rejected.csv",
        "press Enter):\n  read -rs PLU_ONBOARD__QUEUE__URL && export PLU_ONBOARD__QUEUE__URL && plu-onboard worker\n",
    ]);
    let rejected = dir.table("rejects/people-rejected.csv");
    assert_eq!(rejected.column("errorCode"), ["INVALID_EMAIL", "EMAIL_IN_FILE_TWICE"]);

    import(&dir, &broker, "people.csv --out rejects")
        .expect_exit(3)
        .assert_output(&["complete already: 3 rows", "delete rejects/"]);
    let messages = broker.drain(BULK);
    assert_eq!(messages.len(), 3);
    for message in &messages {
        let properties = &message.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert!(properties.message_id().as_ref().unwrap().as_str().len() == 36 && properties.timestamp().is_some());
        let headers = properties.headers().as_ref().unwrap().inner();
        assert!(headers.contains_key("x-plu-first-seen-ms") && !headers.contains_key("x-plu-first-sent-ms"));
        assert_eq!(message.body["source"]["file"], "people.csv");
        assert!(message.body["batchId"].as_str().unwrap().starts_with("people-"));
    }
    let files = fs::read_dir(dir.path("rejects")).unwrap().map(|entry| entry.unwrap());
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(file.path().extension().unwrap() == "csv" || !text.contains("example.com"), "{text}");
    }
    // An import to another lane is a different import.
    import(&dir, &broker, "people.csv --out rejects --lane signup").expect_exit(3).assert_output(&["jobs.signup: 3\n"]);
    assert_eq!(broker.ready(SIGNUP), 3);
}

#[test]
fn an_import_that_is_killed_and_started_again_creates_each_user_once() {
    const ROWS: usize = 6_000;
    let broker = Broker::start();
    let dir = TestDir::with("people.csv", customers(0..6_000));
    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_for_output("queue=\"plu.onboarding.jobs.bulk\"");
    importing.wait_for_output("connected to the broker");
    importing.wait_until("some rows are on the queue", || broker.ready(BULK) > 1_500);
    importing.kill();
    let before = broker.ready(BULK) as usize;
    assert!(before < ROWS, "it was killed too late");
    let said = import(&dir, &broker, "people.csv").expect_exit(0);
    said.assert_output(&["people.csv: 6,000 rows", "may be on it twice", "no user is created twice"]);
    let ready = broker.ready(BULK) as usize;
    assert!((ROWS..=ROWS + UNSAVED_MAX).contains(&ready), "{ready}");
    assert!(!said.contains("put on it by an earlier start: 0\n"), "it started from the beginning: {said}");

    let mut config = SandboxConfig::default();
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let mut worker = dir
        .program(&format!("worker --queue {} --api-url {} --rate 0", broker.url(), partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .start();
    worker.wait_until("an event for each message", || broker.ready(UNROUTED) as usize == ready);
    worker.signal("TERM");
    worker.expect_exit(0);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (ROWS as u64, ROWS as u64));
    let events = broker.drain(UNROUTED);
    assert!(events.iter().all(|event| event.routing_key == "user.created"), "a repeat counts as existing before");
}

#[test]
fn an_import_waits_for_a_killed_broker_and_loses_no_row() {
    const ROWS: usize = 6_000;
    let mut broker = Broker::start();
    let dir = TestDir::with("people.csv", customers(0..6_000));
    dir.write("first.csv", customers(9_000..9_001));
    import(&dir, &broker, "first.csv --lane signup").expect_exit(0);
    let declared = Instant::now();
    let idle = dir.program(&format!("worker --sandbox --queue {}", broker.url()));
    let mut idle = idle.set("amqp.prefix", "idle.sandbox").start();
    // RabbitMQ 3.10 doesn't elect a leader for a quorum queue that was declared a moment before a kill.
    idle.wait_until("elected leaders of the queues", || declared.elapsed() > Duration::from_secs(7));
    idle.kill();

    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_until("some rows are on the queue", || broker.ready(BULK) > 1_000);
    broker.kill();
    importing.wait_for_output("lost; reconnecting");
    broker.restart();
    importing.expect_exit(0).assert_output(&["people.csv: 6,000 rows", "put on plu.onboarding.jobs.bulk: 6,000"]);
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), ROWS);
    let twice = emails.values().filter(|times| **times > 1).count();
    assert!(twice <= 1_000 && emails.values().all(|times| *times <= 2), "{twice}");
}

/// Runs a command in a shell, and answers its question with this line. Returns its output.
fn pasted(dir: &TestDir, command: &str, line: &str) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).current_dir(dir.path(""));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(shell.stdin.take().unwrap(), "{line}").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_stopped_import_says_how_to_continue_and_publishes_no_row_twice() {
    let broker = Broker::start();
    let dir = TestDir::with("people.csv", customers(0..6_000));
    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_for_output("connected to the broker");
    importing.wait_until("some rows are on the queue", || broker.ready(BULK) > 500);
    importing.signal("INT");
    let said = importing.expect_exit(1);
    said.assert_output(&["Resume with (it waits for you to paste the URL of --queue and press Enter):\n  read -rs"]);
    said.assert_no_output(&["guest:guest", "not confirmed"]);
    let again = pasted(&dir, said.stderr.lines().last().unwrap(), &broker.url());
    assert!(again.contains("people.csv: 6,000 rows") && !again.contains("twice"), "{again}");
    let next = "Start a worker on it with (PLU_ONBOARD__QUEUE__URL set as now):\n  plu-onboard worker\n";
    assert!(again.ends_with(next), "{again}");
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), 6_000);
    assert!(emails.values().all(|times| *times == 1));
    assert_eq!(checkpoints(&dir).len(), 1);
}

#[test]
fn an_import_waits_for_a_broker_that_is_down_until_it_is_stopped() {
    let mut broker = Broker::start();
    broker.kill();
    let dir = TestDir::with("people.csv", customers(0..10));
    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_for_output("can't connect to the broker");
    let mut second = import(&dir, &broker, "people.csv").start();
    second.wait_for_output("another process is importing this file");
    second.expect_exit(1);
    importing.signal("INT");
    importing.expect_exit(1).assert_output(&["Resume with ("]);
    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_for_output("can't connect to the broker");
    broker.restart();
    importing.expect_exit(0);
    assert_eq!(broker.ready(BULK), 10);
}

#[test]
fn a_row_that_may_be_a_repeat_counts_as_possibly_sent() {
    let broker = Broker::start();
    let dir = TestDir::with("people.csv", customers(0..3));
    // The checkpoint of a process that was killed before its first confirm.
    import(&dir, &broker, "people.csv").expect_exit(0);
    let [path] = &checkpoints(&dir)[..] else { panic!("one checkpoint") };
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    broker.drain(BULK);
    // A start that is stopped before it publishes anything changes nothing about that.
    broker.freeze();
    let mut stopped = import(&dir, &broker, "people.csv").set("amqp.connect_timeout_s", "1").start();
    stopped.wait_for_output("no answer within 1 s: is the broker frozen?");
    stopped.signal("INT");
    stopped.expect_exit(1).assert_output(&["0 rows were put on the queue by this start, and"]);
    broker.thaw();
    import(&dir, &broker, "people.csv").expect_exit(0).assert_output(&["up to 3 of them may be on it twice"]);
    for message in broker.drain(BULK) {
        let headers = message.properties.headers().as_ref().unwrap().inner();
        assert!(matches!(headers.get("x-plu-first-sent-ms"), Some(AMQPValue::LongLongInt(_))), "{headers:?}");
    }
}

#[test]
fn an_import_waits_for_the_end_of_an_alarm_and_can_be_interrupted() {
    let (broker, dir) = (Broker::start(), TestDir::with("people.csv", customers(0..6_000)));
    broker.declare("plu.onboarding");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    let start = || import(&dir, &broker, "people.csv").set("amqp.confirm_timeout_s", "5").start();
    let mut importing = start();
    importing.wait_for_output("import paused: the broker has a memory or disk alarm");
    // Longer than the confirm timeout: an alarm doesn't break the connection.
    broker.rabbitmqctl(&["eval", "timer:sleep(6000)."]);
    importing.signal("INT");
    let said = importing.expect_exit(1);
    said.assert_output(&["Resume with (", "were sent and not confirmed"]);
    said.assert_no_output(&["lost; reconnecting", "no confirm within"]);

    let mut importing = start();
    importing.wait_for_output("import paused: the broker has a memory or disk alarm");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]);
    let said = importing.expect_exit(0);
    said.assert_output(&["the broker accepts messages again", "people.csv: 6,000 rows"]);
    assert_eq!(said.times("import paused: the broker has a memory or disk alarm"), 1, "{said}");
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), 6_000);
    assert!(emails.values().all(|times| *times <= 2));
}

#[test]
fn a_lanes_queue_that_is_deleted_during_an_import_is_declared_again() {
    // Enough rows that the queue is deleted before the end.
    let (broker, dir) = (Broker::start(), TestDir::with("people.csv", customers(0..30_000)));
    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_for_output("connected to the broker");
    importing.wait_until("some rows are on the queue", || broker.ready(BULK) > 500);
    importing.signal("STOP");
    broker.delete(BULK);
    importing.signal("CONT");
    // The broker returns the rows or confirms nothing: either way the connection is rebuilt.
    importing.wait_for_output_times("connected to the broker", 2);
    importing.expect_exit(0).assert_output(&["people.csv: 30,000 rows"]);
    assert!(broker.ready(BULK) > 0);
}

#[test]
fn an_import_reconnects_after_the_broker_was_frozen() {
    let (broker, dir) = (Broker::start(), TestDir::with("people.csv", customers(0..6_000)));
    let mut importing = import(&dir, &broker, "people.csv")
        .set("amqp.confirm_timeout_s", "3")
        .set("amqp.connect_timeout_s", "4")
        .set("amqp.heartbeat_s", "2")
        .start();
    importing.wait_for_output("connected to the broker");
    importing.wait_until("some rows are on the queue", || broker.ready(BULK) > 500);
    broker.freeze();
    importing.wait_for_output("lost; reconnecting");
    importing.wait_for_output("no answer within 4 s: is the broker frozen?");
    broker.thaw();
    importing.expect_exit(0).assert_output(&["people.csv: 6,000 rows", "put on plu.onboarding.jobs.bulk: 6,000"]);
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), 6_000);
    assert!(emails.values().all(|times| *times <= 2));
}

#[test]
fn rows_that_a_full_queue_refuses_are_published_again_until_accepted_once() {
    const ROWS: usize = 3_000;
    let (broker, dir) = (Broker::start(), TestDir::with("people.csv", customers(0..3_000)));
    broker.declare("plu.onboarding");
    // The queue is declared with `reject-publish`, so a full one refuses messages.
    broker.rabbitmqctl(&["set_policy", "full", "jobs.bulk$", r#"{"max-length":100}"#, "--apply-to", "queues"]);
    let mut importing = import(&dir, &broker, "people.csv").start();
    importing.wait_for_output("the broker refuses rows");
    assert!((broker.ready(BULK) as usize) < ROWS);
    // A reader makes room. RabbitMQ accepts a few more than the limit, so the import can end before the last is read.
    let (mut times, deadline) = (HashMap::new(), Instant::now() + Duration::from_secs(120));
    while times.len() < ROWS {
        assert!(Instant::now() < deadline, "{} of {ROWS} rows. {}", times.len(), importing.output_so_far());
        for message in broker.drain(BULK) {
            let headers = message.properties.headers().as_ref().unwrap().inner();
            assert!(!headers.contains_key("x-plu-first-sent-ms"), "a refused row was never on the queue: {headers:?}");
            *times.entry(message.body["user"]["email"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    let said = importing.expect_exit(0);
    said.assert_output(&["put on plu.onboarding.jobs.bulk: 3,000"]);
    said.assert_no_output(&["lost; reconnecting", "twice"]);
    assert!(times.values().all(|times| *times == 1), "a refused row was published twice");
    assert_eq!(broker.ready(BULK), 0);
}
