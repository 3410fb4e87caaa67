//! What the pipeline and the domain want to know, in their own types. They don't know the settings.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::config::Settings;
use crate::domain::answer::RefusalMarks;
use crate::domain::decide::Limits;
use crate::pipeline::Policy;
use crate::pipeline::gate::ProbeSchedule;
use crate::pipeline::gate::breaker::BreakerPolicy;
use crate::pipeline::guards::halt::HaltPolicy;
use crate::pipeline::rate::adapt::AdaptiveRateConfig;
use crate::pipeline::rate::backoff::Backoff;
use crate::pipeline::rate::hours::ActiveHours;
use crate::pipeline::rate::rate_limiter::RateLimitConfig;
use crate::pipeline::retry_budget::RetryBudgetPolicy;

/// Jobs in hand for each request on its way, where `worker.window` doesn't say. Measured: a window well above the
/// concurrency keeps requests going while outcomes are being recorded.
const WINDOW_PER_REQUEST: usize = 4;

impl Settings {
    /// How the pipeline behaves. `seed` is that of its jitter.
    pub(crate) fn policy(&self, seed: u64) -> Policy {
        let Self { api, worker, breaker, retry, halt, .. } = self;
        Policy {
            concurrency: worker.concurrency,
            window: if worker.window == 0 { WINDOW_PER_REQUEST * worker.concurrency } else { worker.window },
            message_bytes_max: self.queue.message_bytes_max,
            limits: Limits {
                attempts_max: worker.attempts_max,
                give_up_after: Duration::from_secs(worker.give_up_after_s),
                key_ttl: Duration::from_secs(api.key_ttl_s),
                clock_skew: Duration::from_secs(api.clock_skew_s),
            },
            backoff: Backoff {
                initial: Duration::from_millis(worker.backoff_initial_ms),
                max: Duration::from_secs(worker.backoff_max_s),
            },
            wait_in_hand_max: Duration::from_secs(worker.wait_in_hand_max_s),
            probes: ProbeSchedule {
                initial: Duration::from_secs(worker.probe_initial_s),
                max: Duration::from_secs(worker.probe_max_s),
            },
            shutdown_grace: Duration::from_secs(worker.shutdown_grace_s),
            seed,
            look_up_cache: Duration::from_secs(api.look_up_cache_s),
            breaker: BreakerPolicy {
                window: Duration::from_secs(breaker.window_s),
                requests_min: breaker.requests_min,
                failures_in_a_row: breaker.failures_in_a_row,
                failure_share: breaker.failure_share,
                slow_after: Duration::from_secs(breaker.slow_after_s),
                open_for: Duration::from_secs(breaker.open_s),
                open_for_max: Duration::from_secs(breaker.open_max_s),
                trials: breaker.trials,
            },
            retry_budget: RetryBudgetPolicy { share: retry.budget_share, per_second_min: retry.budget_per_s_min },
            halt: HaltPolicy {
                window: halt.window,
                rejected_share: halt.on_rejected_share,
                existing_share: halt.on_existing_share,
                ..HaltPolicy::NEVER
            },
        }
    }

    /// How "key already used" and "user exists" are recognised.
    pub(crate) fn refusal_marks(&self) -> RefusalMarks {
        RefusalMarks {
            key_used_codes: self.api.key_used_codes.clone(),
            key_used_words: self.api.key_used_words.clone(),
            user_exists_codes: self.api.user_exists_codes.clone(),
        }
    }

    /// How fast requests leave, and when.
    pub(crate) fn rate_limit(&self) -> RateLimitConfig {
        let Self { rate_limit, worker, .. } = self;
        let share = |percent: u32| f64::from(percent) / 100.0;
        RateLimitConfig {
            rate: self.rate(),
            rate_per_minute: NonZeroU32::new(rate_limit.rate_per_minute),
            adapt: AdaptiveRateConfig {
                cut: share(rate_limit.cut_percent),
                climb_per_second: share(rate_limit.climb_percent_per_minute) / 60.0,
            },
            bulk_share_percent: worker.bulk_share_percent,
            per_day: NonZeroU64::new(rate_limit.per_day),
            // Both were checked when the settings were read.
            hours: ActiveHours::parse(&rate_limit.active_hours, &rate_limit.time_zone).unwrap_or_default(),
        }
    }

    /// How long a verification link lives; `None`: not to be told.
    pub(crate) fn link_ttl(&self) -> Option<Duration> {
        (self.api.link_ttl_h > 0).then(|| Duration::from_secs(self.api.link_ttl_h * 3_600))
    }

    /// Most requests per second; `None`: no limit.
    pub(crate) fn rate(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.rate_limit.rate)
    }
}
