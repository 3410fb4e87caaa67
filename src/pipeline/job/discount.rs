//! Requests that aren't attempts, and the delay before the next attempt.

use std::time::Duration;

use crate::domain::decide::{History, JobStep};
use crate::pipeline::context::Context;
use crate::pipeline::job::action::NextAction;
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::outlier::delay_outlier;
use crate::ports::{QueueError, Settle};

/// Removes a request from the job's history that was throttled or answered about the account: it is no attempt.
pub(super) async fn discount_request<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    before: &History,
    step: &JobStep,
) -> Result<NextAction, QueueError>
where
    H: Settle,
{
    job.history = job.history.uncharged(before, step);
    if let JobStep::Pause(reason) = step
        && reason.may_concern_one_job()
        && context.outliers.refused(*job.job.key.uuid(), &mut job.refusals)
    {
        return Ok(delay_outlier(context, job, *reason).await);
    }
    if job.history.first_sent_at.is_none() {
        job.handle.retract_intent().await?;
    }
    Ok(NextAction::Again)
}

pub(super) fn backoff<A, H>(context: &Context<A>, job: &ActiveJob<'_, H>) -> Duration {
    context.delay_before_attempt(job.history.attempts.max(1))
}
