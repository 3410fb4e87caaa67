//! A file goes onto RabbitMQ, whatever dies on the way: no row is lost, none is put on twice that is known to be there, and
//! a person is told where it stands and how to go on.

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

use crate::support::{Broker, CustomerFile, Partner, Place, Program, customers};

const BULK: &str = "plu.onboarding.jobs.bulk";
const SIGNUP: &str = "plu.onboarding.jobs.signup";
const UNROUTED: &str = "plu.onboarding.events.unrouted";

/// What may come twice after a kill, as the program promises.
const UNSAVED_MAX: usize = 2_000;

fn import(place: &Place, broker: &Broker, arguments: &str) -> Program {
    place.program(&format!("import --queue {} {arguments}", broker.url()))
}

/// Every file beside `people.csv` that notes how far an import is.
fn checkpoints(place: &Place) -> Vec<PathBuf> {
    let files = fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("-import-")).collect()
}

/// How often each email is on the queue.
fn emails(broker: &Broker, queue: &str) -> HashMap<String, usize> {
    let mut emails = HashMap::new();
    for message in broker.drain(queue) {
        *emails.entry(message.body["user"]["email"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    emails
}

#[test]
fn valid_rows_become_messages_and_a_finished_import_is_not_doubled() {
    let (broker, place) = (Broker::start(), Place::new());
    let conflicting = customers(1..2).lines().nth(1).unwrap().replace("1 Main Street", "9 Side Street");
    let repeated = customers(2..3).lines().nth(1).unwrap().to_owned();
    let text = CustomerFile::default().with(0..3).with_invalid(3).text + &repeated + "\n" + &conflicting + "\n";
    place.write("people.csv", text);
    import(&place, &broker, "people.csv --out rejects").ends_with(3).said(&[
        "people.csv: 6 rows",
        "put on plu.onboarding.jobs.bulk: 3\n",
        "on it from an earlier start: 0",
        "repeat an earlier row: 1",
        "rejected, not put on it: 2: see rejects/people-rejected.csv",
        "press Enter):\n  read -rs PLU_ONBOARD__QUEUE__URL && export PLU_ONBOARD__QUEUE__URL && plu-onboard worker\n",
    ]);
    let rejected = place.table("rejects/people-rejected.csv");
    assert_eq!(rejected.column("errorCode"), ["INVALID_EMAIL", "EMAIL_IN_FILE_TWICE"]);

    import(&place, &broker, "people.csv --out rejects")
        .ends_with(3)
        .said(&["complete already: 3 rows", "delete rejects/"]);
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
    let files = fs::read_dir(place.path("rejects")).unwrap().map(|entry| entry.unwrap());
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(file.path().extension().unwrap() == "csv" || !text.contains("example.com"), "{text}");
    }
    // Another lane is another import.
    import(&place, &broker, "people.csv --out rejects --lane signup").ends_with(3).said(&["jobs.signup: 3\n"]);
    assert_eq!(broker.ready(SIGNUP), 3);
}

#[test]
fn an_import_that_is_killed_and_started_again_creates_everybody_once() {
    const ROWS: usize = 6_000;
    let broker = Broker::start();
    let place = Place::with("people.csv", customers(0..6_000));
    let mut importing = import(&place, &broker, "people.csv").start();
    importing.says("queue=\"plu.onboarding.jobs.bulk\"");
    importing.says("connected to the broker");
    importing.until("some rows are on the queue", || broker.ready(BULK) > 1_500);
    importing.kill();
    let before = broker.ready(BULK) as usize;
    assert!(before < ROWS, "it was not killed in the middle");
    let said = import(&place, &broker, "people.csv").ends_with(0);
    said.said(&["people.csv: 6,000 rows", "may be on it twice", "nobody is created twice"]);
    let ready = broker.ready(BULK) as usize;
    assert!((ROWS..=ROWS + UNSAVED_MAX).contains(&ready), "{ready}");
    assert!(!said.contains("on it from an earlier start: 0\n"), "it began from the beginning: {said}");

    let mut config = SandboxConfig::default();
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let mut worker = place
        .program(&format!("worker --queue {} --api-url {} --rate 0", broker.url(), partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .start();
    worker.until("every message has its event", || broker.ready(UNROUTED) as usize == ready);
    worker.signal("TERM");
    worker.ends_with(0);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.created), (ROWS as u64, ROWS as u64));
    let events = broker.drain(UNROUTED);
    assert!(events.iter().all(|event| event.routing_key == "user.created"), "a repeat passed for somebody else");
}

#[test]
fn a_broker_that_is_killed_during_an_import_is_waited_for_and_no_row_is_lost() {
    const ROWS: usize = 6_000;
    let mut broker = Broker::start();
    let place = Place::with("people.csv", customers(0..6_000));
    place.write("first.csv", customers(9_000..9_001));
    import(&place, &broker, "first.csv --lane signup").ends_with(0);
    let declared = Instant::now();
    let idle = place.program(&format!("worker --sandbox --queue {}", broker.url()));
    let mut idle = idle.set("amqp.prefix", "idle.sandbox").start();
    // RabbitMQ 3.10 doesn't elect a leader for a quorum queue that was declared a moment before a kill.
    idle.until("the queues have settled", || declared.elapsed() > Duration::from_secs(7));
    idle.kill();

    let mut importing = import(&place, &broker, "people.csv").start();
    importing.until("some rows are on the queue", || broker.ready(BULK) > 1_000);
    broker.kill();
    importing.says("broke; connecting anew");
    broker.restart();
    importing.ends_with(0).said(&["people.csv: 6,000 rows", "put on plu.onboarding.jobs.bulk: 6,000"]);
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), ROWS);
    let twice = emails.values().filter(|times| **times > 1).count();
    assert!(twice <= 1_000 && emails.values().all(|times| *times <= 2), "{twice}");
}

/// What a command says that is pasted into a shell and gets this line when it asks.
fn pasted(place: &Place, command: &str, line: &str) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).current_dir(place.path(""));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(shell.stdin.take().unwrap(), "{line}").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_import_that_is_stopped_says_how_to_go_on_and_puts_no_row_on_twice() {
    let broker = Broker::start();
    let place = Place::with("people.csv", customers(0..6_000));
    let mut importing = import(&place, &broker, "people.csv").start();
    importing.says("connected to the broker");
    importing.until("some rows are on the queue", || broker.ready(BULK) > 500);
    importing.signal("INT");
    let said = importing.ends_with(1);
    said.said(&["Go on with (it waits for you to paste the URL of --queue and press Enter):\n  read -rs"]);
    said.did_not_say(&["guest:guest", "not confirmed"]);
    let again = pasted(&place, said.stderr.lines().last().unwrap(), &broker.url());
    assert!(again.contains("people.csv: 6,000 rows") && !again.contains("twice"), "{again}");
    let next = "Work on it with (PLU_ONBOARD__QUEUE__URL set as now):\n  plu-onboard worker\n";
    assert!(again.ends_with(next), "{again}");
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), 6_000);
    assert!(emails.values().all(|times| *times == 1));
    assert_eq!(checkpoints(&place).len(), 1);
}

#[test]
fn a_broker_that_is_away_is_waited_for_until_somebody_stops_it() {
    let mut broker = Broker::start();
    broker.kill();
    let place = Place::with("people.csv", customers(0..10));
    let mut importing = import(&place, &broker, "people.csv").start();
    importing.says("can't connect to the broker");
    let mut second = import(&place, &broker, "people.csv").start();
    second.says("another process is importing this file");
    second.ends_with(1);
    importing.signal("INT");
    importing.ends_with(1).said(&["Go on with ("]);
    let mut importing = import(&place, &broker, "people.csv").start();
    importing.says("can't connect to the broker");
    broker.restart();
    importing.ends_with(0);
    assert_eq!(broker.ready(BULK), 10);
}

#[test]
fn a_row_that_may_be_a_repeat_says_that_it_may_have_been_sent() {
    let broker = Broker::start();
    let place = Place::with("people.csv", customers(0..3));
    // As a process leaves it that was killed before its first confirm.
    import(&place, &broker, "people.csv").ends_with(0);
    let [path] = &checkpoints(&place)[..] else { panic!("one checkpoint") };
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    broker.drain(BULK);
    // A start that is stopped before it has put anything on makes nothing of that known.
    broker.freeze();
    let mut stopped = import(&place, &broker, "people.csv").set("amqp.connect_timeout_s", "1").start();
    stopped.says("no answer within 1 s: is it frozen?");
    stopped.signal("INT");
    stopped.ends_with(1).said(&["0 rows were put on the queue by this start, and"]);
    broker.thaw();
    import(&place, &broker, "people.csv").ends_with(0).said(&["up to 3 of them may be on it twice"]);
    for message in broker.drain(BULK) {
        let headers = message.properties.headers().as_ref().unwrap().inner();
        assert!(matches!(headers.get("x-plu-first-sent-ms"), Some(AMQPValue::LongLongInt(_))), "{headers:?}");
    }
}

#[test]
fn an_alarm_during_an_import_is_told_and_waited_out_and_can_be_interrupted() {
    let (broker, place) = (Broker::start(), Place::with("people.csv", customers(0..6_000)));
    broker.declare("plu.onboarding");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    let start = || import(&place, &broker, "people.csv").set("amqp.confirm_timeout_s", "5").start();
    let mut importing = start();
    importing.says("it is short of memory or disk space; waiting");
    // Longer than the limit for a confirm: the alarm is no fault of the connection.
    broker.rabbitmqctl(&["eval", "timer:sleep(6000)."]);
    importing.signal("INT");
    let said = importing.ends_with(1);
    said.said(&["Go on with (", "were sent and not confirmed"]);
    said.did_not_say(&["broke; connecting anew", "no confirm within"]);

    let mut importing = start();
    importing.says("it is short of memory or disk space; waiting");
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]);
    let said = importing.ends_with(0);
    said.said(&["the broker takes messages again", "people.csv: 6,000 rows"]);
    assert_eq!(said.times("it is short of memory or disk space; waiting"), 1, "{said}");
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), 6_000);
    assert!(emails.values().all(|times| *times <= 2));
}

#[test]
fn a_lane_whose_queue_was_deleted_during_an_import_is_declared_anew() {
    // So many that it can't be through before the queue is gone.
    let (broker, place) = (Broker::start(), Place::with("people.csv", customers(0..30_000)));
    let mut importing = import(&place, &broker, "people.csv").start();
    importing.says("connected to the broker");
    importing.until("some rows are on the queue", || broker.ready(BULK) > 500);
    importing.signal("STOP");
    broker.delete(BULK);
    importing.signal("CONT");
    // Whether the broker says that no queue takes the rows, or confirms nothing any more.
    importing.says_times("connected to the broker", 2);
    importing.ends_with(0).said(&["people.csv: 30,000 rows"]);
    assert!(broker.ready(BULK) > 0);
}

#[test]
fn a_broker_that_freezes_during_an_import_is_given_up_and_waited_for() {
    let (broker, place) = (Broker::start(), Place::with("people.csv", customers(0..6_000)));
    let mut importing = import(&place, &broker, "people.csv")
        .set("amqp.confirm_timeout_s", "3")
        .set("amqp.connect_timeout_s", "4")
        .set("amqp.heartbeat_s", "2")
        .start();
    importing.says("connected to the broker");
    importing.until("some rows are on the queue", || broker.ready(BULK) > 500);
    broker.freeze();
    importing.says("broke; connecting anew");
    importing.says("no answer within 4 s: is it frozen?");
    broker.thaw();
    importing.ends_with(0).said(&["people.csv: 6,000 rows", "put on plu.onboarding.jobs.bulk: 6,000"]);
    let emails = emails(&broker, BULK);
    assert_eq!(emails.len(), 6_000);
    assert!(emails.values().all(|times| *times <= 2));
}

#[test]
fn rows_that_a_full_lane_refuses_are_sent_again_until_it_has_taken_every_one_once() {
    const ROWS: usize = 3_000;
    let (broker, place) = (Broker::start(), Place::with("people.csv", customers(0..3_000)));
    broker.declare("plu.onboarding");
    // Refusing instead of dropping is among the arguments of the queue.
    broker.rabbitmqctl(&["set_policy", "full", "jobs.bulk$", r#"{"max-length":100}"#, "--apply-to", "queues"]);
    let mut importing = import(&place, &broker, "people.csv").start();
    importing.says("the broker refuses rows: is the queue full?");
    assert!((broker.ready(BULK) as usize) < ROWS);
    // A reader makes room. RabbitMQ takes somewhat more than the limit, so the import can end before the last is read.
    let (mut times, deadline) = (HashMap::new(), Instant::now() + Duration::from_secs(120));
    while times.len() < ROWS {
        assert!(Instant::now() < deadline, "{} of {ROWS} rows came. {}", times.len(), importing.said_so_far());
        for message in broker.drain(BULK) {
            let headers = message.properties.headers().as_ref().unwrap().inner();
            assert!(!headers.contains_key("x-plu-first-sent-ms"), "what was refused is not on the queue: {headers:?}");
            *times.entry(message.body["user"]["email"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    let said = importing.ends_with(0);
    said.said(&["put on plu.onboarding.jobs.bulk: 3,000"]);
    said.did_not_say(&["broke; connecting anew", "twice"]);
    assert!(times.values().all(|times| *times == 1), "a row that was refused came twice");
    assert_eq!(broker.ready(BULK), 0);
}
