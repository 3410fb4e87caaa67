//! Sends a request of a job: admits it, calls the API, and reports the result to the gate.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Answer;
use crate::domain::answer::UnknownReason;
use crate::domain::decide::{Due, History, JobStep, LookUpReason, RetryReason, after_answer, due, is_trial_charged};
use crate::pipeline::context::Context;
use crate::pipeline::gate::{ProbeDelays, Request, SendPermit};
use crate::pipeline::job::action::Requeue;
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::send_slot::{SendSlot, wait_for_send_slot};
use crate::pipeline::job::wait::wait_for;
use crate::ports::{PartnerApi, QueueError, Settle};
use crate::telemetry::{ApiOverloaded, ApiThrottled, JobStage, WrongUserAnswered};

/// Delay before a job that got an account-level answer may be sent as a probe again, so that another job is the next
/// probe.
const PROBE_DELAY: Duration = Duration::from_millis(100);

/// How long a job that was never sent leaves the trial of the circuit breaker to jobs that were: their link may be lost
/// already, so that the trial costs none. Longer than the first backoff, after which these jobs wait for a permit.
const TRIAL_DELAY: Duration = Duration::from_secs(1);

/// Result of [`request`].
pub(super) enum RequestEnd {
    /// It was answered, or none is due: take this step.
    Step(JobStep),
    /// It was not sent: requeue the job.
    Requeue(Requeue),
    /// It was not sent: the broker connection was lost, and the broker delivers the job again.
    ConnectionLost,
}

/// Result of [`admit`].
enum Admission<'c> {
    /// The request is to be sent now.
    Admitted(SendPermit<'c>),
    /// It waited too long, the worker stops, or bulk is held.
    Requeue(Requeue),
}

/// Sends a request, if one is due. `before` is the history without it.
///
/// # Errors
/// The queue can't record the intent.
pub(super) async fn request<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    before: &History,
) -> Result<RequestEnd, QueueError>
where
    A: PartnerApi,
    H: Settle,
{
    match due(before, context.clock.now(), &job.limits) {
        Due::UserLookUp => return Ok(RequestEnd::Step(JobStep::UserLookUp(LookUpReason::AttemptsExhausted))),
        Due::LookUpAfter(delay) => return Ok(RequestEnd::Step(JobStep::LookUpAfter(delay))),
        Due::Send => {}
    }
    match admit(context, job).await? {
        Admission::Requeue(requeue) => Ok(RequestEnd::Requeue(requeue)),
        Admission::Admitted(permit) => {
            // The last check before it is sent.
            if !job.handle.is_ours() {
                context.rate_limiter.end_creation(context.clock.now(), false);
                return Ok(RequestEnd::ConnectionLost);
            }
            let answer = call(context, job).await;
            Ok(RequestEnd::Step(evaluate(context, job, before, permit, answer)))
        }
    }
}

/// Waits for what a request needs: the gate, the recorded intent, and a send slot.
///
/// The intent is recorded before the wait for the slot, so that recording it doesn't delay the rate limit. A job that
/// dies while it waits counts as sent, which the protocol of the lost answer allows for.
async fn admit<'c, A, H>(context: &'c Context<A>, job: &mut ActiveJob<'_, H>) -> Result<Admission<'c>, QueueError>
where
    H: Settle,
{
    let (lane, until) = (job.send_lane(), job.wait_until);
    let delays = ProbeDelays {
        probe: if job.refusals.has_any() { PROBE_DELAY } else { Duration::ZERO },
        trial: if job.history.first_sent_at.is_none() { TRIAL_DELAY } else { Duration::ZERO },
    };
    // Once for each request: the key's lifetime counts from the last recorded one.
    let mut is_recorded = false;
    job.watch.enter_stage(Some(JobStage::Permit));
    loop {
        let permit = context.gate.wait_for_permit(Request::Create(lane), delays);
        let mut permit = match wait_for(&context.stop, until, permit).await.or_requeue() {
            Ok(permit) => permit,
            Err(requeue) => return Ok(Admission::Requeue(requeue)),
        };
        if !is_recorded {
            job.handle.record_intent(context.clock.now()).await?;
            is_recorded = true;
        }
        let slot = wait_for_send_slot(context, lane, &mut permit);
        let slot = match wait_for(&context.stop, until, slot).await.or_requeue() {
            Ok(slot) => slot,
            Err(requeue) => return Ok(Admission::Requeue(requeue)),
        };
        match slot {
            SendSlot::Granted => {
                job.history = job.history.with_send(context.clock.now());
                return Ok(Admission::Admitted(permit));
            }
            SendSlot::BulkHeld(hold) => {
                let time = hold.until().since(context.clock.now());
                return Ok(Admission::Requeue(Requeue::bulk_held(time)));
            }
            SendSlot::GateClosed => {}
        }
    }
}

/// An answer, and how long it took.
struct TimedAnswer {
    answer: Answer,
    duration: Duration,
}

async fn call<A, H>(context: &Context<A>, job: &mut ActiveJob<'_, H>) -> TimedAnswer
where
    A: PartnerApi,
{
    let start = Instant::now();
    job.watch.enter_stage(Some(JobStage::Api));
    // Boxed: only jobs in flight need the memory.
    let answer = Box::pin(context.api.create(&job.job.key, &job.job.body)).await;
    job.watch.enter_stage(None);
    TimedAnswer { answer, duration: start.elapsed() }
}

/// Decides on an answer, and reports to the gate what it says about the account and the API.
fn evaluate<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    before: &History,
    permit: SendPermit<'_>,
    answer: TimedAnswer,
) -> JobStep {
    let TimedAnswer { answer, duration } = answer;
    let (now, limits) = (context.clock.now(), &job.limits.clone());
    context.rate_limiter.end_creation(now, answer.may_have_created());
    let answer = without_wrong_user(context, job, answer);
    if let Answer::Created { service_id: None, link: Ok(link) } = &answer {
        job.link = Some(link.clone());
    }
    if let Answer::Unknown(UnknownReason::Unavailable { retry_after }) = answer {
        let delay = context.gate.throttle(Some(retry_after), |n| context.delay_before_attempt(n));
        ApiOverloaded { delay }.emit();
    }
    let is_lost = matches!(answer, Answer::Unknown(_));
    // For the gate, what counts is the link, which can't be had again.
    let is_link_lost = is_lost || answer.has_lost_its_link();
    let is_free = is_lost && permit.is_trial() && !is_trial_charged(&job.history, now, limits);
    job.history.attempts += u32::from(!is_free);
    job.history = job.history.with_answer(&answer, before, limits);
    let step = match answer {
        Answer::Unknown(reason) if is_free => JobStep::Retry(RetryReason::NoAnswer(reason)),
        answer => after_answer(answer, before, &job.history, now, limits),
    };
    let transition = match &step {
        JobStep::Pause(reason) => permit.refused(*reason),
        JobStep::Throttle(advice) => {
            throttle(context, *advice);
            permit.throttled()
        }
        _ if is_link_lost => permit.unanswered(),
        _ => {
            context.outliers.answered();
            permit.answered(duration > context.policy.breaker.slow_after)
        }
    };
    if let Some(transition) = transition {
        transition.emit(&context.metrics);
    }
    step
}

/// Turns the answer that another person's user was created into [`Answer::KeyAlreadyUsed`]: what created that user was
/// an earlier request, and the answer to it was replayed. So the job's own user is looked up by email.
fn without_wrong_user<A, H>(context: &Context<A>, job: &ActiveJob<'_, H>, answer: Answer) -> Answer {
    let user = match &answer {
        Answer::Created { service_id: Some(service_id), .. } => service_id.as_str(),
        // Without an id, the link identifies the user.
        Answer::Created { link: Ok(link), .. } => link.as_str(),
        _ => return answer,
    };
    if context.ownership.claim(job.person, user) {
        return answer;
    }
    WrongUserAnswered { endpoint: "create", key: job.job.key.uuid() }.emit(&context.metrics);
    Answer::KeyAlreadyUsed
}

pub(super) fn throttle<A>(context: &Context<A>, advice: Option<Duration>) {
    let delay = context.gate.throttle(advice, |n| context.delay_before_attempt(n));
    if advice.is_none() {
        context.rate_limiter.throttled();
    }
    ApiThrottled { delay, advised: advice.is_some() }.emit(&context.metrics);
}
