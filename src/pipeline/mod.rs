//! The way of a job: validate, gate, intent, pace, call, decide, finish.
//!
//! [`process`] is one job on one screen; [`worker`] takes jobs from the lanes and keeps so many of them in hand;
//! [`gate`] (with its [`breaker`]) and [`rate_limiter`] say when a request may leave, [`lanes`] whose; [`retry_budget`] whether one
//! may be repeated; [`halt`] stops the work when its outcomes aren't what was planned; [`outliers`] knows the jobs that
//! somebody on the way dislikes; `people` keeps jobs about one person apart; [`look_up`] answers for all jobs that need the user
//! list.
//!
//! **Architecture Invariant:** imports [`crate::domain`], [`crate::ports`] and [`crate::telemetry`], never an
//! adapter or the settings. Time is tokio's, so everything here runs on paused time.

pub(crate) mod gate;
pub(crate) mod guards;
pub(crate) mod job;
pub(crate) mod rate;
pub(crate) mod retry_budget;
pub(crate) mod user_lookup;
pub(crate) mod worker;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use self::gate::breaker::BreakerPolicy;
use self::gate::{Gate, ProbeSchedule, SendPermit};
use self::guards::halt::{Halt, HaltPolicy};
use self::guards::outliers::OutlierJobs;
use self::guards::ownership::UserOwnership;
use self::guards::per_person::PersonLocks;
use self::rate::backoff::Backoff;
use self::rate::rate_limiter::{BulkHold, Next, RateLimiter};
use self::retry_budget::{RetryBudget, RetryBudgetPolicy};
use self::user_lookup::UserLookup;
use crate::clock::Clock;
use crate::domain::Lane;
use crate::domain::decide::Limits;
use crate::ports::{PartnerApi, QueueError, UserList};
use crate::telemetry::Metrics;

/// How the pipeline behaves. Every bound is here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Most requests that are on their way at once.
    pub concurrency: usize,
    /// Most jobs in hand at once: on their way, waiting for a turn, for a look-up or for a short repetition.
    pub window: usize,
    /// Longest message that is taken for a job, in bytes.
    pub message_bytes_max: usize,
    /// When to give up.
    pub limits: Limits,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Longer waits are spent on the queue, not in hand.
    pub wait_in_hand_max: Duration,
    /// When a paused account is tried again.
    pub probes: ProbeSchedule,
    /// How long requests on their way may take to finish after a stop.
    pub shutdown_grace: Duration,
    /// Seed of the jitter.
    pub seed: u64,
    /// How long a user who was seen in the list needn't be looked up again.
    pub look_up_cache: Duration,
    /// When an API that answers badly is left alone.
    pub breaker: BreakerPolicy,
    /// How many repetitions there may be.
    pub retry_budget: RetryBudgetPolicy,
    /// When the outcomes are too bad to go on.
    pub halt: HaltPolicy,
}

/// What every job shares.
#[derive(Debug)]
pub(crate) struct Context<A> {
    /// The partner.
    pub api: A,
    /// How it behaves.
    pub policy: Policy,
    /// How fast.
    pub rate_limiter: RateLimiter,
    /// Whether at all.
    pub gate: Gate,
    /// The user list.
    pub look_up: UserLookup,
    /// How many repetitions there may be.
    pub retry_budget: RetryBudget,
    /// Whether the outcomes are as planned.
    pub halt: Halt,
    /// Jobs that alone are answered like the whole account.
    pub outliers: OutlierJobs,
    /// Whose jobs are at work.
    people: PersonLocks,
    /// Whose users are whose.
    ownership: UserOwnership,
    /// Time of day.
    pub clock: Clock,
    /// What is told.
    pub metrics: Metrics,
    /// Cancelled when no more requests may leave.
    pub stop: CancellationToken,
    /// How long a verification link lives; `None`: events don't say.
    pub link_ttl: Option<Duration>,
    requests: Semaphore,
    rng: Mutex<fastrand::Rng>,
}

impl<A: PartnerApi + UserList> Context<A> {
    /// Puts the shared parts together.
    pub(crate) fn new(
        api: A,
        policy: Policy,
        rate_limiter: RateLimiter,
        clock: Clock,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            api,
            policy,
            rate_limiter,
            gate: Gate::new(policy.probes, policy.breaker).beginning(),
            look_up: UserLookup::new(policy.look_up_cache),
            retry_budget: RetryBudget::new(policy.retry_budget),
            halt: Halt::new(policy.halt),
            outliers: OutlierJobs::default(),
            people: PersonLocks::default(),
            ownership: UserOwnership::default(),
            link_ttl: None,
            clock,
            metrics,
            stop,
            requests: Semaphore::new(policy.concurrency),
            rng: Mutex::new(fastrand::Rng::with_seed(policy.seed)),
        }
    }

    /// A person says to go on: what is halted goes on, and what is paused or broken is tried at once. Whether it was halted.
    pub(crate) fn go_on(&self) -> bool {
        self.halt.clear();
        self.gate.go_on()
    }

    /// Waits for what a creation needs beside an open gate: the head of the line, one of the slots for requests on
    /// their way, and the pace. Only the head of the line waits for a slot and for the pace, so that nothing but
    /// requests on their way takes up slots, and whoever signs up is next: a bulk job that waits there gives way. Cancel-safe.
    async fn turn(&self, lane: Lane, pass: &SendPermit<'_>) -> Result<Turn<'_>, QueueError> {
        let mut next = self.rate_limiter.head(lane).await;
        loop {
            if let Some(turn) = next.unless_overtaken(self.turn_at_head(lane, pass, &next)).await {
                return turn;
            }
            next = next.give_way().await;
        }
    }

    /// The same at the head of the line. Cancel-safe: nothing is begun before the last wait is over.
    async fn turn_at_head(&self, lane: Lane, pass: &SendPermit<'_>, next: &Next<'_>) -> Result<Turn<'_>, QueueError> {
        // The gate may have closed while this job waited in line: then it costs the others no turn.
        if !pass.is_valid() {
            return Ok(Turn::TooLate);
        }
        let slot = self.requests.acquire().await.map_err(|_| QueueError("the worker is shutting down".to_owned()))?;
        if lane == Lane::Bulk
            && let Some(held) = self.rate_limiter.held(self.clock.now())
        {
            return Ok(Turn::BulkHold(held));
        }
        next.turn().await;
        if !pass.is_valid() {
            return Ok(Turn::TooLate);
        }
        // Begun where nothing can be given up any more.
        Ok(match self.rate_limiter.begin_creation(lane, self.clock.now()) {
            Ok(()) => {
                pass.leaves();
                Turn::Now(slot)
            }
            Err(held) => Turn::BulkHold(held),
        })
    }

    fn delay_before_attempt(&self, n: u32) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        self.policy.backoff.delay(n, &mut rng)
    }
}

/// What came of waiting for a turn.
enum Turn<'c> {
    /// The request may leave, and takes up a slot until it is answered.
    Now(SemaphorePermit<'c>),
    /// The gate has closed meanwhile.
    TooLate,
    /// A migration may not create users now.
    BulkHold(BulkHold),
}

#[cfg(test)]
mod tests;
