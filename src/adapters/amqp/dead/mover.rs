//! Carries out the action that was chosen for a dead letter.

use std::sync::Arc;

use lapin::message::Delivery;
use lapin::options::BasicAckOptions;

use super::message::{copy_properties, retry_properties};
use crate::adapters::amqp::publish::message::OutgoingMessage;
use crate::adapters::amqp::publish::publisher::{PublishConfig, Publisher};
use crate::adapters::amqp::topology::Names;
use crate::domain::dead_letter::DeadLetterAction;
use crate::domain::{DeadLetter, Lane};
use crate::ports::QueueError;

/// Publishes copies of dead letters, and acknowledges the dead letters.
#[derive(Debug, Clone)]
pub(super) struct DeadLetterMover {
    publisher: Publisher,
    names: Arc<Names>,
}

impl DeadLetterMover {
    pub(super) fn start(config: PublishConfig, names: &Names) -> Self {
        Self { publisher: Publisher::start(config), names: Arc::new(names.clone()) }
    }

    /// Returns the dead letter's id once it is done.
    pub(super) async fn carry_out(
        &self,
        dead_letter: DeadLetter,
        delivery: Delivery,
        action: DeadLetterAction,
    ) -> Result<String, QueueError> {
        let body = &delivery.data;
        match action {
            DeadLetterAction::Drop => {}
            DeadLetterAction::Retry => {
                // A job whose lane isn't known must not delay signups.
                let lane = dead_letter.lane.unwrap_or(Lane::Bulk);
                let properties = &|| retry_properties(&delivery.properties, &dead_letter);
                let exchange = self.names.jobs_exchange();
                let message = OutgoingMessage { exchange: &exchange, routing_key: lane.name(), body, properties };
                self.publisher.publish(&message).await?;
            }
            DeadLetterAction::Keep | DeadLetterAction::Stop => {
                let properties = &|| copy_properties(&delivery.properties, &dead_letter);
                let queue = self.names.dead_queue();
                let message = OutgoingMessage { exchange: "", routing_key: &queue, body, properties };
                self.publisher.publish(&message).await?;
            }
        }
        // A lost acknowledgement is noticed after the batch.
        let _ = delivery.acker.ack(BasicAckOptions::default()).await;
        Ok(dead_letter.id)
    }
}
