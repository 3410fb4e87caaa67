//! Acknowledges many deliveries with one frame.
//!
//! A frame for each job would cost the broker and this process more than everything else that a job needs from the
//! broker. Settled deliveries are collected while the previous frame is written. One frame with `multiple` then
//! acknowledges everything below the oldest unsettled delivery. Deliveries above it wait for a moment, because the
//! oldest one may be slow.
//!
//! **Invariant:** an unsettled delivery is never acknowledged. `multiple` stops below the oldest unsettled delivery,
//! and below the first tag that isn't known yet: both lanes count their tags on one channel, and arrive here
//! separately.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Time that a settled delivery waits for an older one before it is acknowledged alone.
const OLDER_WAIT_MAX: Duration = Duration::from_millis(20);

/// Acknowledges the deliveries of one channel. Clones share the channel.
#[derive(Debug, Clone)]
pub(crate) struct AckBatcher(Arc<AckBatcherInner>);

#[derive(Debug)]
struct AckBatcherInner {
    channel: Channel,
    tags: Mutex<DeliveryTags>,
    /// Notified when a delivery is settled.
    settled: Notify,
    /// Notified when no settled delivery is left to acknowledge, and at each requeue.
    acknowledged: Notify,
    is_queue_lost: AtomicBool,
}

impl AckBatcher {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Arc::new(AckBatcherInner {
            channel,
            tags: Mutex::default(),
            settled: Notify::new(),
            acknowledged: Notify::new(),
            is_queue_lost: AtomicBool::new(false),
        }))
    }

    /// Registers a delivery that arrived.
    pub(crate) fn received(&self, tag: u64) {
        self.tags().received(tag);
    }

    /// Waits until every delivery is settled and acknowledged. [`Self::run`] has to be polled meanwhile.
    pub(crate) async fn all_acknowledged(&self) {
        loop {
            let acknowledged = self.0.acknowledged.notified();
            if self.tags().is_empty() {
                return;
            }
            acknowledged.await;
        }
    }

    /// Records that the queue may be deleted: a requeued delivery would be lost with it. Returns the number of
    /// unsettled deliveries.
    pub(crate) fn set_queue_lost(&self) -> usize {
        self.0.is_queue_lost.store(true, Ordering::Release);
        self.tags().unsettled.len()
    }

    /// Whether the queue may be deleted.
    pub(crate) fn is_queue_lost(&self) -> bool {
        self.0.is_queue_lost.load(Ordering::Acquire)
    }

    /// Marks a delivery as settled. [`Self::run`] acknowledges it soon.
    pub(crate) fn settle(&self, tag: u64) {
        let mut tags = self.tags();
        tags.unsettled.remove(&tag);
        tags.settled.insert(tag);
        drop(tags);
        self.0.settled.notify_one();
    }

    /// Requeues a delivery at once.
    pub(crate) async fn requeue(&self, tag: u64) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        // The broker requeues the deliveries of a closed channel by itself.
        let _ = self.0.channel.basic_nack(tag, options).await;
        self.tags().unsettled.remove(&tag);
        self.0.acknowledged.notify_waiters();
    }

    /// Whether the channel is open. The broker delivers the jobs of a closed channel again.
    pub(crate) fn is_channel_open(&self) -> bool {
        self.0.channel.status().connected()
    }

    /// Acknowledges settled deliveries until the channel is closed. Returns the error that closed it.
    pub(crate) async fn run(&self) -> lapin::Error {
        loop {
            self.0.settled.notified().await;
            loop {
                if let Err(error) = self.acknowledge_below_oldest().await {
                    return error;
                }
                if self.tags().settled.is_empty() {
                    self.0.acknowledged.notify_waiters();
                    break;
                }
                if timeout(OLDER_WAIT_MAX, self.0.settled.notified()).await.is_err()
                    && let Err(error) = self.acknowledge_all().await
                {
                    return error;
                }
            }
        }
    }

    /// Acknowledges every settled delivery.
    ///
    /// # Errors
    /// The channel is closed: the broker delivers those jobs again.
    pub(crate) async fn acknowledge_all(&self) -> lapin::Result<()> {
        self.acknowledge_below_oldest().await?;
        let rest = std::mem::take(&mut self.tags().settled);
        for tag in rest {
            self.0.channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    async fn acknowledge_below_oldest(&self) -> lapin::Result<()> {
        let next = || self.tags().take_below_oldest();
        while let Some(tag) = next() {
            // Resolves once the frame is written; more deliveries are settled meanwhile.
            self.0.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }

    fn tags(&self) -> MutexGuard<'_, DeliveryTags> {
        // No critical section panics halfway through a change.
        self.0.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delivery tags of one channel, which count up from 1. Bounded by the prefetch.
#[derive(Debug, Default)]
struct DeliveryTags {
    /// Delivered, not settled.
    unsettled: BTreeSet<u64>,
    /// Settled, not acknowledged.
    settled: BTreeSet<u64>,
    /// Every tag up to this one has arrived.
    arrived_up_to: u64,
    /// Tags that arrived behind a gap.
    arrived_early: BTreeSet<u64>,
}

impl DeliveryTags {
    fn is_empty(&self) -> bool {
        self.unsettled.is_empty() && self.settled.is_empty()
    }

    fn received(&mut self, tag: u64) {
        self.unsettled.insert(tag);
        self.arrived_early.insert(tag);
        while self.arrived_early.first() == Some(&(self.arrived_up_to + 1)) {
            self.arrived_early.pop_first();
            self.arrived_up_to += 1;
        }
    }

    /// Takes every settled tag below the oldest unsettled one and below the first that hasn't arrived. Returns the
    /// highest, which acknowledges the others too.
    fn take_below_oldest(&mut self) -> Option<u64> {
        let next_to_arrive = self.arrived_up_to + 1;
        let limit = self.unsettled.first().copied().unwrap_or(u64::MAX).min(next_to_arrive);
        let above = self.settled.split_off(&limit);
        std::mem::replace(&mut self.settled, above).pop_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_acknowledges_everything_below_the_oldest_unsettled_delivery() {
        let mut tags = DeliveryTags::default();
        (1..=10).for_each(|tag| tags.received(tag));
        let mut settle = |settled: &[u64]| {
            for tag in settled {
                tags.unsettled.remove(tag);
                tags.settled.insert(*tag);
            }
            tags.take_below_oldest()
        };
        assert_eq!(settle(&[2, 4]), None);
        assert_eq!(settle(&[1]), Some(2));
        assert_eq!(settle(&[3]), Some(4));
        assert_eq!(settle(&[]), None);
        assert_eq!(settle(&[10, 9, 8, 7, 6]), None);
        assert_eq!(settle(&[5]), Some(10));
    }

    #[test]
    fn a_frame_never_acknowledges_a_delivery_that_has_not_arrived_yet() {
        let mut tags = DeliveryTags::default();
        let settle = |tags: &mut DeliveryTags, tag| {
            tags.unsettled.remove(&tag);
            tags.settled.insert(tag);
            tags.take_below_oldest()
        };
        tags.received(1);
        tags.received(3);
        assert_eq!(settle(&mut tags, 3), None);
        assert_eq!(settle(&mut tags, 1), Some(1));
        tags.received(2);
        assert_eq!(tags.take_below_oldest(), None);
        assert_eq!(settle(&mut tags, 2), Some(3));
        tags.received(4);
        assert_eq!(settle(&mut tags, 4), Some(4));
    }
}
