//! docs/metrics.md lists exactly the metrics that the program exports. Dashboards and alerts rely on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Broker, Partner, RunningProgram, TestDir, customers, get, job};

/// Type and labels of each metric, by name.
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

/// Metrics of a text in Prometheus' format.
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

/// Value of one sample; `None` if it is absent.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn metrics(address: &str) -> String {
    let reply = get(address, "/metrics");
    assert_eq!(reply.status, 200);
    reply.body
}

/// Waits until a sample has a value.
fn wait_until(worker: &mut RunningProgram, address: &str, sample: &str, expected: f64) -> String {
    let mut text = String::new();
    worker.wait_until(&format!("{sample} is {expected}"), || {
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
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && printed.is_empty(), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn exported_metrics_are_the_documented_ones_and_promtool_accepts_them() {
    let (broker, partner, dir) = (Broker::start(), Partner::start(SandboxConfig::default()), TestDir::new());
    let common = format!("--api-url {} --rate 0 --listen 0", partner.url());
    let mut on_broker = dir.program(&format!("worker --queue {} {common}", broker.url())).start();
    let address = on_broker.status_page_address();
    on_broker.wait_for_output("connected to the broker");
    wait_until(&mut on_broker, &address, "plu_onboard_waiting_for_jobs", 1.0);
    broker.publish("plu.onboarding", "signup", &[job(1), "no job".to_owned()]);
    wait_until(&mut on_broker, &address, "plu_onboard_queue_unrouted_events", 2.0);
    wait_until(&mut on_broker, &address, "plu_onboard_queue_dead_letters", 1.0);
    let from_broker = wait_until(&mut on_broker, &address, "plu_onboard_queue_jobs{lane=\"signup\"}", 0.0);
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

    dir.write("people.csv", customers(10..13));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let mut on_file = dir.program(&format!("worker --queue local:q.db {common}")).start();
    let address = on_file.status_page_address();
    let from_file = wait_until(&mut on_file, &address, "plu_onboard_rows_finished", 3.0);

    let receiver = dir.program("webhooks --queue local:q.db --receive 0 --listen 0");
    let mut receiver = receiver.env("PLU_WEBHOOK_SECRET", "whsec_1").start();
    let from_receiver = metrics(&receiver.wait_for_address("metrics and health"));

    let mut exported = Families::new();
    for text in [&from_broker, &from_file, &from_receiver] {
        promtool(text);
        exported.extend(families(text));
    }
    assert_eq!(exported, documented());
}

#[test]
fn a_paused_worker_exports_the_reason_and_the_waiting_jobs() {
    let partner = Partner::start(SandboxConfig::default());
    partner.set_account(AccountState::PaymentRequired);
    let dir = TestDir::with("people.csv", customers(0..40));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let arguments = format!("worker --queue local:q.db --rate 100 --listen 127.0.0.1:0 --api-url {}", partner.url());
    let mut worker = dir.program(&arguments).set("worker.probe_initial_s", "1").start();
    let address = worker.status_page_address();
    wait_until(&mut worker, &address, "plu_onboard_gate_paused{reason=\"payment_required\"}", 1.0);
    let text = wait_until(&mut worker, &address, "plu_onboard_rows", 40.0);
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
    wait_until(&mut worker, &address, "plu_onboard_rows_finished", 40.0);
    let text = wait_until(&mut worker, &address, "plu_onboard_queue_jobs{lane=\"bulk\"}", 0.0);
    assert_eq!(value(&text, "plu_onboard_conservation_difference"), Some(0.0));
}
