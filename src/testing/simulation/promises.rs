//! What must hold after a run, whatever went wrong in it. A broken promise is reported in words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::{EventType, Lane};
use crate::sandbox::Model;
use crate::testing::simulation::evidence::RunEvidence;
use crate::testing::simulation::job_check::JobCheck;
use crate::testing::simulation::plan::{JobKind, JobPlan, Plan};
use crate::testing::simulation::record::RunRecord;

/// Returns every promise that was broken.
pub(super) fn broken(evidence: &RunEvidence<'_>, model: &Model, now: Duration, record: &RunRecord) -> Vec<String> {
    let mut broken = Vec::new();
    if !evidence.is_finished {
        broken.push(format!("{} jobs still wait, long after the last fault", evidence.waiting));
    }
    let failed = evidence.events.iter().filter(|event| event.event_type == EventType::Failed).count();
    if evidence.dead != failed {
        broken.push(format!("{} dead letters and {failed} failed jobs", evidence.dead));
    }
    if evidence.in_progress_max > evidence.plan.policy.jobs_max() {
        broken.push(format!("a worker held {} jobs at once", evidence.in_progress_max));
    }
    for job in &evidence.plan.jobs {
        let check = JobCheck::new(evidence, job, model, now, record);
        broken.extend(check.broken().into_iter().map(|what| format!("{} ({:?}): {what}", job.id, job.kind)));
    }
    broken.append(&mut record.lock().broken);
    broken.extend(unexpected_users(evidence, model, now));
    broken.extend(users_claimed_twice(evidence));
    broken.extend(users_of_two_persons(evidence));
    broken.extend(rate_limit_exceeded(evidence.plan, record));
    broken.extend(signups_that_waited(evidence, record));
    broken
}

/// One user belongs to one job. A worker remembers the owners while it lives, and other workers don't know them. An
/// answer may come after a look-up if keys replay it, and is the better evidence.
fn users_claimed_twice(evidence: &RunEvidence<'_>) -> Vec<String> {
    let Plan { workers, deaths, stops, queue_errors, .. } = *evidence.plan;
    if workers > 1 || deaths + stops + queue_errors > 0.0 {
        return Vec::new();
    }
    let mut owners = BTreeMap::new();
    let mut broken = Vec::new();
    for event in evidence.events.iter().filter(|event| event.event_type == EventType::Created) {
        let owner = owners.insert(event.service_id.as_deref(), event);
        // The same job twice has the same event id.
        if let Some(owner) = owner.filter(|owner| owner.id != event.id && event.recovered) {
            broken.push(format!("{} claims the user of {}", event.job_id, owner.job_id));
        }
    }
    broken
}

/// A worker never reports one user for two persons, while it lives.
fn users_of_two_persons(evidence: &RunEvidence<'_>) -> Vec<String> {
    let mut persons = BTreeMap::new();
    let mut broken = Vec::new();
    for (event, reporter) in evidence.events.iter().zip(&evidence.reporters) {
        let Some(service_id) = event.service_id.as_deref() else { continue };
        let email = event.email.as_deref().map(str::to_lowercase);
        let person = persons.entry((reporter, service_id)).or_insert_with(|| email.clone());
        if *person != email {
            broken.push(format!("{} reports the user of another person", event.job_id));
        }
    }
    broken
}

/// Every user existed before, or a job that may create a user asked for it.
fn unexpected_users(evidence: &RunEvidence<'_>, model: &Model, now: Duration) -> Option<String> {
    let may_create = |job: &&JobPlan| !matches!(job.kind, JobKind::Invalid | JobKind::Refused);
    let expected: BTreeSet<&str> = evidence.plan.jobs.iter().filter(may_create).map(|job| job.email.as_str()).collect();
    let unexpected = model.users(now).filter(|user| {
        let email = user.email.to_lowercase();
        // The users of jobs that replace a user of another email.
        let email = email.trim_start_matches("other-");
        !expected.contains(email) && !email.ends_with("@elsewhere.example")
    });
    let count = unexpected.count();
    (count > 0).then(|| format!("{count} users were created without a job"))
}

/// No second has more requests than the rate, over all workers and lives.
fn rate_limit_exceeded(plan: &Plan, record: &RunRecord) -> Option<String> {
    let allowed = plan.rate?.get() as usize;
    let log = record.lock();
    let times: Vec<Duration> = log.sent.iter().map(|request| request.at).collect();
    let exceeded = times.windows(allowed + 1).find(|window| window[allowed] - window[0] < Duration::from_secs(1));
    exceeded.map(|window| format!("{} requests were sent within a second from {:?}", allowed + 1, window[0]))
}

/// Without faults, a signup waits for earlier signups and a few requests, but never for the bulk lane.
fn signups_that_waited(evidence: &RunEvidence<'_>, record: &RunRecord) -> Vec<String> {
    let plan = evidence.plan;
    let (true, Some(rate)) = (plan.is_calm, plan.rate) else { return Vec::new() };
    let log = record.lock();
    let rate_interval = Duration::from_secs(1) / rate.get();
    let in_flight = 2 * plan.travel_max;
    let signups: Vec<&JobPlan> = plan.jobs.iter().filter(|job| job.lane == Lane::Signup).collect();
    let mut broken = Vec::new();
    for job in signups.iter().filter(|job| job.kind == JobKind::New && !evidence.shares_key(job)) {
        let Some(key) = evidence.keys.get(job.body.as_bytes()) else { continue };
        let sent_at = log.sent.iter().find(|request| request.key == Some(*key)).map(|request| request.at);
        let ahead = signups.iter().filter(|other| other.at <= job.at).count() as u32;
        // Each job ahead needs a rate permit and an in-flight slot, and may be looked up.
        let wait_max = (ahead + 3) * (2 * rate_interval + in_flight);
        let waited = sent_at.map(|sent_at| sent_at.saturating_sub(job.at));
        if waited.is_none_or(|waited| waited > wait_max) {
            broken.push(format!("{}: the signup waited {waited:?}, at most {wait_max:?} was promised", job.id));
        }
    }
    broken
}
