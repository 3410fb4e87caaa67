//! Re-creation: rounds of a fresh look at the user list, the deletion and the creation.
//!
//! ```text
//! look (fresh) ──> delete ──> create ──┬──> outcome
//!      ^  └─────────────────────^      │
//!      └────── lost, refused ──────────┘
//! ```
//!
//! After a crash the job begins with a look. So nothing needs to be remembered but the job's history.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::decide::{JobStep, LookUpReason, ReplaceLookUp, ReplaceStep, after_replace_look_up};
use crate::domain::{Outcome, Problem};
use crate::pipeline::context::Context;
use crate::pipeline::job::action::{NextAction, Requeue};
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::delete::{DeleteEnd, delete};
use crate::pipeline::job::discount::{backoff, discount_request};
use crate::pipeline::job::replacement::Replacement;
use crate::pipeline::job::request::{RequestEnd, request};
use crate::pipeline::job::wait::wait_for;
use crate::pipeline::user_lookup::{FreshLook, FreshScope, find_fresh};
use crate::ports::{PartnerApi, QueueError, Settle, UserList};
use crate::telemetry::WrongUserAnswered;

/// Code of a job without a timestamp that was delivered before.
const REPLACES_WITHOUT_TIMESTAMP: &str = "REPLACES_WITHOUT_TIMESTAMP";

/// Takes the next step of a re-creation.
pub(super) async fn next_action<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    mut replacement: Replacement,
) -> Result<NextAction, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    if job.was_sent && !job.handle.is_dated() {
        job.replacement = Some(replacement);
        return Ok(NextAction::Finish(undated()));
    }
    if std::mem::take(&mut replacement.creates_next) {
        return create(context, job, replacement).await;
    }
    let reason = replacement.reason.take();
    let look = match look(context, job, &replacement, reason.as_ref()).await {
        Ok(look) => look,
        Err(how) => {
            job.replacement = Some(replacement);
            return Ok(NextAction::Requeue(how));
        }
    };
    let (now, limits) = (context.clock.now(), &job.limits);
    let step = after_replace_look_up(reason.as_ref(), look.found, &job.before_last, &job.history, now, limits);
    match step {
        ReplaceStep::Delete => delete_and_create(context, job, replacement, look.requested_at).await,
        ReplaceStep::Create => create(context, job, replacement).await,
        ReplaceStep::Finish(outcome) => {
            job.replacement = Some(replacement);
            Ok(NextAction::Finish(outcome))
        }
        ReplaceStep::LookAgain { reason: code, delay, is_charged } => {
            job.history.attempts += u32::from(is_charged);
            // The others begin a new round.
            replacement.reason = reason.filter(|reason| matches!(reason, LookUpReason::IdMissing(_)));
            job.replacement = Some(replacement);
            let is_last = code == "last_look_up";
            let delay = if is_last { delay } else { delay.max(backoff(context, job)) };
            Ok(NextAction::Wait { reason: code, delay })
        }
    }
}

/// Looks at the user list. Where the deletion may have been sent, the whole list is read only after the creation was
/// refused: an attempt to create a user who still exists costs less, and changes nothing.
async fn look<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    replacement: &Replacement,
    reason: Option<&LookUpReason>,
) -> Result<FreshLook, Requeue>
where
    A: PartnerApi + UserList,
{
    let ActiveJob { job, person, history, wait_until, .. } = job;
    // The second request of a round that began with a lost deletion.
    let is_cheap = history.first_sent_at.is_some() && history.attempts < 2 && reason.is_none();
    let scope = if is_cheap { FreshScope::LikelyPlaces } else { FreshScope::WholeList };
    let looking = find_fresh(context, &job.email, &replacement.id, scope);
    let mut look = wait_for(&context.stop, *wait_until, looking).await.or_requeue()?;
    let key = job.key.uuid();
    if let ReplaceLookUp::Other { user, is_foreign } = &mut look.found {
        let id = user.service_id.as_str();
        if !context.ownership.claim(*person, id) {
            WrongUserAnswered { endpoint: "list", key }.emit(&context.metrics);
            look.found = ReplaceLookUp::Unavailable;
            return Ok(look);
        }
        let has_other_name = user.name.zip(job.name_mark()).is_some_and(|(theirs, ours)| theirs != ours);
        *is_foreign = has_other_name || context.ownership.belongs_to_another_job(*person, id, key);
    }
    Ok(look)
}

async fn delete_and_create<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    mut replacement: Replacement,
    requested_at: Instant,
) -> Result<NextAction, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let before = job.history;
    let end = delete(context, job, &replacement.id, requested_at).await?;
    let action = match end {
        DeleteEnd::Gone => {
            replacement.is_deleted = true;
            context.look_up.deleted(&replacement.id);
            return create(context, job, replacement).await;
        }
        DeleteEnd::Kept(problem) => {
            let service_id = Some(replacement.id.clone());
            replacement.kept = Some(problem);
            NextAction::Finish(Outcome::Existing { service_id })
        }
        DeleteEnd::Refused(problem) => NextAction::Finish(Outcome::Rejected(vec![problem])),
        DeleteEnd::Unknown(reason) => {
            replacement.is_deleted = true;
            NextAction::Wait { reason: reason.code(), delay: backoff(context, job) }
        }
        DeleteEnd::TooOld => NextAction::Again,
        DeleteEnd::Account(step) => {
            let may_be_gone = matches!(&step, JobStep::Pause(reason) if reason.may_have_created());
            replacement.is_deleted |= may_be_gone;
            job.replacement = Some(replacement);
            return discount_request(context, job, &before, &step).await;
        }
        DeleteEnd::Requeue(how) => NextAction::Requeue(how),
        DeleteEnd::ConnectionLost => NextAction::ConnectionLost,
    };
    job.replacement = Some(replacement);
    Ok(action)
}

/// Creates the user. As the old one is gone, it isn't held with the bulk jobs.
async fn create<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    mut replacement: Replacement,
) -> Result<NextAction, QueueError>
where
    A: PartnerApi + UserList,
    H: Settle,
{
    let before = job.history;
    job.before_last = before;
    let end = request(context, job, &before).await?;
    let action = match end {
        RequestEnd::Requeue(how) => NextAction::Requeue(how),
        RequestEnd::ConnectionLost => NextAction::ConnectionLost,
        RequestEnd::Step(JobStep::Finish(outcome)) => NextAction::Finish(outcome),
        RequestEnd::Step(JobStep::UserLookUp(reason)) => {
            replacement.reason = Some(reason);
            NextAction::Again
        }
        RequestEnd::Step(JobStep::LookUpAfter(delay)) => NextAction::Wait { reason: "last_look_up", delay },
        RequestEnd::Step(JobStep::Retry(reason)) => {
            // A gateway that replays answers gives the link with the next one.
            replacement.creates_next = job.limits.key_ttl == Duration::ZERO;
            NextAction::Wait { reason: reason.code(), delay: backoff(context, job) }
        }
        RequestEnd::Step(step @ (JobStep::Throttle(_) | JobStep::Pause(_))) => {
            replacement.creates_next = true;
            job.replacement = Some(replacement);
            return discount_request(context, job, &before, &step).await;
        }
    };
    job.replacement = Some(replacement);
    Ok(action)
}

fn undated() -> Outcome {
    let message = "the job was delivered before and its message has no timestamp, so a user that it created can't be \
                   distinguished from another: look the user up, set the message property timestamp, and send a new job";
    Outcome::Failed { problem: Problem::whole(REPLACES_WITHOUT_TIMESTAMP, message), may_have_been_created: true }
}
