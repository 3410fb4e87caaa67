//! What a seed decides.

mod dice;
mod faults;
mod jobs;
mod replacing;

use std::num::NonZeroU32;
use std::time::Duration;

use self::dice::Dice;
pub(super) use self::jobs::{JobKind, JobPlan};
pub(super) use self::replacing::{ID_TO_COME, ReplacedUser, StatusChange};
use crate::pipeline::PipelinePolicy;

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Whether the queue is like RabbitMQ instead of the embedded queue.
    pub is_broker: bool,
    /// Workers that share the queue.
    pub workers: u32,
    /// How the partner behaves: entries of a fault list.
    pub quirks: Vec<String>,
    /// The partner's faults until `calm_after`: entries of a fault list.
    pub faults: Vec<String>,
    /// From this time on nothing goes wrong.
    pub calm_after: Duration,
    /// Whether nothing goes wrong at all.
    pub is_calm: bool,
    /// Most requests per second, over all workers.
    pub rate: Option<NonZeroU32>,
    pub(super) jobs: Vec<JobPlan>,
    pub(super) status_changes: Vec<StatusChange>,
    pub(super) policy: PipelinePolicy,
    /// Longest travel time of a request or an answer, normally.
    pub(super) travel_max: Duration,
    /// Share of the requests that arrive very late, after the sender has given up.
    pub(super) late: f64,
    /// Share of the pages of the user list that can't be read.
    pub(super) list_failures: f64,
    /// When the partner can't be reached.
    pub(super) unreachable: Option<(Duration, Duration)>,
    /// Share of the lives that die.
    pub(super) deaths: f64,
    /// Share of the lives that are stopped gracefully.
    pub(super) stops: f64,
    /// Share of the queue's steps that fail.
    pub(super) queue_errors: f64,
    /// Share of the steps that are delayed.
    pub(super) delays: f64,
    /// Share of the acknowledgements that get lost; a broker's only.
    pub(super) lost_acks: f64,
    /// When which worker's connection to the broker breaks.
    pub(super) disconnects: Vec<(Duration, u32)>,
}

impl Plan {
    /// Returns the plan of a seed. `policy` is that of the default settings.
    pub(crate) fn new(seed: u64, policy: PipelinePolicy) -> Self {
        let mut dice = Dice(fastrand::Rng::with_seed(seed));
        let is_calm = dice.chance(0.05);
        let is_broker = dice.chance(0.5);
        // Each of these two would be rare by chance.
        let is_crowded = !is_calm && dice.chance(0.35);
        let has_unknown_codes = !is_calm && !is_crowded && dice.chance(0.35);
        let workers = if is_broker && !is_calm { dice.pick(&[1, 1, 2, 3]) } else { 1 };
        let rate = dice.pick(&[0, 6, 20, 100]);
        let calm_after = Duration::from_secs(dice.0.u64(30..900));
        let mut plan = Self {
            seed,
            is_broker,
            workers,
            list_failures: 0.0,
            quirks: faults::quirks(&mut dice, workers),
            faults: if is_calm { Vec::new() } else { faults::faults(&mut dice) },
            calm_after,
            is_calm,
            rate: NonZeroU32::new(rate),
            jobs: jobs::jobs(&mut dice, is_broker, is_crowded),
            status_changes: Vec::new(),
            policy: tuned(policy, &mut dice, seed),
            travel_max: dice.ms(2..200),
            late: dice.sometimes(0.3, 0.2),
            unreachable: None,
            deaths: dice.pick(&[0.0, 0.5, 0.9]),
            stops: dice.sometimes(0.3, 0.5),
            queue_errors: dice.sometimes(0.3, 0.03),
            delays: dice.sometimes(0.5, 0.3),
            lost_acks: if is_broker { dice.sometimes(0.4, 0.3) } else { 0.0 },
            disconnects: Vec::new(),
        };
        if dice.chance(0.25) {
            let from = dice.ms(0..60_000);
            plan.unreachable = Some((from, from + dice.ms(1_000..60_000)));
        }
        if is_broker && dice.chance(0.4) {
            let count = dice.0.usize(1..4);
            plan.disconnects = (0..count).map(|_| (dice.ms(0..60_000), dice.0.u32(..workers))).collect();
            plan.disconnects.sort_unstable();
        }
        if plan.jobs.iter().filter(|job| job.kind == JobKind::Duplicate).count() > 15 {
            // Too many jobs about one person to wait in memory are requeued again and again. Each lost acknowledgement
            // doubles a job, so there would be thousands of them.
            plan.lost_acks = plan.lost_acks.min(0.03);
        }
        if is_crowded {
            plan.crowd(&mut dice);
        }
        if has_unknown_codes {
            plan.hide_codes(&mut dice);
        } else if !is_calm && !is_crowded && dice.chance(0.5) {
            plan.leave_out_ids(&mut dice);
        }
        if is_calm {
            plan.calm();
        }
        plan.replace_users();
        plan
    }

    /// Adds jobs that replace a user. They have dice of their own, so that the other jobs are the same without them.
    fn replace_users(&mut self) {
        let mut dice = Dice(fastrand::Rng::with_seed(self.seed.wrapping_add(4)));
        if dice.chance(0.4) {
            let (jobs, changes) = replacing::jobs(&mut dice, self.is_broker);
            self.jobs.extend(jobs);
            self.jobs.sort_by_key(|job| job.at);
            self.status_changes = changes;
        }
    }

    /// Many users exist before. Mostly only refusals happen that create no user; then the list fails, or hides users.
    fn crowd(&mut self, dice: &mut Dice) {
        self.faults = faults::crowd(dice);
        self.list_failures = dice.pick(&[0.0, 0.95]);
        if self.list_failures == 0.0 {
            self.faults.push("list-lag=1800s".to_owned());
        }
        self.policy.limits.attempts_max = dice.pick(&[1, 3, 4]);
        self.queue_errors = dice.sometimes(0.6, 0.05);
        if dice.chance(0.4) {
            self.unreachable = Some((Duration::ZERO, dice.ms(1_000..20_000)));
        }
    }

    /// The partner has unknown codes for a taken email and a used key, and the list doesn't help. Answers get lost, and
    /// keys expire soon enough for refusals to follow.
    fn hide_codes(&mut self, dice: &mut Dice) {
        faults::hide_codes(&mut self.quirks);
        self.faults = faults::lost_answers(dice);
        if dice.chance(0.5) {
            self.faults.push("list-lag=1800s".to_owned());
        } else {
            self.list_failures = dice.pick(&[0.0, 0.5, 0.95]);
        }
        self.policy.limits.attempts_max = dice.pick(&[2, 4, 8]);
        if !self.policy.limits.key_ttl.is_zero() {
            self.policy.limits.key_ttl = Duration::from_secs(10);
        }
    }

    /// Most answers have no id, and often the list doesn't help for longer than the user is looked up. A partner that
    /// replays gives an answer without an id after one that was lost.
    fn leave_out_ids(&mut self, dice: &mut Dice) {
        self.faults = faults::without_ids(dice);
        match dice.0.u32(..4) {
            0 | 1 => self.faults.push("list-lag=1800s".to_owned()),
            2 => self.list_failures = dice.pick(&[0.5, 1.0]),
            _ => {}
        }
        self.calm_after = Duration::from_secs(dice.pick(&[60, 1_000, 1_000, 1_000]));
        if dice.chance(0.7) {
            // A worker that ends doesn't look for the user any longer.
            (self.deaths, self.stops) = (0.0, 0.0);
        }
        if dice.chance(0.7) {
            self.policy.limits.key_ttl = Duration::ZERO;
        }
    }

    /// Nothing goes wrong.
    fn calm(&mut self) {
        self.late = 0.0;
        self.unreachable = None;
        (self.deaths, self.stops, self.queue_errors, self.delays, self.lost_acks) = (0.0, 0.0, 0.0, 0.0, 0.0);
        self.disconnects.clear();
    }

    /// Returns whether the partner replays the first answer to a used key.
    pub(super) fn replays(&self) -> bool {
        self.policy.limits.key_ttl.is_zero()
    }

    /// Returns whether users appear in the list a while after they were created.
    pub(super) fn lags(&self) -> bool {
        self.faults.iter().any(|entry| entry.starts_with("list-lag"))
    }

    pub(super) fn has(&self, quirk: &str) -> bool {
        self.quirks.iter().any(|entry| entry.starts_with(quirk))
    }
}

/// Returns the policy of a run: the default settings, with bounds that are reached soon.
fn tuned(mut policy: PipelinePolicy, dice: &mut Dice, seed: u64) -> PipelinePolicy {
    policy.seed = seed;
    policy.concurrency = dice.0.usize(1..9);
    policy.window = policy.concurrency * dice.0.usize(1..5);
    policy.limits.attempts_max = dice.pick(&[1, 2, 3, 3, 4, 8]);
    if dice.chance(0.2) {
        policy.limits.key_ttl = Duration::ZERO;
    }
    if dice.chance(0.2) {
        policy.limits.give_up_after = Duration::from_secs(60);
    }
    policy.delay_in_memory_max = Duration::from_secs(dice.0.u64(0..10));
    policy.shutdown_grace = Duration::from_secs(dice.0.u64(0..10));
    policy
}
