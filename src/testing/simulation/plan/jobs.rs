//! The jobs of a plan.

use std::time::Duration;

use super::dice::Dice;
use super::replacing::ReplacedUser;
use crate::domain::{IdempotencyKey, Job, Lane};
use crate::testing::message::message;

/// The address of most jobs.
const MAIN_STREET: &str = "1 Main Street";

/// What kind of job it is. The kind decides how the job must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// No user has this email yet.
    New,
    /// A user has had this email for a long time.
    Existed,
    /// The same request as an earlier job, so it has the same key.
    Duplicate,
    /// The email of an earlier job in other letters, with another address and sometimes another name, so it has another
    /// key.
    SameEmail,
    /// Another person, with the key of an earlier job as its `idempotencyKey`.
    KeyReused,
    /// It replaces a user.
    Replaces(ReplacedUser),
    /// Validation rejects it.
    Invalid,
    /// The partner refuses it.
    Refused,
}

/// A job to come.
#[derive(Debug, Clone)]
pub(crate) struct JobPlan {
    pub(crate) id: String,
    pub(crate) kind: JobKind,
    pub(crate) lane: Lane,
    pub(crate) email: String,
    pub(crate) first_name: &'static str,
    pub(crate) body: String,
    /// When it is put on the queue.
    pub(crate) at: Duration,
    /// Whether its publisher sets a timestamp.
    pub(crate) is_dated: bool,
}

/// Returns the jobs, in the order of their arrival.
pub(super) fn jobs(dice: &mut Dice, is_broker: bool, is_crowded: bool) -> Vec<JobPlan> {
    let mut jobs: Vec<JobPlan> = Vec::new();
    for n in 0..dice.0.usize(3..24) {
        let job = job(dice, n, &jobs, is_broker, is_crowded);
        jobs.push(job);
    }
    if is_broker && dice.chance(0.1) {
        repeat_one(dice, &mut jobs);
    }
    // A job may arrive before the one whose email or key it has.
    dice.0.shuffle(&mut jobs);
    jobs.sort_by_key(|job| job.at);
    jobs
}

/// Adds many jobs that are identical to one of these, so that more of them wait for each other than the worker holds.
fn repeat_one(dice: &mut Dice, jobs: &mut Vec<JobPlan>) {
    let Some(repeated) = jobs.iter().rfind(|job| job.kind == JobKind::New).cloned() else { return };
    let at = if dice.chance(0.5) { repeated.at } else { dice.ms(0..60_000) };
    for n in jobs.len()..jobs.len() + dice.0.usize(20..80) {
        let id = format!("job-{n}");
        let kind = JobKind::Duplicate;
        let body = body(&id, kind, repeated.first_name, &repeated.email, MAIN_STREET, None);
        jobs.push(JobPlan { id, kind, body, at, ..repeated.clone() });
    }
}

fn job(dice: &mut Dice, n: usize, jobs: &[JobPlan], is_broker: bool, is_crowded: bool) -> JobPlan {
    let email = format!("p{n}@example.com");
    let lane = if dice.chance(0.3) { Lane::Signup } else { Lane::Bulk };
    let at = if dice.chance(0.5) { Duration::ZERO } else { dice.ms(0..60_000) };
    let is_dated = !is_broker || dice.chance(0.85);
    let earlier = jobs.iter().rfind(|job| job.kind == JobKind::New);
    let kind = match dice.0.u32(..100) {
        0..12 => JobKind::Existed,
        58..64 if is_crowded && is_broker && earlier.is_some() => JobKind::Duplicate,
        12..70 if is_crowded => JobKind::Existed,
        12..18 => JobKind::Invalid,
        18..24 => JobKind::Refused,
        // The embedded queue takes the same request once only.
        24..30 if is_broker && earlier.is_some() => JobKind::Duplicate,
        30..36 if earlier.is_some() => JobKind::SameEmail,
        36..42 if is_broker && earlier.is_some() => JobKind::KeyReused,
        _ => JobKind::New,
    };
    let (email, address) = match (kind, earlier) {
        (JobKind::Duplicate, Some(earlier)) => (earlier.email.clone(), MAIN_STREET.to_owned()),
        (JobKind::SameEmail, Some(earlier)) => (earlier.email.to_uppercase(), format!("{n} Side Street")),
        _ => (email, MAIN_STREET.to_owned()),
    };
    let own_key = earlier.filter(|_| kind == JobKind::KeyReused).and_then(|earlier| key(&earlier.body));
    let id = format!("job-{n}");
    let first_name = if kind == JobKind::SameEmail && n.is_multiple_of(2) { "Eve" } else { "Ann" };
    let body = body(&id, kind, first_name, &email, &address, own_key);
    JobPlan { id, kind, lane, email: email.to_lowercase(), first_name, body, at, is_dated }
}

/// Returns the key of a valid job.
fn key(body: &str) -> Option<IdempotencyKey> {
    Job::parse(body.as_bytes()).ok().map(|(job, _)| job.key)
}

pub(super) fn body(
    id: &str,
    kind: JobKind,
    first_name: &str,
    email: &str,
    address: &str,
    own_key: Option<IdempotencyKey>,
) -> String {
    let mut message = message(id, email);
    if let Some(key) = own_key {
        message["idempotencyKey"] = key.to_string().into();
    }
    let members = [
        ("firstName", first_name),
        // The sandbox refuses this ending.
        ("lastName", if kind == JobKind::Refused { "DoeBlacklisted" } else { "Doe" }),
        ("address", address),
        ("city", if kind == JobKind::Invalid { "" } else { "Springfield" }),
        ("region", "IL"),
        ("postalCode", "62701"),
    ];
    for (name, value) in members {
        message["user"][name] = value.into();
    }
    message.to_string()
}
