//! The API hangs: every answer is lost. Waiting must cost nobody their attempts, and the run must go on by itself and
//! find whoever was created meanwhile.

use std::time::Duration;

use plu_onboard::sandbox::{Control, SandboxConfig};

use crate::support::{Partner, Place, customers};

#[test]
fn an_outage_in_the_middle_of_a_run_fails_nobody() {
    let mut config = SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(1);
    let partner = Partner::start(config);
    let place = Place::with("people.csv", customers(0..200));
    let mut running = place
        .program(&format!("run people.csv --out out --rate 100 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("api.connect_timeout_s", "1")
        .set("api.timeout_s", "1")
        .set("worker.backoff_initial_ms", "20")
        // Without the breaker, three lost answers would be the end of a row.
        .set("worker.attempts_max", "3")
        .set("breaker.open_s", "1")
        .set("breaker.open_max_s", "1")
        .start();
    running.until("some users", || partner.stats().model.created >= 40);
    partner.control(&Control { latency_ms: Some(60_000), ..Control::default() });
    running.says("the API is down or slow");
    let requests = partner.requests();
    running.until("it is tried now and then", || partner.requests() >= requests + 4);
    partner.control(&Control { latency_ms: Some(5), ..Control::default() });
    running.ends_with(0);
    let [created, existing, rejected, failed, waiting] = place.results("out").tally();
    assert_eq!((created, existing, rejected, failed, waiting), (200, 0, 0, 0, 0));
    assert_eq!(partner.stats().model.created, 200);
}
