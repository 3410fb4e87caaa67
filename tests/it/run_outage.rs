//! The API hangs and every answer is lost. Waiting uses up no attempts, the run resumes by itself, and users that were
//! created meanwhile are found by look-ups.

use std::time::Duration;

use plu_onboard::sandbox::{Control, SandboxConfig};

use crate::support::{Partner, TestDir, customers};

#[test]
fn an_outage_during_a_run_fails_no_row() {
    let mut config = SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", customers(0..200));
    let mut running = dir
        .program(&format!("run people.csv --out out --rate 100 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("api.connect_timeout_s", "1")
        .set("api.timeout_s", "1")
        .set("worker.backoff_initial_ms", "20")
        // Without the circuit breaker, a row fails after three lost answers.
        .set("worker.attempts_max", "3")
        .set("circuit_breaker.open_s", "1")
        .set("circuit_breaker.open_max_s", "1")
        .start();
    running.wait_until("some users", || partner.stats().model.created >= 40);
    partner.control(&Control { latency_ms: Some(60_000), ..Control::default() });
    running.wait_for_output("circuit breaker open");
    let requests = partner.requests();
    running.wait_until("trial requests are sent", || partner.requests() >= requests + 4);
    partner.control(&Control { latency_ms: Some(5), ..Control::default() });
    running.expect_exit(0);
    let [created, existing, rejected, failed, waiting] = dir.results("out").tally();
    assert_eq!((created, existing, rejected, failed, waiting), (200, 0, 0, 0, 0));
    assert_eq!(partner.stats().model.created, 200);
}
