//! The way of a job: validate, gate, intent, pace, call, decide, finish.
//!
//! [`process`] is one job on one screen; [`worker`] takes jobs from the lanes and keeps so many of them in hand;
//! [`gate`] and [`pace`] say when a request may leave; [`look_up`] answers for all jobs that need the user list.
//!
//! **Architecture Invariant:** imports [`crate::domain`], [`crate::ports`] and [`crate::telemetry`], never an
//! adapter or the settings. Time is tokio's, so everything here runs on paused time.

pub mod backoff;

pub mod gate;
pub mod look_up;
pub mod pace;
pub mod process;
pub mod worker;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use self::gate::{Gate, ProbeSchedule};
use self::look_up::LookUp;
use self::pace::Pace;
use crate::clock::Clock;
use crate::domain::Lane;
use crate::domain::decide::Limits;
use crate::ports::{PartnerApi, QueueError, UserList};
use crate::telemetry::Metrics;

/// How the pipeline behaves. Every bound is here.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Most requests that are on their way at once.
    pub concurrency: usize,
    /// Most jobs in hand at once: on their way, waiting for a turn, for a look-up or for a short repetition.
    pub window: usize,
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
}

/// What every job shares.
#[derive(Debug)]
pub struct Context<A> {
    /// The partner.
    pub api: A,
    /// How it behaves.
    pub policy: Policy,
    /// How fast.
    pub pace: Pace,
    /// Whether at all.
    pub gate: Gate,
    /// The user list.
    pub look_up: LookUp,
    /// Time of day.
    pub clock: Clock,
    /// What is told.
    pub metrics: Metrics,
    /// Cancelled when no more requests may leave.
    pub stop: CancellationToken,
    requests: Semaphore,
    /// Bulk waits here before it waits for a slot, so that whoever signs up has at most one of them ahead.
    bulk: tokio::sync::Mutex<()>,
    rng: Mutex<fastrand::Rng>,
}

impl<A: PartnerApi + UserList> Context<A> {
    /// Puts the shared parts together.
    pub fn new(api: A, policy: Policy, pace: Pace, clock: Clock, metrics: Metrics, stop: CancellationToken) -> Self {
        Self {
            api,
            policy,
            pace,
            gate: Gate::new(policy.probes),
            look_up: LookUp::default(),
            clock,
            metrics,
            stop,
            requests: Semaphore::new(policy.concurrency),
            bulk: tokio::sync::Mutex::new(()),
            rng: Mutex::new(fastrand::Rng::with_seed(policy.seed)),
        }
    }

    /// Waits for one of the slots for requests on their way, `signup` before `bulk`.
    async fn slot(&self, lane: Lane) -> Result<SemaphorePermit<'_>, QueueError> {
        let _in_line = match lane {
            Lane::Signup => None,
            Lane::Bulk => Some(self.bulk.lock().await),
        };
        self.requests.acquire().await.map_err(|_| QueueError("the worker is shutting down".to_owned()))
    }

    fn delay_before_attempt(&self, n: u32) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        self.policy.backoff.delay(n, &mut rng)
    }
}

#[cfg(test)]
mod tests;
