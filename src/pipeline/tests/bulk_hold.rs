//! Bulk jobs that are held: active hours and the daily quota.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::Clock;
use crate::domain::{Answer, Lane};
use crate::pipeline::rate::hours::ActiveHours;
use crate::pipeline::rate::rate_limiter::{RateLimitConfig, RateLimiter};
use crate::pipeline::tests::fixture::{ScriptedPartner, T0, WIDE, context_with, created, emails, job, lost};
use crate::pipeline::tests::sources::{EndlessSource, work_beside_endless_bulk};
use crate::pipeline::worker::work;
use crate::testing::memory::MemoryQueue;

const HOUR: Duration = Duration::from_secs(3_600);

/// T0 is 22:13:20 in UTC.
#[tokio::test(start_paused = true)]
async fn outside_of_the_active_hours_only_signups_are_sent() {
    let rate_limiter = RateLimiter::with(RateLimitConfig {
        rate_per_minute: NonZeroU32::new(6),
        hours: ActiveHours::parse("08:00-22:30", "UTC").unwrap(),
        bulk_share_percent: 50,
        ..RateLimitConfig::default()
    });
    let context = context_with(&ScriptedPartner::default(), WIDE, rate_limiter);
    let (signup, bulk) = (EndlessSource::new(Lane::Signup), EndlessSource::new(Lane::Bulk));
    let working = tokio::spawn(work(Arc::clone(&context), signup.clone(), bulk.clone()));
    sleep(Duration::from_secs(1_010)).await;
    let (signups, at_closing) = (signup.finished(), bulk.finished());
    assert!((45..=55).contains(&at_closing), "{at_closing}");
    sleep(HOUR).await;
    assert_eq!(bulk.finished(), at_closing);
    assert!(signup.finished() > signups + 340);
    // A job is held for less than a broker's time limit, and not many are requeued.
    let requeued = bulk.requeued();
    assert!((64..=64 * 5).contains(&requeued), "{requeued} requeued in an hour");
    sleep(HOUR * 9).await;
    assert!(bulk.finished() > at_closing);
    context.stop.cancel();
    working.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_daily_quota_holds_bulk_jobs_until_the_next_day() {
    let rate_limiter = RateLimiter::with(RateLimitConfig {
        rate: NonZeroU32::new(50),
        per_day: NonZeroU64::new(500),
        ..RateLimitConfig::default()
    });
    // Users that were created before this process started count.
    rate_limiter.remember_created(T0, 100);
    let bulk = EndlessSource::new(Lane::Bulk);
    let queue = MemoryQueue::new(Clock::simulated(T0));
    let partner = ScriptedPartner::answering([created(), lost(), Answer::UserExists]);
    let context = context_with(&partner, WIDE, rate_limiter);
    let signup = queue.source(Lane::Signup).endless();
    let working = tokio::spawn(work_beside_endless_bulk(Arc::clone(&context), signup, bulk.clone()));
    sleep(HOUR).await;
    assert_eq!(partner.sent().len(), 401, "one certainly created no user");
    queue.push(Lane::Signup, job("s@example.com"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(queue.events().len(), 1, "signups are not held");
    sleep(HOUR * 23 - Duration::from_secs(100)).await;
    assert_eq!(partner.sent().len(), 402);
    sleep(HOUR).await;
    let sent = partner.sent().len();
    assert!((402 + 400..=402 + 501).contains(&sent), "{sent}");
    context.stop.cancel();
    working.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_an_operator_lifts_ends_for_requeued_jobs_within_a_minute() {
    let hours = ActiveHours::parse("08:00-22:00", "UTC").unwrap();
    let rate_limiter = RateLimiter::with(RateLimitConfig { hours, ..RateLimitConfig::default() });
    let queue = MemoryQueue::new(Clock::simulated(T0));
    for email in emails(3) {
        queue.push(Lane::Bulk, job(&email));
    }
    let context = context_with(&ScriptedPartner::default(), WIDE, rate_limiter);
    let (signup, bulk) = (queue.source(Lane::Signup).endless(), queue.source(Lane::Bulk).endless());
    let working = tokio::spawn(work(Arc::clone(&context), signup, bulk));
    // Long enough for each job to be taken and requeued more than once.
    sleep(HOUR / 2).await;
    assert!(queue.events().is_empty());
    context.rate_limiter.set(RateLimitConfig::default());
    sleep(Duration::from_secs(62)).await;
    assert_eq!(queue.events().len(), 3);
    context.stop.cancel();
    working.await.unwrap().unwrap();
}
