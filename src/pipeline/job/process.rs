//! The loop of a job: takes one step after another, until the job is finished or requeued.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::decide::{History, JobStep, LookUpReason, LookUpStep, RetryReason, id_not_found};
use crate::domain::{Job, Outcome};
use crate::pipeline::context::Context;
use crate::pipeline::guards::finished_keys::FinishedOutcome;
use crate::pipeline::guards::halt::CanaryPermit;
use crate::pipeline::guards::per_person::{Person, PersonGuard};
use crate::pipeline::job::action::{NextAction, Requeue};
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::discount::{backoff, discount_request};
use crate::pipeline::job::look_up::{LookUpEnd, look_up};
use crate::pipeline::job::outcome::{conclude, conclude_repeat, leave_to_broker, requeue, settle};
use crate::pipeline::job::replace;
use crate::pipeline::job::request::{RequestEnd, request};
use crate::pipeline::job::wait::{Delayed, delay_for, wait_for};
use crate::pipeline::job_slot::JobSlot;
use crate::pipeline::user_lookup::InterruptedLookUp;
use crate::ports::{Delivery, PartnerApi, QueueError, Settle, UserList};
use crate::telemetry::RetryScheduled;

/// Processes one delivery, and settles it: finished or requeued.
///
/// # Errors
/// [`QueueError`]: the queue could not record what happened; the worker must stop.
pub(in crate::pipeline) async fn process<A, H>(
    context: &Context<A>,
    delivery: Delivery<H>,
    slot: &mut JobSlot,
) -> Result<(), QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let mut job = match ActiveJob::start(context, delivery) {
        Ok(job) => job,
        Err(rejected) => return settle(context, rejected).await,
    };
    let _person_guard = match lock_person(context, &job.job, PersonWait::of(&job), slot).await {
        PersonTurn::First(guard) => guard,
        PersonTurn::Repeat(finished) => {
            return match conclude_repeat(context, *job, finished) {
                Some(finished) => settle(context, finished).await,
                None => Ok(()),
            };
        }
        PersonTurn::Requeue(how) => return requeue(context, job, how).await,
    };
    let (stop, until) = (&context.stop, job.wait_until);
    let canary_permit = match wait_for(stop, until, context.halt.canary_permit(job.was_sent)).await.or_requeue() {
        Ok(permit) => permit,
        Err(how) => return requeue(context, job, how).await,
    };
    if job.history.last_sent_at.is_some() {
        // A job that was never sent has no look-up to resume: the one that is kept is an identical job's.
        job.interrupted = context.look_up.resume(*job.job.key.uuid());
    }
    loop {
        let how = match next_action(context, &mut job).await? {
            NextAction::Finish(outcome) => return finish(context, job, outcome, canary_permit).await,
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
        if job.link.is_some() {
            // It would lose its link on the queue.
            return finish(context, job, id_not_found(), canary_permit).await;
        }
        if job.history.first_sent_at.is_some() {
            canary_permit.use_up();
        }
        return requeue(context, job, how).await;
    }
}

async fn finish<A, H>(
    context: &Context<A>,
    job: Box<ActiveJob<'_, H>>,
    outcome: Outcome,
    canary_permit: CanaryPermit<'_>,
) -> Result<(), QueueError>
where
    H: Settle,
{
    canary_permit.use_up();
    match conclude(context, *job, outcome) {
        Some(finished) => settle(context, finished).await,
        None => Ok(()),
    }
}

/// What [`lock_person`] needs to know beside the job itself.
struct PersonWait {
    person: Person,
    was_sent: bool,
    until: Instant,
}

impl PersonWait {
    const fn of<H>(job: &ActiveJob<'_, H>) -> Self {
        Self { person: job.person, was_sent: job.was_sent, until: job.wait_until }
    }
}

/// Result of [`lock_person`].
enum PersonTurn<'c> {
    /// No other job about its person is in progress, and no identical one has finished.
    First(PersonGuard<'c>),
    /// An identical job has finished: this one has the same outcome.
    Repeat(FinishedOutcome),
    /// It waited too long, too many jobs wait, or the worker stops.
    Requeue(Requeue),
}

/// Waits until no other job about the person is in progress. Meanwhile the job doesn't take up the window. A job that
/// is answered by an identical one needs no lock.
async fn lock_person<'c, A>(
    context: &'c Context<A>,
    job: &Job,
    wait: PersonWait,
    slot: &mut JobSlot,
) -> PersonTurn<'c> {
    let PersonWait { person, was_sent, until } = wait;
    if let Some(finished) = context.finished_keys.find(job, was_sent) {
        return PersonTurn::Repeat(finished);
    }
    let guard = match context.person_locks.try_lock(person) {
        Ok(guard) => guard,
        Err(_) if !slot.start_waiting() => return PersonTurn::Requeue(Requeue::PERSON_BUSY),
        Err(busy) => match wait_for(&context.stop, until, busy.wait()).await.or_requeue() {
            Ok(guard) => guard,
            Err(how) => return PersonTurn::Requeue(how),
        },
    };
    // The job that it waited for may be identical, and so may one that finished just before the lock was free.
    if let Some(finished) = context.finished_keys.find(job, was_sent) {
        return PersonTurn::Repeat(finished);
    }
    slot.resume();
    PersonTurn::First(guard)
}

/// Takes one step: a request or a look-up, and what follows from it.
async fn next_action<A, H>(context: &Context<A>, job: &mut ActiveJob<'_, H>) -> Result<NextAction, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    if let Some(replacement) = job.replacement.take() {
        // Boxed: few jobs need the memory.
        return Box::pin(replace::next_action(context, job, replacement)).await;
    }
    let before = job.history;
    if let Some(InterruptedLookUp { reason, since }) = job.interrupted.take() {
        // No request was sent since.
        return look_up_and_act(context, job, reason, &before, since).await;
    }
    let step = match request(context, job, &before).await? {
        RequestEnd::Step(step) => step,
        RequestEnd::Requeue(how) => return Ok(NextAction::Requeue(how)),
        RequestEnd::ConnectionLost => return Ok(NextAction::ConnectionLost),
    };
    match step {
        JobStep::Finish(outcome) => Ok(NextAction::Finish(outcome)),
        JobStep::UserLookUp(reason) => look_up_and_act(context, job, reason, &before, Instant::now()).await,
        JobStep::LookUpAfter(delay) => Ok(NextAction::Wait { reason: "last_look_up", delay }),
        JobStep::Retry(reason) => retry(context, job, reason).await,
        JobStep::Throttle(_) | JobStep::Pause(_) => discount_request(context, job, &before, &step).await,
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
    let again = reason.clone();
    match look_up(context, job, reason, before, since).await {
        LookUpEnd::Requeue(how) => Ok(NextAction::Requeue(how)),
        LookUpEnd::Decided(LookUpStep::Finish(outcome)) => Ok(NextAction::Finish(outcome)),
        LookUpEnd::Decided(LookUpStep::Retry(reason)) => retry(context, job, reason).await,
        LookUpEnd::Decided(LookUpStep::RetryAfter(delay)) => {
            Ok(NextAction::Wait { reason: "key_must_expire", delay: delay.max(backoff(context, job)) })
        }
        LookUpEnd::Decided(LookUpStep::LookUpAgain(delay)) => {
            job.interrupted = Some(InterruptedLookUp { reason: again, since: Instant::now() + delay });
            Ok(NextAction::Wait { reason: "id_not_listed", delay })
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

/// Result of [`wait_for_retry`].
enum RetryWait {
    /// The delay is over.
    Over,
    /// The delay is too long for memory, or the worker stops.
    Requeue(Requeue),
}

/// Waits for a retry in memory if the delay is short. Jobs of the canary wait in memory however long it is: the others
/// wait for their outcomes. So do jobs with a link, which would be lost on the queue.
async fn wait_for_retry<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    reason: &'static str,
    delay: Duration,
) -> RetryWait
where
    H: Settle,
{
    let ActiveJob { history, job, handle, link, .. } = job;
    let in_memory =
        delay <= context.policy.delay_in_memory_max || context.halt.is_canary_in_progress() || link.is_some();
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
