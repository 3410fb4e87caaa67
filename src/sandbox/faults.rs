//! Chooses the fault and the delay of each request. Pure: randomness is seeded, and nothing sleeps.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::sandbox::config::SandboxConfig;
use crate::sandbox::fault_kind::FaultKind;
use crate::sandbox::plan::{FaultPlan, FaultRule, FaultTiming};
use crate::sandbox::request::RequestKind;

/// What `lose_every` and `error_every` do to the answer of a creation that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFate {
    Sent,
    /// The connection is closed instead.
    Lost,
    /// A 500 is sent instead.
    Failed,
}

#[derive(Debug)]
pub(super) struct Faults {
    pub(super) latency: Duration,
    pub(super) latency_jitter: Duration,
    pub(super) lose_every: Option<NonZeroU32>,
    pub(super) error_every: Option<NonZeroU32>,
    creations: u64,
    rng: fastrand::Rng,
    plan: Vec<FaultRule>,
    /// When the plan was set.
    since: Duration,
    /// Requests since `since`.
    requests: RequestNumbers,
    /// Random numbers of the plan. The delays have their own, so that a plan does the same with any latency.
    plan_rng: fastrand::Rng,
}

/// Requests that were counted, of each kind.
#[derive(Debug, Default)]
struct RequestNumbers([u64; RequestKind::ALL.len()]);

impl RequestNumbers {
    fn count(&mut self, kind: RequestKind) {
        self.0[kind as usize] += 1;
    }

    /// The number of requests of a kind; `None`: of all kinds.
    fn of(&self, kind: Option<RequestKind>) -> u64 {
        kind.map_or_else(|| self.0.iter().sum(), |kind| self.0[kind as usize])
    }
}

impl Faults {
    pub(super) fn new(config: &SandboxConfig) -> Self {
        Self {
            latency: config.latency,
            latency_jitter: config.latency_jitter,
            lose_every: config.lose_every,
            error_every: config.error_every,
            creations: 0,
            rng: fastrand::Rng::with_seed(config.model.seed),
            plan: config.faults.rules.clone(),
            since: Duration::ZERO,
            requests: RequestNumbers::default(),
            plan_rng: fastrand::Rng::with_seed(config.model.seed.wrapping_add(1)),
        }
    }

    /// Replaces the plan. Its times and request numbers count from `now`.
    pub(super) fn set_plan(&mut self, plan: &FaultPlan, now: Duration) {
        self.plan.clone_from(&plan.rules);
        self.since = now;
        self.requests = RequestNumbers::default();
    }

    /// The fault of the next request: the first of the plan that applies to it.
    pub(super) fn next_fault(&mut self, now: Duration, request: RequestKind) -> Option<FaultKind> {
        self.requests.count(request);
        let (requests, age) = (&self.requests, now.saturating_sub(self.since));
        let rng = &mut self.plan_rng;
        let mut applies = |rule: &FaultRule| match &rule.timing {
            FaultTiming::Share(share) => rng.f64() < *share,
            FaultTiming::Every(n) => requests.of(rule.request).is_multiple_of(u64::from(n.get())),
            FaultTiming::Requests(range) => range.contains(&requests.of(rule.request)),
            FaultTiming::Time(range) => range.contains(&age),
        };
        let is_possible =
            |rule: &FaultRule| rule.request.is_none_or(|kind| kind == request) && rule.fault.applies_to(request);
        self.plan.iter().find(|rule| is_possible(rule) && applies(rule)).map(|rule| rule.fault)
    }

    /// The fate of the answer to the next creation that took effect. Call it for these only: refused creations don't
    /// count.
    pub(super) fn next_fate(&mut self) -> AnswerFate {
        self.creations += 1;
        let due = |every: Option<NonZeroU32>| every.is_some_and(|n| self.creations.is_multiple_of(u64::from(n.get())));
        if due(self.lose_every) {
            AnswerFate::Lost
        } else if due(self.error_every) {
            AnswerFate::Failed
        } else {
            AnswerFate::Sent
        }
    }

    /// How long the next answer is delayed.
    pub(super) fn next_delay(&mut self) -> Duration {
        if self.latency_jitter.is_zero() {
            return self.latency;
        }
        self.latency.saturating_add(self.latency_jitter.mul_f64(self.rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_creation_is_lost_or_failed_and_losing_wins() {
        let config = SandboxConfig {
            lose_every: NonZeroU32::new(4),
            error_every: NonZeroU32::new(2),
            ..SandboxConfig::default()
        };
        let mut faults = Faults::new(&config);
        let fates: Vec<AnswerFate> = (0..8).map(|_| faults.next_fate()).collect();
        let round = [AnswerFate::Sent, AnswerFate::Failed, AnswerFate::Sent, AnswerFate::Lost];
        assert_eq!(fates, [round, round].concat());
    }

    #[test]
    fn delay_is_between_the_latency_and_latency_plus_jitter() {
        let (latency, latency_jitter) = (Duration::from_millis(20), Duration::from_millis(30));
        let config = SandboxConfig { latency, latency_jitter, ..SandboxConfig::default() };
        let delays = || -> Vec<Duration> {
            let mut faults = Faults::new(&config);
            (0..1000).map(|_| faults.next_delay()).collect()
        };
        assert!(delays().iter().all(|delay| (latency..=latency + latency_jitter).contains(delay)));
        assert_eq!(delays(), delays(), "the seed decides");
    }
}
