//! Rate limits of the partner: a 429 uses up no attempt, and the partner never measures more than the rate that is set.

use std::time::Duration;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};
use tokio::time::Instant;

use crate::support::{Partner, TestDir, customers};

fn limited_to(rate_limit: u32) -> Partner {
    let model = ModelConfig { rate_limit: Some(rate_limit), ..ModelConfig::default() };
    Partner::start(SandboxConfig { model, ..SandboxConfig::default() })
}

#[test]
fn a_run_waits_after_a_429_and_counts_no_attempt() {
    let partner = limited_to(100);
    let dir = TestDir::with("people.csv", customers(0..300));
    dir.program(&format!("run people.csv --out out --rate 0 --api-url {}", partner.url())).expect_exit(0);
    let results = dir.results("out");
    assert_eq!(results.tally(), [300, 0, 0, 0, 0]);
    for event in results.events() {
        assert_eq!((&event["type"], &event["attempts"]), (&"user.created".into(), &1.into()), "{event}");
    }
    let stats = partner.stats().model;
    assert_eq!(stats.users, 300);
    assert!(stats.throttled > 0, "the limit was never reached: {stats:?}");
    // The run waits three times. Each time at most the requests in flight are throttled.
    assert!(stats.throttled <= 3 * 64, "requests were sent while the run was throttled: {stats:?}");
}

#[test]
fn the_partner_never_measures_more_than_the_rate_that_is_set() {
    // The partner's limit is a little higher than the rate, because on a busy machine evenly sent requests may arrive
    // together. A burst that the program sends, such as a full window, exceeds it.
    let partner = limited_to(60);
    let dir = TestDir::with("people.csv", customers(0..200));
    let start = Instant::now();
    dir.program(&format!("run people.csv --out out --rate 50 --api-url {}", partner.url())).expect_exit(0);
    let took = start.elapsed();
    let stats = partner.stats().model;
    assert_eq!(stats.throttled, 0, "{stats:?}");
    assert!(took >= Duration::from_secs(199) / 50, "200 requests at 50 a second took {took:?}");
    assert!(stats.max_requests_in_any_second >= 40, "much of the rate is left unused: {stats:?}");
    assert_eq!(dir.results("out").tally(), [200, 0, 0, 0, 0]);
}
