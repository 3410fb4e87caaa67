//! Publishing events about verifications: to the same exchange as outcomes, confirmed like them.

use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::publisher::{Message, Publisher};
use crate::adapters::amqp::topology::Names;
use crate::domain::KycEvent;
use crate::ports::{KycSink, QueueError};

/// The exchange of events, for verifications.
#[derive(Debug)]
pub struct KycEventSink {
    publisher: Publisher,
    exchange: String,
}

impl KycEventSink {
    /// Over this publisher, under these names.
    pub fn new(publisher: Publisher, names: &Names) -> Self {
        Self { publisher, exchange: names.events_exchange().to_owned() }
    }
}

impl KycSink for KycEventSink {
    async fn publish(&self, event: &KycEvent) -> Result<(), QueueError> {
        let routing_key = event.event_type.name();
        let properties = || headers::of_event(event.id, routing_key, event.time);
        let body = event.to_json();
        let message = Message { exchange: &self.exchange, routing_key, body: body.as_bytes(), properties: &properties };
        self.publisher.publish(&message).await
    }
}
