//! The queue in which requests of both lanes wait for the rate limiter. One request at a time is at its front.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::picker::LanePicker;
use crate::domain::Lane;

#[derive(Debug)]
pub(crate) struct LaneQueue {
    state: Mutex<LaneQueueState>,
    preempted: Notify,
}

#[derive(Debug)]
struct LaneQueueState {
    picker: LanePicker,
    front: Option<FrontEntry>,
    signup: VecDeque<oneshot::Sender<()>>,
    bulk: VecDeque<oneshot::Sender<()>>,
}

/// The request at the front.
#[derive(Debug, Clone, Copy)]
struct FrontEntry {
    lane: Lane,
    /// Bulk's credit before this request was chosen; restored if the request lets a signup go first.
    credit_percent: u32,
}

impl LaneQueueState {
    fn set_front(&mut self, lane: Lane) {
        self.front = Some(FrontEntry { lane, credit_percent: self.picker.credit_percent() });
        self.picker.took(lane);
    }

    /// Whether the front is a bulk job that isn't owed its share, and a signup waits.
    fn is_preempted(&self) -> bool {
        let is_preemptible = |front: FrontEntry| {
            let mut before = self.picker;
            before.restore_credit(front.credit_percent);
            front.lane == Lane::Bulk && before.first() == Lane::Signup
        };
        self.front.is_some_and(is_preemptible) && self.signup.iter().any(|waiting| !waiting.is_closed())
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<oneshot::Sender<()>> {
        match lane {
            Lane::Signup => &mut self.signup,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Removes the next request from the queue that hasn't been cancelled.
    fn pop_next(&mut self) -> Option<(Lane, oneshot::Sender<()>)> {
        let first = self.picker.first();
        let second = if first == Lane::Signup { Lane::Bulk } else { Lane::Signup };
        for lane in [first, second] {
            while let Some(waiting) = self.lane(lane).pop_front() {
                if !waiting.is_closed() {
                    return Some((lane, waiting));
                }
            }
        }
        None
    }
}

impl LaneQueue {
    pub(crate) const fn new(bulk_share_percent: u32) -> Self {
        let picker = LanePicker::new(bulk_share_percent);
        let state = LaneQueueState { picker, front: None, signup: VecDeque::new(), bulk: VecDeque::new() };
        Self { state: Mutex::new(state), preempted: Notify::const_new() }
    }

    pub(crate) fn set_bulk_share(&self, percent: u32) {
        self.lock().picker.set_bulk_share(percent);
    }

    /// Waits until the caller's request is at the front. Cancel-safe.
    pub(crate) async fn reach_front(&self, lane: Lane) -> FrontOfQueue<'_> {
        match self.enter(lane) {
            Some(queued) => queued.reach_front().await,
            None => FrontOfQueue { queue: self },
        }
    }

    /// Adds a request. `None`: the queue was empty, and the request is at its front now.
    fn enter(&self, lane: Lane) -> Option<QueuedRequest<'_>> {
        let mut state = self.lock();
        if state.front.is_none() {
            state.set_front(lane);
            return None;
        }
        let (sender, called) = oneshot::channel();
        state.lane(lane).push_back(sender);
        if state.is_preempted() {
            self.preempted.notify_waiters();
        }
        Some(QueuedRequest { queue: self, called, is_done: false })
    }

    /// Removes the request at the front and calls the next one.
    fn leave_front(&self) {
        let mut state = self.lock();
        while let Some((lane, waiting)) = state.pop_next() {
            if waiting.send(()).is_ok() {
                state.set_front(lane);
                return;
            }
        }
        state.front = None;
    }

    fn lock(&self) -> MutexGuard<'_, LaneQueueState> {
        // Every critical section leaves the state consistent, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits. If it is dropped after it was called to the front, it calls the next one.
struct QueuedRequest<'q> {
    queue: &'q LaneQueue,
    called: oneshot::Receiver<()>,
    is_done: bool,
}

impl<'q> QueuedRequest<'q> {
    /// Cancel-safe.
    async fn reach_front(mut self) -> FrontOfQueue<'q> {
        // The sender lives as long as the queue, unless it is used.
        let _ = (&mut self.called).await;
        self.is_done = true;
        FrontOfQueue { queue: self.queue }
    }
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        self.called.close();
        if !self.is_done && self.called.try_recv().is_ok() {
            self.queue.leave_front();
        }
    }
}

/// The front of the queue, held by one request. When it is dropped, the next request takes the front.
#[derive(Debug)]
#[must_use]
pub(crate) struct FrontOfQueue<'q> {
    queue: &'q LaneQueue,
}

impl<'q> FrontOfQueue<'q> {
    /// Waits until a waiting signup should be sent before the request at the front. Never returns if that request is a
    /// signup. Cancel-safe.
    pub(crate) async fn preempted(&self) {
        loop {
            // Created before the check, so that a signup that arrives in between is noticed.
            let preempted = self.queue.preempted.notified();
            if self.queue.lock().is_preempted() {
                return;
            }
            preempted.await;
        }
    }

    /// Lets the waiting signups go first, and waits for the front again as the first of its lane. Cancel-safe.
    pub(crate) async fn yield_to_signup(self) -> FrontOfQueue<'q> {
        let queued = {
            let mut state = self.queue.lock();
            let (sender, called) = oneshot::channel();
            if let Some(FrontEntry { lane, credit_percent }) = state.front {
                state.picker.restore_credit(credit_percent);
                state.lane(lane).push_front(sender);
            }
            QueuedRequest { queue: self.queue, called, is_done: false }
        };
        // Calls the next request, which may be this one.
        drop(self);
        queued.reach_front().await
    }
}

impl Drop for FrontOfQueue<'_> {
    fn drop(&mut self) {
        self.queue.leave_front();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_signup_is_next_however_many_bulk_jobs_wait() {
        let queue = Arc::new(LaneQueue::new(10));
        let front = queue.reach_front(Lane::Bulk).await;
        let mut bulk = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let queue = Arc::clone(&queue);
            bulk.spawn(async move {
                let _front = queue.reach_front(Lane::Bulk).await;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        let signup = queue.reach_front(Lane::Signup);
        let (signup, ()) = tokio::join!(timeout(Duration::from_secs(5), signup), async {
            tokio::task::yield_now().await;
            drop(front);
        });
        assert!(signup.is_ok());
    }

    #[tokio::test]
    async fn a_bulk_job_at_the_front_yields_to_a_signup_and_is_next_of_its_lane() {
        let queue = LaneQueue::new(10);
        let front = queue.reach_front(Lane::Bulk).await;
        assert!(front.preempted().now_or_never().is_none(), "no signup waits");
        let mut behind = Box::pin(queue.reach_front(Lane::Bulk));
        assert!(behind.as_mut().now_or_never().is_none());
        let mut signup = Box::pin(queue.reach_front(Lane::Signup));
        assert!(signup.as_mut().now_or_never().is_none());
        front.preempted().now_or_never().expect("a signup waits");
        let mut again = Box::pin(front.yield_to_signup());
        assert!(again.as_mut().now_or_never().is_none());
        let signup = signup.now_or_never().expect("the signup is at the front");
        assert!(behind.as_mut().now_or_never().is_none());
        drop(signup);
        drop(again.now_or_never().expect("the bulk job is at the front again"));
        assert!(behind.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_share_set_while_a_bulk_job_is_at_the_front_holds_after_it_yielded() {
        let queue = LaneQueue::new(50);
        drop(queue.reach_front(Lane::Signup).await);
        let front = queue.reach_front(Lane::Bulk).await;
        queue.set_bulk_share(0);
        let mut signups: Vec<_> = (0..5).map(|_| Box::pin(queue.reach_front(Lane::Signup))).collect();
        assert!(signups.iter_mut().all(|signup| signup.as_mut().now_or_never().is_none()));
        front.preempted().now_or_never().expect("bulk is owed nothing any more");
        let mut again = Box::pin(front.yield_to_signup());
        for signup in signups {
            assert!(again.as_mut().now_or_never().is_none());
            drop(signup.now_or_never().expect("every signup goes first"));
        }
        assert!(again.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_bulk_job_that_is_owed_its_share_is_not_preempted() {
        let queue = LaneQueue::new(50);
        drop(queue.reach_front(Lane::Signup).await);
        let front = queue.reach_front(Lane::Bulk).await;
        let mut signup = Box::pin(queue.reach_front(Lane::Signup));
        assert!(signup.as_mut().now_or_never().is_none());
        assert!(front.preempted().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_that_was_called_calls_the_next_one() {
        let queue = LaneQueue::new(10);
        let front = queue.reach_front(Lane::Signup).await;
        let mut cancelled = Box::pin(queue.reach_front(Lane::Signup));
        let mut stays = Box::pin(queue.reach_front(Lane::Signup));
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, &mut cancelled).await.is_err());
        assert!(timeout(moment, &mut stays).await.is_err());
        drop(front);
        drop(cancelled);
        let front = timeout(moment, stays).await;
        assert!(front.is_ok());
        drop(front);
        assert!(timeout(moment, queue.reach_front(Lane::Bulk)).await.is_ok());
    }
}
