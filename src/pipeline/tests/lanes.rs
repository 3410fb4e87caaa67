//! Signups and a migration beside each other: who waits for whom, and for how long.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::decide::History;
use crate::pipeline::rate::hours::ActiveHours;
use crate::pipeline::rate::rate_limiter::RateLimitConfig;
use crate::pipeline::tests::*;
use crate::ports::{Delivery, JobSource, QueueError, Settle};

/// A lane that always has another job, and counts what became of them.
#[derive(Clone)]
struct Endless {
    lane: Lane,
    given: Arc<AtomicU32>,
    finished: Arc<AtomicU32>,
    requeue: Arc<AtomicU32>,
}

impl Endless {
    fn new(lane: Lane) -> Self {
        Self { lane, given: Arc::default(), finished: Arc::default(), requeue: Arc::default() }
    }

    fn finished(&self) -> u32 {
        self.finished.load(Ordering::Relaxed)
    }
}

impl JobSource for Endless {
    type Handle = Self;

    async fn receive(&mut self) -> Result<Option<Delivery<Self>>, QueueError> {
        let n = self.given.fetch_add(1, Ordering::Relaxed);
        let body = job(&format!("{}{n}@example.com", self.lane.name())).into_bytes();
        let history = History::new(T0);
        Ok(Some(Delivery { lane: self.lane, body: body.into(), message_id: None, history, handle: self.clone() }))
    }
}

impl Settle for Endless {
    async fn record_intent(&mut self, _now: Timestamp) -> Result<(), QueueError> {
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn finish(self, _event: &Event) -> Result<(), QueueError> {
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn requeue(self, _history: History, _delay: Duration) -> Result<(), QueueError> {
        self.requeue.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn partner_with_latency(latency: Duration) -> Partner {
    Partner(Arc::new(Script { latency, ..Script::default() }))
}

fn context_with(partner: &Partner, policy: Policy, rate_limiter: RateLimiter) -> Arc<Context<Partner>> {
    let metrics = Metrics::new().unwrap();
    Arc::new(Context::new(
        partner.clone(),
        policy,
        rate_limiter,
        Clock::simulated(T0),
        metrics,
        CancellationToken::new(),
    ))
}

const WIDE: Policy = Policy { concurrency: 16, window: 64, ..POLICY };

#[tokio::test(start_paused = true)]
async fn bulk_keeps_its_share_while_signup_is_never_empty() {
    for (bulk_share_percent, rate) in [(10, Some(100)), (25, Some(100)), (0, Some(100)), (10, None)] {
        let rate = rate.and_then(NonZeroU32::new);
        let rate_limiter =
            RateLimiter::with(RateLimitConfig { rate, bulk_share_percent, ..RateLimitConfig::default() });
        let context = context_with(&partner_with_latency(Duration::from_millis(100)), WIDE, rate_limiter);
        let (signup, bulk) = (Endless::new(Lane::Signup), Endless::new(Lane::Bulk));
        let working = work(context, signup.clone(), bulk.clone());
        let _ = tokio::time::timeout(Duration::from_secs(20), working).await;
        let (signup, bulk) = (signup.finished(), bulk.finished());
        assert!(signup + bulk > 1_900, "{signup} + {bulk}");
        let share = f64::from(bulk) * 100.0 / f64::from(signup + bulk);
        let expected = f64::from(bulk_share_percent);
        assert!((share - expected).abs() < 1.5, "{share} %, not {expected} %; rate {rate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_set_at_run_time_holds_from_then_on() {
    let config = |bulk_share_percent| RateLimitConfig {
        rate: NonZeroU32::new(100),
        bulk_share_percent,
        ..RateLimitConfig::default()
    };
    let context = context_with(&partner_with_latency(Duration::from_millis(20)), WIDE, RateLimiter::with(config(10)));
    let (signup, bulk) = (Endless::new(Lane::Signup), Endless::new(Lane::Bulk));
    let setting = async {
        for bulk_share_percent in [50, 10, 0, 25] {
            context.rate_limiter.set(config(bulk_share_percent));
            // What is in hand was taken at the share of before.
            sleep(Duration::from_secs(5)).await;
            let before = (signup.finished(), bulk.finished());
            sleep(Duration::from_secs(10)).await;
            let (signups, bulks) = (signup.finished() - before.0, bulk.finished() - before.1);
            let share = f64::from(bulks) * 100.0 / f64::from(signups + bulks);
            assert!((share - f64::from(bulk_share_percent)).abs() < 1.5, "{share} %, not {bulk_share_percent} %");
        }
    };
    tokio::select! {
        biased;
        () = setting => {}
        _ = work(Arc::clone(&context), signup.clone(), bulk.clone()) => unreachable!("it never ends"),
    }
}

/// Whoever signs up waits for no more than the next turn; where 16 slow requests are all that may be on their way, for the first
/// of those in addition.
#[tokio::test(start_paused = true)]
async fn whoever_signs_up_waits_for_one_turn_however_long_bulk_is() {
    let turn = Duration::from_millis(102);
    for (latency_ms, concurrency, most) in
        [(1, 16, turn), (50, 16, turn), (3_000, 16, Duration::from_millis(1_400) + turn)]
    {
        let latency = Duration::from_millis(latency_ms);
        let policy = Policy { concurrency, ..WIDE };
        let context = context_with(&partner_with_latency(latency), policy, RateLimiter::new(NonZeroU32::new(10)));
        let queue = MemoryQueue::new(context.clock);
        let bulk = Endless::new(Lane::Bulk);
        let mut waits = Vec::new();
        let signing_up = async {
            sleep(Duration::from_secs(10)).await;
            for n in 0..30_u64 {
                // Never in step with the pace.
                sleep(Duration::from_millis(1_000 + n * 37 % 200)).await;
                let start = Instant::now();
                queue.push(Lane::Signup, job(&format!("s{n}@example.com")));
                while queue.events().len() as u64 <= n {
                    sleep(Duration::from_millis(1)).await;
                }
                waits.push(start.elapsed().saturating_sub(latency));
            }
        };
        let signup = queue.source(Lane::Signup).for_ever();
        tokio::select! {
            biased;
            () = signing_up => {}
            _ = work_mixed(context, signup, bulk.clone()) => unreachable!("it never ends"),
        }
        let longest = waits.iter().max().unwrap();
        assert!(*longest <= most, "{longest:?} with answers after {latency_ms} ms");
        assert!(bulk.finished() > 100);
    }
}

/// The lanes of one worker have sources of one type.
enum Either {
    Memory(crate::testing::memory::MemorySource),
    Endless(Endless),
}

enum EitherHandle {
    Memory(crate::testing::memory::MemoryHandle),
    Endless(Endless),
}

impl JobSource for Either {
    type Handle = EitherHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<EitherHandle>>, QueueError> {
        fn wrapped<H>(from: Option<Delivery<H>>, wrap: fn(H) -> EitherHandle) -> Option<Delivery<EitherHandle>> {
            let Delivery { lane, body, message_id, history, handle } = from?;
            Some(Delivery { lane, body, message_id, history, handle: wrap(handle) })
        }
        match self {
            Self::Memory(source) => Ok(wrapped(source.receive().await?, EitherHandle::Memory)),
            Self::Endless(source) => Ok(wrapped(source.receive().await?, EitherHandle::Endless)),
        }
    }
}

impl Settle for EitherHandle {
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.record_intent(now).await,
            Self::Endless(handle) => handle.record_intent(now).await,
        }
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.retract_intent().await,
            Self::Endless(handle) => handle.retract_intent().await,
        }
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.finish(event).await,
            Self::Endless(handle) => handle.finish(event).await,
        }
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.requeue(history, delay).await,
            Self::Endless(handle) => handle.requeue(history, delay).await,
        }
    }
}

async fn work_mixed(
    context: Arc<Context<Partner>>,
    signup: crate::testing::memory::MemorySource,
    bulk: Endless,
) -> Result<Ended, QueueError> {
    work(context, Either::Memory(signup), Either::Endless(bulk)).await
}

/// T0 is 22:13:20 in UTC.
#[tokio::test(start_paused = true)]
async fn outside_of_the_active_hours_bulk_is_held_and_signup_goes_on() {
    let hours = ActiveHours::parse("08:00-22:30", "UTC").unwrap();
    let rate_per_minute = NonZeroU32::new(6);
    let rate_limiter = RateLimiter::with(RateLimitConfig {
        rate_per_minute,
        hours,
        bulk_share_percent: 50,
        ..RateLimitConfig::default()
    });
    let context = context_with(&Partner::default(), WIDE, rate_limiter);
    let (signup, bulk) = (Endless::new(Lane::Signup), Endless::new(Lane::Bulk));
    let working = tokio::spawn(work(Arc::clone(&context), signup.clone(), bulk.clone()));
    sleep(Duration::from_secs(1_010)).await;
    let (signups, at_closing) = (signup.finished(), bulk.finished());
    assert!((45..=55).contains(&at_closing), "{at_closing}");
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(bulk.finished(), at_closing);
    assert!(signup.finished() > signups + 340);
    // Nothing stays in hand for longer than a broker bears, and not much goes back and forth.
    let back = bulk.requeue.load(Ordering::Relaxed);
    assert!((64..=64 * 5).contains(&back), "{back} put back in an hour");
    sleep(Duration::from_secs(9 * 3_600)).await;
    assert!(bulk.finished() > at_closing);
    context.stop.cancel();
    working.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_migration_creates_no_more_in_a_day_than_it_may_and_goes_on_the_day_after() {
    let per_day = std::num::NonZeroU64::new(500);
    let rate_limiter =
        RateLimiter::with(RateLimitConfig { rate: NonZeroU32::new(50), per_day, ..RateLimitConfig::default() });
    // What an earlier life created counts.
    rate_limiter.remember_created(T0, 100);
    let bulk = Endless::new(Lane::Bulk);
    let queue = MemoryQueue::new(Clock::simulated(T0));
    let context = context_with(&Partner::answering([created(), lost(), Answer::AlreadyThere]), WIDE, rate_limiter);
    let working = tokio::spawn(work_mixed(Arc::clone(&context), queue.source(Lane::Signup).for_ever(), bulk.clone()));
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(context.api.sent().len(), 401, "one created nobody for sure");
    queue.push(Lane::Signup, job("s@example.com"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(queue.events().len(), 1, "whoever signs up is not held");
    sleep(Duration::from_secs(86_400 - 3_600 - 100)).await;
    assert_eq!(context.api.sent().len(), 402);
    sleep(Duration::from_secs(3_600)).await;
    let sent = context.api.sent().len();
    assert!((402 + 400..=402 + 501).contains(&sent), "{sent}");
    context.stop.cancel();
    working.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_a_person_lifts_is_over_within_a_minute_for_jobs_that_were_put_back_too() {
    let hours = ActiveHours::parse("08:00-22:00", "UTC").unwrap();
    let rate_limiter = RateLimiter::with(RateLimitConfig { hours, ..RateLimitConfig::default() });
    let queue = MemoryQueue::new(Clock::simulated(T0));
    let emails = [1, 2, 3].map(|n| format!("p{n}@example.com"));
    emails.iter().for_each(|email| queue.push(Lane::Bulk, job(email)));
    let context = context_with(&Partner::default(), WIDE, rate_limiter);
    let sources = [Lane::Signup, Lane::Bulk].map(|lane| queue.source(lane).for_ever());
    let [signup, bulk] = sources;
    let working = tokio::spawn(work(Arc::clone(&context), signup, bulk));
    // Long enough for each to have been taken and put back more than once.
    sleep(Duration::from_secs(1_800)).await;
    assert!(queue.events().is_empty());
    context.rate_limiter.set(RateLimitConfig::default());
    sleep(Duration::from_secs(62)).await;
    assert_eq!(queue.events().len(), emails.len());
    context.stop.cancel();
    working.await.unwrap().unwrap();
}
