//! The loop of a job: takes one step after another, until the job is finished or requeued.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::decide::{History, LookUpReason, LookUpStep, RetryReason, Step};
use crate::pipeline::context::Context;
use crate::pipeline::job::action::{NextAction, Requeue};
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::look_up::{LookUpEnd, look_up};
use crate::pipeline::job::outcome::{conclude, leave_to_broker, requeue, settle};
use crate::pipeline::job::outlier::delay_outlier;
use crate::pipeline::job::request::{RequestEnd, request};
use crate::pipeline::job::wait::{Delayed, delay_for, wait_for};
use crate::pipeline::user_lookup::InterruptedLookup;
use crate::ports::{Delivery, PartnerApi, QueueError, Settle};
use crate::telemetry::RetryScheduled;

/// Processes one delivery, and settles it: finished or requeued.
///
/// # Errors
/// [`QueueError`]: the queue could not record what happened; the worker must stop.
pub(crate) async fn process<A, H>(context: &Context<A>, delivery: Delivery<H>) -> Result<(), QueueError>
where
    A: PartnerApi,
    H: Settle,
{
    let mut job = match ActiveJob::start(context, delivery) {
        Ok(job) => job,
        Err(rejected) => return settle(context, rejected).await,
    };
    let (stop, until) = (&context.stop, job.wait_until);
    let lock = wait_for(stop, until, context.person_locks.acquire(job.person)).await;
    let _person_guard = match lock.or_requeue() {
        Ok(guard) => guard,
        Err(how) => return requeue(context, job, how).await,
    };
    let canary_permit = match wait_for(stop, until, context.halt.canary_permit(job.was_sent)).await.or_requeue() {
        Ok(permit) => permit,
        Err(how) => return requeue(context, job, how).await,
    };
    loop {
        let how = match next_action(context, &mut job).await? {
            NextAction::Finish(outcome) => {
                canary_permit.use_up();
                return match conclude(context, job, outcome) {
                    Some(finished) => settle(context, finished).await,
                    None => Ok(()),
                };
            }
            NextAction::Again => continue,
            NextAction::Wait { reason, delay } => match wait_for_retry(context, &mut job, reason, delay).await {
                RetryWait::Over => continue,
                RetryWait::Requeue(how) => how,
            },
            NextAction::Requeue(how) => how,
            NextAction::ConnectionLost => {
                leave_to_broker(*job);
                return Ok(());
            }
        };
        if job.history.first_sent_at.is_some() {
            canary_permit.use_up();
        }
        return requeue(context, job, how).await;
    }
}

/// Takes one step: a request or a look-up, and what follows from it.
async fn next_action<A, H>(context: &Context<A>, job: &mut ActiveJob<'_, H>) -> Result<NextAction, QueueError>
where
    A: PartnerApi,
    H: Settle,
{
    let before = job.history;
    if let Some(InterruptedLookup { reason, since }) = job.interrupted.take() {
        // No request was sent since.
        return look_up_and_act(context, job, reason, &before, since).await;
    }
    let step = match request(context, job, &before).await? {
        RequestEnd::Step(step) => step,
        RequestEnd::Requeue(how) => return Ok(NextAction::Requeue(how)),
        RequestEnd::ConnectionLost => return Ok(NextAction::ConnectionLost),
    };
    match step {
        Step::Finish(outcome) => Ok(NextAction::Finish(outcome)),
        Step::UserLookup(reason) => look_up_and_act(context, job, reason, &before, Instant::now()).await,
        Step::LookUpAfter(delay) => Ok(NextAction::Wait { reason: "last_look_up", delay }),
        Step::Retry(reason) => retry(context, job, reason).await,
        Step::Throttle(_) | Step::Pause(_) => discount_request(context, job, &before, &step).await,
    }
}

async fn look_up_and_act<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    reason: LookUpReason,
    before: &History,
    since: Instant,
) -> Result<NextAction, QueueError>
where
    H: Settle,
{
    match look_up(context, job, reason, before, since).await {
        LookUpEnd::Requeue(how) => Ok(NextAction::Requeue(how)),
        LookUpEnd::Decided(LookUpStep::Finish(outcome)) => Ok(NextAction::Finish(outcome)),
        LookUpEnd::Decided(LookUpStep::Retry(reason)) => retry(context, job, reason).await,
        LookUpEnd::Decided(LookUpStep::RetryAfter(delay)) => {
            Ok(NextAction::Wait { reason: "key_must_expire", delay: delay.max(backoff(context, job)) })
        }
    }
}

async fn retry<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    reason: RetryReason,
) -> Result<NextAction, QueueError>
where
    H: Settle,
{
    if job.history.existed_before() {
        job.handle.retract_intent().await?;
    }
    Ok(NextAction::Wait { reason: reason.code(), delay: backoff(context, job) })
}

/// Removes a request from the job's history that was throttled or answered about the account: it is no attempt.
async fn discount_request<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    before: &History,
    step: &Step,
) -> Result<NextAction, QueueError>
where
    H: Settle,
{
    job.history = job.history.uncharged(before, step);
    if let Step::Pause(reason) = step
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

fn backoff<A, H>(context: &Context<A>, job: &ActiveJob<'_, H>) -> Duration {
    context.delay_before_attempt(job.history.attempts.max(1))
}

/// Result of [`wait_for_retry`].
enum RetryWait {
    /// The delay is over.
    Over,
    /// The delay is too long for memory, or the worker stops.
    Requeue(Requeue),
}

/// Waits for a retry in memory if the delay is short. Jobs of the canary wait in memory however long it is: the others
/// wait for their outcomes.
async fn wait_for_retry<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    reason: &'static str,
    delay: Duration,
) -> RetryWait
where
    H: Settle,
{
    let ActiveJob { history, job, handle, .. } = job;
    let in_memory = delay <= context.policy.delay_in_memory_max || context.halt.is_canary_in_progress();
    let event = RetryScheduled {
        reason,
        delay: if in_memory { delay } else { handle.nearest_delay(delay) },
        attempts: history.attempts,
        job: job.identity.job_id.as_deref(),
        key: job.key.uuid(),
    };
    event.emit(&context.metrics);
    if !in_memory {
        return RetryWait::Requeue(Requeue::delayed(delay));
    }
    match delay_for(&context.stop, delay).await {
        Delayed::Elapsed => RetryWait::Over,
        Delayed::Stopping => RetryWait::Requeue(Requeue::stopping_before_retry(delay)),
    }
}
