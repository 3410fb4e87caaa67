//! Ends a delivery: the job is finished, requeued, or left to the broker.

use crate::domain::{Event, Job, Outcome};
use crate::pipeline::context::Context;
use crate::pipeline::guards::finished_keys::FinishedOutcome;
use crate::pipeline::guards::halt::{EarlierRequest, HaltAction, HaltNotice};
use crate::pipeline::job::action::Requeue;
use crate::pipeline::job::active::{ActiveJob, FinishedJob};
use crate::ports::{QueueError, Settle};
use crate::telemetry::{JobFinished, JobStage, OutcomeMixChecked, RequeueReason};

/// Makes the event of a job's outcome, and records the outcome for the halt. `None`: the broker connection was lost,
/// and another delivery of the job reports the outcome.
pub(super) fn conclude<'m, A, H>(
    context: &Context<A>,
    job: ActiveJob<'m, H>,
    outcome: Outcome,
) -> Option<Box<FinishedJob<'m, H>>>
where
    H: Settle,
{
    // Only this delivery has the verification link of a user that it created itself.
    let has_link = job.link.is_some() || matches!(outcome, Outcome::Created { recovered: false, .. });
    if !has_link && !job.handle.is_ours() {
        leave_to_broker(job);
        return None;
    }
    let ActiveJob { lane, mut job, person, handle, history, was_sent, link, watch, replacement, .. } = job;
    let outcome = outcome.with_link(link.as_ref());
    if let Outcome::Created { service_id, .. } = &outcome {
        context.ownership.record(person, service_id.as_str(), job.key.uuid());
    }
    let kept = replacement.as_ref().and_then(|replacement| replacement.kept.clone());
    let identity = std::mem::take(&mut job.identity);
    let event = Event::of(outcome.clone(), identity, job.key, history.attempts, context.clock.now())
        .with_link(link)
        .with_link_ttl(context.link_ttl)
        .with_replacement(replacement.as_ref().is_some_and(|it| it.is_deleted), kept);
    let finished = FinishedOutcome { outcome, link_expires_at: event.link_expires_at };
    let repeatable = context.finished_keys.repeatable(&job, person, finished);
    context.outliers.forget(*job.key.uuid());
    let earlier = match was_sent {
        true => EarlierRequest::InEarlierDelivery,
        false if event.recovered && event.attempts == 1 => EarlierRequest::ByAnotherRun,
        false => EarlierRequest::None,
    };
    if let Some(notice) = context.halt.record(lane, &event, earlier) {
        apply_halt_notice(context, notice);
    }
    Some(Box::new(FinishedJob { handle, event, repeatable, is_repeat: false, watch }))
}

/// Makes the event of a job that has the outcome of an identical one. The user and the link are those of the first
/// event, and the link expires as it said there. The halt, the canary and the daily quota counted the first job.
/// `None`: the broker connection was lost, and another delivery of the job reports the outcome.
pub(super) fn conclude_repeat<'m, A, H>(
    context: &Context<A>,
    job: ActiveJob<'m, H>,
    finished: FinishedOutcome,
) -> Option<Box<FinishedJob<'m, H>>>
where
    H: Settle,
{
    if !job.handle.is_ours() {
        leave_to_broker(job);
        return None;
    }
    let ActiveJob { job: Job { identity, key, .. }, handle, history, watch, .. } = job;
    let FinishedOutcome { outcome, link_expires_at } = finished;
    let event = Event::of(outcome, identity, key, history.attempts, context.clock.now());
    let event = Event { link_expires_at, ..event };
    Some(Box::new(FinishedJob { handle, event, repeatable: None, is_repeat: true, watch }))
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
    let FinishedJob { handle, event, repeatable, is_repeat, mut watch } = *finished;
    watch.enter_stage(Some(JobStage::Confirm));
    // Boxed, as in `requeue`: the future is large, and a job needs it only at its end.
    Box::pin(handle.finish(&event)).await?;
    if let Some(outcome) = repeatable {
        context.finished_keys.record(outcome);
    }
    // Logged only now: an outcome counts when its event is published.
    JobFinished { event: &event, lane: watch.lane(), is_repeat }.emit(&context.metrics);
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
