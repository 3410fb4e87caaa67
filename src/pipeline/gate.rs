//! The gate: whether requests may leave at all.
//!
//! Open, throttled until a moment, or paused because every job would be answered alike. A paused gate lets one
//! request through at growing intervals (a probe); the first answer that is about a job opens it again.
//!
//! **Invariant:** nobody's attempt is spent on a closed gate.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::domain::AccountReason;
use crate::telemetry::GateChanged;

/// When probes leave.
#[derive(Debug, Clone, Copy)]
pub struct ProbeSchedule {
    /// From the pause to the first probe.
    pub initial: Duration,
    /// Longest time between probes; each failed probe doubles it up to this.
    pub max: Duration,
}

/// What the gate looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    /// Requests leave at the pace.
    Open,
    /// The partner asked for patience until then.
    Throttled(Instant),
    /// Nothing but a probe leaves.
    Paused(AccountReason),
}

#[derive(Debug)]
struct Pause {
    reason: AccountReason,
    interval: Duration,
    /// `None` while a probe is on its way.
    probe_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// How often it opened after a pause.
    openings: u64,
    throttled_until: Option<Instant>,
    /// Throttled answers without advice since the last other answer.
    throttled_in_a_row: u32,
    pause: Option<Pause>,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    schedule: ProbeSchedule,
    state: Mutex<State>,
    changed: Notify,
}

/// The right to send one request. Give it back with what came of it; a probe that is dropped is probed again.
#[derive(Debug)]
#[must_use]
pub struct Pass<'g> {
    gate: &'g Gate,
    is_probe: bool,
}

impl Gate {
    /// An open gate.
    pub fn new(schedule: ProbeSchedule) -> Self {
        Self { schedule, state: Mutex::default(), changed: Notify::new() }
    }

    /// What it looks like now.
    pub fn state(&self) -> GateState {
        let state = self.lock();
        match (&state.pause, state.throttled_until) {
            (Some(pause), _) => GateState::Paused(pause.reason),
            (None, Some(until)) if until > Instant::now() => GateState::Throttled(until),
            (None, _) => GateState::Open,
        }
    }

    /// How often it has opened after a pause: whether others fared better in between.
    pub fn openings(&self) -> u64 {
        self.lock().openings
    }

    /// Waits until a request may leave. Cancel-safe.
    pub async fn pass(&self) -> Pass<'_> {
        self.pass_after(Duration::ZERO).await
    }

    /// The same for a job that was refused: leaves a probe to others for so long, so that a job that alone is at fault
    /// doesn't keep probing for all.
    pub async fn pass_after(&self, courtesy: Duration) -> Pass<'_> {
        loop {
            let changed = self.changed.notified();
            match self.try_pass(courtesy) {
                Ok(pass) => return pass,
                Err(Some(at)) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = changed => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    /// Takes a pass, or says when to try again (`None`: when something has changed).
    fn try_pass(&self, courtesy: Duration) -> Result<Pass<'_>, Option<Instant>> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(until) = state.throttled_until {
            if until > now {
                return Err(Some(until));
            }
            state.throttled_until = None;
        }
        match &mut state.pause {
            None => Ok(Pass { gate: self, is_probe: false }),
            Some(pause) => match pause.probe_at.map(|at| at + courtesy) {
                Some(at) if at <= now => {
                    pause.probe_at = None;
                    Ok(Pass { gate: self, is_probe: true })
                }
                other => Err(other),
            },
        }
    }

    /// Nobody sends for as long as the partner advises; without advice, for as long as `backoff` says of the number of
    /// such answers in a row. Answers to requests that left before the first of them count once. Returns the wait.
    pub fn throttle(&self, advice: Option<Duration>, backoff: impl FnOnce(u32) -> Duration) -> Duration {
        let now = Instant::now();
        let mut state = self.lock();
        let is_throttled = state.throttled_until.is_some_and(|until| until > now);
        let wait = match advice {
            Some(wait) => wait,
            None if is_throttled => Duration::ZERO,
            None => {
                state.throttled_in_a_row += 1;
                backoff(state.throttled_in_a_row)
            }
        };
        let until = now + wait;
        state.throttled_until = Some(state.throttled_until.map_or(until, |other| other.max(until)));
        wait
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Whether it is still good: the gate may have closed while its holder waited for the pace.
    pub fn is_valid(&self) -> bool {
        self.is_probe || self.gate.state() == GateState::Open
    }

    /// The answer was about a job: the account is well.
    pub fn answered(mut self) -> Option<GateChanged> {
        self.gate.lock().throttled_in_a_row = 0;
        self.opened()
    }

    /// The answer asked for patience: the account is well, and in a hurry.
    pub fn throttled(mut self) -> Option<GateChanged> {
        self.opened()
    }

    fn opened(&mut self) -> Option<GateChanged> {
        if !std::mem::take(&mut self.is_probe) {
            return None;
        }
        let mut state = self.gate.lock();
        let was_paused = state.pause.take().is_some();
        state.openings += u64::from(was_paused);
        drop(state);
        self.gate.changed.notify_waiters();
        was_paused.then_some(GateChanged::Opened)
    }

    /// There was no answer: it says nothing, and a probe must be sent again, later.
    pub fn unanswered(self) {
        let reason = self.gate.lock().pause.as_ref().map(|pause| pause.reason);
        if let (true, Some(reason)) = (self.is_probe, reason) {
            let _ = self.refused(reason);
        }
    }

    /// The answer was about everybody.
    pub fn refused(mut self, reason: AccountReason) -> Option<GateChanged> {
        let was_probe = std::mem::take(&mut self.is_probe);
        let ProbeSchedule { initial, max } = self.gate.schedule;
        let mut state = self.gate.lock();
        let (interval, is_news) = match &state.pause {
            // Requests that were on their way when the gate closed say nothing new.
            Some(pause) if !was_probe && pause.reason == reason => return None,
            Some(pause) if was_probe => ((pause.interval * 2).min(max), pause.reason != reason),
            Some(pause) => (pause.interval, false),
            None => (initial, true),
        };
        // A probe on its way is not joined by a second one.
        let probe_on_its_way = !was_probe && state.pause.as_ref().is_some_and(|pause| pause.probe_at.is_none());
        let probe_at = (!probe_on_its_way).then(|| Instant::now() + interval);
        state.pause = Some(Pause { reason, interval, probe_at });
        drop(state);
        self.gate.changed.notify_waiters();
        is_news.then_some(GateChanged::Paused(reason))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            if let Some(pause) = &mut self.gate.lock().pause {
                pause.probe_at = Some(Instant::now());
            }
            self.gate.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: ProbeSchedule = ProbeSchedule { initial: Duration::from_secs(2), max: Duration::from_secs(7) };

    async fn waits(gate: &Gate) -> (Pass<'_>, Duration) {
        let start = Instant::now();
        let pass = gate.pass().await;
        (pass, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_gate_lets_one_probe_through_at_growing_intervals() {
        let gate = Gate::new(SCHEDULE);
        let first = gate.pass().await.refused(AccountReason::KeyRefused);
        assert_eq!(first, Some(GateChanged::Paused(AccountReason::KeyRefused)));
        for seconds in [2, 4, 7, 7] {
            let (probe, waited) = waits(&gate).await;
            assert_eq!(waited, Duration::from_secs(seconds));
            let second = tokio::time::timeout(Duration::from_secs(3_600), gate.pass()).await;
            assert!(second.is_err(), "two probes at once");
            assert_eq!(probe.refused(AccountReason::KeyRefused), None);
        }
        let (probe, _) = waits(&gate).await;
        assert_eq!(probe.answered(), Some(GateChanged::Opened));
        assert_eq!(waits(&gate).await.1, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_were_on_their_way_neither_open_nor_prolong_a_pause() {
        let gate = Gate::new(SCHEDULE);
        let (early, late) = (gate.pass().await, gate.pass().await);
        let _ = gate.pass().await.refused(AccountReason::WalletEmpty);
        assert_eq!(late.refused(AccountReason::WalletEmpty), None);
        assert_eq!(early.answered(), None);
        assert_eq!(gate.state(), GateState::Paused(AccountReason::WalletEmpty));
        assert_eq!(waits(&gate).await.1, Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_is_sent_by_the_next_in_line() {
        let gate = Gate::new(SCHEDULE);
        let _ = gate.pass().await.refused(AccountReason::Suspended);
        let probe = gate.pass().await;
        drop(probe);
        let (probe, waited) = waits(&gate).await;
        assert_eq!(waited, Duration::ZERO);
        assert_eq!(probe.refused(AccountReason::Suspended), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_answer_waits_like_a_refused_one() {
        let gate = Gate::new(SCHEDULE);
        let _ = gate.pass().await.refused(AccountReason::KeyRefused);
        gate.pass().await.unanswered();
        assert_eq!(gate.state(), GateState::Paused(AccountReason::KeyRefused));
        assert_eq!(waits(&gate).await.1, Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn without_advice_each_throttled_answer_in_a_row_waits_longer() {
        let gate = Gate::new(SCHEDULE);
        let backoff = |n: u32| Duration::from_secs(u64::from(n));
        for seconds in [1, 2, 3] {
            let (pass, _) = waits(&gate).await;
            assert_eq!(gate.throttle(None, backoff), Duration::from_secs(seconds));
            // Another request of the same moment.
            assert_eq!(gate.throttle(None, backoff), Duration::ZERO);
            let _ = pass.throttled();
        }
        let (pass, waited) = waits(&gate).await;
        assert_eq!(waited, Duration::from_secs(3));
        let _ = pass.answered();
        assert_eq!(gate.throttle(None, backoff), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_gate_opens_exactly_when_it_was_told() {
        let gate = Gate::new(SCHEDULE);
        let stale = gate.pass().await;
        let never = |_| -> Duration { unreachable!("there is advice") };
        gate.throttle(Some(Duration::from_secs(5)), never);
        gate.throttle(Some(Duration::from_secs(1)), never);
        assert!(!stale.is_valid());
        assert_eq!(waits(&gate).await.1, Duration::from_secs(5));
        assert_eq!(gate.state(), GateState::Open);
    }
}
