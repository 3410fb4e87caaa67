//! Dashboards and alerts are written against docs/metrics.md: what it says is exported, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use plu_onboard::sandbox::{AccountState, SandboxConfig};
use serde_json::json;

use crate::support::{Broker, Partner, Place, Running, customers, get};

/// Type and labels, by name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented() -> Families {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let family = |row: &str| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (cells[1].clone(), (cells[2].clone(), labels))
    };
    rows.map(family).collect()
}

/// What a text exposition holds.
fn families(text: &str) -> Families {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut families: Families =
        types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.rsplit_once(' ').unwrap().0.split_once('{') else { continue };
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        let (_, known) = families.get_mut(base).unwrap_or_else(|| panic!("{line} has no type"));
        let names = labels.trim_end_matches('}').split("\",").map(|label| label.split('=').next().unwrap());
        known.extend(names.filter(|name| *name != "le").map(str::to_owned));
    }
    families
}

/// The value of one sample; `None` where it is absent.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn metrics(address: &str) -> String {
    let reply = get(address, "/metrics");
    assert_eq!(reply.status, 200);
    reply.body
}

/// Waits until a sample has a value.
fn until(worker: &mut Running, address: &str, sample: &str, expected: f64) -> String {
    let mut text = String::new();
    worker.until(&format!("{sample} is {expected}"), || {
        text = metrics(address);
        value(&text, sample) == Some(expected)
    });
    text
}

fn promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: tests/run installs prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn what_workers_and_a_receiver_of_webhooks_export_is_what_is_documented_and_promtool_finds_no_fault() {
    let (broker, partner, place) = (Broker::start(), Partner::start(SandboxConfig::default()), Place::new());
    let common = format!("--api-url {} --rate 0 --listen 0", partner.url());
    let mut on_broker = place.program(&format!("worker --queue {} {common}", broker.url())).start();
    let address = on_broker.serves();
    on_broker.says("connected to the broker");
    until(&mut on_broker, &address, "plu_onboard_waiting_for_jobs", 1.0);
    broker.publish("plu.onboarding", "signup", &[job(1), "no job".to_owned()]);
    until(&mut on_broker, &address, "plu_onboard_queue_unrouted_events", 2.0);
    until(&mut on_broker, &address, "plu_onboard_queue_dead_jobs", 1.0);
    let from_broker = until(&mut on_broker, &address, "plu_onboard_queue_jobs{lane=\"signup\"}", 0.0);
    for (sample, expected) in [
        ("plu_onboard_jobs_received_total{lane=\"signup\"}", 2.0),
        ("plu_onboard_jobs_completed_total{lane=\"signup\",outcome=\"created\"}", 1.0),
        ("plu_onboard_jobs_completed_total{lane=\"signup\",outcome=\"rejected\"}", 1.0),
        ("plu_onboard_events_published_total{type=\"user.created\"}", 1.0),
        ("plu_onboard_job_duration_seconds_count{lane=\"signup\"}", 2.0),
        ("plu_onboard_job_stage_seconds_count{stage=\"confirm\"}", 2.0),
        ("plu_onboard_api_requests_total{answer=\"created\",endpoint=\"create\",status=\"201\"}", 1.0),
        ("plu_onboard_api_request_duration_seconds_count{endpoint=\"create\"}", 1.0),
        ("plu_onboard_broker_connected{connection=\"consumer\"}", 1.0),
        ("plu_onboard_broker_connected{connection=\"publisher\"}", 1.0),
        ("plu_onboard_gate_state{state=\"open\"}", 1.0),
        ("plu_onboard_rows", 2.0),
        ("plu_onboard_rows_finished", 2.0),
        ("plu_onboard_conservation_difference", 0.0),
        ("plu_onboard_jobs_in_flight{lane=\"signup\"}", 0.0),
    ] {
        assert_eq!(value(&from_broker, sample), Some(expected), "{sample} in {from_broker}");
    }

    place.write("people.csv", customers(10..13));
    place.program("import people.csv --queue local:q.db").ends_with(0);
    let mut on_file = place.program(&format!("worker --queue local:q.db {common}")).start();
    let address = on_file.serves();
    let from_file = until(&mut on_file, &address, "plu_onboard_rows_finished", 3.0);

    let receiver = place.program("webhooks --queue local:q.db --receive 0 --listen 0");
    let mut receiver = receiver.env("PLU_WEBHOOK_SECRET", "whsec_1").start();
    let from_receiver = metrics(&receiver.says_where("metrics and health"));

    let mut exported = Families::new();
    for text in [&from_broker, &from_file, &from_receiver] {
        promtool(text);
        exported.extend(families(text));
    }
    // A gauge without labels on both sides differs in nothing; families of both queues carry the same labels.
    assert_eq!(exported, documented());
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

#[test]
fn a_paused_worker_shows_what_waits_that_nothing_is_lost_and_why() {
    let partner = Partner::start(SandboxConfig::default());
    partner.set_account(AccountState::WalletEmpty);
    let place = Place::with("people.csv", customers(0..40));
    place.program("import people.csv --queue local:q.db").ends_with(0);
    let arguments = format!("worker --queue local:q.db --rate 100 --listen 127.0.0.1:0 --api-url {}", partner.url());
    let mut worker = place.program(&arguments).set("worker.probe_initial_s", "1").start();
    let address = worker.serves();
    until(&mut worker, &address, "plu_onboard_gate_paused{reason=\"payment_required\"}", 1.0);
    let text = until(&mut worker, &address, "plu_onboard_rows", 40.0);
    for (sample, expected) in [
        ("plu_onboard_queue_jobs{lane=\"bulk\"}", 40.0),
        ("plu_onboard_rows_finished", 0.0),
        ("plu_onboard_conservation_difference", 0.0),
        ("plu_onboard_gate_state{state=\"paused\"}", 1.0),
        ("plu_onboard_gate_state{state=\"open\"}", 0.0),
        ("plu_onboard_gate_paused{reason=\"unauthorized\"}", 0.0),
        ("plu_onboard_rate_limit_configured_requests_per_second", 100.0),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample}");
    }
    partner.set_account(AccountState::Ok);
    until(&mut worker, &address, "plu_onboard_rows_finished", 40.0);
    let text = until(&mut worker, &address, "plu_onboard_queue_jobs{lane=\"bulk\"}", 0.0);
    assert_eq!(value(&text, "plu_onboard_conservation_difference"), Some(0.0));
}
