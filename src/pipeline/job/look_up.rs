//! Looks up the user of a job, and decides on the result.

use tokio::time::Instant;

use crate::domain::decide::{History, LookUpReason, LookUpResult, LookUpStep, after_look_up, look_up_case};
use crate::pipeline::context::Context;
use crate::pipeline::job::action::Requeue;
use crate::pipeline::job::active::ActiveJob;
use crate::pipeline::job::wait::wait_for;
use crate::telemetry::LookupDecided;

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
    let result = match wait_for(&context.stop, *wait_until, context.look_up.find(&job.email, since)).await.or_requeue()
    {
        Ok(result) => result,
        Err(requeue) => {
            context.look_up.interrupt(*key, &job.email, reason, since);
            return LookUpEnd::Requeue(requeue);
        }
    };
    let result = match result.compared_with(job.name_mark()) {
        LookUpResult::User(user) if context.ownership.belongs_to_another_job(*person, &user.service_id, key) => {
            LookUpResult::OtherUser(user)
        }
        result => result,
    };
    let (now, limits) = (context.clock.now(), &context.policy.limits);
    LookupDecided { row: look_up_case(&reason, &result, before, history, now, limits), key }.emit();
    LookUpEnd::Decided(after_look_up(reason, result, before, history, now, limits))
}
