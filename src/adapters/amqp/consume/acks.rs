//! Acknowledging many deliveries with one frame.
//!
//! A frame for each job would cost the broker and this process more than the rest of the job's way over the broker.
//! What is settled is gathered while the frame before is being written; one frame with `multiple` acknowledges everything
//! below the oldest delivery that is still in hand. What lies above it waits for a moment, for the oldest one may be slow.
//!
//! **Invariant:** a delivery in hand is never acknowledged: `multiple` stops below the oldest one, and below the first that isn't
//! known yet. The lanes' deliveries count up together, and come here each on its own way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a settled delivery waits for an older one before it is acknowledged alone.
const PATIENCE: Duration = Duration::from_millis(20);

/// The deliveries of one channel. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Acks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    channel: Channel,
    ledger: Mutex<Ledger>,
    settled: Notify,
    acknowledged: Notify,
    are_abandoned: AtomicBool,
}

impl Acks {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Arc::new(Shared {
            channel,
            ledger: Mutex::default(),
            settled: Notify::new(),
            acknowledged: Notify::new(),
            are_abandoned: AtomicBool::new(false),
        }))
    }

    /// A delivery came.
    pub(crate) fn received(&self, tag: u64) {
        self.ledger().received(tag);
    }

    /// Waits until every delivery is settled and acknowledged, which somebody else does.
    pub(crate) async fn done(&self) {
        loop {
            let acknowledged = self.0.acknowledged.notified();
            if self.ledger().is_done() {
                return;
            }
            acknowledged.await;
        }
    }

    /// Their queue may be gone: what is given back would be lost with it. Says how many are in hand.
    pub(crate) fn abandon(&self) -> usize {
        self.0.are_abandoned.store(true, Ordering::Release);
        self.ledger().in_flight.len()
    }

    /// Whether their queue may be gone.
    pub(crate) fn are_abandoned(&self) -> bool {
        self.0.are_abandoned.load(Ordering::Acquire)
    }

    /// A delivery is settled, and will be acknowledged soon.
    pub(crate) fn settle(&self, tag: u64) {
        let mut ledger = self.ledger();
        ledger.in_flight.remove(&tag);
        ledger.settled.insert(tag);
        drop(ledger);
        self.0.settled.notify_one();
    }

    /// Gives a delivery back to its queue at once.
    pub(crate) async fn give_back(&self, tag: u64) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        // On a channel that is gone it goes back by itself.
        let _ = self.0.channel.basic_nack(tag, options).await;
        self.ledger().in_flight.remove(&tag);
        self.0.acknowledged.notify_waiters();
    }

    /// Whether the channel lives: a delivery of another one comes again.
    pub(crate) fn are_possible(&self) -> bool {
        self.0.channel.status().connected()
    }

    /// Acknowledges what is settled, again and again, until the channel is gone.
    pub(crate) async fn keep_acknowledging(&self) -> lapin::Error {
        loop {
            self.0.settled.notified().await;
            loop {
                if let Err(error) = self.acknowledge_below_the_oldest().await {
                    return error;
                }
                if self.ledger().settled.is_empty() {
                    self.0.acknowledged.notify_waiters();
                    break;
                }
                if timeout(PATIENCE, self.0.settled.notified()).await.is_err()
                    && let Err(error) = self.acknowledge_all().await
                {
                    return error;
                }
            }
        }
    }

    /// Acknowledges everything that is settled.
    ///
    /// # Errors
    /// Where the channel is gone: those jobs come again.
    pub(crate) async fn acknowledge_all(&self) -> lapin::Result<()> {
        self.acknowledge_below_the_oldest().await?;
        let rest = std::mem::take(&mut self.ledger().settled);
        for tag in rest {
            self.0.channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    async fn acknowledge_below_the_oldest(&self) -> lapin::Result<()> {
        let next = || self.ledger().take_below_the_oldest();
        while let Some(tag) = next() {
            // Resolves once it is written, which is when the next ones have gathered.
            self.0.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every critical section leaves it whole.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delivery tags, which count up from 1. Bounded by the prefetch.
#[derive(Debug, Default)]
struct Ledger {
    in_flight: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    /// All up to here are known.
    known: u64,
    /// Known ones behind a gap.
    early: BTreeSet<u64>,
}

impl Ledger {
    fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.settled.is_empty()
    }

    fn received(&mut self, tag: u64) {
        self.in_flight.insert(tag);
        self.early.insert(tag);
        while self.early.first() == Some(&(self.known + 1)) {
            self.early.pop_first();
            self.known += 1;
        }
    }

    /// The newest settled delivery that is older than all in hand, and than all that aren't known, which stands for all
    /// settled ones before it.
    fn take_below_the_oldest(&mut self) -> Option<u64> {
        let unknown = self.known + 1;
        let oldest = self.in_flight.first().copied().unwrap_or(u64::MAX).min(unknown);
        let above = self.settled.split_off(&oldest);
        std::mem::replace(&mut self.settled, above).pop_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_stands_for_everything_below_the_oldest_in_hand_and_for_nothing_above() {
        let mut ledger = Ledger::default();
        (1..=10).for_each(|tag| ledger.received(tag));
        let mut settle = |tags: &[u64]| {
            for tag in tags {
                ledger.in_flight.remove(tag);
                ledger.settled.insert(*tag);
            }
            ledger.take_below_the_oldest()
        };
        assert_eq!(settle(&[2, 4]), None);
        assert_eq!(settle(&[1]), Some(2));
        assert_eq!(settle(&[3]), Some(4));
        assert_eq!(settle(&[]), None);
        assert_eq!(settle(&[10, 9, 8, 7, 6]), None);
        assert_eq!(settle(&[5]), Some(10));
    }

    #[test]
    fn a_delivery_that_is_on_its_way_from_the_other_lane_is_not_acknowledged_with_later_ones() {
        let mut ledger = Ledger::default();
        let settle = |ledger: &mut Ledger, tag| {
            ledger.in_flight.remove(&tag);
            ledger.settled.insert(tag);
            ledger.take_below_the_oldest()
        };
        ledger.received(1);
        ledger.received(3);
        assert_eq!(settle(&mut ledger, 3), None);
        assert_eq!(settle(&mut ledger, 1), Some(1));
        ledger.received(2);
        assert_eq!(ledger.take_below_the_oldest(), None);
        assert_eq!(settle(&mut ledger, 2), Some(3));
        ledger.received(4);
        assert_eq!(settle(&mut ledger, 4), Some(4));
    }
}
