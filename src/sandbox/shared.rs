//! What all handlers share: the model, the faults and the clock, behind one lock.
//!
//! Invariant: the lock is taken and released inside these methods, none of which is async. Time is
//! read under the lock, so the model sees it in order.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::sandbox::config::SandboxConfig;
use crate::sandbox::control::Control;
use crate::sandbox::hostile::{Answer, Hostile};
use crate::sandbox::model::{CreateRequest, ListRequest};
use crate::sandbox::stats::SandboxStats;

#[derive(Debug)]
pub(super) struct Shared {
    partner: Mutex<Hostile>,
    started: Instant,
    shutdown: CancellationToken,
}

impl Shared {
    pub(super) fn new(config: SandboxConfig, shutdown: CancellationToken) -> Self {
        // Together, or its users would be made a little before they were asked for.
        let (started, epoch) = (Instant::now(), config.epoch.unwrap_or_else(|| Clock::System.now()));
        Self { partner: Mutex::new(Hostile::new(config, epoch)), started, shutdown }
    }

    pub(super) fn create(&self, request: &CreateRequest<'_>) -> Answer {
        self.lock().create(self.started.elapsed(), request)
    }

    pub(super) fn list(&self, request: &ListRequest<'_>) -> Answer {
        self.lock().list(self.started.elapsed(), request)
    }

    /// What the header `Date` says; `None`: the right time.
    pub(super) fn date(&self) -> Option<String> {
        self.lock().date(self.started.elapsed())
    }

    pub(super) fn stats(&self) -> SandboxStats {
        self.lock().stats()
    }

    pub(super) fn control(&self, control: &Control) {
        self.lock().control(self.started.elapsed(), control);
    }

    /// Waits for an answer's time to come, but not past the shutdown.
    pub(super) async fn hold_back(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// A panic under the lock can't leave the model half changed in a way that matters to a
    /// sandbox: go on with it.
    fn lock(&self) -> MutexGuard<'_, Hostile> {
        self.partner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long an answer due in ten seconds is held back when the shutdown begins this many seconds from now.
    async fn held_back_s(shutdown_after_s: u64) -> u64 {
        let shutdown = CancellationToken::new();
        let shared = Shared::new(SandboxConfig::default(), shutdown.clone());
        let start = Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(shutdown_after_s)).await;
            shutdown.cancel();
        };
        let hold_back = async {
            shared.hold_back(Duration::from_secs(10)).await;
            start.elapsed().as_secs()
        };
        tokio::join!(hold_back, stop).0
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_held_back_for_its_delay_but_not_past_the_shutdown() {
        assert_eq!(held_back_s(60).await, 10);
        assert_eq!(held_back_s(3).await, 3);
    }
}
