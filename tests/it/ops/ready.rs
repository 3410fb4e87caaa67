//! `/readyz` shows an orchestrator whether a worker is ready, and an operator why it is not.

use std::io::BufRead;
use std::time::Duration;

use plu_onboard::sandbox::{AccountState, FaultPlan, SandboxConfig, SandboxControl};
use serde_json::Value;

use crate::support::{Broker, HttpReply, Partner, RunningProgram, TestDir, customers, get, open, request};

fn until_ready(worker: &mut RunningProgram, address: &str, status: u16) -> Value {
    let mut reply = None;
    worker.wait_until(&format!("/readyz answers {status}"), || {
        let now = get(address, "/readyz");
        let is_expected = now.status == status;
        reply = Some(now);
        is_expected
    });
    reply.as_ref().map(HttpReply::json).unwrap()
}

#[test]
fn a_worker_with_a_paused_account_is_not_ready_until_the_account_works() {
    let partner = Partner::start(SandboxConfig::default());
    let dir = TestDir::with("people.csv", customers(0..5));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    partner.set_account(AccountState::KeyRevoked);
    let arguments = format!("worker --queue local:q.db --listen 0 --api-url {}", partner.url());
    let mut worker = dir.program(&arguments).set("worker.probe_initial_s", "1").start();
    let address = worker.status_page_address();
    let paused = until_ready(&mut worker, &address, 503);
    assert_eq!((&paused["state"], &paused["reason"]), (&"paused".into(), &"unauthorized".into()));
    assert!(paused["advice"].as_str().unwrap().contains("PLU_API_KEY"), "{paused}");
    assert!(paused["since"].as_str().unwrap().ends_with('Z'));
    // It is alive, though.
    assert_eq!(get(&address, "/healthz").status, 200);
    partner.set_account(AccountState::Ok);
    let ready = until_ready(&mut worker, &address, 200);
    assert_eq!(ready["ready"], Value::Bool(true));
    assert!(ready["since"].as_str() > paused["since"].as_str(), "{paused} {ready}");
}

#[test]
fn the_third_lost_creation_in_a_row_is_shown_everywhere_until_one_is_answered() {
    let mut config = SandboxConfig { latency: Duration::from_millis(20), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", customers(0..200));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let arguments = format!("worker --queue local:q.db --listen 0 --rate 50 --api-url {}", partner.url());
    let mut worker = dir
        .program(&arguments)
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("circuit_breaker.open_s", "1")
        .start();
    let address = worker.status_page_address();
    worker.wait_until("good work", || partner.stats().model.created >= 10);
    assert!(get(&address, "/readyz").json()["warning"].is_null());
    let faults = |entries: &[&str]| SandboxControl {
        faults: Some(FaultPlan::parse(entries).unwrap()),
        ..SandboxControl::default()
    };
    partner.control(&faults(&["lost=100%"]));
    let has_warning = |text: &str| text.contains("Links are being lost: ");
    worker.wait_until("/readyz warns", || has_warning(&get(&address, "/readyz").body));
    assert!(has_warning(&get(&address, "/status.json").body));
    let metrics = get(&address, "/metrics").body;
    assert!(metrics.contains("\nplu_onboard_links_being_lost 1\n"), "{metrics}");
    partner.control(&faults(&[]));
    worker.wait_until("the warning ends", || !has_warning(&get(&address, "/readyz").body));
    worker.wait_until("the limit is gone", || {
        let metrics = get(&address, "/metrics").body;
        let allowed = "\nplu_onboard_creations_in_flight_allowed 64\n";
        metrics.contains("\nplu_onboard_links_being_lost 0\n") && metrics.contains(allowed)
    });
}

#[test]
fn a_worker_without_its_broker_is_not_ready_and_counts_reconnects() {
    let (mut broker, dir) = (Broker::start(), TestDir::new());
    let worker = dir.program(&format!("worker --sandbox --queue {} --listen 0", broker.url()));
    let mut worker = worker.set("amqp.prefix", "plu.sandbox").start();
    let address = worker.status_page_address();
    until_ready(&mut worker, &address, 200);
    broker.kill();
    let away = until_ready(&mut worker, &address, 503);
    assert_eq!(away["state"], "disconnected");
    // The reason names the connection that broke first. When both are down, it names the consumer's.
    worker.wait_until("the reason names the consumer", || {
        get(&address, "/readyz").json()["reason"] == "broker_consumer_down"
    });
    let gone = || {
        let text = get(&address, "/metrics").body;
        text.contains("broker_connected{connection=\"consumer\"} 0") && !text.contains("plu_onboard_queue_dead_letters")
    };
    worker.wait_until("the queue's depth is absent, not stale", gone);
    broker.restart();
    until_ready(&mut worker, &address, 200);
    let text = get(&address, "/metrics").body;
    assert!(text.contains("plu_onboard_broker_reconnects_total{connection=\"consumer\"} 1\n"), "{text}");
}

#[test]
fn the_status_server_is_read_only_and_limits_its_event_streams() {
    let dir = TestDir::new();
    let mut worker = dir.program("worker --sandbox --queue local:q.db --listen 0").start();
    let address = worker.status_page_address();
    for path in ["/", "/status.json", "/status/events", "/metrics", "/readyz", "/healthz"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(request(&address, method, path, "").status, 405, "{method} {path}");
        }
    }
    assert_eq!(get(&address, "/control").status, 404);
    let page = get(&address, "/");
    assert!(page.head.contains("content-security-policy: default-src 'none'; script-src 'sha256-"), "{}", page.head);

    let mut streams: Vec<_> = (0..32).map(|_| open(&address, "GET", "/status/events", "")).collect();
    assert!(streams.iter().all(|(_, head)| head.starts_with("http/1.1 200")));
    let (_, refused) = open(&address, "GET", "/status/events", "");
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    let (stream, _) = &mut streams[0];
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let event = stream.lines().map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap();
    let status: Value = serde_json::from_str(&event["data: ".len()..]).unwrap();
    assert_eq!(status["minutes"].as_array().unwrap().len(), 60);
}

#[test]
fn an_empty_queue_is_logged_once_until_jobs_arrive() {
    const EMPTY: &str = "no job is due: waiting for jobs";
    let dir = TestDir::with("people.csv", customers(0..3));
    let mut worker = dir.program("worker --sandbox --queue local:q.db --out out --listen 0").start();
    let address = worker.status_page_address();
    worker.wait_for_output(EMPTY);
    assert_eq!(get(&address, "/readyz").json()["state"], "waiting");
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    worker.wait_for_output("jobs are due again");
    worker.wait_until("all events", || dir.results("out").event_lines() == 3);
    worker.wait_for_output_times(EMPTY, 2);
    assert!(get(&address, "/metrics").body.contains("plu_onboard_waiting_for_jobs 1\n"));
    // After the exit the whole output has been read.
    worker.signal("TERM");
    assert_eq!(worker.expect_exit(0).times(EMPTY), 2);
}
