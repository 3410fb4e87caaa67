//! Commands to the thread of the store, each with the sender of its reply.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::adapters::local_queue::storage::UnwrittenOutcome;
use crate::adapters::local_queue::store::claim::ClaimResult;
use crate::domain::decide::History;
use crate::domain::{Lane, Timestamp};
use crate::ports::QueueError;

pub(super) type ReplySender<T> = oneshot::Sender<Result<T, QueueError>>;

pub(super) enum StoreCommand {
    Claim { lane: Lane, now: Timestamp, max: usize, reply: ReplySender<ClaimResult> },
    RecordIntent { seq: i64, now: Timestamp, reply: ReplySender<()> },
    RetractIntent { seq: i64, reply: ReplySender<()> },
    Finish { outcome: Arc<UnwrittenOutcome>, reply: ReplySender<()> },
    Requeue { seq: i64, history: History, due: Timestamp, reply: ReplySender<()> },
}
