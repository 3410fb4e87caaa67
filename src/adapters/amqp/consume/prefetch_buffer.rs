//! What the broker has handed out and nobody has taken in hand yet.
//!
//! **Invariant:** what waits too long is given out by [`PrefetchBuffer::aged`], before the broker's `consumer_timeout` (half an hour) takes
//! it away together with everything else in hand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::adapters::amqp::consume::acks::Acks;

/// How long a delivery waits at most.
const AGE_MAX: Duration = Duration::from_secs(600);

/// A delivery and where it is acknowledged.
pub(crate) struct Received {
    pub(crate) delivery: Delivery,
    pub(crate) acks: Acks,
    at: Instant,
}

/// The deliveries of a lane, in their order. Clones are the same. As many as the broker hands out unacknowledged.
#[derive(Clone, Default)]
pub(crate) struct PrefetchBuffer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<VecDeque<Received>>,
    came: Notify,
}

impl PrefetchBuffer {
    /// A delivery came.
    pub(crate) fn put(&self, delivery: Delivery, acks: &Acks) {
        acks.received(delivery.delivery_tag);
        self.waiting().push_back(Received { delivery, acks: acks.clone(), at: Instant::now() });
        self.0.came.notify_one();
    }

    /// The next one. Cancel-safe. For one taker.
    pub(crate) async fn take(&self) -> Received {
        loop {
            let came = self.0.came.notified();
            if let Some(received) = self.pop(None) {
                return received;
            }
            came.await;
        }
    }

    /// The next one that has waited for too long. Cancel-safe.
    pub(crate) async fn aged(&self) -> Received {
        loop {
            let now = Instant::now();
            let oldest = self.waiting().front().map(|received| received.at + AGE_MAX);
            match oldest {
                Some(due) if due <= now => {
                    if let Some(received) = self.pop(Some(now)) {
                        return received;
                    }
                }
                Some(due) => sleep_until(due).await,
                // Whatever comes now isn't due before that.
                None => sleep_until(now + AGE_MAX).await,
            }
        }
    }

    /// The first one, if it is due at this time.
    fn pop(&self, due: Option<Instant>) -> Option<Received> {
        let mut waiting = self.waiting();
        waiting.pop_front_if(|first| due.is_none_or(|now| first.at + AGE_MAX <= now))
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Received>> {
        // Every critical section leaves it whole.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
