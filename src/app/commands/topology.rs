//! `topology`: prints what has to be there on the broker.

use crate::adapters::amqp::topology::definitions::definitions;
use crate::adapters::amqp::topology::{Names, Topology};
use crate::app::Finished;
use crate::app::console::error::AppError;
use crate::app::console::stdout::print;
use crate::app::service::broker;
use crate::config::{QueueUrl, Settings};

/// RabbitMQ's virtual host where the queue's URL names none.
const DEFAULT_VHOST: &str = "/";

/// Prints RabbitMQ definitions (JSON) for `amqp.prefix` and the virtual host of `queue.url`. Connects to nothing.
///
/// # Errors
/// [`AppError::Usage`] where the URL can't be used.
pub(crate) fn topology(settings: &Settings) -> Result<Finished, AppError> {
    let vhost = match &settings.queue.url {
        QueueUrl::Local(_) => DEFAULT_VHOST.to_owned(),
        QueueUrl::Amqp(url) => broker::vhost(url)?,
    };
    let topology = Topology::new(&Names::new(&settings.amqp.prefix));
    print(&format!("{:#}\n", definitions(&topology, &vhost)));
    Ok(Finished::Well)
}
