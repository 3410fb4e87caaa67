//! `/readyz` decides whether an orchestrator waits, and tells the person on call why it stands still.

use std::io::BufRead;
use std::time::Duration;

use plu_onboard::sandbox::{AccountState, SandboxConfig};
use serde_json::Value;

use crate::support::{Broker, Partner, Place, Reply, Running, customers, get, open, request};

fn until_ready(worker: &mut Running, address: &str, status: u16) -> Value {
    let mut reply = None;
    worker.until(&format!("/readyz answers {status}"), || {
        let now = get(address, "/readyz");
        let has_come = now.status == status;
        reply = Some(now);
        has_come
    });
    reply.as_ref().map(Reply::json).unwrap()
}

#[test]
fn a_paused_account_is_not_ready_says_why_and_is_ready_again_by_itself() {
    let partner = Partner::start(SandboxConfig::default());
    let place = Place::with("people.csv", customers(0..5));
    place.program("import people.csv --queue local:q.db").ends_with(0);
    partner.set_account(AccountState::KeyRevoked);
    let arguments = format!("worker --queue local:q.db --listen 0 --api-url {}", partner.url());
    let mut worker = place.program(&arguments).set("worker.probe_initial_s", "1").start();
    let address = worker.serves();
    let paused = until_ready(&mut worker, &address, 503);
    assert_eq!((&paused["state"], &paused["reason"]), (&"paused".into(), &"unauthorized".into()));
    assert!(paused["advice"].as_str().unwrap().contains("PLU_API_KEY"), "{paused}");
    assert!(paused["since"].as_str().unwrap().ends_with('Z'));
    // It lives, all the same.
    assert_eq!(get(&address, "/healthz").status, 200);
    partner.set_account(AccountState::Ok);
    let ready = until_ready(&mut worker, &address, 200);
    assert_eq!(ready["ready"], Value::Bool(true));
    assert!(ready["since"].as_str() > paused["since"].as_str(), "{paused} {ready}");
}

#[test]
fn without_its_broker_it_is_not_ready_and_reconnects_are_counted() {
    let (mut broker, place) = (Broker::start(), Place::new());
    let worker = place.program(&format!("worker --sandbox --queue {} --listen 0", broker.url()));
    let mut worker = worker.set("amqp.prefix", "plu.sandbox").start();
    let address = worker.serves();
    until_ready(&mut worker, &address, 200);
    broker.kill();
    let away = until_ready(&mut worker, &address, 503);
    assert_eq!(away["state"], "disconnected");
    // Whichever connection breaks first is named; once both are, the one that jobs come in by.
    worker.until("no jobs come in", || get(&address, "/readyz").json()["reason"] == "broker_consumer_down");
    let gone = || {
        let text = get(&address, "/metrics").body;
        text.contains("broker_connected{connection=\"consumer\"} 0") && !text.contains("plu_onboard_queue_dead_jobs")
    };
    worker.until("the queue's depth is absent, not stale", gone);
    broker.restart();
    until_ready(&mut worker, &address, 200);
    let text = get(&address, "/metrics").body;
    assert!(text.contains("plu_onboard_broker_reconnects_total{connection=\"consumer\"} 1\n"), "{text}");
}

#[test]
fn nothing_can_be_changed_and_live_views_are_limited() {
    let place = Place::new();
    let mut worker = place.program("worker --sandbox --queue local:q.db --listen 0").start();
    let address = worker.serves();
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
fn an_empty_queue_is_told_once_until_jobs_come_in() {
    const EMPTY: &str = "no job is due: waiting for jobs";
    let place = Place::with("people.csv", customers(0..3));
    let mut worker = place.program("worker --sandbox --queue local:q.db --out out --listen 0").start();
    let address = worker.serves();
    worker.says(EMPTY);
    assert_eq!(get(&address, "/readyz").json()["state"], "waiting");
    place.program("import people.csv --queue local:q.db").ends_with(0);
    worker.says("jobs came in: going on");
    worker.until("all events", || place.results("out").lines_so_far() == 3);
    worker.says_times(EMPTY, 2);
    assert!(get(&address, "/metrics").body.contains("plu_onboard_waiting_for_jobs 1\n"));
    // All that it says has come once it has ended.
    worker.signal("TERM");
    assert_eq!(worker.ends_with(0).times(EMPTY), 2);
}
