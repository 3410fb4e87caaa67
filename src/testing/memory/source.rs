//! Delivers the jobs of one lane.

use tokio::time::{Instant, sleep_until};

use super::MemoryQueue;
use super::handle::MemoryHandle;
use crate::domain::Lane;
use crate::ports::{Delivery, JobSource, QueueError};

/// The jobs of one lane. Ends when no job of the lane waits or is in progress.
#[derive(Debug)]
pub struct MemorySource {
    queue: MemoryQueue,
    worker: u32,
    lane: Lane,
    is_endless: bool,
}

/// What a source can do now.
enum NextDelivery {
    Job(Delivery<MemoryHandle>),
    DueAt(Instant),
    WhenChanged,
    Drained,
}

impl MemorySource {
    pub(super) const fn new(queue: MemoryQueue, worker: u32, lane: Lane) -> Self {
        Self { queue, worker, lane, is_endless: false }
    }

    /// Waits for more jobs instead of ending.
    #[must_use]
    pub fn endless(self) -> Self {
        Self { is_endless: true, ..self }
    }

    fn next(&self) -> NextDelivery {
        let mut state = self.queue.lock();
        let (worker, lane) = (self.worker, self.lane);
        let (life, kind, now) = (state.life(worker), state.kind, self.queue.shared.clock.now());
        let mut jobs = state.jobs.iter_mut().filter(|(_, job)| job.lane == lane).peekable();
        if jobs.peek().is_none() {
            return if self.is_endless { NextDelivery::WhenChanged } else { NextDelivery::Drained };
        }
        match jobs.filter(|(_, job)| job.holder.is_none()).min_by_key(|(position, job)| (job.due, **position)) {
            None => NextDelivery::WhenChanged,
            Some((_, job)) if job.due > Instant::now() => NextDelivery::DueAt(job.due),
            Some((position, job)) => {
                job.holder = Some(worker);
                let handle = MemoryHandle::new(self.queue.clone(), *position, worker, life, job.clone());
                let history = job.delivered_history(kind, now);
                let body = job.body.clone();
                let in_progress = state.jobs.values().filter(|job| job.holder == Some(worker)).count();
                let max = state.in_progress_max.entry(worker).or_default();
                *max = (*max).max(in_progress);
                NextDelivery::Job(Delivery { lane, body: body.into(), message_id: None, history, handle })
            }
        }
    }
}

impl JobSource for MemorySource {
    type Handle = MemoryHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<MemoryHandle>>, QueueError> {
        loop {
            let changed = self.queue.shared.changed.notified();
            match self.next() {
                NextDelivery::Job(delivery) => return Ok(Some(delivery)),
                NextDelivery::Drained => return Ok(None),
                NextDelivery::WhenChanged => changed.await,
                NextDelivery::DueAt(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = changed => {}
                },
            }
        }
    }
}
