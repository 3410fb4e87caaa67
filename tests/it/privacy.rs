//! The file holds names, addresses and numbers of real people, and the links let anybody pose as them. None of it may
//! get to where logs go, at any level, in any format, whatever goes wrong.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};

use crate::support::{Broker, Partner, Place, Running, Table, get, nth, open, sample};

/// Columns whose cells say nothing about a person alone, or are words that the program uses itself.
const GENERIC: [&str; 5] = ["accountPurpose", "isTermsOfServiceAccepted", "program", "region", "countryCode"];

/// Every cell about a person, as it stands in the file and as it is sent.
fn cells(table: &Table) -> BTreeSet<String> {
    let mut secrets = BTreeSet::from(["sk_staging_sandbox".to_owned()]);
    for title in table.titles.iter().filter(|title| !GENERIC.contains(&title.as_str()) && !title.starts_with("error")) {
        secrets.extend(table.column(title).into_iter().map(|cell| cell.trim().to_owned()));
    }
    // A few letters or digits, such as a postal code, are found in any time of day.
    let is_number = |secret: &str| secret.chars().all(|char| char.is_ascii_digit() || char == '-');
    secrets.retain(|secret| secret.chars().count() >= if is_number(secret) { 8 } else { 4 });
    let sent: Vec<String> = secrets.iter().map(|secret| secret.to_lowercase()).collect();
    secrets.extend(sent);
    secrets
}

/// Everything about the people of a run, with every id and link that came back.
fn secrets(place: &Place) -> BTreeSet<String> {
    let tables = ["created", "existing", "rejected"].map(|name| place.results("out").table(name));
    tables.iter().flat_map(cells).collect()
}

/// A whole run with everything that can go wrong on the way, logged at the finest level.
fn run(format: &str) {
    let model = ModelConfig { key_ttl: std::time::Duration::from_secs(1), rate_limit: Some(150), ..Default::default() };
    let config = SandboxConfig { model, lose_every: nth(7), error_every: nth(5), ..Default::default() };
    let partner = Partner::start(config);
    let place = Place::with("people.csv", fs::read(sample("customers-with-problems.csv")).unwrap());
    let arguments =
        format!("run people.csv --out out --rate 0 --listen 0 --log-format {format} --api-url {}", partner.url());
    let program = || {
        let program = place.program(&arguments).env("RUST_LOG", "trace").set("api.key_ttl_s", "1");
        program.set("worker.backoff_initial_ms", "10").set("worker.backoff_max_s", "1")
    };
    let mut running = program().start();
    // Somebody who interrupts it sees no more than somebody who doesn't.
    let address = running.serves();
    running.until("some users", || partner.stats().model.created >= 60);
    let served = SERVED.map(|path| get(&address, path).body).join("\n");
    running.signal("INT");
    let first = running.ends_with(1);
    let second = program().ends_with(3);
    assert!(partner.stats().answers_lost > 0 && partner.stats().answers_failed > 0);

    let said = [&served, &first.stdout, &first.stderr, &second.stdout, &second.stderr].map(String::as_str).join("\n");
    assert!(said.lines().count() > 200, "there is hardly a log: {said}");
    assert!(said.contains("job finished"), "the program's own log lines are missing");
    let secrets = secrets(&place);
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    tells_nothing(&[said], &secrets);
}

#[test]
fn a_run_logged_in_full_as_text_tells_nothing_about_anybody() {
    run("text");
}

#[test]
fn a_run_logged_in_full_as_json_tells_nothing_about_anybody() {
    run("json");
}

/// Everything that is served to those who watch.
const SERVED: [&str; 5] = ["/", "/status.json", "/metrics", "/readyz", "/healthz"];

/// Where a line tells it. Short names are parts of common words and count only where they stand alone.
fn place(line: &str, secret: &str) -> Option<usize> {
    let is_long = secret.chars().count() >= 8;
    line.match_indices(secret).map(|(at, _)| at).find(|at| {
        let neighbours = [line[..*at].chars().next_back(), line[at + secret.len()..].chars().next()];
        is_long || neighbours.into_iter().flatten().all(|char| !char.is_alphanumeric())
    })
}

/// Fails where one of these values is in one of these texts.
#[track_caller]
fn tells_nothing(said: &[String], secrets: &BTreeSet<String>) {
    let found: Vec<String> = secrets
        .iter()
        .filter_map(|secret| {
            let (line, at) =
                said.iter().flat_map(|text| text.lines()).find_map(|line| Some((line, place(line, secret)?)))?;
            let from = line[..at].char_indices().rev().nth(60).map_or(0, |(index, _)| index);
            Some(format!("{secret:?} in: {:.200}", &line[from..]))
        })
        .collect();
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), secrets.len(), found[..found.len().min(10)].join("\n"));
}

/// What a worker serves and says while it onboards everybody, logged at the finest level.
fn watch(mut worker: Running, is_done: impl FnMut() -> bool) -> Vec<String> {
    let address = worker.serves();
    worker.until("everybody is onboarded", is_done);
    let mut said: Vec<String> = SERVED.map(|path| get(&address, path).body).to_vec();
    let (mut stream, _) = open(&address, "GET", "/status/events", "");
    let mut event = String::new();
    stream.read_line(&mut event).unwrap();
    said.push(event);
    assert!(said.iter().all(|text| !text.is_empty()) && said[2].contains("created"), "{said:?}");
    worker.signal("TERM");
    let ended = worker.ends_with(0);
    assert!(ended.stderr.contains("job finished") && ended.stderr.contains("TRACE"), "there is hardly a log");
    said.extend([ended.stdout, ended.stderr]);
    said
}

#[test]
fn a_worker_on_the_embedded_queue_tells_nothing_about_anybody() {
    let partner = Partner::start(SandboxConfig { error_every: nth(5), lose_every: nth(7), ..Default::default() });
    let place = Place::with("people.csv", fs::read(sample("customers.csv")).unwrap());
    place.program("import people.csv --queue local:q.db").ends_with(0);
    let arguments = format!("worker --rate 0 --queue local:q.db --out out --listen 0 --api-url {}", partner.url());
    let worker = place.program(&arguments).env("RUST_LOG", "trace").set("worker.backoff_initial_ms", "10").start();
    let said = watch(worker, || place.results("out").lines_so_far() == 200);
    let mut secrets = cells(&place.table("people.csv"));
    secrets.extend(place.results("out").events().iter().flat_map(returned));
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    tells_nothing(&said, &secrets);
}

#[test]
fn a_worker_on_a_broker_tells_nothing_about_anybody() {
    const UNROUTED: &str = "plu.onboarding.events.unrouted";
    let partner = Partner::start(SandboxConfig { error_every: nth(5), lose_every: nth(7), ..Default::default() });
    let (broker, place) = (Broker::start(), Place::new());
    let people = Table::read(&sample("customers.csv"));
    let arguments = format!("worker --rate 0 --queue {} --listen 0 --api-url {}", broker.url(), partner.url());
    let mut worker =
        place.program(&arguments).env("RUST_LOG", "trace,lapin=trace").set("worker.backoff_initial_ms", "10").start();
    worker.says("connected to the broker");
    let jobs: Vec<String> = people.rows.iter().map(|row| job(&people.titles, row)).collect();
    broker.publish("plu.onboarding", "bulk", &jobs);
    let said = watch(worker, || broker.ready(UNROUTED) == 200);
    // As lapin would write down what is sent: in numbers, among them the password.
    assert!(!said.iter().any(|text| text.contains("StartOk") || text.contains("103, 117, 101, 115, 116")));
    let mut secrets = cells(&people);
    secrets.extend(broker.drain(UNROUTED).iter().flat_map(|event| returned(&event.body)));
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    tells_nothing(&said, &secrets);
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
