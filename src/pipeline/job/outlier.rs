//! Delays a job that alone gets answers about the account, and fails it in the end.

use tokio::time::Instant;

use crate::domain::decide::{LookUpReason, LookUpStep};
use crate::domain::{AccountReason, Outcome, Problem};
use crate::pipeline::context::Context;
use crate::pipeline::guards::outliers::ROUNDS_MAX;
use crate::pipeline::job::action::{NextAction, Requeue};
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::look_up::{LookUpEnd, look_up};
use crate::telemetry::OutlierDelayed;

/// Code of a job that failed because it alone got answers about the account.
const OUTLIER_JOB: &str = "OUTLIER_JOB";

/// Delays an outlier job for a round. After the last round it fails; if its user may have been created, only after a
/// look-up that doesn't find the user.
pub(super) async fn delay_outlier<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    reason: AccountReason,
) -> NextAction {
    let (key, history) = (*job.job.key.uuid(), job.history);
    let rounds = context.outliers.start_round(key);
    OutlierDelayed { rounds, key: &key }.emit();
    if rounds < ROUNDS_MAX {
        return NextAction::Requeue(Requeue::OUTLIER);
    }
    let may_have_been_created = history.first_sent_at.is_some();
    // A re-creation looks at fresh pages only, and its dead letter begins with one.
    if may_have_been_created && job.replacement.is_none() {
        match look_up(context, job, LookUpReason::AttemptsExhausted, &history, Instant::now()).await {
            LookUpEnd::Decided(LookUpStep::Finish(outcome @ (Outcome::Created { .. } | Outcome::Existing { .. }))) => {
                return NextAction::Finish(outcome);
            }
            LookUpEnd::Decided(_) => {}
            LookUpEnd::Requeue(requeue) => return NextAction::Requeue(requeue),
        }
    }
    let problem = Problem::whole(OUTLIER_JOB, message(reason));
    NextAction::Finish(Outcome::Failed { problem, may_have_been_created })
}

fn message(reason: AccountReason) -> String {
    format!(
        "the API answered this job again and again as if the account had a problem ({}), while other jobs succeeded: \
         something in this row is refused, perhaps by a firewall in between",
        reason.code()
    )
}
