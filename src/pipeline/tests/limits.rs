//! Bounds on requests.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::tests::fixture::{Fixture, POLICY, ScriptedPartner, emails};

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded() {
    let partner = ScriptedPartner::with_latency(Duration::from_secs(1));
    // The first is sent alone, the others four at a time.
    let fixture = Fixture::new(&partner).with_jobs(emails(97));
    let start = Instant::now();
    fixture.work().await;
    assert_eq!(partner.in_flight_max(), POLICY.concurrency);
    assert_eq!(start.elapsed().as_secs(), 25);
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_holds_for_creations() {
    let partner = ScriptedPartner::default();
    Fixture::new(&partner).with_jobs(emails(50)).with_rate(10).work().await;
    for window in partner.sent().windows(11) {
        assert!(window[10].at - window[0].at >= Duration::from_secs(1));
    }
}
