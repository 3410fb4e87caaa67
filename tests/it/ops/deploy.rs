//! Dashboard, alerts and manifests fit the program. A wrong name in them fails silently in production, so they are
//! checked with the tools that read them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{TestDir, customers};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The metrics of docs/metrics.md; a histogram has three series.
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
    assert!(metrics.len() > 30, "the tables of docs/metrics.md can't be parsed: {metrics:?}");
    metrics
}

/// Every word of a query that looks like a metric of this program or a recorded series (`job:...`).
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
fn panels_query_known_metrics_and_every_metric_has_a_panel() {
    let documented = documented_metrics();
    let recorded = recorded_series();
    let queries = panel_queries();
    let mut shown = BTreeSet::new();
    for (title, query) in &queries {
        let metrics = metrics_in(query);
        assert!(!metrics.is_empty(), "{title}: {query} has no metric");
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
fn panels_do_not_overlap_and_have_id_title_and_description() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(number("x") + number("w") <= 24, "{panel}");
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(taken.insert((x, y)), "{} overlaps another panel", panel["title"]);
            }
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        assert!(!panel["title"].as_str().unwrap().is_empty());
        assert!(panel["type"] == "row" || !panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
    }
}

#[test]
fn alerts_query_known_metrics_and_have_a_runbook_and_a_test() {
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
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no unit test in which {alert} fires");
    }
    // In the first unit test nothing fires, so it must have every metric.
    let healthy = metrics_in(tests.split("  - name:").nth(1).unwrap());
    let silent: Vec<String> = metrics_in(&rules)
        .into_iter()
        .filter(|metric| metric.starts_with("plu_onboard_") && !healthy.contains(metric))
        .collect();
    assert!(silent.is_empty(), "the healthy worker of the unit tests doesn't export {silent:?}");
}

#[test]
fn stop_timeouts_of_the_manifests_exceed_the_shutdown_grace() {
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
fn the_root_file_system_is_read_only_in_all_manifests() {
    for (file, read_only) in [
        ("deploy/compose.yaml", "read_only: true"),
        ("deploy/kubernetes/deployment.yaml", "readOnlyRootFilesystem: true"),
        ("deploy/systemd/plu-onboard.service", "ProtectSystem=strict"),
    ] {
        assert!(read(file).contains(read_only), "{file}");
    }
}

#[test]
fn kubernetes_settings_are_valid_and_name_the_secret_files() {
    let map = read("deploy/kubernetes/configmap.yaml");
    let settings: Vec<&str> = map
        .split_once("worker.toml: |\n")
        .unwrap()
        .1
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(""))
        .collect();
    let dir = TestDir::with("worker.toml", settings.join("\n").replace("/run/secrets/plu-onboard", "secrets"));
    std::fs::create_dir(dir.path("secrets")).unwrap();
    let secret = read("deploy/kubernetes/secret.example.yaml");
    let entries = secret.split_once("stringData:\n").unwrap().1.lines().take_while(|line| *line != "---");
    let mut files = 0;
    for entry in entries.filter(|line| !line.trim_start().starts_with('#')) {
        let (name, value) = entry.trim().split_once(": ").unwrap();
        // Must be a staging key: the settings have the address of staging.
        let value = if name == "api-key" { "sk_staging_0123456789" } else { value };
        dir.write(&format!("secrets/{name}"), value);
        assert!(map.contains(&format!("/run/secrets/plu-onboard/{name}\"")), "no setting names {name}");
        files += 1;
    }
    assert_eq!(files, 2);
    dir.program("config check --config worker.toml").without_key().expect_exit(0).assert_output(&["secrets/api-key"]);
}

#[test]
fn rules_for_prometheus_operator_equal_the_rules() {
    let rules = read("deploy/prometheus/rules.yml");
    let indent = |line: &str| if line.is_empty() { String::new() } else { format!("  {line}") };
    let expected: Vec<String> = rules.lines().skip_while(|line| *line != "groups:").map(indent).collect();
    let resource = read("deploy/kubernetes/prometheusrule.yaml");
    let shown: Vec<&str> = resource.lines().skip_while(|line| *line != "  groups:").collect();
    assert!(shown.len() > 100);
    for (line, expected) in shown.iter().zip(&expected) {
        assert_eq!(line, expected, "copy rules.yml from `groups:` into prometheusrule.yaml, two spaces further in");
    }
    assert_eq!(shown.len(), expected.len());
}

#[test]
fn files_that_compose_mounts_exist() {
    for line in read("deploy/compose.yaml").lines() {
        let Some((_, file)) = line.split_once("{file: ./") else { continue };
        let file = file.trim_end_matches('}');
        // make-secrets.py creates these.
        if !file.starts_with("secrets/") {
            assert!(path("deploy").join(file).is_file(), "{file}");
        }
    }
}

/// Runs promtool, which is part of Debian's package `prometheus`. `tests/run` installs it.
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(path("deploy/prometheus")).output();
    let output = output.unwrap_or_else(|error| panic!("promtool: {error}: install the package prometheus"));
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("SUCCESS"), "{printed}");
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration() {
    promtool(&["check", "rules", "rules.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn unit_tests_of_the_alerts_pass() {
    promtool(&["test", "rules", "rules.test.yml"]);
}

/// A running Prometheus. Killed when it is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

/// A loopback address with a free port.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Prometheus {
    fn start(dir: &TestDir, target: SocketAddr) -> Self {
        // The real rules, evaluated more often.
        let rules = read("deploy/prometheus/rules.yml");
        dir.write("rules.yml", rules.replace("interval: 15s", "interval: 1s").replace("interval: 5m", "interval: 1s"));
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\nrule_files: [rules.yml]\nscrape_configs:\n\
             - job_name: plu-onboard\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        dir.write("prometheus.yml", config);
        let address = free_address();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path("prometheus.log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}: install the package prometheus"));
        Self { child, address }
    }

    /// Sends a request to its HTTP API. `None` if it doesn't answer yet.
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

    /// Value of a query with one result.
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
fn prometheus_scrapes_a_worker_and_evaluates_all_rules_and_panels() {
    let dir = TestDir::with("people.csv", customers(0..120));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let target = free_address();
    let arguments = format!("worker --sandbox --rate 0 --queue local:q.db --listen {target}");
    let mut worker = dir.program(&arguments).start();
    let prometheus = Prometheus::start(&dir, target);
    worker.wait_until("it is scraped", || prometheus.value("up") == Some(1.0));
    let created = "sum(plu_onboard_jobs_completed_total{job=\"plu-onboard\",outcome=\"created\"})";
    worker.wait_until("all jobs are counted", || prometheus.value(created) == Some(120.0));

    let groups = |answer: &Value| answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    worker.wait_until("every rule is evaluated", || {
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
    worker.expect_exit(0);
}

#[test]
fn health_exits_with_0_if_the_worker_answers() {
    let dir = TestDir::with("people.csv", customers(0..3));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let address = free_address();
    let health = |page: &str| dir.program(&format!("health --url http://{address}/{page}"));
    health("healthz").expect_exit(1).assert_output(&["nothing answers", "--listen"]);
    let arguments = format!("worker --sandbox --fault 402=100% --queue local:q.db --listen {address}");
    let mut worker = dir.program(&arguments).start();
    worker.wait_until("it listens", || TcpStream::connect(address).is_ok());
    // The proxy of the environment is not used.
    health("healthz").env("HTTP_PROXY", "http://127.0.0.1:9").expect_exit(0).assert_output(&["200"]);
    health("no-such-page").expect_exit(1).assert_output(&["404"]);
    // A paused worker is alive, and the answer says why it is paused.
    worker.wait_for_output("the partner wallet is empty (402)");
    let words = ["503 Service Unavailable", "paused (payment_required) since 2", "What to do: top it up"];
    health("healthz").expect_exit(0).assert_output(&words);
    health("readyz").expect_exit(1).assert_output(&words);
    worker.signal("TERM");
    worker.expect_exit(0);
}
