//! No personal data reaches the log or the served pages, at any level, in any format, with any fault. The input holds
//! names, addresses and numbers of people, and a verification link lets its reader act as them.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};

use crate::support::{Broker, Partner, RunningProgram, Table, TestDir, get, nth, open, sample};

/// Columns whose cells aren't personal on their own, or are words that the program uses itself.
const GENERIC: [&str; 5] = ["accountPurpose", "isTermsOfServiceAccepted", "program", "region", "countryCode"];

/// Every cell with personal data, as it is in the file and as it is sent.
fn cells(table: &Table) -> BTreeSet<String> {
    let mut secrets = BTreeSet::from(["sk_staging_sandbox".to_owned()]);
    for title in table.titles.iter().filter(|title| !GENERIC.contains(&title.as_str()) && !title.starts_with("error")) {
        secrets.extend(table.column(title).into_iter().map(|cell| cell.trim().to_owned()));
    }
    // Short values, for example a postal code, also occur in timestamps.
    let is_number = |secret: &str| secret.chars().all(|char| char.is_ascii_digit() || char == '-');
    secrets.retain(|secret| secret.chars().count() >= if is_number(secret) { 8 } else { 4 });
    let sent: Vec<String> = secrets.iter().map(|secret| secret.to_lowercase()).collect();
    secrets.extend(sent);
    secrets
}

/// All personal data of a run, with the ids and links of the answers.
fn secrets(dir: &TestDir) -> BTreeSet<String> {
    let tables = ["created", "existing", "rejected"].map(|name| dir.results("out").table(name));
    tables.iter().flat_map(cells).collect()
}

/// A run with lost answers, errors and an interruption, logged at level `trace`.
fn run(format: &str) {
    let model = ModelConfig { key_ttl: std::time::Duration::from_secs(1), rate_limit: Some(150), ..Default::default() };
    let config = SandboxConfig { model, lose_every: nth(7), error_every: nth(5), ..Default::default() };
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", fs::read(sample("customers-with-problems.csv")).unwrap());
    let arguments =
        format!("run people.csv --out out --rate 0 --listen 0 --log-format {format} --api-url {}", partner.url());
    let program = || {
        let program = dir.program(&arguments).env("RUST_LOG", "trace").set("api.key_ttl_s", "1");
        program.set("worker.backoff_initial_ms", "10").set("worker.backoff_max_s", "1")
    };
    let mut running = program().start();
    // The output of an interrupted run is checked too.
    let address = running.status_page_address();
    running.wait_until("some users", || partner.stats().model.created >= 60);
    let served = SERVED.map(|path| get(&address, path).body).join("\n");
    running.signal("INT");
    let first = running.expect_exit(1);
    let second = program().expect_exit(3);
    assert!(partner.stats().answers_lost > 0 && partner.stats().answers_failed > 0);

    let texts = [&served, &first.stdout, &first.stderr, &second.stdout, &second.stderr].map(String::as_str).join("\n");
    assert!(texts.lines().count() > 200, "the log is too short: {texts}");
    assert!(texts.contains("job finished"), "the program's own log lines are missing");
    let secrets = secrets(&dir);
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    assert_no_secrets(&[texts], &secrets);
}

#[test]
fn a_run_logs_no_personal_data_as_text() {
    run("text");
}

#[test]
fn a_run_logs_no_personal_data_as_json() {
    run("json");
}

/// Paths that are served.
const SERVED: [&str; 5] = ["/", "/status.json", "/metrics", "/readyz", "/healthz"];

/// Position of a secret in a line. A short name may be part of a common word, so it must be a word of its own.
fn position(line: &str, secret: &str) -> Option<usize> {
    let is_long = secret.chars().count() >= 8;
    line.match_indices(secret).map(|(at, _)| at).find(|at| {
        let neighbours = [line[..*at].chars().next_back(), line[at + secret.len()..].chars().next()];
        is_long || neighbours.into_iter().flatten().all(|char| !char.is_alphanumeric())
    })
}

/// Fails if one of the texts holds one of the secrets.
#[track_caller]
fn assert_no_secrets(texts: &[String], secrets: &BTreeSet<String>) {
    let found: Vec<String> = secrets
        .iter()
        .filter_map(|secret| {
            let (line, at) =
                texts.iter().flat_map(|text| text.lines()).find_map(|line| Some((line, position(line, secret)?)))?;
            let from = line[..at].char_indices().rev().nth(60).map_or(0, |(index, _)| index);
            Some(format!("{secret:?} in: {:.200}", &line[from..]))
        })
        .collect();
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), secrets.len(), found[..found.len().min(10)].join("\n"));
}

/// What a worker serves and logs at level `trace` until all jobs are finished.
fn watch(mut worker: RunningProgram, is_done: impl FnMut() -> bool) -> Vec<String> {
    let address = worker.status_page_address();
    worker.wait_until("all jobs are finished", is_done);
    let mut texts: Vec<String> = SERVED.map(|path| get(&address, path).body).to_vec();
    let (mut stream, _) = open(&address, "GET", "/status/events", "");
    let mut event = String::new();
    stream.read_line(&mut event).unwrap();
    texts.push(event);
    assert!(texts.iter().all(|text| !text.is_empty()) && texts[2].contains("created"), "{texts:?}");
    worker.signal("TERM");
    let ended = worker.expect_exit(0);
    assert!(ended.stderr.contains("job finished") && ended.stderr.contains("TRACE"), "the log is too short");
    texts.extend([ended.stdout, ended.stderr]);
    texts
}

#[test]
fn a_worker_on_the_embedded_queue_logs_no_personal_data() {
    let partner = Partner::start(SandboxConfig { error_every: nth(5), lose_every: nth(7), ..Default::default() });
    let dir = TestDir::with("people.csv", fs::read(sample("customers.csv")).unwrap());
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let arguments = format!("worker --rate 0 --queue local:q.db --out out --listen 0 --api-url {}", partner.url());
    let worker = dir.program(&arguments).env("RUST_LOG", "trace").set("worker.backoff_initial_ms", "10").start();
    let texts = watch(worker, || dir.results("out").event_lines() == 200);
    let mut secrets = cells(&dir.table("people.csv"));
    secrets.extend(dir.results("out").events().iter().flat_map(returned));
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    assert_no_secrets(&texts, &secrets);
}

#[test]
fn a_worker_on_a_broker_logs_no_personal_data() {
    const UNROUTED: &str = "plu.onboarding.events.unrouted";
    let partner = Partner::start(SandboxConfig { error_every: nth(5), lose_every: nth(7), ..Default::default() });
    let (broker, dir) = (Broker::start(), TestDir::new());
    let people = Table::read(&sample("customers.csv"));
    let arguments = format!("worker --rate 0 --queue {} --listen 0 --api-url {}", broker.url(), partner.url());
    let mut worker =
        dir.program(&arguments).env("RUST_LOG", "trace,lapin=trace").set("worker.backoff_initial_ms", "10").start();
    worker.wait_for_output("connected to the broker");
    let jobs: Vec<String> = people.rows.iter().map(|row| job(&people.titles, row)).collect();
    broker.publish("plu.onboarding", "bulk", &jobs);
    let texts = watch(worker, || broker.ready(UNROUTED) == 200);
    // lapin's form of a frame: a list of bytes, here with the password.
    assert!(!texts.iter().any(|text| text.contains("StartOk") || text.contains("103, 117, 101, 115, 116")));
    let mut secrets = cells(&people);
    secrets.extend(broker.drain(UNROUTED).iter().flat_map(|event| returned(&event.body)));
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    assert_no_secrets(&texts, &secrets);
}

/// A row as the job that an upstream would publish.
fn job(titles: &[String], row: &[String]) -> String {
    let cells = titles.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
    let value = |title: &str, cell: &str| match title {
        "isTermsOfServiceAccepted" => serde_json::Value::Bool(true),
        _ => cell.into(),
    };
    let user: serde_json::Map<_, _> = cells.map(|(title, cell)| (title.clone(), value(title, cell))).collect();
    serde_json::json!({ "user": user }).to_string()
}

/// Ids and links of an event.
fn returned(event: &serde_json::Value) -> Vec<String> {
    let fields = ["email", "serviceId", "verificationUrl"].map(|field| event[field].as_str().map(str::to_owned));
    fields.into_iter().flatten().collect()
}
