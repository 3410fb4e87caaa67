//! The rate limiter on paused time.

use std::sync::Arc;

use std::time::Duration;

use tokio::time::sleep;

use crate::pipeline::rate::rate_limiter::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// Sends `count` requests as fast as allowed. Returns when each was sent.
async fn departures(rate_limiter: &RateLimiter, count: usize) -> Vec<Instant> {
    let mut departures = Vec::with_capacity(count);
    for _ in 0..count {
        rate_limiter.acquire(Lane::Bulk).await;
        departures.push(Instant::now());
    }
    departures
}

/// Returns the most departures in any rolling span of this length.
fn most_in(span: Duration, departures: &[Instant]) -> usize {
    let mut first = 0;
    let window = |(index, at): (usize, &Instant)| {
        while *at - departures[first] >= span {
            first += 1;
        }
        index + 1 - first
    };
    departures.iter().enumerate().map(window).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn no_rolling_second_exceeds_the_rate_and_nearly_all_of_it_is_used() {
    for per_second in [1, 2, 5, 20, 49, 50, 100, 250, 900, 1_000, 5_000] {
        let count = per_second as usize * 10 + 1;
        let departures = departures(&RateLimiter::new(Some(n(per_second))), count).await;
        let most = most_in(SECOND, &departures);
        assert!(most <= per_second as usize, "{most} in a second, {per_second} allowed");
        let took = departures[count - 1] - departures[0];
        assert!(took <= Duration::from_millis(10_300), "{per_second}/s: {count} requests took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_rolling_minute_exceeds_its_rate_and_nearly_all_of_it_is_used() {
    for per_minute in [1, 7, 300, 6_000] {
        let rate_limiter =
            RateLimiter::with(RateLimitConfig { rate_per_minute: Some(n(per_minute)), ..RateLimitConfig::default() });
        let count = per_minute as usize * 5 + 1;
        let departures = departures(&rate_limiter, count).await;
        let most = most_in(MINUTE, &departures);
        assert!(most <= per_minute as usize, "{most} in a minute, {per_minute} allowed");
        let took = departures[count - 1] - departures[0];
        assert!(took <= Duration::from_secs(303), "{per_minute}/min: {count} requests took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_evenly() {
    let departures = departures(&RateLimiter::new(Some(n(100))), 1_000).await;
    assert!(most_in(Duration::from_millis(100), &departures) <= 12);
}

#[tokio::test(start_paused = true)]
async fn a_restart_adds_no_burst() {
    for per_second in [5, 500] {
        let mut all = departures(&RateLimiter::new(Some(n(per_second))), 2_000).await;
        all.extend(departures(&RateLimiter::new(Some(n(per_second))), 2_000).await);
        let most = most_in(SECOND, &all);
        assert!(most <= per_second as usize, "{most} of {per_second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_rate_holds_from_the_next_request_on() {
    for (old, new) in [(100, 10), (10, 100), (500, 499), (3, 2), (20, 1)] {
        let rate_limiter = RateLimiter::new(Some(n(old)));
        let before = departures(&rate_limiter, old as usize * 3).await;
        rate_limiter.set_rate(Some(n(new)));
        let after = departures(&rate_limiter, new as usize * 3 + 1).await;
        let all: Vec<Instant> = before.iter().chain(&after).copied().collect();
        assert!(most_in(SECOND, &all) <= old.max(new) as usize, "{old} to {new}");
        for at in &after {
            let last_second = all.iter().filter(|other| *other <= at && *at - **other < SECOND).count();
            assert!(last_second <= new as usize, "{old} to {new}: {last_second} in the second before a request");
        }
        let took = *after.last().unwrap() - *before.last().unwrap();
        assert!(took <= Duration::from_millis(5_200), "{old} to {new}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_sees_a_change_of_the_rate() {
    let rate_limiter =
        Arc::new(RateLimiter::with(RateLimitConfig { rate_per_minute: Some(n(1)), ..RateLimitConfig::default() }));
    rate_limiter.acquire(Lane::Bulk).await;
    let start = Instant::now();
    let waiting = tokio::spawn({
        let rate_limiter = Arc::clone(&rate_limiter);
        async move { rate_limiter.acquire(Lane::Bulk).await }
    });
    sleep(SECOND).await;
    rate_limiter.set(RateLimitConfig::default());
    waiting.await.unwrap();
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_no_request_waits() {
    let start = Instant::now();
    departures(&RateLimiter::new(None), 10_000).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_does_not_block_other_requests() {
    let rate_limiter = RateLimiter::new(Some(n(1)));
    rate_limiter.acquire(Lane::Bulk).await;
    let cancelled = tokio::time::timeout(Duration::from_millis(10), rate_limiter.acquire(Lane::Bulk)).await;
    assert!(cancelled.is_err());
    rate_limiter.acquire(Lane::Bulk).await;
}

#[tokio::test(start_paused = true)]
async fn a_429_lowers_the_rate_which_climbs_back_and_never_above_the_configured_rate() {
    let rate_limiter = RateLimiter::new(Some(n(100)));
    departures(&rate_limiter, 200).await;
    rate_limiter.throttled();
    let mut all = Vec::new();
    let mut by_second = Vec::new();
    for _ in 0..60 {
        let start = Instant::now();
        let before = all.len();
        while start.elapsed() < SECOND {
            rate_limiter.acquire(Lane::Bulk).await;
            all.push(Instant::now());
        }
        by_second.push(all.len() - before);
    }
    assert!((66..=72).contains(&by_second[1]), "{by_second:?}");
    assert!((76..=82).contains(&by_second[21]), "{by_second:?}");
    assert!((95..=100).contains(&by_second[58]), "{by_second:?}");
    assert!(most_in(SECOND, &all) <= 100);
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_a_429_lowers_the_observed_rate() {
    let rate_limiter = RateLimiter::new(None);
    let step = Duration::from_millis(5);
    for _ in 0..600 {
        rate_limiter.acquire(Lane::Bulk).await;
        sleep(step).await;
    }
    assert_eq!(rate_limiter.effective_rate(), EffectiveRate::Unlimited);
    rate_limiter.throttled();
    let allowed = rate_limiter.effective_rate().shown().unwrap();
    assert!((135.0..=145.0).contains(&allowed), "{allowed}");
}

/// Workers count each other once a second. They start, stop, die, or lose the broker and stay alive.
#[tokio::test(start_paused = true)]
async fn workers_together_never_exceed_the_rate() {
    const RATE: u32 = 30;
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sent = Arc::new(Mutex::new(Vec::new()));
        // A worker that runs has an entry; the flag says whether the broker counts it.
        let mut fleet: Vec<Option<(Arc<RateLimiter>, tokio::task::AbortHandle, bool)>> = vec![None, None, None, None];
        let phases: Vec<u32> = (0..4).map(|_| rng.u32(0..10)).collect();
        // A worker that is alone sends at once, even if another one is alive without its broker for a moment. Here the
        // first worker never stops.
        for tick in 0..400_u32 {
            let at = if tick == 0 { Some(0) } else { (rng.u32(0..30) == 0).then(|| rng.usize(1..4)) };
            if let Some(at) = at {
                fleet[at] = match fleet[at].take() {
                    None => {
                        let rate_limiter = Arc::new(RateLimiter::new(Some(n(RATE))));
                        rate_limiter.share_with_fleet();
                        let (worker, sent) = (Arc::clone(&rate_limiter), Arc::clone(&sent));
                        let task = tokio::spawn(async move {
                            loop {
                                worker.acquire(Lane::Bulk).await;
                                sent.lock().unwrap().push(Instant::now());
                            }
                        });
                        Some((rate_limiter, task.abort_handle(), true))
                    }
                    Some((rate_limiter, task, true)) if rng.bool() => Some((rate_limiter, task, false)),
                    Some((_, task, _)) => {
                        task.abort();
                        None
                    }
                };
            }
            let count = fleet.iter().flatten().filter(|(.., is_counted)| *is_counted).count();
            for (worker, phase) in fleet.iter().zip(&phases) {
                if let Some((rate_limiter, _, true)) = worker
                    && (tick % 10 == *phase || rate_limiter.effective_rate() == EffectiveRate::Unknown)
                {
                    rate_limiter.counted(Instant::now(), n(u32::try_from(count).unwrap()));
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        fleet.iter().flatten().for_each(|(_, task, _)| task.abort());
        let sent = sent.lock().unwrap();
        let most = most_in(SECOND, &sent);
        assert!(most <= RATE as usize, "seed {seed}: {most} in a second");
        assert!(sent.len() > RATE as usize * 40 / 3, "seed {seed}: {} in 40 s", sent.len());
    }
}

#[tokio::test(start_paused = true)]
async fn the_share_follows_the_count_of_workers_within_five_seconds() {
    let limiters = [(); 2].map(|()| {
        let rate_limiter = RateLimiter::new(Some(n(100)));
        rate_limiter.share_with_fleet();
        rate_limiter
    });
    use EffectiveRate::{PerSecond, Unknown};
    let rates = || limiters.each_ref().map(RateLimiter::effective_rate);
    assert_eq!(rates(), [Unknown, Unknown]);
    limiters[0].counted(Instant::now(), n(1));
    assert_eq!(rates(), [PerSecond(100.0), Unknown]);
    for _ in 0..5 {
        limiters.iter().for_each(|rate_limiter| rate_limiter.counted(Instant::now(), n(2)));
        sleep(SECOND).await;
    }
    assert_eq!(rates(), [PerSecond(50.0), PerSecond(50.0)]);
    for _ in 0..5 {
        limiters[0].counted(Instant::now(), n(1));
        sleep(SECOND).await;
    }
    assert_eq!(rates(), [PerSecond(100.0), Unknown]);
}

#[tokio::test(start_paused = true)]
async fn the_metric_shows_the_configured_limit_that_is_lower() {
    let metrics = Metrics::new().unwrap();
    let rate_limiter = RateLimiter::with(RateLimitConfig {
        rate: NonZeroU32::new(20),
        rate_per_minute: NonZeroU32::new(300),
        ..RateLimitConfig::default()
    });
    rate_limiter.report_to(metrics.clone());
    assert_eq!(metrics.observed.rate_configured.get(), 5.0);
    rate_limiter.set_rate(NonZeroU32::new(2));
    assert_eq!(metrics.observed.rate_configured.get(), 2.0);
}
