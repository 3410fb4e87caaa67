//! The API hangs and every answer is lost. Waiting uses up no attempts, the run resumes by itself, and users that were
//! created meanwhile are found by look-ups.

use std::time::Duration;

use plu_onboard::sandbox::{FaultPlan, SandboxConfig, SandboxControl};

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
    partner.control(&SandboxControl { latency_ms: Some(60_000), ..SandboxControl::default() });
    running.wait_for_output("circuit breaker open");
    let requests = partner.requests();
    running.wait_until("trial requests are sent", || partner.requests() >= requests + 4);
    partner.control(&SandboxControl { latency_ms: Some(5), ..SandboxControl::default() });
    running.expect_exit(0);
    let [created, existing, rejected, failed, waiting] = dir.results("out").tally();
    assert_eq!((created, existing, rejected, failed, waiting), (200, 0, 0, 0, 0));
    assert_eq!(partner.stats().model.created, 200);
}

/// Returns how many links an outage of a second costs that begins in the middle of good work, with all slots in use.
fn links_lost(concurrency: usize, outage: &SandboxControl) -> usize {
    const LATENCY: Duration = Duration::from_millis(100);
    let mut config = SandboxConfig { latency: LATENCY, ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let dir = TestDir::with("people.csv", customers(0..300));
    let mut running = dir
        .program(&format!("run people.csv --out out --rate 0 --concurrency {concurrency} --api-url {}", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("api.connect_timeout_s", "1")
        .set("api.timeout_s", "2")
        .set("worker.backoff_initial_ms", "20")
        .set("circuit_breaker.open_s", "1")
        .set("circuit_breaker.open_max_s", "1")
        .start();
    running.wait_until("good work", || partner.stats().model.created >= 100);
    partner.control(outage);
    running.wait_for_output("links are being lost");
    running.wait_for_output("circuit breaker open");
    let faults = Some(FaultPlan::parse(&[""; 0]).unwrap());
    partner.control(&SandboxControl {
        latency_ms: u64::try_from(LATENCY.as_millis()).ok(),
        faults,
        ..SandboxControl::default()
    });
    running.expect_exit(0);
    let results = dir.results("out");
    assert_eq!(results.tally(), [300, 0, 0, 0, 0]);
    assert_eq!(partner.stats().model.created, 300);
    results.events().iter().filter(|event| event["verificationUrl"].is_null()).count()
}

#[test]
fn an_outage_that_breaks_connections_costs_few_links_beyond_those_in_flight() {
    let faults = Some(FaultPlan::parse(&["lost=100%"]).unwrap());
    let lost = links_lost(16, &SandboxControl { faults, ..SandboxControl::default() });
    assert!((3..=16 + 5).contains(&lost), "{lost} links are lost");
}

#[test]
fn an_outage_in_which_requests_hang_costs_no_more_links_than_slots() {
    let lost = links_lost(16, &SandboxControl { latency_ms: Some(3_600_000), ..SandboxControl::default() });
    assert!((3..=16).contains(&lost), "{lost} links are lost");
}
