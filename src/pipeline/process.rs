//! One job, from the queue to its outcome.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Context;
use super::gate::Pass;
use crate::domain::decide::{History, LookUpReason, Step, after_answer, after_look_up};
use crate::domain::job::InvalidJob;
use crate::domain::{Answer, Event, IdempotencyKey, Job, Lane};
use crate::ports::{Delivery, PartnerApi, QueueError, Settle, UserList};
use crate::telemetry::{ApiAnswered, JobFinished, JobInvalid, RetryScheduled, Throttled};

/// Answers about the account that one job gets, while others are answered well in between, before it is set aside. A
/// firewall that dislikes one row answers it like this for ever, and the row would close the gate for all others again
/// and again. Where nobody fares better, the account is at fault and the job stays to probe with.
const REFUSALS_IN_HAND: u32 = 3;

/// How long a job that was refused leaves the next probe to others.
const fn courtesy(refused_at: Option<u64>) -> Duration {
    Duration::from_millis(if refused_at.is_some() { 100 } else { 0 })
}

/// How long a job is set aside.
const SET_ASIDE: Duration = Duration::from_secs(300);

/// Carries one delivery through, and settles it: finished, or put back.
///
/// # Errors
/// [`QueueError`] where the queue could not record what happened; the worker must stop.
pub async fn process<A, H>(context: &Context<A>, delivery: Delivery<H>) -> Result<(), QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let Delivery { lane, body, message_id, mut history, mut handle } = delivery;
    let mut job = match Job::parse(&body) {
        Ok((job, _)) => job,
        Err(invalid) => {
            JobInvalid { problems: invalid.problems.len(), lane }.emit();
            let event = rejected(*invalid, message_id, &body, context);
            JobFinished { event: &event, lane }.emit(&context.metrics);
            return handle.finish(event).await;
        }
    };
    job.identity.job_id = job.identity.job_id.or(message_id);

    // `openings`: how often the gate had opened when this job was last refused.
    let (mut refusals, mut openings) = (0, None);
    loop {
        let before = history;
        let Some((pass, slot)) = admit(context, lane, courtesy(openings), &mut handle, &mut history).await? else {
            return handle.put_back(before, Duration::ZERO).await;
        };
        history.attempts += 1;
        let answer = call(context, &job).await;
        drop(slot);
        let step = after_answer(answer, &history, context.clock.now(), &context.policy.limits);
        note(context, pass, &step);
        let next = match step {
            Step::LookUp(reason) => look_up(context, reason, &job, &before, &history).await,
            step => Some(step),
        };
        let (reason, delay) = match next {
            Some(Step::Finish(outcome)) => {
                let event = Event::of(outcome, &job.identity, job.key, history.attempts, context.clock.now());
                JobFinished { event: &event, lane }.emit(&context.metrics);
                return handle.finish(event).await;
            }
            // Neither an attempt nor a send that could have created anybody.
            Some(step @ (Step::Throttle(_) | Step::Pause(_))) => {
                if matches!(step, Step::Pause(_)) {
                    let now = context.gate.openings();
                    refusals += u32::from(openings.replace(now).is_some_and(|then| now > then));
                }
                if refusals == REFUSALS_IN_HAND {
                    return handle.put_back(before, SET_ASIDE).await;
                }
                history = before;
                if before.first_sent_at.is_none() {
                    handle.retract_intent().await?;
                }
                continue;
            }
            Some(Step::Retry | Step::LookUp(_)) => {
                ("no_definite_answer", context.delay_before_attempt(history.attempts))
            }
            Some(Step::RetryAfter(delay)) => ("key_must_expire", delay),
            // Told to stop while looking the user up.
            None => return handle.put_back(history, Duration::ZERO).await,
        };
        RetryScheduled { reason, delay, attempts: history.attempts, key: job.key.uuid() }.emit(&context.metrics);
        if delay > context.policy.wait_in_hand_max || wait(context, delay).await.is_break() {
            return handle.put_back(history, delay).await;
        }
    }
}

/// Waits for everything that a request needs: the gate, a slot, the intent on record and its turn in the pace.
/// `None`: told to stop.
///
/// The intent is recorded before the wait for the pace, so that recording it doesn't disturb the pace; a job
/// that dies while it waits is taken for sent, which the protocol of the lost answer allows for.
async fn admit<'c, A, H>(
    context: &'c Context<A>,
    lane: Lane,
    courtesy: Duration,
    handle: &mut H,
    history: &mut History,
) -> Result<Option<(Pass<'c>, tokio::sync::SemaphorePermit<'c>)>, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let stop = &context.stop;
    let mut recorded = history.first_sent_at.is_some();
    loop {
        let pass = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            pass = context.gate.pass_after(courtesy) => pass,
        };
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            slot = context.slot(lane) => slot?,
        };
        if !recorded {
            handle.record_intent(context.clock.now()).await?;
            recorded = true;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            () = context.pace.turn(lane) => {}
        }
        // The gate may have closed while this job waited for its turn.
        if pass.is_valid() {
            *history = history.with_send(context.clock.now());
            return Ok(Some((pass, slot)));
        }
    }
}

async fn call<A: PartnerApi>(context: &Context<A>, job: &Job) -> Answer {
    let start = Instant::now();
    let answer = context.api.create(&job.key, &job.body).await;
    ApiAnswered { answer: &answer, duration: start.elapsed(), key: job.key.uuid() }.emit(&context.metrics);
    answer
}

/// Tells the gate what the answer says about the account.
fn note<A>(context: &Context<A>, pass: Pass<'_>, step: &Step)
where
    A: PartnerApi + UserList,
{
    let transition = match step {
        Step::Pause(reason) => pass.refused(*reason),
        Step::Throttle(advice) => {
            let wait = context.gate.throttle(*advice, |n| context.delay_before_attempt(n));
            Throttled { wait, advised: advice.is_some() }.emit(&context.metrics);
            pass.throttled()
        }
        Step::Retry | Step::LookUp(LookUpReason::GivingUp) => {
            pass.unanswered();
            None
        }
        _ => pass.answered(),
    };
    if let Some(transition) = transition {
        transition.emit(&context.metrics);
    }
}

async fn look_up<A>(
    context: &Context<A>,
    reason: LookUpReason,
    job: &Job,
    before: &History,
    history: &History,
) -> Option<Step>
where
    A: PartnerApi + UserList,
{
    let found = tokio::select! {
        biased;
        () = context.stop.cancelled() => return None,
        found = context.look_up.find(&job.email) => found,
    };
    Some(after_look_up(reason, found, before, history, context.clock.now(), &context.policy.limits))
}

async fn wait<A>(context: &Context<A>, delay: Duration) -> ControlFlow<()> {
    tokio::select! {
        biased;
        () = context.stop.cancelled() => ControlFlow::Break(()),
        () = sleep(delay) => ControlFlow::Continue(()),
    }
}

fn rejected<A>(invalid: InvalidJob, message_id: Option<String>, body: &[u8], context: &Context<A>) -> Event {
    let InvalidJob { mut identity, key, problems } = invalid;
    identity.job_id = identity.job_id.or(message_id);
    // The body identifies a message that has no canonical form.
    let stand_in = key.unwrap_or_else(|| IdempotencyKey::of_canonical(&String::from_utf8_lossy(body)));
    Event::of_invalid(problems, &identity, stand_in, context.clock.now())
}
