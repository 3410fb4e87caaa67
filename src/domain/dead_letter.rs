//! Dead letters: jobs that failed for good and messages that are no jobs, with what an operator needs to decide on
//! them.

use std::collections::BTreeSet;

use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{Job, Lane, Problem, Timestamp};

/// Reason of a job that RabbitMQ dead-lettered because its delivery limit was reached.
pub(crate) const DELIVERY_LIMIT: &str = "DELIVERY_LIMIT";

/// Reason of a job that RabbitMQ dead-lettered because the time to live that its upstream set had passed.
pub(crate) const EXPIRED: &str = "EXPIRED";

/// A job or a message in the dead letter queue.
pub struct DeadLetter {
    /// Identifies it for as long as it is a dead letter.
    pub id: String,
    /// A code, for example `ATTEMPTS_EXHAUSTED`; `UNKNOWN` without a recorded reason.
    pub reason: String,
    /// When it became a dead letter.
    pub dead_at: Option<Timestamp>,
    /// The lane it came from; `None` if that isn't recorded.
    pub lane: Option<Lane>,
    /// The attempts and times of its requests.
    pub history: History,
    /// AMQP `message_id`, which identifies the job where the body doesn't.
    pub message_id: Option<String>,
    /// What was wrong, as far as it is recorded.
    pub problems: Vec<Problem>,
    /// The message body: a job, or something else.
    pub body: Vec<u8>,
}

debug_redacted!(DeadLetter);

impl DeadLetter {
    /// Returns the upstream's reference, else the message's id, else the idempotency key, as in the job's event.
    pub fn job_id(&self) -> Option<String> {
        match Job::parse(&self.body) {
            Ok((job, _)) => {
                Some(job.identity.job_id.or(self.message_id.clone()).unwrap_or_else(|| job.key.to_string()))
            }
            Err(invalid) => {
                invalid.identity.job_id.or(self.message_id.clone()).or(invalid.key.map(|key| key.to_string()))
            }
        }
    }

    /// Returns the history for a retry: without attempts, but with the times of its requests, because a user that an
    /// earlier request created belongs to this job.
    #[must_use]
    pub fn fresh_history(&self) -> History {
        History { attempts: 0, ..self.history }
    }
}

/// What to do with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadLetterAction {
    /// Leave it.
    Keep,
    /// Move its job back to its lane.
    Retry,
    /// Delete it.
    Drop,
    /// Leave it and all that follow.
    Stop,
}

/// What a walk through the dead letters did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WalkResult {
    /// Dead letters that were read.
    pub seen: u64,
    /// Dead letters that were retried or deleted.
    pub done: u64,
    /// Selected dead letters that were left, because their event isn't written yet.
    pub not_ready: u64,
}

/// Selects dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeadLetterSelection {
    /// Those with one of these ids.
    Ids(BTreeSet<String>),
    /// Those with this reason.
    Reason(String),
    /// Every one.
    All,
}

impl DeadLetterSelection {
    /// Returns whether it includes this one.
    pub(crate) fn includes(&self, dead_letter: &DeadLetter) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&dead_letter.id),
            Self::Reason(reason) => dead_letter.reason == *reason,
            Self::All => true,
        }
    }
}
