//! Jobs that replace a user, and changes of these users' KYC statuses.

use std::time::Duration;

use super::dice::Dice;
use super::jobs::{JobKind, JobPlan, body};
use crate::domain::Lane;

/// The user that a job replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplacedUser {
    /// It exists and has this status at first.
    WithStatus(&'static str),
    /// There is none with this id.
    Gone,
    /// It has another email than the job.
    OtherEmail,
}

impl ReplacedUser {
    /// Returns whether the user may be deleted at first.
    pub(crate) fn is_deletable(self) -> bool {
        matches!(self, Self::WithStatus("pending" | "pending_kyc" | "denied"))
    }

    /// Returns the email that the user has whom the job with this email replaces.
    pub(crate) fn email(self, of_job: &str) -> String {
        if self == Self::OtherEmail { format!("other-{of_job}") } else { of_job.to_owned() }
    }
}

/// The status of the user with this email changes.
#[derive(Debug, Clone)]
pub(crate) struct StatusChange {
    pub(crate) at: Duration,
    pub(crate) email: String,
    pub(crate) status: &'static str,
}

/// Placeholder for the id in a job message until the user is created.
pub(crate) const ID_TO_COME: &str = "id-to-come";

/// Returns jobs that replace users, and the changes of these users.
pub(super) fn jobs(dice: &mut Dice, is_broker: bool) -> (Vec<JobPlan>, Vec<StatusChange>) {
    let (mut jobs, mut changes) = (Vec::new(), Vec::new());
    for n in 0..dice.0.usize(1..7) {
        let user = match dice.0.u32(..100) {
            0..45 => ReplacedUser::WithStatus(dice.pick(&["pending", "pending_kyc", "denied"])),
            45..60 => ReplacedUser::WithStatus("pending"),
            60..70 => ReplacedUser::WithStatus("approved"),
            70..80 => ReplacedUser::WithStatus(dice.pick(&["manualReview", "needsVerification", "unheard of"])),
            80..90 => ReplacedUser::Gone,
            _ => ReplacedUser::OtherEmail,
        };
        let (id, email) = (format!("replace-{n}"), format!("r{n}@example.com"));
        let at = if dice.chance(0.5) { Duration::ZERO } else { dice.ms(0..60_000) };
        if dice.chance(0.3) {
            let status = dice.pick(&["approved", "approved", "denied", "manualReview"]);
            let soon = dice.ms(0..2_000);
            let at = if dice.chance(0.5) { at + soon } else { dice.ms(0..300_000) };
            changes.push(StatusChange { at, email: user.email(&email), status });
        }
        let kind = JobKind::Replaces(user);
        let message = body(&id, kind, "Ann", &email, "1 Main Street", None);
        let message = format!(r#"{{"replaces":"{ID_TO_COME}",{}"#, message.trim_start_matches('{'));
        let lane = if dice.chance(0.3) { Lane::Signup } else { Lane::Bulk };
        let is_dated = !is_broker || dice.chance(0.85);
        jobs.push(JobPlan { id, kind, lane, email, first_name: "Ann", body: message, at, is_dated });
    }
    changes.sort_by_key(|change| change.at);
    (jobs, changes)
}
