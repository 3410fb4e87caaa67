//! What the network does to an answer: how late it is, and whether it arrives. Pure: chance is
//! seeded, nothing sleeps.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::sandbox::config::SandboxConfig;
use crate::sandbox::plan::{FaultKind, FaultPlan, When};

/// What becomes of an answer whose request took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent.
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
    plan: Vec<(FaultKind, When)>,
    /// When the plan came into force.
    since: Duration,
    /// Requests since then.
    requests: u64,
    /// The plan's chance. Not that of the delays, so that the same plan does the same with any latency.
    dice: fastrand::Rng,
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
            requests: 0,
            dice: fastrand::Rng::with_seed(config.model.seed.wrapping_add(1)),
        }
    }

    /// Another plan, from `now` on.
    pub(super) fn set_plan(&mut self, plan: &FaultPlan, now: Duration) {
        self.plan.clone_from(&plan.rules);
        self.since = now;
        self.requests = 0;
    }

    /// What goes wrong with the next request: the first of the plan that applies to it.
    pub(super) fn next_fault(&mut self, now: Duration, is_creation: bool) -> Option<FaultKind> {
        self.requests += 1;
        let (requests, age) = (self.requests, now.saturating_sub(self.since));
        let dice = &mut self.dice;
        let applies = |when: &When| match when {
            When::Share(share) => dice.f64() < *share,
            When::Every(n) => requests.is_multiple_of(u64::from(n.get())),
            When::Requests(range) => range.contains(&requests),
            When::Time(range) => range.contains(&age),
        };
        let fits = |kind: FaultKind| is_creation || kind != FaultKind::WalletEmpty;
        let mut applies = applies;
        self.plan.iter().find(|(kind, when)| fits(*kind) && applies(when)).map(|(kind, _)| *kind)
    }

    /// The fate of the next creation's answer. Refused creations have no fate: they don't count.
    pub(super) fn next_fate(&mut self) -> Fate {
        self.creations += 1;
        let due = |every: Option<NonZeroU32>| every.is_some_and(|n| self.creations.is_multiple_of(u64::from(n.get())));
        if due(self.lose_every) {
            Fate::Lost
        } else if due(self.error_every) {
            Fate::Failed
        } else {
            Fate::Sent
        }
    }

    /// How long the next answer is held back.
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
        let fates: Vec<Fate> = (0..8).map(|_| faults.next_fate()).collect();
        let round = [Fate::Sent, Fate::Failed, Fate::Sent, Fate::Lost];
        assert_eq!(fates, [round, round].concat());
    }

    #[test]
    fn delay_lies_between_the_latency_and_latency_plus_jitter() {
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
