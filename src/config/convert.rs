//! Makes the policies of the pipeline and the domain from the settings. These modules don't know the settings.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::config::Settings;
use crate::domain::answer::RefusalMarks;
use crate::domain::decide::Limits;
use crate::pipeline::PipelinePolicy;
use crate::pipeline::gate::ProbeSchedule;
use crate::pipeline::gate::breaker::{BreakerPolicy, REQUESTS_MIN};
use crate::pipeline::guards::halt::HaltPolicy;
use crate::pipeline::rate::backoff::Backoff;
use crate::pipeline::rate::hours::ActiveHours;
use crate::pipeline::rate::rate_limiter::RateLimitConfig;

/// Jobs in progress for each request in flight, if `worker.window` is 0. Measured: a window well above the concurrency
/// keeps requests in flight while outcomes are being recorded.
const WINDOW_PER_REQUEST: usize = 4;

impl Settings {
    /// The policy of the pipeline. `seed` is the seed of its jitter.
    pub(crate) fn policy(&self, seed: u64) -> PipelinePolicy {
        let Self { api, worker, circuit_breaker: breaker, halt, .. } = self;
        PipelinePolicy {
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
            delay_in_memory_max: Duration::from_secs(worker.delay_in_memory_max_s),
            probes: ProbeSchedule {
                initial: Duration::from_secs(worker.probe_initial_s),
                max: Duration::from_secs(worker.probe_max_s),
            },
            shutdown_grace: Duration::from_secs(worker.shutdown_grace_s),
            seed,
            breaker: BreakerPolicy {
                window: Duration::from_secs(breaker.window_s),
                requests_min: REQUESTS_MIN,
                failure_share: breaker.failure_share,
                slow_after: Duration::from_secs(breaker.slow_after_s),
                open_for: Duration::from_secs(breaker.open_s),
                open_for_max: Duration::from_secs(breaker.open_max_s),
            },
            halt: HaltPolicy {
                window: halt.window,
                rejected_share: halt.on_rejected_share,
                existing_share: halt.on_existing_share,
                lost_link_share: halt.on_lost_link_share,
                ..HaltPolicy::NEVER
            },
        }
    }

    /// The codes and words that identify "key already used" and "user exists".
    pub(crate) fn refusal_marks(&self) -> RefusalMarks {
        RefusalMarks {
            key_used_codes: self.api.key_used_codes.clone(),
            key_used_words: self.api.key_used_words.clone(),
            user_exists_codes: self.api.user_exists_codes.clone(),
        }
    }

    pub(crate) fn rate_limit(&self) -> RateLimitConfig {
        let Self { rate_limit, worker, .. } = self;
        RateLimitConfig {
            rate: self.rate(),
            rate_per_minute: NonZeroU32::new(rate_limit.rate_per_minute),
            bulk_share_percent: worker.bulk_share_percent,
            per_day: NonZeroU64::new(rate_limit.per_day),
            // The rules have checked both.
            hours: ActiveHours::parse(&rate_limit.active_hours, &rate_limit.time_zone).unwrap_or_default(),
        }
    }

    /// Lifetime of a verification link; `None`: unknown.
    pub(crate) fn link_ttl(&self) -> Option<Duration> {
        (self.api.link_ttl_h > 0).then(|| Duration::from_secs(self.api.link_ttl_h * 3_600))
    }

    /// Maximum number of requests per second; `None`: no limit.
    pub(crate) fn rate(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.rate_limit.rate)
    }
}
