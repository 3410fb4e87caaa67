//! What a seed means.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use crate::domain::Lane;
use crate::pipeline::Policy;
use crate::sandbox::FaultKind;

/// What kind of job it is, and so how it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody has this email yet.
    New,
    /// Somebody has, since long.
    Before,
    /// The same user as an earlier job, in the same words, so with the same key.
    Twin,
    /// The same email as an earlier job in other letters, with another address and sometimes another name, so with
    /// another key.
    Rival,
    /// Refused here.
    Invalid,
    /// Refused by the partner.
    Refused,
}

/// A job to come.
#[derive(Debug, Clone)]
pub(super) struct JobPlan {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) lane: Lane,
    pub(super) email: String,
    pub(super) first_name: &'static str,
    pub(super) body: String,
    /// When it is put on the queue.
    pub(super) at: Duration,
    pub(super) is_dated: bool,
}

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Whether the queue has RabbitMQ's memory rather than the embedded queue's.
    pub is_broker: bool,
    /// How many workers share the queue.
    pub workers: u32,
    /// How the partner is: entries of a fault list.
    pub quirks: Vec<String>,
    /// What goes wrong at the partner until `calm_after`.
    pub faults: Vec<String>,
    /// When nothing goes wrong any more.
    pub calm_after: Duration,
    /// Whether nothing goes wrong at all.
    pub is_calm: bool,
    /// Most requests per second, over all workers.
    pub rate: Option<NonZeroU32>,
    pub(super) jobs: Vec<JobPlan>,
    pub(super) policy: Policy,
    /// Longest way of a request to the partner, and back, usually.
    pub(super) travel_max: Duration,
    /// Share of the requests that arrive very late, after their sender has given up.
    pub(super) late: f64,
    /// Share of the pages of the list that can't be had.
    pub(super) sick_list: f64,
    /// When the partner can't be reached.
    pub(super) unreachable: Option<(Duration, Duration)>,
    /// Share of lives that die, that are stopped in good order, and of queue steps that fail.
    pub(super) deaths: f64,
    pub(super) stops: f64,
    pub(super) queue_errors: f64,
    pub(super) delays: f64,
    /// Share of the acknowledgements that get lost; a broker's only.
    pub(super) lost_acks: f64,
    /// When a worker's connection to the broker breaks.
    pub(super) disconnects: Vec<(Duration, u32)>,
}

/// Chance with the shapes that plans need.
struct Dice(fastrand::Rng);

impl Dice {
    fn chance(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.0.u64(range))
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }

    /// Zero mostly; else up to this.
    fn sometimes(&mut self, how_often: f64, most: f64) -> f64 {
        if self.chance(how_often) { self.0.f64() * most } else { 0.0 }
    }
}

impl Plan {
    /// The plan of a seed. `policy` is that of the default settings.
    pub(crate) fn new(seed: u64, policy: Policy) -> Self {
        let mut dice = Dice(fastrand::Rng::with_seed(seed));
        let is_calm = dice.chance(0.05);
        let is_broker = dice.chance(0.5);
        // Many who are there already, and a list that doesn't help: rare by itself.
        let is_crowded = !is_calm && dice.chance(0.35);
        // A partner whose words for a taken email and a used key nobody knows, and a list that doesn't help: rare, too.
        let is_wordless = !is_calm && !is_crowded && dice.chance(0.35);
        let workers = if is_broker && !is_calm { dice.pick(&[1, 1, 2, 3]) } else { 1 };
        let rate = dice.pick(&[0, 6, 20, 100]);
        let calm_after = Duration::from_secs(dice.0.u64(30..900));
        let mut plan = Self {
            seed,
            is_broker,
            workers,
            sick_list: 0.0,
            quirks: quirks(&mut dice, workers),
            faults: if is_calm { Vec::new() } else { faults(&mut dice) },
            calm_after,
            is_calm,
            rate: NonZeroU32::new(rate),
            jobs: jobs(&mut dice, is_broker, is_crowded),
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
        if is_crowded {
            plan.crowd(&mut dice);
        }
        if is_wordless {
            plan.take_words(&mut dice);
        }
        if is_calm {
            plan.late = 0.0;
            plan.unreachable = None;
            (plan.deaths, plan.stops, plan.queue_errors, plan.delays, plan.lost_acks) = (0.0, 0.0, 0.0, 0.0, 0.0);
            plan.disconnects.clear();
        }
        plan
    }

    /// Mostly, little happens but refusals before anybody may have been created; then the list fails or hides people.
    fn crowd(&mut self, dice: &mut Dice) {
        use FaultKind::{NotFound, Suspended, Throttled, ThrottledBare, ThrottledDate, Unauthorized, WalletEmpty};
        let kinds = [NotFound, Suspended, Throttled, ThrottledBare, ThrottledDate, Unauthorized, WalletEmpty];
        let kinds = if dice.chance(0.6) { &kinds[..] } else { &FaultKind::ALL };
        self.faults = (0..2).map(|_| format!("{}=25%", dice.pick(kinds).name())).collect();
        self.sick_list = dice.pick(&[0.0, 0.95]);
        if self.sick_list == 0.0 {
            self.faults.push("list-lag=1800s".to_owned());
        }
        self.policy.limits.attempts_max = dice.pick(&[1, 3, 4]);
        self.queue_errors = dice.sometimes(0.6, 0.05);
        if dice.chance(0.4) {
            self.unreachable = Some((Duration::ZERO, dice.ms(1_000..20_000)));
        }
    }

    /// Refusals after answers that were lost, soon enough after each other for their keys to be forgotten in time.
    fn take_words(&mut self, dice: &mut Dice) {
        self.quirks.retain(|quirk| !quirk.starts_with("key-used-code") && !quirk.starts_with("dup-user-code"));
        self.quirks.extend(["key-used-code=SENT_BEFORE", "dup-user-code=EMAIL_TAKEN"].map(str::to_owned));
        let kinds = [FaultKind::Lost, FaultKind::Cut, FaultKind::Truncated, FaultKind::ErrorAfter, FaultKind::Html502];
        self.faults = vec![
            format!("{}=25%", dice.pick(&FaultKind::ALL).name()),
            format!("{}=25%", dice.pick(&FaultKind::ALL).name()),
            format!("{}=25%", dice.pick(&kinds).name()),
        ];
        if dice.chance(0.5) {
            self.faults.push("list-lag=1800s".to_owned());
        } else {
            self.sick_list = dice.pick(&[0.0, 0.5, 0.95]);
        }
        self.policy.limits.attempts_max = dice.pick(&[2, 4, 8]);
        if !self.policy.limits.key_ttl.is_zero() {
            self.policy.limits.key_ttl = Duration::from_secs(10);
        }
    }

    /// Whether the partner replays the first answer to a used key.
    pub(super) fn replays(&self) -> bool {
        self.policy.limits.key_ttl.is_zero()
    }

    /// Whether users appear in the list only a while after they were created.
    pub(super) fn lags(&self) -> bool {
        self.faults.iter().any(|entry| entry.starts_with("list-lag"))
    }

    pub(super) fn has(&self, quirk: &str) -> bool {
        self.quirks.iter().any(|entry| entry.starts_with(quirk))
    }
}

/// The one place where the simulation's policy is put together: the default settings, with bounds that are met soon.
fn tuned(mut policy: Policy, dice: &mut Dice, seed: u64) -> Policy {
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
    policy.wait_in_hand_max = Duration::from_secs(dice.0.u64(0..10));
    policy.shutdown_grace = Duration::from_secs(dice.0.u64(0..10));
    policy
}

fn quirks(dice: &mut Dice, workers: u32) -> Vec<String> {
    let mut quirks = Vec::new();
    if dice.chance(0.5) {
        // Within the tolerance of a minute.
        quirks.push(format!("clock-skew={}s", dice.0.i64(-60..=60)));
    }
    if dice.chance(0.12) {
        quirks.push("created-at=missing".to_owned());
    }
    quirks.push(format!("list-order={}", dice.pick(&["newest", "oldest", "shuffled"])));
    let grows = if dice.chance(0.25) { dice.0.u32(1..3) } else { 0 };
    if grows > 0 {
        quirks.push(format!("list-grows={grows}"));
    }
    let limit = dice.pick(&[3, 10, 50]);
    // A sweep is broken off where the list grows by half of what is read of it (`look_up::coverage`). In here it grows
    // with each page that anybody reads, so that it would be longer for the next sweep, for ever.
    let limit = if 2 * grows * workers <= limit { limit } else { 50 };
    quirks.push(format!("list-limit={limit}"));
    quirks.push(format!("key-reuse={}", dice.pick(&[400, 409])));
    // Words that nobody knows.
    if dice.chance(0.1) {
        quirks.push("key-used-code=SENT_BEFORE".to_owned());
    }
    if dice.chance(0.1) {
        quirks.push("dup-user-code=EMAIL_TAKEN".to_owned());
    }
    quirks
}

fn faults(dice: &mut Dice) -> Vec<String> {
    let mut faults = Vec::new();
    for _ in 0..dice.0.usize(1..6) {
        let kind = dice.pick(&FaultKind::ALL);
        let when = if dice.chance(0.25) {
            let from = dice.0.u64(0..40);
            format!("{from}s..{}s", from + dice.0.u64(1..60))
        } else {
            format!("{}%", dice.pick(&[5, 15, 30, 60]))
        };
        faults.push(format!("{}={when}", kind.name()));
    }
    if dice.chance(0.3) {
        faults.push(format!("list-lag={}s", dice.pick(&[5, 60, 300, 1_800])));
    }
    // A key that may create and not list.
    if dice.chance(0.08) {
        faults.push(format!("list-refused={}", dice.pick(&[401, 403, 404])));
    }
    faults
}

fn jobs(dice: &mut Dice, is_broker: bool, is_crowded: bool) -> Vec<JobPlan> {
    let mut jobs: Vec<JobPlan> = Vec::new();
    for n in 0..dice.0.usize(3..24) {
        let email = format!("p{n}@example.com");
        let lane = if dice.chance(0.3) { Lane::Signup } else { Lane::Bulk };
        let at = if dice.chance(0.5) { Duration::ZERO } else { dice.ms(0..60_000) };
        let is_dated = !is_broker || dice.chance(0.85);
        let earlier = jobs.iter().rfind(|job| job.kind == Kind::New).cloned();
        let kind = match dice.0.u32(..100) {
            0..12 => Kind::Before,
            58..64 if is_crowded && is_broker && earlier.is_some() => Kind::Twin,
            12..70 if is_crowded => Kind::Before,
            12..18 => Kind::Invalid,
            18..24 => Kind::Refused,
            // The embedded queue takes the same request once only.
            24..30 if is_broker && earlier.is_some() => Kind::Twin,
            30..36 if earlier.is_some() => Kind::Rival,
            _ => Kind::New,
        };
        let (email, address) = match (kind, earlier) {
            (Kind::Twin, Some(earlier)) => (earlier.email, "1 Main Street".to_owned()),
            (Kind::Rival, Some(earlier)) => (earlier.email.to_uppercase(), format!("{n} Side Street")),
            _ => (email, "1 Main Street".to_owned()),
        };
        let id = format!("job-{n}");
        let first_name = if kind == Kind::Rival && n % 2 == 0 { "Eve" } else { "Ann" };
        let body = body(&id, kind, first_name, &email, &address);
        jobs.push(JobPlan { id, kind, lane, email: email.to_lowercase(), first_name, body, at, is_dated });
    }
    dice.0.shuffle(&mut jobs);
    // An earlier job of the same user need not come earlier.
    jobs.sort_by_key(|job| job.at);
    jobs
}

fn body(id: &str, kind: Kind, first_name: &str, email: &str, address: &str) -> String {
    let last_name = if kind == Kind::Refused { "DoeBlacklisted" } else { "Doe" };
    let city = if kind == Kind::Invalid { "" } else { "Springfield" };
    json!({"jobId": id, "user": {
        "firstName": first_name, "lastName": last_name, "email": email, "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": address, "city": city, "region": "IL", "postalCode": "62701",
        "countryCode": "US",
    }})
    .to_string()
}
