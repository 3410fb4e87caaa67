//! Lanes for tests: one that always has a job, and a choice between it and a queue in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::domain::decide::History;
use crate::domain::{Event, Lane, Timestamp};
use crate::pipeline::Context;
use crate::pipeline::tests::fixture::{ScriptedPartner, T0, job};
use crate::pipeline::worker::{WorkerEnd, work};
use crate::ports::{Delivery, JobSource, QueueError, Settle};
use crate::testing::memory::{MemoryHandle, MemorySource};

/// A lane that always has another job, and counts what happens to its jobs. Clones are the same lane.
#[derive(Clone)]
pub(super) struct EndlessSource {
    lane: Lane,
    delivered: Arc<AtomicU32>,
    finished: Arc<AtomicU32>,
    requeued: Arc<AtomicU32>,
}

impl EndlessSource {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, delivered: Arc::default(), finished: Arc::default(), requeued: Arc::default() }
    }

    pub(super) fn finished(&self) -> u32 {
        self.finished.load(Ordering::Relaxed)
    }

    pub(super) fn requeued(&self) -> u32 {
        self.requeued.load(Ordering::Relaxed)
    }
}

impl JobSource for EndlessSource {
    type Handle = Self;

    async fn receive(&mut self) -> Result<Option<Delivery<Self>>, QueueError> {
        let n = self.delivered.fetch_add(1, Ordering::Relaxed);
        let body = job(&format!("{}{n}@example.com", self.lane.name())).into_bytes();
        let history = History::new(T0);
        Ok(Some(Delivery { lane: self.lane, body: body.into(), message_id: None, history, handle: self.clone() }))
    }
}

impl Settle for EndlessSource {
    async fn record_intent(&mut self, _now: Timestamp) -> Result<(), QueueError> {
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn finish(self, _event: &Event) -> Result<(), QueueError> {
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn requeue(self, _history: History, _delay: Duration) -> Result<(), QueueError> {
        self.requeued.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Either source, because both lanes of a worker have sources of one type.
enum EitherSource {
    Memory(MemorySource),
    Endless(EndlessSource),
}

enum EitherHandle {
    Memory(MemoryHandle),
    Endless(EndlessSource),
}

impl JobSource for EitherSource {
    type Handle = EitherHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<EitherHandle>>, QueueError> {
        fn wrapped<H>(delivery: Delivery<H>, wrap: fn(H) -> EitherHandle) -> Delivery<EitherHandle> {
            let Delivery { lane, body, message_id, history, handle } = delivery;
            Delivery { lane, body, message_id, history, handle: wrap(handle) }
        }
        Ok(match self {
            Self::Memory(source) => source.receive().await?.map(|delivery| wrapped(delivery, EitherHandle::Memory)),
            Self::Endless(source) => source.receive().await?.map(|delivery| wrapped(delivery, EitherHandle::Endless)),
        })
    }
}

impl Settle for EitherHandle {
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.record_intent(now).await,
            Self::Endless(handle) => handle.record_intent(now).await,
        }
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.retract_intent().await,
            Self::Endless(handle) => handle.retract_intent().await,
        }
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.finish(event).await,
            Self::Endless(handle) => handle.finish(event).await,
        }
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        match self {
            Self::Memory(handle) => handle.requeue(history, delay).await,
            Self::Endless(handle) => handle.requeue(history, delay).await,
        }
    }
}

/// Works on signups from a queue in memory beside an endless bulk lane.
pub(super) async fn work_beside_endless_bulk(
    context: Arc<Context<ScriptedPartner>>,
    signup: MemorySource,
    bulk: EndlessSource,
) -> Result<WorkerEnd, QueueError> {
    work(context, EitherSource::Memory(signup), EitherSource::Endless(bulk)).await
}
