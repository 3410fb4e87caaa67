//! A job that was given up, or a message that never was one: what a person needs to know to decide on it.

use std::collections::BTreeSet;

use crate::domain::decide::History;
use crate::domain::private::debug_redacted;
use crate::domain::{Job, Lane, Problem, Timestamp};

/// The reason of a job that RabbitMQ gave up, because as many deliveries as it allows came to nothing.
pub const DELIVERY_LIMIT: &str = "DELIVERY_LIMIT";

/// The reason of a job that RabbitMQ took off its lane, because the time that its upstream gave it had run out.
pub const EXPIRED: &str = "EXPIRED";

/// A dead letter.
pub struct DeadLetter {
    /// Names it, as long as it is dead, whatever else happens on its queue.
    pub id: String,
    /// A code such as `ATTEMPTS_EXHAUSTED`; `UNKNOWN` where nothing says why.
    pub reason: String,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
    /// Where it waited; `None`: nothing says where.
    pub lane: Option<Lane>,
    /// What it went through.
    pub history: History,
    /// Identifies the job where the message doesn't.
    pub message_id: Option<String>,
    /// What was wrong, where it is on record.
    pub problems: Vec<Problem>,
    /// The job message, if it is one.
    pub body: Vec<u8>,
}

debug_redacted!(DeadLetter);

impl DeadLetter {
    /// The upstream's reference, else the message's id, else the idempotency key; as in the job's event.
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

    /// Its history when it is tried again: with fresh attempts, and with the times of its sends, because a user whom an
    /// earlier send created is this job's.
    #[must_use]
    pub fn fresh_history(&self) -> History {
        History { attempts: 0, ..self.history }
    }
}

/// What to do with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it where it is.
    Keep,
    /// Put its job back on its lane.
    Retry,
    /// Delete it.
    Drop,
    /// Leave it, and look at no other.
    Enough,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// Letters looked at.
    pub seen: u64,
    /// Put back or deleted.
    pub done: u64,
    /// Left alone although asked for: not ready yet, see [`Verdict::Retry`] of the embedded queue.
    pub not_ready: u64,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(BTreeSet<String>),
    /// Those with this reason.
    Reason(String),
    /// All of them.
    All,
}

impl Selection {
    /// Whether it means this one.
    pub fn includes(&self, letter: &DeadLetter) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&letter.id),
            Self::Reason(reason) => letter.reason == *reason,
            Self::All => true,
        }
    }
}
