//! What is deployed beside the program: dashboard, alerts, manifests. They fail silently when a name in them is wrong,
//! on the night they are needed, so each is checked against the program, by the tools that will read it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Place, customers};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The metrics of the documented table, with the series that a histogram has.
fn documented_metrics() -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    for line in read("docs/metrics.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, ..] = cells.as_slice() else { continue };
        let name = name.trim_matches('`');
        if name.starts_with("plu_onboard_") || name.starts_with("process_") {
            let endings: &[&str] = if *kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            metrics.extend(endings.iter().map(|ending| format!("{name}{ending}")));
        }
    }
    assert!(metrics.len() > 30, "the table of docs/metrics.md isn't understood: {metrics:?}");
    metrics
}

/// Every word of a query that looks like a metric of ours. Recorded series (`job:...`) are looked up among the records.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    let words = text.split(|char| !is_part(char));
    let is_metric = |word: &&str| ["plu_onboard_", "process_", "job:"].iter().any(|start| word.starts_with(start));
    words.filter(is_metric).map(str::to_owned).collect()
}

fn recorded_series() -> BTreeSet<String> {
    let rules = read("deploy/prometheus/rules.yml");
    rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/plu-onboard.json")).unwrap()
}

/// Title and query of every panel.
fn panel_queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let of_panel = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().map_or_else(Vec::new, Clone::clone);
        targets.iter().map(|target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned())).collect()
    };
    panels.iter().flat_map(of_panel).collect()
}

#[test]
fn every_panel_asks_for_metrics_that_exist_and_every_metric_has_a_panel() {
    let documented = documented_metrics();
    let recorded = recorded_series();
    let queries = panel_queries();
    let mut shown = BTreeSet::new();
    for (title, query) in &queries {
        let metrics = metrics_in(query);
        assert!(!metrics.is_empty(), "{title}: {query} asks for no metric");
        for metric in metrics {
            assert!(documented.contains(&metric) || recorded.contains(&metric), "{title}: there is no metric {metric}");
            shown.insert(metric);
        }
    }
    let is_shown = |metric: &&String| {
        let name = metric.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        shown.iter().any(|shown| shown.starts_with(name))
    };
    let missing: Vec<&String> = documented
        .iter()
        .filter(|metric| metric.starts_with("plu_onboard_"))
        .filter(|metric| !is_shown(metric))
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn panels_do_not_overlap_and_have_ids_titles_and_descriptions() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(number("x") + number("w") <= 24, "{panel}");
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(taken.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        assert!(!panel["title"].as_str().unwrap().is_empty());
        assert!(panel["type"] == "row" || !panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_lead_to_a_runbook() {
    let rules = read("deploy/prometheus/rules.yml");
    let known: BTreeSet<String> = documented_metrics().union(&recorded_series()).cloned().collect();
    let unknown: Vec<String> = metrics_in(&rules)
        .into_iter()
        .filter(|metric| !known.contains(metric))
        .filter(|metric| !rules.contains(&format!("{metric}.")))
        .collect();
    assert!(unknown.is_empty(), "there are no metrics {unknown:?}");
    let operations = read("OPERATIONS.md");
    let anchors: BTreeSet<String> = operations
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    let links: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    for link in &links {
        let anchor = link.trim_matches('"').strip_prefix("OPERATIONS.md#").unwrap();
        assert!(anchors.contains(anchor), "OPERATIONS.md has no section {anchor}");
    }
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(links.len(), alerts.len(), "an alert without a runbook");
    let tests = read("deploy/prometheus/rules.test.yml");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no unit test sees {alert} fire");
    }
    // The first unit test is the one in which nothing fires: it must be about everything.
    let healthy = metrics_in(tests.split("  - name:").nth(1).unwrap());
    let silent: Vec<String> = metrics_in(&rules)
        .into_iter()
        .filter(|metric| metric.starts_with("plu_onboard_") && !healthy.contains(metric))
        .collect();
    assert!(silent.is_empty(), "the healthy worker of the unit tests doesn't export {silent:?}");
}

#[test]
fn whatever_stops_a_worker_waits_for_longer_than_it_takes_to_finish() {
    let grace: u64 = read("config/default.toml")
        .lines()
        .find_map(|line| line.strip_prefix("shutdown_grace_s = "))
        .map(|value| value.parse().unwrap())
        .unwrap();
    for (file, start) in [
        ("deploy/compose.yaml", "    stop_grace_period: 3"),
        ("deploy/kubernetes/deployment.yaml", "      terminationGracePeriodSeconds: "),
        ("deploy/systemd/plu-onboard.service", "TimeoutStopSec="),
    ] {
        let line =
            read(file).lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{file}")).to_owned();
        let seconds: u64 = line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
        assert!(seconds >= grace + 5, "{file}: {line}");
    }
}

#[test]
fn wherever_the_root_is_read_only_look_ups_may_remember_a_long_list_in_a_temporary_file() {
    for (file, read_only, temporary) in [
        ("deploy/compose.yaml", "read_only: true", "tmpfs: [\"/tmp:"),
        ("deploy/kubernetes/deployment.yaml", "readOnlyRootFilesystem: true", "mountPath: /tmp}"),
        ("deploy/systemd/plu-onboard.service", "ProtectSystem=strict", "PrivateTmp=yes"),
    ] {
        let text = read(file);
        assert!(text.contains(read_only) && text.contains(temporary), "{file}");
    }
}

#[test]
fn kubernetes_settings_are_understood_and_name_the_files_that_the_secret_is_mounted_as() {
    let map = read("deploy/kubernetes/configmap.yaml");
    let settings: Vec<&str> = map
        .split_once("worker.toml: |\n")
        .unwrap()
        .1
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(""))
        .collect();
    let place = Place::with("worker.toml", settings.join("\n").replace("/run/secrets/plu-onboard", "secrets"));
    std::fs::create_dir(place.path("secrets")).unwrap();
    let secret = read("deploy/kubernetes/secret.example.yaml");
    let entries = secret.split_once("stringData:\n").unwrap().1.lines().take_while(|line| *line != "---");
    let mut files = 0;
    for entry in entries.filter(|line| !line.trim_start().starts_with('#')) {
        let (name, value) = entry.trim().split_once(": ").unwrap();
        // A key of the address that the settings name.
        let value = if name == "api-key" { "sk_staging_0123456789" } else { value };
        place.write(&format!("secrets/{name}"), value);
        assert!(map.contains(&format!("/run/secrets/plu-onboard/{name}\"")), "no setting names {name}");
        files += 1;
    }
    assert_eq!(files, 2);
    place.program("config check --config worker.toml").without_key().ends_with(0).said(&["secrets/api-key"]);
}

#[test]
fn the_rules_for_prometheus_operator_are_the_rules() {
    let rules = read("deploy/prometheus/rules.yml");
    let indent = |line: &str| if line.is_empty() { String::new() } else { format!("  {line}") };
    let expected: Vec<String> = rules.lines().skip_while(|line| *line != "groups:").map(indent).collect();
    let resource = read("deploy/kubernetes/prometheusrule.yaml");
    let shown: Vec<&str> = resource.lines().skip_while(|line| *line != "  groups:").collect();
    assert!(shown.len() > 100);
    for (line, expected) in shown.iter().zip(&expected) {
        assert_eq!(line, expected, "copy rules.yml from `groups:` on into prometheusrule.yaml, two spaces further in");
    }
    assert_eq!(shown.len(), expected.len());
}

#[test]
fn every_file_that_compose_mounts_is_there() {
    for line in read("deploy/compose.yaml").lines() {
        let Some((_, file)) = line.split_once("{file: ./") else { continue };
        let file = file.trim_end_matches('}');
        // These are made on the machine.
        if !file.starts_with("secrets/") {
            assert!(path("deploy").join(file).is_file(), "{file}");
        }
    }
}

/// Debian's `prometheus` brings it; `tests/run` installs that.
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(path("deploy/prometheus")).output();
    let output = output.unwrap_or_else(|error| panic!("promtool: {error}: install the package prometheus"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn promtool_finds_the_rules_and_the_settings_right() {
    promtool(&["check", "rules", "rules.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    promtool(&["test", "rules", "rules.test.yml"]);
}

/// A real Prometheus. Killed when it is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Prometheus {
    fn start(place: &Place, target: SocketAddr) -> Self {
        // The rules as they are, only more often.
        let rules = read("deploy/prometheus/rules.yml");
        place
            .write("rules.yml", rules.replace("interval: 15s", "interval: 1s").replace("interval: 5m", "interval: 1s"));
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\nrule_files: [rules.yml]\nscrape_configs:\n\
             - job_name: plu-onboard\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        place.write("prometheus.yml", config);
        let address = free_address();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", place.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", place.path("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.path("prometheus.log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}: install the package prometheus"));
        Self { child, address }
    }

    /// Asks its HTTP API. `None`: it doesn't answer yet.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn query(&self, query: &str) -> Option<Value> {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        self.get(&format!("/api/v1/query?query={encoded}"))
    }

    /// The value of a query with one result.
    fn value(&self, query: &str) -> Option<f64> {
        let answer = self.query(query)?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_prometheus_scrapes_a_worker_evaluates_every_rule_and_understands_every_panel() {
    let place = Place::with("people.csv", customers(0..120));
    place.program("import people.csv --queue local:q.db").ends_with(0);
    let target = free_address();
    let arguments = format!("worker --sandbox --rate 0 --queue local:q.db --listen {target}");
    let mut worker = place.program(&arguments).start();
    let prometheus = Prometheus::start(&place, target);
    worker.until("it is scraped", || prometheus.value("up") == Some(1.0));
    let created = "sum(plu_onboard_jobs_completed_total{job=\"plu-onboard\",outcome=\"created\"})";
    worker.until("everybody is counted", || prometheus.value(created) == Some(120.0));

    let groups = |answer: &Value| answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    worker.until("every rule was evaluated", || {
        let rules = prometheus.get("/api/v1/rules").unwrap();
        let rules: Vec<Value> =
            groups(&rules).iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")
    });
    let rules = prometheus.get("/api/v1/rules").unwrap();
    for group in groups(&rules) {
        for rule in group["rules"].as_array().unwrap() {
            assert_eq!(rule["health"], "ok", "{rule}");
            assert_ne!(rule["state"], "firing", "{rule}");
        }
    }
    for (title, query) in panel_queries() {
        let query = query.replace("$job", ".+").replace("$__rate_interval", "1m").replace("$__range", "1h");
        let answer = prometheus.query(&query).unwrap();
        assert_eq!(answer["status"], "success", "{title}: {answer}");
    }
    worker.signal("TERM");
    worker.ends_with(0);
}

#[test]
fn health_tells_by_its_status_whether_a_worker_answers() {
    let place = Place::with("people.csv", customers(0..3));
    place.program("import people.csv --queue local:q.db").ends_with(0);
    let address = free_address();
    let health = |page: &str| place.program(&format!("health --url http://{address}/{page}"));
    health("healthz").ends_with(1).said(&["nothing answers", "--listen"]);
    let arguments = format!("worker --sandbox --fault 402=100% --queue local:q.db --listen {address}");
    let mut worker = place.program(&arguments).start();
    worker.until("it listens", || TcpStream::connect(address).is_ok());
    // A proxy of the environment is for the partner, not for this.
    health("healthz").env("HTTP_PROXY", "http://127.0.0.1:9").ends_with(0).said(&["200"]);
    health("no-such-page").ends_with(1).said(&["404"]);
    // It lives while it stands still, and says why.
    worker.says("the partner wallet is empty (402)");
    let words = ["503 Service Unavailable", "paused (payment_required) since 2", "What to do: top it up"];
    health("healthz").ends_with(0).said(&words);
    health("readyz").ends_with(1).said(&words);
    worker.signal("TERM");
    worker.ends_with(0);
}
