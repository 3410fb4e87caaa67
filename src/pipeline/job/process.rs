//! One job, from the queue to its outcome.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use crate::domain::decide::{
    Due, Found, History, LookUpReason, RetryReason, Step, after_answer, after_look_up, due, is_trial_charged, row,
};
use crate::domain::job::InvalidJob;
use crate::domain::{AccountReason, Answer, Event, IdempotencyKey, Job, Lane, Outcome, Problem};
use crate::pipeline::gate::{Request, SendPermit};
use crate::pipeline::guards::halt::{HaltAction, Notice};
use crate::pipeline::guards::outliers::{ROUNDS_MAX, Refusals};
use crate::pipeline::guards::per_person::Person;
use crate::pipeline::user_lookup::InterruptedLookup;
use crate::pipeline::{Context, Turn};
use crate::ports::{Delivery, PartnerApi, QueueError, Settle, UserList};
use crate::telemetry::{
    Decided, JobFinished, JobWatch, OutcomeMixChecked, OutlierDelayed, RequeueReason, RetryPostponed, RetryScheduled,
    Stage, Throttled,
};

/// Longest time that a job of a migration is put back for, because it may not be created now. Short, so that a hold that a
/// person lifts is over for it too; how often it happens is bounded elsewhere, by how seldom such jobs are taken.
const HELD_MAX: Duration = Duration::from_secs(60);

/// How long a job that was refused like the account leaves the next probe to others.
const COURTESY: Duration = Duration::from_millis(100);

/// How long a job is set aside.
const SET_ASIDE: Duration = Duration::from_secs(300);

/// How long a job that waits for its turn is kept in hand before it goes back to the queue: RabbitMQ closes the channel
/// of a delivery that is held for 30 minutes.
const HOLD_MAX: Duration = Duration::from_secs(600);

/// How soon it comes again. Not zero: then a broker would take it for one that may have been sent.
const HOLD_AGAIN: Duration = Duration::from_secs(1);

/// A job in hand. Boxed, so that its way from function to function costs no copy and no room in its task: a window holds
/// several times as many jobs as can be on their way.
struct ActiveJob<'m, H> {
    lane: Lane,
    job: Job,
    person: Person,
    handle: H,
    history: History,
    /// Whether it may have been sent before it was taken in hand.
    was_sent: bool,
    refusals: Refusals,
    /// The look-up in the middle of which it went back to the queue.
    interrupted: Option<InterruptedLookup>,
    until: Instant,
    watch: JobWatch<'m>,
}

/// A job that is over, with its event.
struct Over<'m, H> {
    handle: H,
    event: Event,
    watch: JobWatch<'m>,
}

/// What is next for it.
enum Next {
    Finish(Outcome),
    /// Another turn at once.
    Again,
    /// Another turn after a while.
    Wait {
        reason: &'static str,
        delay: Duration,
    },
    RequeueReason {
        history: History,
        delay: Duration,
        reason: RequeueReason,
    },
    /// The broker has taken it back, and gives it to somebody else or again to us.
    TakenBack,
}

/// Carries one delivery through, and settles it: finished, or put back.
///
/// # Errors
/// [`QueueError`] where the queue could not record what happened; the worker must stop.
pub(crate) async fn process<A, H>(context: &Context<A>, delivery: Delivery<H>) -> Result<(), QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let mut hand = match take_in_hand(context, delivery) {
        Ok(hand) => hand,
        Err(over) => return settle(context, over).await,
    };
    let (person, history, was_sent, until) = (hand.person, hand.history, hand.was_sent, hand.until);
    // Held to the end.
    let _place = match wait_for(context, until, context.people.enter(person)).await {
        ControlFlow::Continue(place) => place,
        ControlFlow::Break(delay) => return requeue(context, hand, history, delay, no_turn(delay)).await,
    };
    let canary_permit = match wait_for(context, until, context.halt.canary_permit(was_sent)).await {
        ControlFlow::Continue(canary_permit) => canary_permit,
        ControlFlow::Break(delay) => return requeue(context, hand, history, delay, no_turn(delay)).await,
    };

    loop {
        let (history, delay, reason) = match next(context, &mut hand).await? {
            Next::Finish(outcome) => {
                canary_permit.use_up();
                return match conclude(context, *hand, outcome) {
                    Some(over) => settle(context, over).await,
                    None => Ok(()),
                };
            }
            Next::Again => continue,
            Next::TakenBack => {
                taken_back(*hand);
                return Ok(());
            }
            Next::RequeueReason { history, delay, reason } => (history, delay, reason),
            Next::Wait { reason, delay } => {
                let ActiveJob { history, job, handle, .. } = &*hand;
                let is_short = delay <= context.policy.wait_in_hand_max || context.halt.is_canary_on_its_way();
                let told = if is_short { delay } else { handle.nearest_delay(delay) };
                let id = job.identity.job_id.as_deref();
                RetryScheduled { reason, delay: told, attempts: history.attempts, job: id, key: job.key.uuid() }
                    .emit(&context.metrics);
                if is_short && wait(context, delay).await.is_continue() {
                    continue;
                }
                (*history, delay, if is_short { RequeueReason::Stopping } else { RequeueReason::Delayed })
            }
        };
        if history.first_sent_at.is_some() {
            canary_permit.use_up();
        }
        return requeue(context, hand, history, delay, reason).await;
    }
}

/// Reads the message. An error is the outcome of one that is no job.
fn take_in_hand<A, H>(context: &Context<A>, delivery: Delivery<H>) -> Result<Box<ActiveJob<'_, H>>, Box<Over<'_, H>>> {
    let Delivery { lane, body, message_id, history, handle } = delivery;
    let watch = JobWatch::taken(&context.metrics, lane, &history, context.clock.now());
    let mut job = match Job::parse_bounded(&body, context.policy.message_bytes_max) {
        Ok((job, _)) => job,
        Err(invalid) => {
            let event = rejected(*invalid, message_id, &body, context);
            return Err(Box::new(Over { handle, event, watch }));
        }
    };
    job.identity.job_id = job.identity.job_id.or(message_id);
    Ok(Box::new(ActiveJob {
        lane,
        person: Person::of(&job.email),
        handle,
        history,
        was_sent: history.first_sent_at.is_some(),
        refusals: Refusals::default(),
        interrupted: context.look_up.resume(*job.key.uuid()),
        until: Instant::now() + HOLD_MAX,
        watch,
        job,
    }))
}

/// One turn: a request or a look-up, and what follows from it.
async fn next<A, H>(context: &Context<A>, hand: &mut ActiveJob<'_, H>) -> Result<Next, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let before = hand.history;
    let (step, asked_at) = match hand.interrupted.take() {
        // Nothing of it has been sent since.
        Some(InterruptedLookup { reason, since }) => (Step::UserLookup(reason), since),
        None => match request(context, hand, &before).await? {
            ControlFlow::Continue(step) => (step, Instant::now()),
            ControlFlow::Break(next) => return Ok(next),
        },
    };
    let step = match step {
        Step::UserLookup(reason) => match look_up(context, hand, reason, &before, asked_at).await {
            ControlFlow::Continue(step) => step,
            ControlFlow::Break(delay) => {
                return Ok(Next::RequeueReason { history: hand.history, delay, reason: no_turn(delay) });
            }
        },
        step => step,
    };
    let backoff = || context.delay_before_attempt(hand.history.attempts.max(1));
    Ok(match step {
        Step::Finish(outcome) => Next::Finish(outcome),
        step @ (Step::Throttle(_) | Step::Pause(_)) => {
            hand.history = hand.history.uncharged(&before, &step);
            if let Step::Pause(reason) = step
                && reason.may_be_about_a_job()
                && context.outliers.refused(*hand.job.key.uuid(), &mut hand.refusals)
            {
                return Ok(set_aside(context, hand, reason).await);
            }
            if hand.history.first_sent_at.is_none() {
                hand.handle.retract_intent().await?;
            }
            Next::Again
        }
        Step::Retry(reason) => {
            if hand.history.was_told_existing() {
                hand.handle.retract_intent().await?;
            }
            Next::Wait { reason: reason.code(), delay: backoff() }
        }
        Step::RetryAfter(delay) => Next::Wait { reason: "key_must_expire", delay: delay.max(backoff()) },
        Step::LookUpAfter(delay) => Next::Wait { reason: "last_look_up", delay },
        // No look-up asks for another one.
        Step::UserLookup(_) => {
            Next::RequeueReason { history: hand.history, delay: Duration::ZERO, reason: RequeueReason::Stopping }
        }
    })
}

/// Sends a request, where one is due. `Break`: what is next instead.
async fn request<A, H>(
    context: &Context<A>,
    hand: &mut ActiveJob<'_, H>,
    before: &History,
) -> Result<ControlFlow<Next, Step>, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    match due(before, context.clock.now(), &context.policy.limits) {
        Due::UserLookup => return Ok(ControlFlow::Continue(Step::UserLookup(LookUpReason::GivingUp))),
        Due::LookUpAfter(delay) => return Ok(ControlFlow::Continue(Step::LookUpAfter(delay))),
        Due::Send if is_over_budget(context, before) => {
            RetryPostponed.emit(&context.metrics);
            let delay = context.delay_before_attempt(before.attempts);
            return Ok(ControlFlow::Break(Next::Wait { reason: "retry_budget", delay }));
        }
        Due::Send => {}
    }
    Ok(match admit(context, hand).await? {
        ControlFlow::Break(delay) => {
            ControlFlow::Break(Next::RequeueReason { history: *before, delay, reason: no_turn(delay) })
        }
        // The last look before it is on its way.
        ControlFlow::Continue(_) if !hand.handle.is_ours() => {
            context.rate_limiter.end_creation(context.clock.now(), false);
            ControlFlow::Break(Next::TakenBack)
        }
        ControlFlow::Continue((pass, slot)) => ControlFlow::Continue(send(context, hand, before, pass, slot).await),
    })
}

/// Waits for everything that a request needs: the gate, the intent on record, and its turn with a slot and the pace.
/// `Break`: told to stop, it took too long or a migration may not create users now; to be put back with this delay.
///
/// The intent is recorded before the wait for the turn, so that recording it doesn't disturb the pace; a job
/// that dies while it waits is taken for sent, which the protocol of the lost answer allows for.
async fn admit<'c, A, H>(
    context: &'c Context<A>,
    hand: &mut ActiveJob<'_, H>,
) -> Result<ControlFlow<Duration, (SendPermit<'c>, SemaphorePermit<'c>)>, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let (lane, until) = (hand.lane, hand.until);
    let courtesy = if hand.refusals.are_some() { COURTESY } else { Duration::ZERO };
    // Once for each request: how long a key is remembered counts from the last one.
    let mut recorded = false;
    hand.watch.enters(Some(Stage::RateLimiter));
    loop {
        let pass = context.gate.permit_after(Request::Create(lane), courtesy);
        let pass = match wait_for(context, until, pass).await {
            ControlFlow::Continue(pass) => pass,
            ControlFlow::Break(delay) => return Ok(ControlFlow::Break(delay)),
        };
        if !recorded {
            hand.handle.record_intent(context.clock.now()).await?;
            recorded = true;
        }
        match wait_for(context, until, context.turn(lane, &pass)).await {
            ControlFlow::Break(delay) => return Ok(ControlFlow::Break(delay)),
            ControlFlow::Continue(turn) => match turn? {
                Turn::Now(slot) => {
                    hand.history = hand.history.with_send(context.clock.now());
                    return Ok(ControlFlow::Continue((pass, slot)));
                }
                Turn::BulkHold(held) => {
                    let delay = held.until().since(context.clock.now()).min(HELD_MAX);
                    return Ok(ControlFlow::Break(delay));
                }
                Turn::TooLate => {}
            },
        }
    }
}

/// Sends the request, and tells the gate what the answer says about the account and the API.
async fn send<A, H>(
    context: &Context<A>,
    hand: &mut ActiveJob<'_, H>,
    before: &History,
    pass: SendPermit<'_>,
    slot: SemaphorePermit<'_>,
) -> Step
where
    A: PartnerApi + UserList,
{
    let start = Instant::now();
    hand.watch.enters(Some(Stage::Api));
    // Boxed: only jobs on their way need the room.
    let answer = Box::pin(context.api.create(&hand.job.key, &hand.job.body)).await;
    hand.watch.enters(None);
    drop(slot);
    let (duration, now) = (start.elapsed(), context.clock.now());
    let limits = &context.policy.limits;
    let is_lost = matches!(answer, Answer::Unknown(_));
    context.rate_limiter.end_creation(now, answer.may_have_created());
    let is_free = is_lost && pass.is_trial() && !is_trial_charged(&hand.history, now, limits);
    hand.history.attempts += u32::from(!is_free);
    hand.history = hand.history.learning(&answer, before, limits);
    let step = match answer {
        Answer::Unknown(reason) if is_free => Step::Retry(RetryReason::NoAnswer(reason)),
        answer => after_answer(answer, before, &hand.history, now, limits),
    };
    let transition = match &step {
        Step::Pause(reason) => pass.refused(*reason),
        Step::Throttle(advice) => {
            let news = context.gate.throttle(*advice, |n| context.delay_before_attempt(n));
            if advice.is_none() {
                context.rate_limiter.throttled();
            }
            Throttled { news, advised: advice.is_some() }.emit(&context.metrics);
            pass.throttled()
        }
        _ if is_lost => pass.unanswered(),
        _ => {
            context.outliers.answered();
            pass.answered(duration > context.policy.breaker.slow_after)
        }
    };
    if let Some(transition) = transition {
        transition.emit(&context.metrics);
    }
    step
}

/// Looks the user up. `Break`: told to stop, or it takes too long, because the list is long or the account paused; to be put
/// back with this delay, and to go on when it comes again.
async fn look_up<A, H>(
    context: &Context<A>,
    hand: &mut ActiveJob<'_, H>,
    reason: LookUpReason,
    before: &History,
    asked_at: Instant,
) -> ControlFlow<Duration, Step>
where
    A: PartnerApi + UserList,
{
    let ActiveJob { job, person, history, until, .. } = hand;
    let found = match wait_for(context, *until, context.look_up.find(&job.email, asked_at)).await {
        ControlFlow::Continue(found) => match found.seen_by(job.name_mark()) {
            Found::User(user) if context.ownership.is_anothers(*person, &user.service_id, job.key.uuid()) => {
                Found::Stranger(user)
            }
            found => found,
        },
        ControlFlow::Break(delay) => {
            context.look_up.interrupt(*job.key.uuid(), &job.email, reason, asked_at);
            return ControlFlow::Break(delay);
        }
    };
    let (now, limits) = (context.clock.now(), &context.policy.limits);
    Decided { row: row(&reason, &found, before, history, now, limits), key: job.key.uuid() }.emit();
    ControlFlow::Continue(after_look_up(reason, found, before, history, now, limits))
}

/// The job is over: its event is made, and the mix of outcomes looked at. `None`: it is somebody else's now.
fn conclude<'m, A, H>(context: &Context<A>, hand: ActiveJob<'m, H>, outcome: Outcome) -> Option<Box<Over<'m, H>>>
where
    H: Settle,
{
    let is_fresh = matches!(outcome, Outcome::Created { recovered: false, .. });
    if !is_fresh && !hand.handle.is_ours() {
        // Another delivery of it comes to the same, or knows better. Only a link is to be had but once.
        taken_back(hand);
        return None;
    }
    let ActiveJob { lane, job, person, handle, history, was_sent, watch, .. } = hand;
    if let Outcome::Created { service_id, .. } = &outcome {
        context.ownership.claim(person, service_id, job.key.uuid());
    }
    let Job { identity, key, .. } = job;
    let event =
        Event::of(outcome, identity, key, history.attempts, context.clock.now()).with_link_ttl(context.link_ttl);
    context.outliers.forget(*key.uuid());
    let is_repeat = event.recovered && event.attempts == 1 && !was_sent;
    match context.halt.record(lane, &event, is_repeat) {
        Some(Notice::Halted(mix)) => {
            match context.halt.halt_action() {
                HaltAction::Stop => context.stop.cancel(),
                HaltAction::HoldBulk => context.gate.halt(),
            }
            OutcomeMixChecked::Halted { mix: mix.to_string() }.emit(&context.metrics);
        }
        Some(Notice::CanaryWell(mix)) => OutcomeMixChecked::CanaryWell { mix: mix.to_string() }.emit(&context.metrics),
        None => {}
    }
    Some(Box::new(Over { handle, event, watch }))
}

/// Records the event and takes the job off the queue.
async fn settle<A, H>(context: &Context<A>, over: Box<Over<'_, H>>) -> Result<(), QueueError>
where
    H: Settle,
{
    let Over { handle, event, mut watch } = *over;
    watch.enters(Some(Stage::Confirm));
    // Boxed, as below: a queue's way of settling is large, and most of a job's time it isn't needed.
    Box::pin(handle.finish(&event)).await?;
    // Told only now: an outcome whose event nobody has got yet is none.
    JobFinished { event: &event, lane: watch.lane() }.emit(&context.metrics);
    watch.confirmed(event.event_type, context.clock.now());
    Ok(())
}

async fn requeue<A, H>(
    context: &Context<A>,
    hand: Box<ActiveJob<'_, H>>,
    history: History,
    delay: Duration,
    reason: RequeueReason,
) -> Result<(), QueueError>
where
    H: Settle,
{
    if !hand.handle.is_ours() {
        taken_back(*hand);
        return Ok(());
    }
    if history.first_sent_at.is_some() {
        context.ownership.waits(hand.person);
    }
    let ActiveJob { handle, watch, .. } = *hand;
    Box::pin(handle.requeue(history, delay)).await?;
    watch.requeue(reason);
    Ok(())
}

/// Lets go of a job that the broker has taken back: dropping its handle settles nothing.
fn taken_back<H>(hand: ActiveJob<'_, H>) {
    hand.watch.requeue(RequeueReason::TakenBack);
}

/// Why a job that gets no turn goes back: at once where the worker stops, later where it took too long.
const fn no_turn(delay: Duration) -> RequeueReason {
    if delay.is_zero() { RequeueReason::Stopping } else { RequeueReason::NoTurn }
}

/// Whether a repetition has to wait for longer. Says so to no first attempt.
fn is_over_budget<A>(context: &Context<A>, history: &History) -> bool {
    if history.attempts == 0 {
        context.retry_budget.first_attempt();
        return false;
    }
    !context.retry_budget.take()
}

/// Lets a job wait that alone is answered like the whole account; in the end it is given up, after a last look at the
/// user list where its user may have been created.
async fn set_aside<A, H>(context: &Context<A>, hand: &mut ActiveJob<'_, H>, reason: AccountReason) -> Next
where
    A: PartnerApi + UserList,
{
    let history = hand.history;
    let rounds = context.outliers.set_aside(*hand.job.key.uuid());
    OutlierDelayed { rounds, key: hand.job.key.uuid() }.emit();
    if rounds < ROUNDS_MAX {
        return Next::RequeueReason { history, delay: SET_ASIDE, reason: RequeueReason::SetAside };
    }
    let may_have_been_created = history.first_sent_at.is_some();
    if may_have_been_created {
        match look_up(context, hand, LookUpReason::GivingUp, &history, Instant::now()).await {
            ControlFlow::Continue(Step::Finish(outcome @ (Outcome::Created { .. } | Outcome::Existing { .. }))) => {
                return Next::Finish(outcome);
            }
            ControlFlow::Continue(_) => {}
            ControlFlow::Break(delay) => return Next::RequeueReason { history, delay, reason: no_turn(delay) },
        }
    }
    let message = format!(
        "answered again and again like trouble with the whole account ({}), while other jobs were answered well: \
         something about this row is disliked, perhaps by a firewall on the way",
        reason.code()
    );
    Next::Finish(Outcome::Failed { problem: Problem::whole("SINGLED_OUT", message), may_have_been_created })
}

/// Waits for something, unless the worker is told to stop or the job has been in hand for too long: then it goes back
/// with this delay.
async fn wait_for<A, T>(
    context: &Context<A>,
    until: Instant,
    what: impl Future<Output = T>,
) -> ControlFlow<Duration, T> {
    tokio::select! {
        biased;
        () = context.stop.cancelled() => ControlFlow::Break(Duration::ZERO),
        it = what => ControlFlow::Continue(it),
        () = sleep_until(until) => ControlFlow::Break(HOLD_AGAIN),
    }
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
    let surrogate_key = key.unwrap_or_else(|| IdempotencyKey::of_canonical(body));
    Event::of_invalid(problems, identity, surrogate_key, context.clock.now())
}
