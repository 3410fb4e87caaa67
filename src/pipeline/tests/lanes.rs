//! Signups beside bulk jobs: priority, bulk's share, and how long a signup waits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::domain::Lane;
use crate::pipeline::PipelinePolicy;
use crate::pipeline::rate::rate_limiter::{RateLimitConfig, RateLimiter};
use crate::pipeline::tests::fixture::{Fixture, ScriptedPartner, WIDE, context_with, emails, job};
use crate::pipeline::tests::sources::{EndlessSource, work_beside_endless_bulk};
use crate::pipeline::worker::work;
use crate::testing::memory::MemoryQueue;

#[tokio::test(start_paused = true)]
async fn signups_go_before_bulk_jobs() {
    let fixture =
        Fixture::new(&ScriptedPartner::default()).with_jobs(["b1@example.com", "b2@example.com"]).with_rate(1);
    fixture.queue.push(Lane::Signup, job("s1@example.com"));
    fixture.queue.push(Lane::Signup, job("s2@example.com"));
    fixture.work().await;
    let order: Vec<String> = fixture.queue.events().into_iter().map(|event| event.job_id).collect();
    assert_eq!(order, ["s1@example.com", "s2@example.com", "b1@example.com", "b2@example.com"]);
}

#[tokio::test(start_paused = true)]
async fn a_signup_during_a_bulk_import_waits_for_a_few_requests() {
    let partner = ScriptedPartner::with_latency(Duration::from_millis(50));
    let mut fixture = Fixture::new(&partner).with_jobs(emails(200)).with_rate(10);
    fixture.policy.window = 64;
    let queue = fixture.queue.clone();
    queue.push(Lane::Signup, job("first@example.com"));
    let signup_wait = async {
        sleep(Duration::from_secs(5)).await;
        queue.push(Lane::Signup, job("late@example.com"));
        let start = Instant::now();
        while !queue.events().iter().any(|event| event.job_id == "late@example.com") {
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    };
    let (signup, bulk) = (queue.source(Lane::Signup).endless(), queue.source(Lane::Bulk).endless());
    let working = work(fixture.context(), signup, bulk);
    let waited =
        tokio::select! { biased; waited = signup_wait => waited, _ = working => unreachable!("it never ends") };
    assert!(waited <= Duration::from_millis(500), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn bulk_keeps_its_share_while_signups_always_wait() {
    for (bulk_share_percent, rate) in [(10, Some(100)), (25, Some(100)), (0, Some(100)), (10, None)] {
        let rate = rate.and_then(NonZeroU32::new);
        let rate_limiter =
            RateLimiter::with(RateLimitConfig { rate, bulk_share_percent, ..RateLimitConfig::default() });
        let partner = ScriptedPartner::with_latency(Duration::from_millis(100));
        let context = context_with(&partner, WIDE, rate_limiter);
        let (signup, bulk) = (EndlessSource::new(Lane::Signup), EndlessSource::new(Lane::Bulk));
        let working = work(context, signup.clone(), bulk.clone());
        assert!(timeout(Duration::from_secs(20), working).await.is_err());
        let (signups, bulks) = (signup.finished(), bulk.finished());
        assert!(signups + bulks > 1_900, "{signups} + {bulks}");
        assert_share(signups, bulks, bulk_share_percent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_set_at_run_time_applies_to_later_jobs() {
    let config = |bulk_share_percent| RateLimitConfig {
        rate: NonZeroU32::new(100),
        bulk_share_percent,
        ..RateLimitConfig::default()
    };
    let partner = ScriptedPartner::with_latency(Duration::from_millis(20));
    let context = context_with(&partner, WIDE, RateLimiter::with(config(10)));
    let (signup, bulk) = (EndlessSource::new(Lane::Signup), EndlessSource::new(Lane::Bulk));
    let setting = async {
        for bulk_share_percent in [50, 10, 0, 25] {
            context.rate_limiter.set(config(bulk_share_percent));
            // Jobs in progress were taken at the share before.
            sleep(Duration::from_secs(5)).await;
            let before = (signup.finished(), bulk.finished());
            sleep(Duration::from_secs(10)).await;
            assert_share(signup.finished() - before.0, bulk.finished() - before.1, bulk_share_percent);
        }
    };
    tokio::select! {
        biased;
        () = setting => {}
        _ = work(Arc::clone(&context), signup.clone(), bulk.clone()) => unreachable!("it never ends"),
    }
}

fn assert_share(signups: u32, bulks: u32, expected_percent: u32) {
    let share = f64::from(bulks) * 100.0 / f64::from(signups + bulks);
    assert!((share - f64::from(expected_percent)).abs() < 1.5, "{share} %, not {expected_percent} %");
}

/// A signup waits for the next request at the rate limit. With 16 slow requests as the most in flight, it waits for the
/// first of those too.
#[tokio::test(start_paused = true)]
async fn a_signup_waits_for_one_request_however_long_the_bulk_lane_is() {
    let next_request = Duration::from_millis(102);
    for (latency_ms, concurrency, wait_max) in
        [(1, 16, next_request), (50, 16, next_request), (3_000, 16, Duration::from_millis(1_400) + next_request)]
    {
        let latency = Duration::from_millis(latency_ms);
        let policy = PipelinePolicy { concurrency, ..WIDE };
        let rate_limiter = RateLimiter::new(NonZeroU32::new(10));
        let context = context_with(&ScriptedPartner::with_latency(latency), policy, rate_limiter);
        let queue = MemoryQueue::new(context.clock);
        let bulk = EndlessSource::new(Lane::Bulk);
        let mut waits = Vec::new();
        let signups = async {
            sleep(Duration::from_secs(10)).await;
            for n in 0..30_u64 {
                // Never in step with the rate limit.
                sleep(Duration::from_millis(1_000 + n * 37 % 200)).await;
                let start = Instant::now();
                queue.push(Lane::Signup, job(&format!("s{n}@example.com")));
                while queue.events().len() as u64 <= n {
                    sleep(Duration::from_millis(1)).await;
                }
                waits.push(start.elapsed().saturating_sub(latency));
            }
        };
        let signup = queue.source(Lane::Signup).endless();
        tokio::select! {
            biased;
            () = signups => {}
            _ = work_beside_endless_bulk(context, signup, bulk.clone()) => unreachable!("it never ends"),
        }
        let longest = waits.iter().max().unwrap();
        assert!(*longest <= wait_max, "{longest:?} with answers after {latency_ms} ms");
        assert!(bulk.finished() > 100);
    }
}
