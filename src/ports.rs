//! Ports: the traits through which the pipeline uses queues and the partner.
//!
//! Adapters implement them; only [`crate::app`] chooses which one is used.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::answer::{AccountReason, DeleteAnswer};
use crate::domain::decide::{FoundUser, History};
use crate::domain::private::debug_redacted;
use crate::domain::{Answer, Event, IdempotencyKey, KycEvent, Lane, ServiceId, Timestamp, TraceContext, UserStatus};

/// A failure of a queue that its adapter can't repair; the worker stops. The text says what is wrong, where, and what
/// to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QueueError(pub String);

/// A source of jobs. One source serves one lane.
pub trait JobSource: Send + 'static {
    /// Settles a delivery of this source.
    type Handle: Settle;

    /// Waits for the next job. `None`: no job will follow; only a source that is meant to be emptied ends. Cancel-safe:
    /// dropping the future loses no job.
    ///
    /// # Errors
    /// [`QueueError`] where the queue can't continue.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Delivery<Self::Handle>>, QueueError>> + Send;
}

/// A job that a worker holds until it settles it.
pub struct Delivery<H> {
    /// The lane it came from.
    pub lane: Lane,
    /// The job message. Clones share the bytes.
    pub body: Bytes,
    /// AMQP `message_id`, which identifies the job where the body doesn't.
    pub message_id: Option<String>,
    /// What the job went through, including before a crash.
    pub history: History,
    /// Settles the delivery.
    pub handle: H,
}

/// Settles a delivery. The methods that do so consume it, so settling twice doesn't compile. A delivery that is dropped
/// without settling is delivered again, with its intent, when the worker is restarted.
pub trait Settle: Send + 'static {
    /// Returns the trace context of the job message.
    fn trace(&self) -> Option<TraceContext> {
        None
    }

    /// Returns whether the delivery still belongs to this worker. A broker redelivers it when its connection breaks.
    /// Another worker may process the job then, so this one must do nothing more with it.
    fn is_ours(&self) -> bool {
        true
    }

    /// Returns whether the queue knows since when the job waits. RabbitMQ doesn't, if the upstream set no `timestamp`
    /// and the job was delivered before.
    fn is_dated(&self) -> bool {
        true
    }

    /// Records durably that a request is about to be sent. After a crash the job then counts as sent.
    ///
    /// # Errors
    /// [`QueueError`]: nothing was recorded; don't send.
    fn record_intent(&mut self, now: Timestamp) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Deletes the intent: the answer proves that the request created no user, and the job was never sent before.
    ///
    /// # Errors
    /// [`QueueError`]: the intent is still recorded.
    fn retract_intent(&mut self) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Finishes the job. When this returns, the event is recorded durably and the job is removed from the queue, in
    /// this order or in one step. A failed job is kept as a dead letter.
    ///
    /// # Errors
    /// [`QueueError`]: the job is still on the queue.
    fn finish(self, event: &Event) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Returns the delay that the queue uses in place of `delay`, if it supports only certain delays.
    fn nearest_delay(&self, delay: Duration) -> Duration {
        delay
    }

    /// Requeues the job, to be delivered again after [`Self::nearest_delay`] of `delay`.
    ///
    /// # Errors
    /// [`QueueError`]: the job is still on the queue as it was.
    fn requeue(self, history: History, delay: Duration) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// Publishes events about verifications.
pub trait KycSink: Send + Sync + 'static {
    /// Publishes an event. When this returns, the event is recorded durably. A repeated webhook gives the same event
    /// again.
    ///
    /// # Errors
    /// [`QueueError`]: perhaps nothing was recorded.
    fn publish(&self, event: &KycEvent) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// The partner's endpoints that create and delete users.
pub trait PartnerApi: Send + Sync + 'static {
    /// Sends one request and returns the meaning of its answer. The adapter limits the time.
    fn create(&self, key: &IdempotencyKey, body: &Bytes) -> impl Future<Output = Answer> + Send;

    /// Deletes a user, and returns the meaning of the answer. `key` is a new one for each request. The adapter limits
    /// the time. The id has only characters that a path needs no escape for, see [`crate::domain::Job::replaces`].
    fn delete(&self, key: &IdempotencyKey, user: &ServiceId) -> impl Future<Output = DeleteAnswer> + Send {
        let _ = (key, user);
        std::future::ready(DeleteAnswer::NOT_OFFERED)
    }
}

/// The partner's list of users.
pub trait UserList: Send + Sync + 'static {
    /// Reads one page of at most `limit` users, beginning at user number `skip`. The API may send fewer.
    ///
    /// # Errors
    /// [`ListError`] where the page can't be read.
    fn page(&self, skip: u64, limit: u32) -> impl Future<Output = Result<UserListPage, ListError>> + Send;
}

/// A page of the user list. The order is not documented and may change while it is read.
#[derive(Default)]
pub struct UserListPage {
    /// Email in the partner's spelling, and the user.
    pub users: Vec<(String, FoundUser)>,
    /// KYC status of each user, in the same order; `None`, or no entry at all: unknown.
    pub statuses: Vec<Option<UserStatus>>,
    /// Entries without a readable email or id. They count as seen, but can't be a user that is looked for.
    pub unusable: u64,
    /// Number of users in the whole list.
    pub total: u64,
}

debug_redacted!(Delivery<H>, UserListPage);

/// Why a page could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListError {
    /// 429.
    Throttled(Option<Duration>),
    /// An account problem, which concerns every request.
    Account(AccountReason),
    /// Another refusal (4xx), perhaps because the limit is too large.
    Refused,
    /// Any other failure, with a code for the log.
    Failed(&'static str),
}
