//! What a job went through, and how much time and how many attempts that leaves.

use std::time::Duration;

use super::{JobStep, Limits};
use crate::domain::{Answer, Timestamp};

/// What a job went through before the current answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// When the job was put on the queue.
    pub enqueued_at: Timestamp,
    /// When the job was first sent in a way that may have created its user; `None`: never.
    pub first_sent_at: Option<Timestamp>,
    /// When it was last sent in a way that may have reached the partner. Set without `first_sent_at`, it means that
    /// the user existed before the first request, see [`History::existed_before`].
    pub last_sent_at: Option<Timestamp>,
    /// Counted attempts, including the current one.
    pub attempts: u32,
}

impl History {
    /// A job that was never sent.
    pub const fn new(enqueued_at: Timestamp) -> Self {
        Self { enqueued_at, first_sent_at: None, last_sent_at: None, attempts: 0 }
    }

    /// Adds a request that is about to be sent.
    #[must_use]
    pub fn with_send(self, now: Timestamp) -> Self {
        let first_sent_at = if self.existed_before() { None } else { Some(self.first_sent_at.unwrap_or(now)) };
        Self { first_sent_at, last_sent_at: Some(now), ..self }
    }

    /// Corrects the history by what the answer to a request proves. `before` is the history without the request.
    ///
    /// The answer "user exists" to a first request proves that no request of this job created the user. The answer "key
    /// already used" to a first request proves that the same request was sent from elsewhere within the key's lifetime.
    #[must_use]
    pub fn with_answer(self, answer: &Answer, before: &Self, limits: &Limits) -> Self {
        let is_first = before.first_sent_at.is_none() && !before.existed_before();
        let first_sent_at = match answer {
            Answer::UserExists if is_first => None,
            Answer::KeyAlreadyUsed if is_first => self.last_sent_at.map(|sent_at| sent_at.minus(limits.key_ttl)),
            _ => self.first_sent_at,
        };
        Self { first_sent_at, ..self }
    }

    /// Removes a request that was throttled or met an account problem. It is no attempt. It counts as sent only where
    /// the API may have received it before something else answered. `before` is the history without the request.
    #[must_use]
    pub const fn uncharged(self, before: &Self, step: &JobStep) -> Self {
        match step {
            JobStep::Pause(reason) if reason.may_have_created() => Self { attempts: before.attempts, ..self },
            _ => *before,
        }
    }

    /// Returns whether the partner said that the user exists when no request of this job could have created one.
    pub const fn existed_before(&self) -> bool {
        self.first_sent_at.is_none() && self.last_sent_at.is_some()
    }

    /// Returns the time since the first request that may have created the user.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        self.first_sent_at.map_or(Duration::ZERO, |first| now.since(first))
    }

    /// Returns the time since the last request.
    pub(super) fn since_last_request(&self, now: Timestamp) -> Duration {
        self.last_sent_at.map_or(Duration::ZERO, |last| now.since(last))
    }

    /// Returns whether the job has no attempts or no time left.
    pub(super) fn is_exhausted(&self, now: Timestamp, limits: &Limits) -> bool {
        let is_old = self.age(now) >= limits.give_up_after && self.attempts >= ATTEMPTS_MIN;
        self.attempts >= limits.attempts_max || is_old
    }

    /// Returns the time until the last request can't be running any more: min(key TTL, 60 s) + clock skew after it was
    /// sent. A look-up proves more then.
    pub(super) fn until_last_request_is_over(&self, now: Timestamp, limits: &Limits) -> Duration {
        let life = limits.key_ttl.min(REQUEST_LIFE_MAX) + limits.clock_skew;
        self.last_sent_at.map_or(Duration::ZERO, |last| last.plus(life).since(now))
    }

    /// Returns the time until the key has expired, counted from the last request: the partner may have started the
    /// key's lifetime with any request that reached it.
    pub(super) fn until_key_expires(&self, now: Timestamp, limits: &Limits) -> Duration {
        let expires = self.last_sent_at.unwrap_or(now).plus(limits.key_ttl).plus(limits.clock_skew);
        expires.since(now)
    }
}

/// Time alone doesn't end a job with fewer attempts: a pause may have used up the time.
const ATTEMPTS_MIN: u32 = 3;

/// Longest time that the partner works on a request. Assumed.
const REQUEST_LIFE_MAX: Duration = Duration::from_secs(60);
