//! What happens to a job next.

use std::time::Duration;

use crate::domain::Outcome;
use crate::telemetry::RequeueReason;

/// Delay of a job that waited too long. Not zero: RabbitMQ would mark it as redelivered, and it would count as a job
/// that may have been sent.
const REDELIVER_AFTER: Duration = Duration::from_secs(1);

/// Longest delay of a bulk job while bulk is held. Short, so that a hold that an operator lifts ends for it too. While
/// bulk is held, the worker takes few bulk jobs, so they are not requeued often.
const BULK_HOLD_DELAY_MAX: Duration = Duration::from_secs(60);

const OUTLIER_DELAY: Duration = Duration::from_secs(300);

/// Delay of a job for whose person too many other jobs wait already. Long, because each time it comes back it may be
/// delayed again, which costs the queue a write.
const PERSON_BUSY_DELAY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) enum NextAction {
    Finish(Outcome),
    /// Take the next step at once.
    Again,
    /// Take the next step after a delay.
    Wait {
        /// Code for log and metrics.
        reason: &'static str,
        delay: Duration,
    },
    /// Return it to the queue.
    Requeue(Requeue),
    /// Drop it: the broker connection was lost, and the broker delivers the job again.
    ConnectionLost,
}

/// How a job is requeued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Requeue {
    pub(super) delay: Duration,
    pub(super) reason: RequeueReason,
}

impl Requeue {
    /// The worker stops.
    pub(super) const STOPPING: Self = Self { delay: Duration::ZERO, reason: RequeueReason::Stopping };

    /// It waited too long for a lock, a permit or a look-up.
    pub(super) const WAITED_TOO_LONG: Self = Self { delay: REDELIVER_AFTER, reason: RequeueReason::NoPermit };

    /// Too many jobs wait for an earlier job about the same person.
    pub(super) const PERSON_BUSY: Self = Self { delay: PERSON_BUSY_DELAY, reason: RequeueReason::PersonBusy };

    pub(super) const OUTLIER: Self = Self { delay: OUTLIER_DELAY, reason: RequeueReason::Outlier };

    /// Bulk is held for this time.
    pub(super) fn bulk_held(hold: Duration) -> Self {
        Self { delay: hold.clamp(REDELIVER_AFTER, BULK_HOLD_DELAY_MAX), reason: RequeueReason::NoPermit }
    }

    /// It waits on the queue for its retry.
    pub(super) const fn delayed(delay: Duration) -> Self {
        Self { delay, reason: RequeueReason::Delayed }
    }

    /// The worker stops while the job waits in memory for its retry.
    pub(super) const fn stopping_before_retry(delay: Duration) -> Self {
        Self { delay, reason: RequeueReason::Stopping }
    }
}
