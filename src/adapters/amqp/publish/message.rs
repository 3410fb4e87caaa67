//! One message, published once.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::task::yield_now;

use crate::adapters::amqp::topology::short;

pub(crate) struct OutgoingMessage<'m> {
    pub(crate) exchange: &'m str,
    pub(crate) routing_key: &'m str,
    pub(crate) body: &'m [u8],
    /// Builds the properties: lapin consumes them at each attempt, and mostly there is one.
    pub(crate) properties: &'m (dyn Fn() -> BasicProperties + Sync),
}

impl OutgoingMessage<'_> {
    /// Publishes the message once, `mandatory`. Resolves with the broker's confirm.
    pub(crate) async fn publish_once(&self, channel: &Channel) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        // Lets other tasks publish in the same turn of the runtime: lapin's thread then writes all messages with one
        // system call, and the broker reads them with one.
        yield_now().await;
        let (exchange, routing_key) = (short(self.exchange), short(self.routing_key));
        channel.basic_publish(exchange, routing_key, options, self.body, (self.properties)()).await?.await
    }
}
