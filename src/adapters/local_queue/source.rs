//! The ports of the pipeline, [`JobSource`] and [`Settle`], on top of the store.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::adapters::local_queue::store::{ClaimResult, ClaimedJob, LocalQueueStore};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, Lane, Timestamp};
use crate::failpoint;
use crate::ports::{Delivery, JobSource, QueueError, Settle};

/// Most jobs that are taken from the file ahead of the pipeline; bounds memory.
const AHEAD_MAX: usize = 256;

/// Longest time between two polls of an empty lane that had jobs recently. A job that another process adds waits no
/// longer, and a poll costs an idle worker some microseconds.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Delay before the second poll of an empty lane; each further delay is twice as long, up to the poll interval. A busy
/// worker starts again with every job, so it finds a signup before it takes the next bulk job.
const POLL_DELAY_FIRST: Duration = Duration::from_millis(2);

/// After this many empty polls in a row, the interval grows, up to [`SLOWDOWN_MAX`] times. Polling is most of what an
/// idle worker's CPU time is spent on.
const POLLS_AT_FULL_RATE: u32 = 20;
const SLOWDOWN_MAX: u32 = 5;

/// What a source does when the lane is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// End: every job is finished.
    End,
    /// Wait for more jobs.
    Wait,
}

/// The jobs of one lane.
#[derive(Debug)]
pub struct LocalQueueSource {
    store: LocalQueueStore,
    lane: Lane,
    when_empty: WhenEmpty,
    poll_interval: Duration,
    /// Polls in a row without a job.
    empty_polls: u32,
    clock: Clock,
    /// Reply to a claim that was requested. It isn't kept in the future of `receive`, because that future may be
    /// dropped while the store is taking the jobs.
    requested: Option<oneshot::Receiver<Result<ClaimResult, QueueError>>>,
    ahead: VecDeque<ClaimedJob>,
}

impl LocalQueueSource {
    /// Creates a source for a lane. `poll_interval` is the time between two polls of an empty lane, for jobs that
    /// another process adds. It is shorter while there are jobs, and five times as long after a long time without any.
    pub fn new(
        store: LocalQueueStore,
        lane: Lane,
        when_empty: WhenEmpty,
        poll_interval: Duration,
        clock: Clock,
    ) -> Self {
        let ahead = VecDeque::new();
        Self { store, lane, when_empty, poll_interval, empty_polls: 0, clock, requested: None, ahead }
    }

    async fn claim(&mut self) -> Result<ClaimResult, QueueError> {
        let requested = match &mut self.requested {
            Some(requested) => requested,
            none => none.insert(self.store.request_claim(self.lane, self.clock.now(), AHEAD_MAX).await?),
        };
        let result = requested.await;
        self.requested = None;
        result.map_err(|_| LocalQueueStore::gone())?
    }
}

impl JobSource for LocalQueueSource {
    type Handle = LocalQueueHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<LocalQueueHandle>>, QueueError> {
        let mut delay = POLL_DELAY_FIRST;
        loop {
            if let Some(ClaimedJob { seq, body, history }) = self.ahead.pop_front() {
                let handle = LocalQueueHandle { seq, store: self.store.clone(), clock: self.clock };
                let body = body.into_bytes();
                failpoint::pass("received");
                return Ok(Some(Delivery { lane: self.lane, body: body.into(), message_id: None, history, handle }));
            }
            match self.claim().await? {
                ClaimResult::Jobs(jobs) => {
                    self.empty_polls = 0;
                    self.ahead.extend(jobs);
                }
                ClaimResult::Drained if self.when_empty == WhenEmpty::End => return Ok(None),
                ClaimResult::Drained | ClaimResult::Later => {
                    self.empty_polls = self.empty_polls.saturating_add(1);
                    let slowdown = (1 + self.empty_polls / POLLS_AT_FULL_RATE).min(SLOWDOWN_MAX);
                    sleep(delay.min(self.poll_interval * slowdown)).await;
                    delay = delay.saturating_mul(2);
                }
            }
        }
    }
}

/// Settles a job in progress. If it is dropped without that, the job is delivered again after a restart of the worker.
#[derive(Debug)]
pub struct LocalQueueHandle {
    seq: i64,
    store: LocalQueueStore,
    clock: Clock,
}

impl Settle for LocalQueueHandle {
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        failpoint::pass("before_intent");
        self.store.record_intent(self.seq, now).await?;
        failpoint::pass("after_intent");
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.store.retract_intent(self.seq).await
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        failpoint::pass("before_finish");
        self.store.finish(self.seq, event).await?;
        failpoint::pass("after_finish");
        Ok(())
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        failpoint::pass("before_requeue");
        self.store.requeue(self.seq, history, self.clock.now().plus(delay)).await?;
        failpoint::pass("after_requeue");
        Ok(())
    }
}
