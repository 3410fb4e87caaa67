//! The only HTTP/2 connection to the partner becomes silent, while new connections work. All requests share it, so that
//! each of them would wait for its time limit.

use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;

use crate::support::{Partner, TestDir, TlsFront, customers};

#[test]
fn a_silent_http2_connection_is_replaced_and_costs_only_links_in_flight() {
    const CONCURRENCY: u64 = 8;
    let mut config = SandboxConfig { latency: Duration::from_millis(50), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", customers(0..200));
    let front = TlsFront::start(&partner, &dir.path("ca.pem"));
    let mut running = dir
        .program(&format!("run people.csv --out out --rate 100 --concurrency {CONCURRENCY} --api-url {}", front.url()))
        .env("SSL_CERT_FILE", dir.path("ca.pem").to_str().unwrap())
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("api.connect_timeout_s", "1")
        .set("api.timeout_s", "1")
        .set("worker.backoff_initial_ms", "20")
        .set("circuit_breaker.open_s", "1")
        .start();
    running.wait_until("some users", || partner.stats().model.created >= 40);
    assert_eq!(front.connections(), 1, "HTTP/2 is used");
    front.silence_open_connections();
    running.expect_exit(0);
    assert_eq!(dir.results("out").tally(), [200, 0, 0, 0, 0]);
    assert_eq!(partner.stats().model.created, 200);
    let without_link = dir.results("out").events().iter().filter(|event| event["verificationUrl"].is_null()).count();
    assert!(without_link as u64 <= CONCURRENCY, "{without_link} links are lost");
}
