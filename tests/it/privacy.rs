//! The file holds names, addresses and numbers of real people, and the links let anybody pose as them. None of it may
//! get to where logs go, at any level, in any format, whatever goes wrong.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};

use crate::support::{Partner, Place, nth, sample};

/// Columns whose cells say nothing about a person alone, or are words that the program uses itself.
const GENERIC: [&str; 5] = ["accountPurpose", "isTermsOfServiceAccepted", "program", "region", "countryCode"];

/// Every cell about a person, as it stands in the file and as it is sent, and every id and link that came back.
fn secrets(place: &Place) -> BTreeSet<String> {
    let mut secrets = BTreeSet::from(["sk_staging_sandbox".to_owned()]);
    for name in ["created", "existing", "rejected"] {
        let table = place.results("out").table(name);
        for title in
            table.titles.iter().filter(|title| !GENERIC.contains(&title.as_str()) && !title.starts_with("error"))
        {
            secrets.extend(table.column(title).into_iter().map(|cell| cell.trim().to_owned()));
        }
    }
    // A few letters or digits, such as a postal code, are found in any time of day.
    let is_number = |secret: &str| secret.chars().all(|char| char.is_ascii_digit() || char == '-');
    secrets.retain(|secret| secret.chars().count() >= if is_number(secret) { 8 } else { 4 });
    let sent: Vec<String> = secrets.iter().map(|secret| secret.to_lowercase()).collect();
    secrets.extend(sent);
    secrets
}

/// A whole run with everything that can go wrong on the way, logged at the finest level.
fn run(format: &str) {
    let model = ModelConfig { key_ttl: std::time::Duration::from_secs(1), rate_limit: Some(150), ..Default::default() };
    let config = SandboxConfig { model, lose_every: nth(7), error_every: nth(5), ..Default::default() };
    let partner = Partner::start(config);
    let place = Place::with("people.csv", fs::read(sample("customers-with-problems.csv")).unwrap());
    let arguments = format!("run people.csv --out out --rate 0 --log-format {format} --api-url {}", partner.url());
    let program = || {
        let program = place.program(&arguments).env("RUST_LOG", "trace").set("api.key_ttl_s", "1");
        program.set("worker.backoff_initial_ms", "10").set("worker.backoff_max_s", "1")
    };
    let mut running = program().start();
    // Somebody who interrupts it sees no more than somebody who doesn't.
    running.until("some users", || partner.stats().model.created >= 60);
    running.signal("INT");
    let first = running.ends_with(1);
    let second = program().ends_with(3);
    assert!(partner.stats().answers_lost > 0 && partner.stats().answers_failed > 0);

    let said = [&first.stdout, &first.stderr, &second.stdout, &second.stderr].map(String::as_str).join("\n");
    assert!(said.lines().count() > 200, "there is hardly a log: {said}");
    assert!(said.contains("job finished"), "the program's own log lines are missing");
    let secrets = secrets(&place);
    assert!(secrets.len() > 1_000, "{}", secrets.len());
    let found: Vec<String> = secrets
        .iter()
        .filter_map(|secret| {
            let line = said.lines().find(|line| line.contains(secret.as_str()))?;
            Some(format!("{secret:?} in: {line:.300}"))
        })
        .collect();
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), secrets.len(), found[..found.len().min(10)].join("\n"));
}

#[test]
fn a_run_logged_in_full_as_text_tells_nothing_about_anybody() {
    run("text");
}

#[test]
fn a_run_logged_in_full_as_json_tells_nothing_about_anybody() {
    run("json");
}

#[test]
fn what_the_worker_serves_to_monitoring_tells_nothing_about_anybody() {
    let place = Place::with("people.csv", fs::read(sample("customers.csv")).unwrap());
    place.program("import people.csv --queue local:q.db").ends_with(0);
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = format!("worker --sandbox --rate 0 --queue local:q.db --out out --listen {address}");
    let mut worker = place.program(&arguments).env("RUST_LOG", "trace").start();
    worker.until("all events", || place.results("out").lines_so_far() == 200);
    let mut metrics = String::new();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut metrics).unwrap();
    worker.signal("TERM");
    let said = worker.ends_with(0);
    assert!(metrics.contains("created"), "{metrics}");
    for event in place.results("out").events() {
        for field in ["email", "serviceId", "verificationUrl"] {
            let secret = event[field].as_str().unwrap();
            assert!(!metrics.contains(secret) && !said.contains(secret), "{field} {secret}");
        }
    }
}
