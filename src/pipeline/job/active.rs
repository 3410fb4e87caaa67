//! A job in progress: what the steps of its processing share.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::decide::{History, Limits, recreation_limits};
use crate::domain::job::{InvalidJob, key_in_use};
use crate::domain::{Event, IdempotencyKey, Job, Lane, VerificationUrl};
use crate::pipeline::context::Context;
use crate::pipeline::guards::finished_keys::RepeatableOutcome;
use crate::pipeline::guards::outliers::JobRefusals;
use crate::pipeline::guards::per_person::Person;
use crate::pipeline::job::replacement::Replacement;
use crate::pipeline::user_lookup::InterruptedLookUp;
use crate::ports::Delivery;
use crate::telemetry::JobWatch;

/// How long a job may wait in memory before it is requeued. RabbitMQ closes the channel of a delivery that is held for
/// 30 minutes.
const HOLD_MAX: Duration = Duration::from_secs(600);

/// A job in progress. Boxed, so that passing it on copies nothing and its task stays small: the window holds several
/// times as many jobs as can be in flight.
pub(super) struct ActiveJob<'m, H> {
    pub(super) lane: Lane,
    pub(super) job: Job,
    pub(super) person: Person,
    pub(super) handle: H,
    pub(super) history: History,
    /// The history without the last request of a re-creation.
    pub(super) before_last: History,
    pub(super) limits: Limits,
    /// Set while it isn't taken for a step, if the job replaces a user.
    pub(super) replacement: Option<Replacement>,
    /// Whether it may have been sent before this delivery.
    pub(super) was_sent: bool,
    pub(super) refusals: JobRefusals,
    /// The link of an answer without an id. The job isn't requeued while it has one, because the link would be lost.
    pub(super) link: Option<VerificationUrl>,
    /// The look-up during which it was requeued. Set when the job has its person's lock.
    pub(super) interrupted: Option<InterruptedLookUp>,
    /// It is requeued if it still waits at this time.
    pub(super) wait_until: Instant,
    pub(super) watch: JobWatch<'m>,
}

/// A job with its outcome.
pub(super) struct FinishedJob<'m, H> {
    pub(super) handle: H,
    pub(super) event: Event,
    /// Set if identical jobs get the same outcome.
    pub(super) repeatable: Option<RepeatableOutcome>,
    /// Whether an identical job had this outcome before.
    pub(super) is_repeat: bool,
    pub(super) watch: JobWatch<'m>,
}

impl<'m, H> ActiveJob<'m, H> {
    /// Parses the message of a delivery.
    ///
    /// # Errors
    /// It isn't a valid job, or its key was used for other data, so the job is finished: rejected.
    pub(super) fn start<A>(
        context: &'m Context<A>,
        delivery: Delivery<H>,
    ) -> Result<Box<Self>, Box<FinishedJob<'m, H>>> {
        let Delivery { lane, body, message_id, history, handle } = delivery;
        let watch = JobWatch::start(&context.metrics, lane, &history, context.clock.now());
        let mut job = match Job::parse_bounded(&body, context.policy.message_bytes_max) {
            Ok((job, _)) => job,
            Err(invalid) => {
                let event = rejected(context, *invalid, message_id, &body);
                return Err(Box::new(FinishedJob { handle, event, repeatable: None, is_repeat: false, watch }));
            }
        };
        job.identity.job_id = job.identity.job_id.or(message_id);
        // A job that was sent may have created its user, so it isn't refused.
        if context.known_keys.is_used_for_other_data(&job) && history.first_sent_at.is_none() {
            // Its key identifies another job, so its event is identified by its data.
            let Job { identity, content_key, .. } = job;
            let event = Event::of_invalid(vec![key_in_use()], identity, content_key, context.clock.now());
            return Err(Box::new(FinishedJob { handle, event, repeatable: None, is_repeat: false, watch }));
        }
        let (was_sent, limits) = (history.first_sent_at.is_some(), context.policy.limits);
        let replacement = job.replaces().map(|id| Replacement::new(id, was_sent));
        Ok(Box::new(Self {
            before_last: history,
            limits: if replacement.is_some() { recreation_limits(limits) } else { limits },
            replacement,
            lane,
            person: Person::of(&job.email),
            handle,
            history,
            was_sent,
            refusals: JobRefusals::default(),
            link: None,
            interrupted: None,
            wait_until: Instant::now() + HOLD_MAX,
            watch,
            job,
        }))
    }
}

impl<H> ActiveJob<'_, H> {
    /// The lane in which its next creation waits. After a deletion it isn't held with bulk jobs.
    pub(super) fn send_lane(&self) -> Lane {
        let is_deleted = self.replacement.as_ref().is_some_and(|replacement| replacement.is_deleted);
        if is_deleted { Lane::Signup } else { self.lane }
    }
}

fn rejected<A>(context: &Context<A>, invalid: InvalidJob, message_id: Option<String>, body: &[u8]) -> Event {
    let InvalidJob { mut identity, key, problems } = invalid;
    identity.job_id = identity.job_id.or(message_id);
    // A message without a canonical form is identified by its body.
    let surrogate_key = key.unwrap_or_else(|| IdempotencyKey::of_canonical(body));
    Event::of_invalid(problems, identity, surrogate_key, context.clock.now())
}
