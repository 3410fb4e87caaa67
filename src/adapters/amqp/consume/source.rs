//! The jobs of a lane, as the pipeline receives them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::message::Delivery as AmqpDelivery;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::amqp::consume::handle::{AmqpHandle, OutcomeSink};
use crate::adapters::amqp::consume::prefetch_buffer::{BufferedDelivery, PrefetchBuffer};
use crate::adapters::amqp::headers;
use crate::clock::Clock;
use crate::domain::Lane;
use crate::domain::private::debug_redacted;
use crate::failpoint;
use crate::ports::{Delivery, JobSource, QueueError, Settle};

/// Delay of a job that the worker had no time for: it gets the shortest delay queue. A job that is due within this time
/// is due now.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);

/// The jobs of one lane. Never ends by itself.
pub struct AmqpSource {
    pub(crate) prefetch_buffer: PrefetchBuffer,
    decoder: DeliveryDecoder,
    /// Requeues deliveries that wait for too long.
    _expiry: AbortOnDropHandle<()>,
}

impl AmqpSource {
    pub(crate) fn new(decoder: DeliveryDecoder) -> Self {
        let prefetch_buffer = PrefetchBuffer::default();
        let expiry = tokio::spawn(requeue_expired(prefetch_buffer.clone(), decoder.clone()));
        Self { prefetch_buffer, decoder, _expiry: AbortOnDropHandle::new(expiry) }
    }
}

/// Requeues as a copy: a requeue by the broker would count as one more delivery, and mark the job as possibly sent.
async fn requeue_expired(prefetch_buffer: PrefetchBuffer, decoder: DeliveryDecoder) {
    loop {
        if let Some(Delivery { history, handle, .. }) = decoder.decode(prefetch_buffer.take_expired().await) {
            let _ = handle.requeue(history, SHORTEST_DELAY).await;
        }
    }
}

/// Makes jobs of a lane's deliveries.
#[derive(Clone)]
pub(crate) struct DeliveryDecoder {
    pub(crate) lane: Lane,
    pub(crate) outcome_sink: Arc<OutcomeSink>,
    pub(crate) clock: Clock,
}

impl DeliveryDecoder {
    /// Returns `None` if the channel is closed: the broker delivers the job again, and it would be processed twice.
    fn decode(&self, buffered: BufferedDelivery) -> Option<Delivery<AmqpHandle>> {
        let BufferedDelivery { delivery, acks, .. } = buffered;
        if !acks.is_channel_open() {
            return None;
        }
        let AmqpDelivery { delivery_tag, redelivered, properties, data, .. } = delivery;
        let history = headers::read(&properties, redelivered, self.clock.now());
        let body = Bytes::from(data);
        let message_id = properties.message_id().as_ref().map(ToString::to_string);
        let handle = AmqpHandle {
            lane: self.lane,
            tag: delivery_tag,
            acks,
            history,
            sent_at: None,
            message: Box::new((body.clone(), properties)),
            outcome_sink: Arc::clone(&self.outcome_sink),
            clock: self.clock,
        };
        Some(Delivery { lane: self.lane, body, message_id, history, handle })
    }
}

impl JobSource for AmqpSource {
    type Handle = AmqpHandle;

    async fn receive(&mut self) -> Result<Option<Delivery<AmqpHandle>>, QueueError> {
        loop {
            let Some(delivery) = self.decoder.decode(self.prefetch_buffer.take().await) else { continue };
            let remaining = headers::remaining_delay(&delivery.handle.message.1, self.decoder.clock.now());
            if remaining > SHORTEST_DELAY {
                // The longest delay queue is shorter than the job's delay.
                let Delivery { history, handle, .. } = delivery;
                tokio::spawn(handle.requeue(history, remaining));
                continue;
            }
            failpoint::pass("received");
            return Ok(Some(delivery));
        }
    }
}

debug_redacted!(AmqpSource);
