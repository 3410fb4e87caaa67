//! What must hold for jobs that replace a user.

use std::time::Duration;

use crate::domain::{EventType, ServiceId};
use crate::sandbox::Model;
use crate::testing::simulation::evidence::RunEvidence;
use crate::testing::simulation::plan::{JobKind, JobPlan, Plan, ReplacedUser};

/// A page may be this old when a deletion is sent.
const PAGE_AGE_MAX: Duration = Duration::from_secs(10);

/// Returns the promise that a deletion breaks that is sent now, at `run_time`: only a user of a job is deleted, and none
/// that has been approved, or of an unknown status, for longer than a page may be old.
pub(super) fn broken_by_deletion(
    plan: &Plan,
    model: &Model,
    now: Duration,
    run_time: Duration,
    id: &ServiceId,
) -> Option<String> {
    let user = model.users(now).find(|user| user.service_id == id.as_str())?;
    let email = user.email.to_lowercase();
    let replaced = plan.jobs.iter().find_map(|job| match job.kind {
        JobKind::Replaces(replaced) if job.email == email => Some(replaced),
        _ => None,
    });
    let Some(replaced) = replaced.filter(|replaced| *replaced != ReplacedUser::OtherEmail) else {
        return Some(format!("{id} is deleted, which no job replaces"));
    };
    let mut changes = plan.status_changes.iter().filter(|change| change.email == email && change.at <= run_time);
    let is_unapproved = |status: &str| ["pending", "pending_kyc", "denied"].contains(&status);
    let was_deletable_lately = match changes.clone().rfind(|change| change.at + PAGE_AGE_MAX < run_time) {
        Some(change) => is_unapproved(change.status),
        None => replaced.is_deletable(),
    };
    let is_deletable = was_deletable_lately
        || changes.any(|change| change.at + PAGE_AGE_MAX >= run_time && is_unapproved(change.status));
    (!is_deletable).then(|| format!("{id} is deleted, although it isn't unapproved"))
}

/// Returns the broken promise about a job that replaces a user.
pub(super) fn broken(
    evidence: &RunEvidence<'_>,
    job: &JobPlan,
    replaced: ReplacedUser,
    model: &Model,
    now: Duration,
) -> Option<String> {
    let plan = evidence.plan;
    let events: Vec<_> = evidence.events.iter().filter(|event| event.job_id == job.id).collect();
    let has = |event_type| events.iter().any(|event| event.event_type == event_type);
    let user = model.user_by_email(now, &job.email);
    if user.is_none()
        && replaced.email(&job.email) == job.email
        && replaced != ReplacedUser::Gone
        && !events.iter().any(|event| event.deleted)
    {
        return Some("its user is gone and no event reports it".to_owned());
    }
    if events.iter().any(|event| event.replaces.is_none()) {
        return Some("its event doesn't name the replaced user".to_owned());
    }
    let replaced_id = events.iter().find_map(|event| event.replaces.as_deref());
    let is_created_as_replaced = |service_id: Option<&str>| service_id.is_some() && service_id == replaced_id;
    let mut created = events.iter().filter(|event| event.event_type == EventType::Created);
    if created.any(|event| is_created_as_replaced(event.service_id.as_deref())) {
        return Some("is created as the replaced user".to_owned());
    }
    // The list doesn't say when the user was created.
    let knows_age = !plan.has("created-at=missing");
    let changes = plan.status_changes.iter().any(|change| change.email == replaced.email(&job.email));
    // Codes that the settings don't know, and refusals of something else, are taken literally.
    let is_odd =
        plan.has("dup-user-code") || plan.has("key-used-code") || plan.faults.iter().any(|it| it.contains("400"));
    let is_wrong = match replaced {
        _ if changes || is_odd => false,
        ReplacedUser::WithStatus(_) if replaced.is_deletable() => {
            has(EventType::Existing) && knows_age || has(EventType::Rejected)
        }
        ReplacedUser::WithStatus(_) => has(EventType::Created) || has(EventType::Existing),
        // A broker's job that was delivered before counts as sent.
        ReplacedUser::Gone | ReplacedUser::OtherEmail => {
            !plan.is_broker && (has(EventType::Created) || has(EventType::Existing))
        }
    };
    let types = || events.iter().map(|event| event.event_type.short()).collect::<Vec<_>>().join(", ");
    is_wrong.then(|| format!("ended as {}", types()))
}
