//! The ports on top of the store.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::adapters::local_queue::store::{Claim, Claimed, Store};
use crate::clock::Clock;
use crate::domain::decide::History;
use crate::domain::{Event, Lane, Timestamp};
use crate::failpoint;
use crate::ports::{Delivery, JobSource, QueueError, Settle};

/// Most jobs taken from the file ahead of the pipeline: bounds the memory.
const AHEAD_MAX: usize = 256;

/// How soon an empty lane is looked at again at first, then after twice as long each time, up to `poll`. A worker at work asks
/// anew with each job, so that a signup is seen before the next turn of a bulk job.
const SOON: Duration = Duration::from_millis(2);

/// After so many looks at an empty lane in a row it is looked at less often, down to a fifth: looking is what an idle worker's
/// time goes into.
const LOOKS_AT_FULL_PACE: u32 = 20;
const PAUSES_MAX: u32 = 5;

/// What a source does when the lane is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// End: the lane is worked off.
    End,
    /// Wait for more jobs.
    Wait,
}

/// The jobs of one lane.
#[derive(Debug)]
pub struct LocalSource {
    store: Store,
    lane: Lane,
    when_empty: WhenEmpty,
    poll: Duration,
    /// Looks in a row that found nothing to do.
    in_vain: u32,
    clock: Clock,
    /// A claim that was asked for. It is kept here, not in the future of `receive`, because that may be dropped
    /// while the store is already handing jobs out.
    asked: Option<oneshot::Receiver<Result<Claim, QueueError>>>,
    ahead: VecDeque<Claimed>,
}

impl LocalSource {
    /// A source for a lane. `poll`: how often an empty lane is looked at for jobs that another process put in; more often while
    /// there is work, and a fifth as often where nothing came for long.
    pub fn new(store: Store, lane: Lane, when_empty: WhenEmpty, poll: Duration, clock: Clock) -> Self {
        Self { store, lane, when_empty, poll, in_vain: 0, clock, asked: None, ahead: VecDeque::new() }
    }

    async fn claim(&mut self) -> Result<Claim, QueueError> {
        let asked = match &mut self.asked {
            Some(asked) => asked,
            none => none.insert(self.store.ask_claim(self.lane, self.clock.now(), AHEAD_MAX).await?),
        };
        let claim = asked.await;
        self.asked = None;
        claim.map_err(|_| Store::gone())?
    }
}

impl JobSource for LocalSource {
    type Handle = LocalHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<LocalHandle>>, QueueError> {
        let mut soon = SOON;
        loop {
            if let Some(Claimed { seq, body, history }) = self.ahead.pop_front() {
                let handle = LocalHandle { seq, store: self.store.clone(), clock: self.clock };
                let body = body.into_bytes();
                failpoint::pass("received");
                return Ok(Some(Delivery { lane: self.lane, body: body.into(), message_id: None, history, handle }));
            }
            match self.claim().await? {
                Claim::Jobs(jobs) => {
                    self.in_vain = 0;
                    self.ahead.extend(jobs);
                }
                Claim::Drained if self.when_empty == WhenEmpty::End => return Ok(None),
                Claim::Drained | Claim::Later => {
                    self.in_vain = self.in_vain.saturating_add(1);
                    let longest = self.poll * (1 + self.in_vain / LOOKS_AT_FULL_PACE).min(PAUSES_MAX);
                    sleep(soon.min(longest)).await;
                    soon = soon.saturating_mul(2);
                }
            }
        }
    }
}

/// A job in hand. Dropped unsettled, it comes back when the worker is started again.
#[derive(Debug)]
pub struct LocalHandle {
    seq: i64,
    store: Store,
    clock: Clock,
}

impl Settle for LocalHandle {
    async fn record_intent(&mut self, now: Timestamp) -> Result<(), QueueError> {
        failpoint::pass("before_intent");
        self.store.intent(self.seq, now).await?;
        failpoint::pass("after_intent");
        Ok(())
    }

    async fn retract_intent(&mut self) -> Result<(), QueueError> {
        self.store.retract(self.seq).await
    }

    async fn finish(self, event: &Event) -> Result<(), QueueError> {
        failpoint::pass("before_finish");
        self.store.finish(self.seq, event).await?;
        failpoint::pass("after_finish");
        Ok(())
    }

    async fn requeue(self, history: History, delay: Duration) -> Result<(), QueueError> {
        failpoint::pass("before_put_back");
        self.store.requeue(self.seq, history, self.clock.now().plus(delay)).await?;
        failpoint::pass("after_put_back");
        Ok(())
    }
}
