//! The partner of a run, with users that existed before.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::{CreateRequest, FaultPlan, HostilePartner, ModelConfig, SandboxConfig, SandboxControl};
use crate::testing::simulation::plan::{JobKind, Plan};

/// How long the partner existed before the run began.
pub(super) const PREHISTORY: Duration = Duration::from_secs(30 * 86_400);

/// Age of a user that was created shortly before the run began. More than the key TTL and the clock skew, so that it
/// can't be the user of a job in the run.
const RECENT_USER_AGE: Duration = Duration::from_secs(1_000);

/// Returns the partner at the start of a run, at this time.
pub(super) fn partner(plan: &Plan, start: Timestamp) -> HostilePartner {
    let quirks = FaultPlan::parse(&plan.quirks).unwrap_or_default();
    let model = ModelConfig { seed: plan.seed, key_ttl: plan.policy.limits.key_ttl, ..ModelConfig::default() };
    let config = SandboxConfig { model, faults: quirks, ..SandboxConfig::default() };
    let mut partner = HostilePartner::new(config, start.minus(PREHISTORY));
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
