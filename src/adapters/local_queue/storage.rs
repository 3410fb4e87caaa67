//! What the threads that write outcomes share with the rest of the program: the outcomes that aren't committed yet, and
//! what keeps them from being written.
//!
//! **Invariant:** from the moment that an outcome is passed to the store until it is committed, it is in
//! `StorageState::unwritten`, also if its job's task was aborted or its thread hangs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::private::debug_redacted;
use crate::domain::{Event, EventType, IdempotencyKey};

/// An outcome that is to be committed.
pub(super) struct UnwrittenOutcome {
    pub(super) seq: i64,
    /// `None`: the job is invalid, and is rejected again whenever it is processed.
    pub(super) key: Option<IdempotencyKey>,
    pub(super) event_type: EventType,
    pub(super) attempts: u32,
    pub(super) service_id: Option<String>,
    pub(super) event_json: String,
}

debug_redacted!(UnwrittenOutcome);

impl UnwrittenOutcome {
    pub(super) fn new(seq: i64, event: &Event) -> Self {
        Self {
            seq,
            key: event.idempotency_key,
            event_type: event.event_type,
            attempts: event.attempts,
            service_id: event.service_id.as_ref().map(ToString::to_string),
            event_json: event.to_json(),
        }
    }
}

/// State of the threads that write outcomes. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StorageState(Arc<StorageInner>);

#[derive(Debug, Default)]
struct StorageInner {
    failures: watch::Sender<StorageFailures>,
    /// Begins and ends of the store's accesses to the file, counted together: odd while one runs.
    accesses: AtomicU64,
    unwritten: Mutex<BTreeMap<i64, Arc<UnwrittenOutcome>>>,
}

/// What keeps outcomes from being written.
#[derive(Debug, Default)]
pub(super) struct StorageFailures {
    /// The queue's file can't be written, for this reason.
    pub(super) queue: Option<String>,
    /// The events file can't be written, for this reason.
    pub(super) events_file: Option<String>,
    /// The thread of the store has ended.
    pub(super) has_ended: bool,
}

impl StorageState {
    /// Number of outcomes that aren't committed yet.
    pub fn unwritten_count(&self) -> usize {
        self.lock().len()
    }

    /// The outcomes that aren't committed yet.
    pub(super) fn unwritten(&self) -> Vec<Arc<UnwrittenOutcome>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn add(&self, outcome: &Arc<UnwrittenOutcome>) {
        self.lock().insert(outcome.seq, Arc::clone(outcome));
    }

    /// The outcome of this job is committed.
    pub(super) fn remove(&self, seq: i64) {
        self.lock().remove(&seq);
    }

    /// An access to the queue's file, such as a commit, begins or ends.
    pub(super) fn count_access(&self) {
        self.0.accesses.fetch_add(1, Ordering::AcqRel);
    }

    /// Identifies the access to the queue's file that runs now; `None`: none does.
    pub(super) fn running_access(&self) -> Option<u64> {
        let accesses = self.0.accesses.load(Ordering::Acquire);
        (accesses % 2 == 1).then_some(accesses)
    }

    /// Sets why the queue's file can't be written; `None`: it can.
    pub(super) fn set_queue_failure(&self, reason: Option<String>) {
        self.0.failures.send_if_modified(|failures| replace_if_different(&mut failures.queue, reason));
    }

    /// Sets why the events file can't be written; `None`: it can.
    pub(super) fn set_events_file_failure(&self, reason: Option<String>) {
        self.0.failures.send_if_modified(|failures| replace_if_different(&mut failures.events_file, reason));
    }

    /// The thread of the store has ended.
    pub(super) fn set_ended(&self) {
        self.0.failures.send_modify(|failures| failures.has_ended = true);
    }

    /// Waits until the thread of the store has ended.
    pub(super) async fn ended(&self) {
        let _ = self.failures().wait_for(|failures| failures.has_ended).await;
    }

    pub(super) fn failures(&self) -> watch::Receiver<StorageFailures> {
        self.0.failures.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Arc<UnwrittenOutcome>>> {
        // No critical section panics halfway through a change.
        self.0.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageFailures {
    /// The reason to log. The queue is more important than the events file, which is a copy.
    pub(super) fn reason(&self) -> Option<&str> {
        self.queue.as_deref().or(self.events_file.as_deref())
    }
}

fn replace_if_different(reason: &mut Option<String>, new: Option<String>) -> bool {
    let is_change = *reason != new;
    *reason = new;
    is_change
}
