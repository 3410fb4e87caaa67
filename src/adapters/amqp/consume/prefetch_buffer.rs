//! Deliveries that the broker has sent and no job slot has taken yet.
//!
//! **Invariant:** a delivery that waits too long is returned by [`PrefetchBuffer::take_expired`], before the broker's
//! `consumer_timeout` (30 minutes by default) closes the channel with all its unacknowledged deliveries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::adapters::amqp::consume::ack_batcher::AckBatcher;

/// Longest time that a delivery waits.
const AGE_MAX: Duration = Duration::from_secs(600);

/// A delivery, and the batcher that acknowledges it.
pub(crate) struct BufferedDelivery {
    pub(crate) delivery: Delivery,
    pub(crate) acks: AckBatcher,
    received_at: Instant,
}

impl BufferedDelivery {
    fn expires_at(&self) -> Instant {
        self.received_at + AGE_MAX
    }
}

/// The deliveries of a lane, in order. Clones share the buffer. Bounded by the prefetch.
#[derive(Clone, Default)]
pub(crate) struct PrefetchBuffer(Arc<PrefetchBufferInner>);

#[derive(Default)]
struct PrefetchBufferInner {
    deliveries: Mutex<VecDeque<BufferedDelivery>>,
    arrived: Notify,
}

impl PrefetchBuffer {
    /// Adds a delivery that arrived.
    pub(crate) fn push(&self, delivery: Delivery, acks: &AckBatcher) {
        acks.received(delivery.delivery_tag);
        self.deliveries().push_back(BufferedDelivery { delivery, acks: acks.clone(), received_at: Instant::now() });
        self.0.arrived.notify_one();
    }

    /// Waits for the next delivery. Cancel-safe. For one caller at a time.
    pub(crate) async fn take(&self) -> BufferedDelivery {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(delivery) = self.pop_if(|_| true) {
                return delivery;
            }
            arrived.await;
        }
    }

    /// Waits for the next delivery that has been here for too long. Cancel-safe.
    pub(crate) async fn take_expired(&self) -> BufferedDelivery {
        loop {
            let now = Instant::now();
            let expires_at = self.deliveries().front().map(BufferedDelivery::expires_at);
            match expires_at {
                Some(at) if at <= now => {
                    if let Some(delivery) = self.pop_if(|first| first.expires_at() <= now) {
                        return delivery;
                    }
                }
                Some(at) => sleep_until(at).await,
                // A delivery that arrives now doesn't expire earlier.
                None => sleep_until(now + AGE_MAX).await,
            }
        }
    }

    fn pop_if(&self, condition: impl FnOnce(&BufferedDelivery) -> bool) -> Option<BufferedDelivery> {
        self.deliveries().pop_front_if(|first| condition(first))
    }

    fn deliveries(&self) -> MutexGuard<'_, VecDeque<BufferedDelivery>> {
        // No critical section panics halfway through a change.
        self.0.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
