//! The policy of the pipeline, and the state that all jobs of a worker share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::IdempotencyKey;
use crate::domain::decide::Limits;
use crate::pipeline::gate::breaker::BreakerPolicy;
use crate::pipeline::gate::{Gate, ProbeSchedule};
use crate::pipeline::guards::finished_keys::FinishedKeys;
use crate::pipeline::guards::halt::{Halt, HaltPolicy};
use crate::pipeline::guards::known_keys::KnownKeys;
use crate::pipeline::guards::outliers::OutlierJobs;
use crate::pipeline::guards::ownership::UserOwnership;
use crate::pipeline::guards::per_person::PersonLocks;
use crate::pipeline::rate::backoff::Backoff;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::user_lookup::UserLookUp;
use crate::pipeline::window::waiting_max;
use crate::telemetry::Metrics;

/// How the pipeline behaves. Holds every bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PipelinePolicy {
    /// Most requests in flight.
    pub concurrency: usize,
    /// Most jobs in progress: in flight, waiting for a permit or a look-up, or for a retry in memory.
    pub window: usize,
    /// Longest job message, in bytes.
    pub message_bytes_max: usize,
    /// When a job fails.
    pub limits: Limits,
    /// Delay between attempts.
    pub backoff: Backoff,
    /// A longer delay is spent on the queue.
    pub delay_in_memory_max: Duration,
    /// When a paused account is probed.
    pub probes: ProbeSchedule,
    /// How long requests in flight may take to finish when the worker stops.
    pub shutdown_grace: Duration,
    /// Seed of the jitter.
    pub seed: u64,
    /// When the circuit breaker opens and closes.
    pub breaker: BreakerPolicy,
    /// When the outcomes are too bad to continue.
    pub halt: HaltPolicy,
}

impl PipelinePolicy {
    /// Returns how many jobs the worker holds at most: in progress, or waiting for an earlier job about their person.
    pub(crate) fn jobs_max(&self) -> usize {
        self.window + waiting_max(self.window)
    }
}

/// State that all jobs of a worker share.
#[derive(Debug)]
pub(crate) struct Context<A> {
    pub api: A,
    pub policy: PipelinePolicy,
    pub rate_limiter: RateLimiter,
    pub gate: Gate,
    pub look_up: UserLookUp,
    pub halt: Halt,
    pub outliers: OutlierJobs,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Cancelled when no more requests may be sent.
    pub stop: CancellationToken,
    /// Lifetime of a verification link; `None`: events don't say.
    pub link_ttl: Option<Duration>,
    pub(super) person_locks: PersonLocks,
    pub(super) ownership: UserOwnership,
    pub(super) finished_keys: FinishedKeys,
    pub(super) known_keys: KnownKeys,
    rng: Mutex<fastrand::Rng>,
}

impl<A> Context<A> {
    pub(crate) fn new(
        api: A,
        policy: PipelinePolicy,
        rate_limiter: RateLimiter,
        clock: Clock,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            api,
            policy,
            rate_limiter,
            gate: Gate::new(policy.probes, policy.breaker, policy.concurrency).with_first_request_alone(),
            look_up: UserLookUp::default(),
            halt: Halt::new(policy.halt),
            outliers: OutlierJobs::default(),
            clock,
            metrics,
            stop,
            link_ttl: None,
            person_locks: PersonLocks::default(),
            ownership: UserOwnership::default(),
            finished_keys: FinishedKeys::new(policy.limits.key_ttl),
            known_keys: KnownKeys::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(policy.seed)),
        }
    }

    /// An operator resumes: a halt ends, and a pause or an open circuit breaker is probed at once. Returns whether it
    /// was halted.
    pub(crate) fn resume(&self) -> bool {
        self.halt.clear();
        self.gate.resume()
    }

    /// Returns a key that no request had before. `own` is the job's key: two workers may have the same seed.
    pub(super) fn random_key(&self, own: &IdempotencyKey) -> IdempotencyKey {
        let random = self.rng.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
        let now = u128::from(self.clock.now().unix_ms().cast_unsigned());
        IdempotencyKey::from_random((random ^ own.uuid().as_u128() ^ now.rotate_left(64)).to_be_bytes())
    }

    /// Returns the delay before attempt `n`, with jitter.
    pub(super) fn delay_before_attempt(&self, n: u32) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        self.policy.backoff.delay(n, &mut rng)
    }
}
