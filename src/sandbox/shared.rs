//! What all handlers share: the model, the faults and the clock, behind one lock.
//!
//! Invariant: the lock is taken and released inside these methods, none of which is async. Time is
//! read under the lock, so the model sees it in order.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::SandboxConfig;
use super::control::Control;
use super::faults::{Fate, Faults};
use super::model::{CreateRequest, ListRequest, Model};
use super::reply::Reply;
use super::stats::SandboxStats;
use crate::clock::Clock;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    started: Instant,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct State {
    model: Model,
    faults: Faults,
    answers_lost: u64,
    answers_failed: u64,
}

/// An answer that is ready to be sent after `delay`; without a reply the connection is to be closed
/// instead.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Option<Reply>,
    pub(super) delay: Duration,
}

impl Shared {
    pub(super) fn new(config: SandboxConfig, shutdown: CancellationToken) -> Self {
        let faults = Faults::new(&config);
        let epoch = config.epoch.unwrap_or_else(|| Clock::System.now());
        let model = Model::new(config.model, epoch);
        let state = State { model, faults, answers_lost: 0, answers_failed: 0 };
        Self { state: Mutex::new(state), started: Instant::now(), shutdown }
    }

    pub(super) fn create(&self, request: &CreateRequest<'_>) -> Answer {
        let mut state = self.lock();
        let reply = state.model.create(self.started.elapsed(), request);
        let fate = if reply.status == 201 { state.faults.next_fate() } else { Fate::Sent };
        let delay = state.faults.next_delay();
        let reply = match fate {
            Fate::Sent => Some(reply),
            Fate::Lost => {
                state.answers_lost += 1;
                None
            }
            Fate::Failed => {
                state.answers_failed += 1;
                Some(Reply::error(500, "INTERNAL_SERVER_ERROR", "Something went wrong"))
            }
        };
        Answer { reply, delay }
    }

    pub(super) fn list(&self, request: &ListRequest<'_>) -> Answer {
        let mut state = self.lock();
        let reply = state.model.list(self.started.elapsed(), request);
        Answer { reply: Some(reply), delay: state.faults.next_delay() }
    }

    pub(super) fn stats(&self) -> SandboxStats {
        let state = self.lock();
        SandboxStats {
            model: state.model.stats(),
            answers_lost: state.answers_lost,
            answers_failed: state.answers_failed,
        }
    }

    pub(super) fn control(&self, control: &Control) {
        let State { model, faults, .. } = &mut *self.lock();
        if let Some(account) = control.account {
            model.set_account(account);
        }
        if let Some(creations) = control.wallet {
            model.set_wallet(creations);
        }
        if let Some(requests_per_second) = control.rate_limit {
            model.set_rate_limit(requests_per_second);
        }
        if let Some(ms) = control.latency_ms {
            faults.latency = Duration::from_millis(ms);
        }
        if let Some(ms) = control.latency_jitter_ms {
            faults.latency_jitter = Duration::from_millis(ms);
        }
        if let Some(every) = control.lose_every {
            faults.lose_every = every;
        }
        if let Some(every) = control.error_every {
            faults.error_every = every;
        }
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
