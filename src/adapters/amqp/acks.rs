//! Acknowledging many deliveries with one frame.
//!
//! A frame for each job would cost the broker and this process more than the rest of the job's way over the broker.
//! What is settled is gathered while the frame before is being written; one frame with `multiple` acknowledges everything
//! below the oldest delivery that is still in hand. What lies above it waits for a moment, for the oldest one may be slow.
//!
//! **Invariant:** a delivery in hand is never acknowledged: `multiple` stops below the oldest one.

use std::collections::BTreeSet;
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
pub(super) struct Acks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    channel: Channel,
    ledger: Mutex<Ledger>,
    settled: Notify,
}

impl Acks {
    pub(super) fn new(channel: Channel) -> Self {
        Self(Arc::new(Shared { channel, ledger: Mutex::default(), settled: Notify::new() }))
    }

    /// A delivery came.
    pub(super) fn received(&self, tag: u64) {
        self.ledger().in_hand.insert(tag);
    }

    /// A delivery is settled, and will be acknowledged soon.
    pub(super) fn settle(&self, tag: u64) {
        let mut ledger = self.ledger();
        ledger.in_hand.remove(&tag);
        ledger.settled.insert(tag);
        drop(ledger);
        self.0.settled.notify_one();
    }

    /// Gives a delivery back to its queue at once.
    pub(super) async fn give_back(&self, tag: u64) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        // On a channel that is gone it goes back by itself.
        let _ = self.0.channel.basic_nack(tag, options).await;
        self.ledger().in_hand.remove(&tag);
    }

    /// Whether the channel lives: a delivery of another one comes again.
    pub(super) fn are_possible(&self) -> bool {
        self.0.channel.status().connected()
    }

    /// Acknowledges what is settled, again and again, until the channel is gone.
    pub(super) async fn keep_acknowledging(&self) -> lapin::Error {
        loop {
            self.0.settled.notified().await;
            loop {
                if let Err(error) = self.acknowledge_below_the_oldest().await {
                    return error;
                }
                if self.ledger().settled.is_empty() {
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
    pub(super) async fn acknowledge_all(&self) -> lapin::Result<()> {
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
    in_hand: BTreeSet<u64>,
    settled: BTreeSet<u64>,
}

impl Ledger {
    /// The newest settled delivery that is older than all in hand, which stands for all settled ones before it.
    fn take_below_the_oldest(&mut self) -> Option<u64> {
        let above = match self.in_hand.first() {
            Some(oldest) => self.settled.split_off(oldest),
            None => BTreeSet::new(),
        };
        std::mem::replace(&mut self.settled, above).pop_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_stands_for_everything_below_the_oldest_in_hand_and_for_nothing_above() {
        let mut ledger = Ledger { in_hand: (1..=10).collect(), settled: BTreeSet::new() };
        let mut settle = |tags: &[u64]| {
            for tag in tags {
                ledger.in_hand.remove(tag);
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
}
