//! `topology`: prints what has to be there on the broker.

use super::error::AppError;
use super::stdout::print;
use super::{Finished, broker};
use crate::adapters::amqp::definitions::definitions;
use crate::adapters::amqp::topology::{Names, Topology};
use crate::config::{QueueUrl, Settings};

/// RabbitMQ's virtual host where the queue's URL names none.
const DEFAULT_VHOST: &str = "/";

/// Prints RabbitMQ definitions (JSON) for `amqp.prefix` and the virtual host of `queue.url`. Connects to nothing.
///
/// # Errors
/// [`AppError::Usage`] where the URL can't be used.
pub fn topology(settings: &Settings) -> Result<Finished, AppError> {
    let vhost = match &settings.queue.url {
        QueueUrl::Local(_) => DEFAULT_VHOST.to_owned(),
        QueueUrl::Amqp(url) => broker::vhost(url)?,
    };
    let topology = Topology::new(&Names::new(&settings.amqp.prefix));
    print(&format!("{:#}\n", definitions(&topology, &vhost)));
    Ok(Finished::Well)
}
