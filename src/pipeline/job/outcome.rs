//! Ends a delivery: the job is finished, requeued, or left to the broker.

use crate::domain::{Event, Job, Outcome};
use crate::pipeline::context::Context;
use crate::pipeline::guards::halt::{HaltAction, HaltNotice};
use crate::pipeline::job::action::Requeue;
use crate::pipeline::job::active::{ActiveJob, FinishedJob};
use crate::ports::{QueueError, Settle};
use crate::telemetry::{JobFinished, JobStage, OutcomeMixChecked, RequeueReason};

/// Makes the event of a job's outcome, and records the outcome for the halt. `None`: the broker connection was lost,
/// and another delivery of the job reports the outcome.
pub(super) fn conclude<'m, A, H>(
    context: &Context<A>,
    job: Box<ActiveJob<'m, H>>,
    outcome: Outcome,
) -> Option<Box<FinishedJob<'m, H>>>
where
    H: Settle,
{
    // Only this delivery has the verification link of a user that it created itself.
    let has_link = matches!(outcome, Outcome::Created { recovered: false, .. });
    if !has_link && !job.handle.is_ours() {
        leave_to_broker(*job);
        return None;
    }
    let ActiveJob { lane, job, person, handle, history, was_sent, watch, .. } = *job;
    if let Outcome::Created { service_id, .. } = &outcome {
        context.ownership.record(person, service_id, job.key.uuid());
    }
    let Job { identity, key, .. } = job;
    let event =
        Event::of(outcome, identity, key, history.attempts, context.clock.now()).with_link_ttl(context.link_ttl);
    context.outliers.forget(*key.uuid());
    let is_repeat = event.recovered && event.attempts == 1 && !was_sent;
    if let Some(notice) = context.halt.record(lane, &event, is_repeat) {
        apply_halt_notice(context, notice);
    }
    Some(Box::new(FinishedJob { handle, event, watch }))
}

fn apply_halt_notice<A>(context: &Context<A>, notice: HaltNotice) {
    let checked = match notice {
        HaltNotice::Halted(mix) => {
            match context.halt.halt_action() {
                HaltAction::Stop => context.stop.cancel(),
                HaltAction::HoldBulk => context.gate.halt(),
            }
            OutcomeMixChecked::Halted { mix: mix.to_string() }
        }
        HaltNotice::CanaryPassed(mix) => OutcomeMixChecked::CanaryPassed { mix: mix.to_string() },
    };
    checked.emit(&context.metrics);
}

/// Publishes the event, and removes the job from the queue.
///
/// # Errors
/// The queue can't record the outcome.
pub(super) async fn settle<A, H>(context: &Context<A>, finished: Box<FinishedJob<'_, H>>) -> Result<(), QueueError>
where
    H: Settle,
{
    let FinishedJob { handle, event, mut watch } = *finished;
    watch.enter_stage(Some(JobStage::Confirm));
    // Boxed, as in `requeue`: the future is large, and a job needs it only at its end.
    Box::pin(handle.finish(&event)).await?;
    // Logged only now: an outcome counts when its event is published.
    JobFinished { event: &event, lane: watch.lane() }.emit(&context.metrics);
    watch.confirmed(event.event_type, context.clock.now());
    Ok(())
}

/// Requeues the job, unless the broker connection was lost.
///
/// # Errors
/// The queue can't record the job's history.
pub(super) async fn requeue<A, H>(
    context: &Context<A>,
    job: Box<ActiveJob<'_, H>>,
    requeue: Requeue,
) -> Result<(), QueueError>
where
    H: Settle,
{
    if !job.handle.is_ours() {
        leave_to_broker(*job);
        return Ok(());
    }
    let ActiveJob { person, handle, history, watch, .. } = *job;
    if history.first_sent_at.is_some() {
        context.ownership.keep(person);
    }
    let Requeue { delay, reason } = requeue;
    Box::pin(handle.requeue(history, delay)).await?;
    watch.requeued(reason);
    Ok(())
}

/// Drops a job whose broker connection was lost: the broker delivers it again.
pub(super) fn leave_to_broker<H>(job: ActiveJob<'_, H>) {
    job.watch.requeued(RequeueReason::ConnectionLost);
}
