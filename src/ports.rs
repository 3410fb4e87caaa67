//! What the pipeline needs from the world, and nothing more.
//!
//! The pipeline sees only these traits; adapters implement them, and [`crate::app`] alone chooses which.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::answer::AccountReason;
use crate::domain::decide::{FoundUser, History};
use crate::domain::private::debug_redacted;
use crate::domain::{Answer, Event, IdempotencyKey, KycEvent, Lane, Timestamp, TraceContext};

/// A queue broke in a way that its adapter can't mend; the worker stops. Says what, where and how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QueueError(pub String);

/// Where jobs come from. One source serves one lane.
pub trait JobSource: Send + 'static {
    /// What ends a delivery.
    type Handle: Settle;

    /// Waits for the next job. `None`: there will never be one again (only a source that is meant to be
    /// drained ends). Cancel-safe: dropping the future loses no job.
    ///
    /// # Errors
    /// [`QueueError`] where the queue can't go on.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Delivery<Self::Handle>>, QueueError>> + Send;
}

/// A job in hand.
pub struct Delivery<H> {
    /// Where it waited.
    pub lane: Lane,
    /// The job message. Clones are the same bytes.
    pub body: Bytes,
    /// Identifies the job where the message doesn't.
    pub message_id: Option<String>,
    /// What it went through, crashes included.
    pub history: History,
    /// Ends the delivery.
    pub handle: H,
}

/// Ends a delivery. The methods that do so consume it: settling twice doesn't compile, and a delivery that is
/// dropped unsettled comes back, with its intent, when the worker is started again.
pub trait Settle: Send + 'static {
    /// The trace that the job came with.
    fn trace(&self) -> Option<TraceContext> {
        None
    }

    /// Whether the delivery is still this worker's. A broker takes it back when the connection that it came over breaks;
    /// somebody else may be at work on the job then, and whoever held it does nothing more.
    fn is_ours(&self) -> bool {
        true
    }

    /// Records durably that a request is about to leave, so that a rebirth knows that the job may have been sent, and when last.
    ///
    /// # Errors
    /// [`QueueError`]: nothing was recorded; don't send.
    fn record_intent(&mut self, now: Timestamp) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Takes the intent back: the request was answered in a way that can't have created anybody, and the job had
    /// not been sent before.
    ///
    /// # Errors
    /// [`QueueError`]: the intent is still on record.
    fn retract_intent(&mut self) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// The job is over. When this returns, the event is recorded durably and the job is gone from the queue,
    /// in this order or at once; a failed job is kept as a dead letter.
    ///
    /// # Errors
    /// [`QueueError`]: the job is still on the queue.
    fn finish(self, event: &Event) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// How long a job that is put back for so long stays away, where the queue knows some times only.
    fn nearest_delay(&self, delay: Duration) -> Duration {
        delay
    }

    /// Puts the job back, to be delivered again after [`Self::nearest_delay`] of `delay`.
    ///
    /// # Errors
    /// [`QueueError`]: the job is still on the queue as it was.
    fn requeue(self, history: History, delay: Duration) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// Where events about verifications go.
pub trait KycSink: Send + Sync + 'static {
    /// When this returns, the event is recorded durably. A webhook that comes again becomes the same event again.
    ///
    /// # Errors
    /// [`QueueError`]: nothing may be recorded. Says what, where and how to mend it.
    fn publish(&self, event: &KycEvent) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// The partner's endpoint that creates users.
pub trait PartnerApi: Send + Sync + 'static {
    /// Sends one request and says what came of it. Bounded in time by the adapter.
    fn create(&self, key: &IdempotencyKey, body: &Bytes) -> impl Future<Output = Answer> + Send;
}

/// The partner's list of users.
pub trait UserList: Send + Sync + 'static {
    /// One page, from the `skip`-th user on.
    ///
    /// # Errors
    /// [`ListError`] where there is no page to be had.
    fn page(&self, skip: u64) -> impl Future<Output = Result<Page, ListError>> + Send;
}

/// A page of the user list. The order is not documented and may change while it is read.
#[derive(Default)]
pub struct Page {
    /// Email as the partner has it, and the user.
    pub users: Vec<(String, FoundUser)>,
    /// Entries without an email or an id that can be read: users of a kind that is nobody's whom we look for.
    pub unusable: u64,
    /// How many users the list holds in all.
    pub total: u64,
}

debug_redacted!(Delivery<H>, Page);

/// Why a page could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListError {
    /// 429.
    Throttled(Option<Duration>),
    /// No request would be answered.
    Account(AccountReason),
    /// Anything else; a word for the log.
    Failed(&'static str),
}
