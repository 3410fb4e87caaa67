//! Limits of the partner: "too fast" must cost nobody an attempt, and a pace that was asked for must hold where the
//! partner counts.

use std::time::Duration;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};
use tokio::time::Instant;

use crate::support::{Partner, Place, customers};

fn limited_to(rate_limit: u32) -> Partner {
    let model = ModelConfig { rate_limit: Some(rate_limit), ..ModelConfig::default() };
    Partner::start(SandboxConfig { model, ..SandboxConfig::default() })
}

#[test]
fn being_told_to_wait_is_obeyed_and_is_nobodys_attempt() {
    let partner = limited_to(100);
    let place = Place::with("people.csv", customers(0..300));
    place.program(&format!("run people.csv --out out --rate 0 --api-url {}", partner.url())).ends_with(0);
    let results = place.results("out");
    assert_eq!(results.tally(), [300, 0, 0, 0, 0]);
    for event in results.events() {
        assert_eq!((&event["type"], &event["attempts"]), (&"user.created".into(), &1.into()), "{event}");
    }
    let stats = partner.stats().model;
    assert_eq!(stats.users, 300);
    assert!(stats.throttled > 0, "it was never told to wait: {stats:?}");
    // Three rounds of waiting, each with no more than what was on its way already.
    assert!(stats.throttled <= 3 * 64, "it went on sending while it was told to wait: {stats:?}");
}

#[test]
fn a_pace_that_was_asked_for_holds_where_the_partner_counts() {
    // On a busy machine requests that left evenly bunch up before they arrive; a burst of the program's own, such as
    // all that may be on its way at once, would be far larger.
    let partner = limited_to(60);
    let place = Place::with("people.csv", customers(0..200));
    let start = Instant::now();
    place.program(&format!("run people.csv --out out --rate 50 --api-url {}", partner.url())).ends_with(0);
    let took = start.elapsed();
    let stats = partner.stats().model;
    assert_eq!(stats.throttled, 0, "{stats:?}");
    assert!(took >= Duration::from_secs(199) / 50, "200 requests at 50 a second took {took:?}");
    assert!(stats.max_requests_in_any_second >= 40, "much of the pace is left unused: {stats:?}");
    assert_eq!(place.results("out").tally(), [200, 0, 0, 0, 0]);
}
