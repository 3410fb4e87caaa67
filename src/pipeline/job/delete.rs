//! Deletes the user of a re-creation. The deletion passes the same gate, rate limiter and holds as a creation, and is sent
//! only where the creation could follow at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::answer::{DeleteAnswer, UnknownReason};
use crate::domain::decide::JobStep;
use crate::domain::{AccountReason, Answer, Lane, Problem, ServiceId};
use crate::pipeline::context::Context;
use crate::pipeline::gate::{ProbeDelays, Request, SendPermit};
use crate::pipeline::job::action::Requeue;
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::request::throttle;
use crate::pipeline::job::send_slot::{SendSlot, wait_for_send_slot};
use crate::pipeline::job::wait::wait_for;
use crate::ports::{PartnerApi, QueueError, Settle};
use crate::telemetry::{ApiOverloaded, JobStage};

/// A page of the user list may be this old when the deletion that it permits is sent. What remains of this window is
/// documented.
const PAGE_AGE_MAX: Duration = Duration::from_secs(10);

/// Result of [`delete`].
pub(super) enum DeleteEnd {
    /// The user doesn't exist any more.
    Gone,
    /// The user has cards, so it stays.
    Kept(Problem),
    /// The API refuses the deletion.
    Refused(Problem),
    /// There was no readable answer: the user may be deleted.
    Unknown(UnknownReason),
    /// Nothing was sent: the page is too old by now, or the gate has closed.
    TooOld,
    /// The answer is about the account or the rate limit: take this step.
    Account(JobStep),
    /// Nothing was sent: requeue the job.
    Requeue(Requeue),
    /// Nothing was sent: the broker connection was lost.
    ConnectionLost,
}

/// Deletes the user, whom a page shows as unapproved that was requested at this time.
///
/// # Errors
/// The queue can't record the intent.
pub(super) async fn delete<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    user: &ServiceId,
    requested_at: Instant,
) -> Result<DeleteEnd, QueueError>
where
    A: PartnerApi,
    H: Settle,
{
    let (stop, until, before) = (&context.stop, job.wait_until, job.history);
    job.watch.enter_stage(Some(JobStage::Permit));
    let permit = context.gate.wait_for_permit(Request::Delete(job.lane), ProbeDelays::default());
    let mut permit = match wait_for(stop, until, permit).await.or_requeue() {
        Ok(permit) => permit,
        Err(how) => return Ok(DeleteEnd::Requeue(how)),
    };
    if requested_at.elapsed() > PAGE_AGE_MAX {
        return Ok(DeleteEnd::TooOld);
    }
    if let Some(how) = bulk_held(context, job.lane) {
        return Ok(DeleteEnd::Requeue(how));
    }
    job.handle.record_intent(context.clock.now()).await?;
    // As a signup: behind bulk jobs the page would be too old each time.
    let slot = wait_for(stop, until, wait_for_send_slot(context, Lane::Signup, &mut permit)).await.or_requeue();
    let not_sent = match slot {
        Err(how) => Some(DeleteEnd::Requeue(how)),
        Ok(SendSlot::GateClosed | SendSlot::BulkHeld(_)) => Some(DeleteEnd::TooOld),
        // The last checks before it is sent.
        Ok(SendSlot::Granted) => {
            let refused = if !job.handle.is_ours() {
                Some(DeleteEnd::ConnectionLost)
            } else if requested_at.elapsed() > PAGE_AGE_MAX {
                Some(DeleteEnd::TooOld)
            } else {
                bulk_held(context, job.lane).map(DeleteEnd::Requeue)
            };
            if refused.is_some() {
                context.rate_limiter.end_creation(context.clock.now(), false);
            }
            refused
        }
    };
    if let Some(end) = not_sent {
        if before.first_sent_at.is_none() && !matches!(end, DeleteEnd::ConnectionLost) {
            job.handle.retract_intent().await?;
        }
        return Ok(end);
    }
    job.before_last = before;
    job.history = before.with_send(context.clock.now());
    job.watch.enter_stage(Some(JobStage::Api));
    let start = Instant::now();
    let key = context.random_key(&job.job.key);
    // Boxed: only jobs in flight need the memory.
    let answer = Box::pin(context.api.delete(&key, user)).await;
    job.watch.enter_stage(None);
    Ok(evaluate(context, job, permit, answer, start.elapsed()))
}

fn bulk_held<A>(context: &Context<A>, lane: Lane) -> Option<Requeue> {
    let now = context.clock.now();
    let hold = context.rate_limiter.bulk_hold(now).filter(|_| lane == Lane::Bulk)?;
    Some(Requeue::bulk_held(hold.until().since(now)))
}

/// Decides on an answer, and reports to the gate what it says about the account and the API.
fn evaluate<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    permit: SendPermit<'_>,
    answer: DeleteAnswer,
    duration: Duration,
) -> DeleteEnd {
    context.rate_limiter.end_creation(context.clock.now(), false);
    job.history.attempts += 1;
    let (end, transition) = match answer {
        DeleteAnswer::Other(Answer::Account(reason)) => {
            (DeleteEnd::Account(JobStep::Pause(reason)), permit.refused(reason))
        }
        DeleteAnswer::Other(Answer::NotSent(why)) => {
            let reason = AccountReason::Unreachable(why);
            (DeleteEnd::Account(JobStep::Pause(reason)), permit.refused(reason))
        }
        DeleteAnswer::Other(Answer::Throttled { retry_after }) => {
            throttle(context, retry_after);
            (DeleteEnd::Account(JobStep::Throttle(retry_after)), permit.throttled())
        }
        DeleteAnswer::Other(Answer::Unknown(reason)) => {
            if let UnknownReason::Unavailable { retry_after } = reason {
                let delay = context.gate.throttle(Some(retry_after), |n| context.delay_before_attempt(n));
                ApiOverloaded { delay }.emit();
            }
            (DeleteEnd::Unknown(reason), permit.unanswered())
        }
        answer => (about_user(answer), permit.answered(duration > context.policy.breaker.slow_after)),
    };
    if let Some(transition) = transition {
        transition.emit(&context.metrics);
    }
    end
}

/// Decides on an answer about the user.
fn about_user(answer: DeleteAnswer) -> DeleteEnd {
    match answer {
        DeleteAnswer::Deleted | DeleteAnswer::NotFound => DeleteEnd::Gone,
        DeleteAnswer::ActiveCards => DeleteEnd::Kept(Problem::whole(
            "ACTIVE_CARDS_EXIST",
            "the user in replaces has active cards, so it can't be deleted: nothing was changed",
        )),
        // Something other than the API may have answered.
        DeleteAnswer::Other(answer) if !answer.is_recognised() => DeleteEnd::Unknown(UnknownReason::Unreadable),
        DeleteAnswer::Other(Answer::Rejected { code, text, .. }) => {
            DeleteEnd::Refused(Problem::whole(&code, format!("the API refused to delete the user in replaces: {text}")))
        }
        DeleteAnswer::Other(_) => DeleteEnd::Unknown(UnknownReason::Unreadable),
    }
}
