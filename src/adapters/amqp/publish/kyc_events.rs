//! Publishes KYC events to the exchange of events, confirmed like outcomes.

use crate::adapters::amqp::headers;
use crate::adapters::amqp::publish::message::OutgoingMessage;
use crate::adapters::amqp::publish::publisher::Publisher;
use crate::adapters::amqp::topology::Names;
use crate::domain::KycEvent;
use crate::ports::{KycSink, QueueError};

#[derive(Debug)]
pub struct KycEventSink {
    publisher: Publisher,
    exchange: String,
}

impl KycEventSink {
    /// Publishes with this publisher, to the exchange under these names.
    pub fn new(publisher: Publisher, names: &Names) -> Self {
        Self { publisher, exchange: names.events_exchange().to_owned() }
    }
}

impl KycSink for KycEventSink {
    async fn publish(&self, event: &KycEvent) -> Result<(), QueueError> {
        let routing_key = event.event_type.name();
        let properties = || headers::of_event(event.id, routing_key, event.time);
        let (exchange, body) = (&self.exchange, event.to_json());
        let message = OutgoingMessage { exchange, routing_key, body: body.as_bytes(), properties: &properties };
        self.publisher.publish(&message).await
    }
}
