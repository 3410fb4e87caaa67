//! Several workers on one RabbitMQ share one rate limit: it is never exceeded when workers start, stop or crash, and
//! the remaining workers soon use all of it again.

use std::collections::VecDeque;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use tokio::time::Instant;

use crate::support::{Broker, Partner, RunningProgram, TestDir, jobs};

const RATE: u32 = 60;
/// Limit of the time from a change of the workers until 95 % of the rate is used.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);

/// Waits until the partner has seen 95 % of the rate for two seconds.
fn until_rate_is_used(after: &str, worker: &mut RunningProgram, partner: &Partner) {
    let (start, over) = (Instant::now(), Duration::from_secs(2));
    let mut samples = VecDeque::new();
    worker.wait_until(&format!("95 % of the rate {after}"), || {
        let now = Instant::now();
        samples.push_back((now, partner.requests()));
        while samples.get(1).is_some_and(|(at, _)| now - *at >= over) {
            samples.pop_front();
        }
        let (at, requests) = samples[0];
        let per_second = (partner.requests() - requests) as f64 / (now - at).as_secs_f64();
        assert!(now - start < RECOVERED_WITHIN, "{after}: {per_second:.1}/s after {RECOVERED_WITHIN:?}");
        now - at >= over && per_second >= 0.95 * f64::from(RATE)
    });
}

#[test]
fn workers_that_start_stop_and_crash_share_one_rate_limit() {
    let (broker, dir) = (Broker::start(), TestDir::new());
    let partner = Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() });
    let arguments = format!("worker --queue {} --api-url {} --rate {RATE}", broker.url(), partner.url());
    let start = || dir.program(&arguments).start();

    let mut first = start();
    first.wait_for_output("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &jobs(0..6_000));
    until_rate_is_used("after the start of one", &mut first, &partner);

    let mut second = start();
    second.wait_for_output("shared by the workers on this queue workers=2");
    until_rate_is_used("after the start of a second", &mut first, &partner);

    let third = start();
    first.wait_for_output("shared by the workers on this queue workers=3");
    until_rate_is_used("after the start of a third", &mut first, &partner);

    third.kill();
    until_rate_is_used("after one was killed", &mut first, &partner);

    second.signal("TERM");
    second.expect_exit(0);
    until_rate_is_used("after one was stopped", &mut first, &partner);

    let stats = partner.stats().model;
    // A worker counts a request when it sends it. A busy machine delivers some late and several at once: a tenth of the
    // rate is tolerated. Two workers that don't share the limit would be at twice the rate.
    assert!(stats.max_requests_in_any_second <= (RATE + RATE / 10).into(), "{stats:?}");
    assert!(broker.ready("plu.onboarding.jobs.bulk") > 0, "the queue is empty too early");
    first.signal("TERM");
    first.expect_exit(0);
}
