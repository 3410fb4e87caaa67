//! Several workers on one RabbitMQ share one rate: whoever starts, stops or dies, the partner never sees more of it, and
//! those that are left soon use all of it again.

use std::collections::VecDeque;
use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Broker, Partner, Place, Running};

const RATE: u32 = 60;
/// From a change to the use of 95 % of the rate.
const BACK_WITHIN: Duration = Duration::from_secs(10);

fn job(n: u32) -> String {
    json!({"user": {
        "firstName": "Ann", "lastName": "Lee", "email": format!("p{n}@example.com"), "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": format!("{n} Main Street"), "city": "Springfield", "region": "IL",
        "postalCode": "62701", "countryCode": "US",
    }})
    .to_string()
}

/// Looks at the partner until 95 % of the rate has been used for two seconds.
fn is_back_in_time(after: &str, worker: &mut Running, partner: &Partner) {
    let (start, over) = (Instant::now(), Duration::from_secs(2));
    let mut samples = VecDeque::new();
    worker.until(&format!("95 % of the rate {after}"), || {
        let now = Instant::now();
        samples.push_back((now, partner.requests()));
        while samples.get(1).is_some_and(|(at, _)| now - *at >= over) {
            samples.pop_front();
        }
        let (at, requests) = samples[0];
        let per_second = (partner.requests() - requests) as f64 / (now - at).as_secs_f64();
        assert!(now - start < BACK_WITHIN, "{after}: {per_second:.1}/s after {BACK_WITHIN:?}");
        now - at >= over && per_second >= 0.95 * f64::from(RATE)
    });
}

#[test]
fn workers_that_start_stop_and_die_share_one_rate() {
    let (broker, place) = (Broker::start(), Place::new());
    let partner = Partner::start(SandboxConfig { latency: Duration::from_millis(5), ..SandboxConfig::default() });
    let arguments = format!("worker --queue {} --api-url {} --rate {RATE}", broker.url(), partner.url());
    let start = || place.program(&arguments).start();

    let mut first = start();
    first.says("connected to the broker");
    broker.publish("plu.onboarding", "bulk", &(0..6_000).map(job).collect::<Vec<_>>());
    is_back_in_time("after the start of one", &mut first, &partner);

    let mut second = start();
    second.says("shared by the workers on this queue workers=2");
    is_back_in_time("after the start of a second", &mut first, &partner);

    let third = start();
    first.says("shared by the workers on this queue workers=3");
    is_back_in_time("after the start of a third", &mut first, &partner);

    third.kill();
    is_back_in_time("after one was killed", &mut first, &partner);

    second.signal("TERM");
    second.ends_with(0);
    is_back_in_time("after one was stopped", &mut first, &partner);

    let stats = partner.stats().model;
    // Workers count when requests leave; a busy machine carries some of them late, and bunches them up: a tenth of a second's
    // worth. Two workers that don't share would be at twice the rate.
    assert!(stats.max_requests_in_any_second <= (RATE + RATE / 10).into(), "{stats:?}");
    assert!(broker.ready("plu.onboarding.jobs.bulk") > 0, "it ran out of work");
    first.signal("TERM");
    first.ends_with(0);
}
