//! The partner of a run, with users that existed before.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::{
    CreateRequest, FaultPlan, HostilePartner, ModelConfig, SandboxConfig, SandboxControl, UserChange,
};
use crate::testing::simulation::plan::{ID_TO_COME, JobKind, Plan, ReplacedUser};

/// How long the partner existed before the run began.
pub(super) const PREHISTORY: Duration = Duration::from_secs(30 * 86_400);

/// Age of a user that was created shortly before the run began. More than the key TTL and the clock skew, so that it
/// can't be the user of a job in the run.
const RECENT_USER_AGE: Duration = Duration::from_secs(1_000);

/// Returns the partner at the start of a run, at this time.
pub(super) fn partner(plan: &mut Plan, start: Timestamp) -> HostilePartner {
    let quirks = FaultPlan::parse(&plan.quirks).unwrap_or_default();
    let model = ModelConfig { seed: plan.seed, key_ttl: plan.policy.limits.key_ttl, ..ModelConfig::default() };
    let config = SandboxConfig { model, faults: quirks, ..SandboxConfig::default() };
    let mut partner = HostilePartner::new(config, start.minus(PREHISTORY));
    create_replaced_users(plan, &mut partner);
    create_users(plan, &mut partner);
    let faults = FaultPlan::parse(&[plan.quirks.clone(), plan.faults.clone()].concat()).unwrap_or_default();
    partner.control(PREHISTORY, &SandboxControl { faults: Some(faults), ..SandboxControl::default() });
    partner
}

/// Creates the users of jobs whose user exists before.
fn create_users(plan: &Plan, partner: &mut HostilePartner) {
    let existed = plan.jobs.iter().filter(|job| job.kind == JobKind::Existed);
    let mut users = Vec::new();
    for (n, job) in existed.enumerate() {
        let email = if n % 2 == 0 { job.email.to_uppercase() } else { job.email.clone() };
        let mut message: serde_json::Value = serde_json::from_str(&job.body).unwrap_or_default();
        message["user"]["email"] = email.into();
        let key = Uuid::from_u128(n as u128 + 1).to_string();
        // Every other user is recent enough for a list that lags to hide it. A redelivered job without a timestamp is
        // assumed to be a day old, so it would claim a recent user.
        let is_recent = n % 2 == 1 && job.is_dated;
        let at = if is_recent { PREHISTORY - RECENT_USER_AGE } else { Duration::from_secs(n as u64) };
        users.push((at, key, message["user"].to_string()));
    }
    users.sort();
    for (at, key, body) in &users {
        let request = CreateRequest {
            authorization: Some("Bearer sk_staging_sandbox"),
            idempotency_key: Some(key),
            content_type: Some("application/json"),
            body: body.as_bytes(),
        };
        partner.create(*at, &request);
    }
}

/// Creates the users that jobs replace, and writes their ids into the jobs.
fn create_replaced_users(plan: &mut Plan, partner: &mut HostilePartner) {
    let jobs = plan.jobs.iter_mut().filter_map(|job| match job.kind {
        JobKind::Replaces(user) => Some((job, user)),
        _ => None,
    });
    // Before the others, because times of creation don't decrease. Old enough for a list that lags to show them.
    let at = Duration::ZERO;
    for (n, (job, replaced)) in jobs.enumerate() {
        let id = if let ReplacedUser::Gone = replaced {
            "sandbox-user-none".to_owned()
        } else {
            let mut message: serde_json::Value = serde_json::from_str(&job.body).unwrap_or_default();
            let email = replaced.email(&job.email);
            message["user"]["email"] = email.clone().into();
            let (key, body) = (Uuid::from_u128(n as u128 + 1_000).to_string(), message["user"].to_string());
            let request = CreateRequest {
                authorization: Some("Bearer sk_staging_sandbox"),
                idempotency_key: Some(&key),
                content_type: Some("application/json"),
                body: body.as_bytes(),
            };
            partner.create(at, &request);
            if let ReplacedUser::WithStatus(status) = replaced {
                let users = vec![UserChange::status_of(&email, status)];
                partner.control(at, &SandboxControl { users, ..SandboxControl::default() });
            }
            partner.model().user_by_email(at, &email).map(|user| user.service_id).unwrap_or_default()
        };
        job.body = job.body.replace(ID_TO_COME, &id);
    }
}
