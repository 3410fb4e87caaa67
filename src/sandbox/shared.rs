//! The state that all HTTP handlers share: the partner with its faults, and the clock, behind one lock.
//!
//! Invariant: the lock is taken and released inside these methods, none of which is async. Time is read under the lock,
//! so the model receives the times in order.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::sandbox::config::SandboxConfig;
use crate::sandbox::control::SandboxControl;
use crate::sandbox::hostile::{HostilePartner, SandboxAnswer};
use crate::sandbox::request::{CreateRequest, DeleteRequest, ListRequest, WalletRequest};
use crate::sandbox::stats::SandboxStats;

#[derive(Debug)]
pub(super) struct SandboxShared {
    partner: Mutex<HostilePartner>,
    started: Instant,
    shutdown: CancellationToken,
}

impl SandboxShared {
    pub(super) fn new(config: SandboxConfig, shutdown: CancellationToken) -> Self {
        // Read together, or users would have a creation time before their request.
        let (started, epoch) = (Instant::now(), config.epoch.unwrap_or_else(|| Clock::System.now()));
        Self { partner: Mutex::new(HostilePartner::new(config, epoch)), started, shutdown }
    }

    pub(super) fn create(&self, request: &CreateRequest<'_>) -> SandboxAnswer {
        self.lock().create(self.started.elapsed(), request)
    }

    pub(super) fn list(&self, request: &ListRequest<'_>) -> SandboxAnswer {
        self.lock().list(self.started.elapsed(), request)
    }

    pub(super) fn delete(&self, request: &DeleteRequest<'_>) -> SandboxAnswer {
        self.lock().delete(self.started.elapsed(), request)
    }

    pub(super) fn wallet(&self, request: &WalletRequest<'_>) -> SandboxAnswer {
        self.lock().wallet(self.started.elapsed(), request)
    }

    /// The value of the header `Date`; `None`: the right time.
    pub(super) fn date(&self) -> Option<String> {
        self.lock().date(self.started.elapsed())
    }

    pub(super) fn stats(&self) -> SandboxStats {
        self.lock().stats()
    }

    /// Returns the users that were named and don't exist: then nothing is changed.
    pub(super) fn control(&self, control: &SandboxControl) -> Vec<String> {
        self.lock().control(self.started.elapsed(), control)
    }

    /// Waits until the answer is due, or until the shutdown.
    pub(super) async fn delay_answer(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// A poisoned lock is used: a panic can't leave the model in a state that matters for a sandbox.
    fn lock(&self) -> MutexGuard<'_, HostilePartner> {
        self.partner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seconds an answer with a delay of ten seconds waits if the shutdown begins after this many seconds.
    async fn delayed_s(shutdown_after_s: u64) -> u64 {
        let shutdown = CancellationToken::new();
        let shared = SandboxShared::new(SandboxConfig::default(), shutdown.clone());
        let start = Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(shutdown_after_s)).await;
            shutdown.cancel();
        };
        let delay = async {
            shared.delay_answer(Duration::from_secs(10)).await;
            start.elapsed().as_secs()
        };
        tokio::join!(delay, stop).0
    }

    #[tokio::test(start_paused = true)]
    async fn answer_waits_for_its_delay_but_not_past_the_shutdown() {
        assert_eq!(delayed_s(60).await, 10);
        assert_eq!(delayed_s(3).await, 3);
    }
}
