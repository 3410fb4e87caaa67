//! Looks up the user of a job, and decides on the result.

use tokio::time::Instant;

use crate::domain::decide::{
    History, LookUpReason, LookUpResult, LookUpStep, after_look_up, look_up_case, look_up_scope,
};
use crate::pipeline::context::Context;
use crate::pipeline::job::action::Requeue;
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::wait::wait_for;
use crate::telemetry::{LookUpDecided, WrongUserAnswered};

/// Result of [`look_up`].
pub(super) enum LookUpEnd {
    /// Take this step.
    Decided(LookUpStep),
    /// The worker stops, or the scan takes too long: requeue the job. Its next delivery resumes the look-up.
    Requeue(Requeue),
}

/// Looks the user up. `before` is the history without the request whose answer caused the look-up, `since` is when it
/// was answered.
pub(super) async fn look_up<A, H>(
    context: &Context<A>,
    job: &mut ActiveJob<'_, H>,
    reason: LookUpReason,
    before: &History,
    since: Instant,
) -> LookUpEnd {
    let ActiveJob { job, person, history, wait_until, .. } = job;
    let key = job.key.uuid();
    let scope = look_up_scope(&reason, before, history, context.clock.now(), &context.policy.limits);
    let found = context.look_up.find(&job.email, since, scope);
    let result = match wait_for(&context.stop, *wait_until, found).await.or_requeue() {
        Ok(result) => result,
        Err(requeue) => {
            context.look_up.interrupt(*key, &job.email, reason, since);
            return LookUpEnd::Requeue(requeue);
        }
    };
    let result = match result.compared_with(job.name_mark()) {
        // Nothing else in this list can be relied on either.
        LookUpResult::User(user) | LookUpResult::OtherUser(user)
            if !context.ownership.claim(*person, user.service_id.as_str()) =>
        {
            WrongUserAnswered { endpoint: "list", key }.emit(&context.metrics);
            LookUpResult::Unavailable
        }
        LookUpResult::User(user)
            if context.ownership.belongs_to_another_job(*person, user.service_id.as_str(), key) =>
        {
            LookUpResult::OtherUser(user)
        }
        result => result,
    };
    let (now, limits) = (context.clock.now(), &context.policy.limits);
    LookUpDecided { row: look_up_case(&reason, &result, before, history, now, limits), key }.emit();
    LookUpEnd::Decided(after_look_up(reason, result, before, history, now, limits))
}
