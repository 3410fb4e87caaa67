//! `topology`: prints the exchanges, queues and bindings that the broker must have.

use crate::adapters::amqp::topology::definitions::definitions;
use crate::adapters::amqp::topology::{Names, Topology};
use crate::app::commands::CommandOutcome;
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::service::broker;
use crate::config::{Origin, QueueUrl, Settings};

/// RabbitMQ's virtual host where the queue's URL names none.
const DEFAULT_VHOST: &str = "/";

/// Prints RabbitMQ definitions (JSON) for `amqp.prefix` and the virtual host of `queue.url`. Doesn't connect.
///
/// # Errors
/// [`AppError::Usage`] if the URL can't be used or names an embedded queue.
pub(crate) fn topology(settings: &Settings) -> Result<CommandOutcome, AppError> {
    let vhost = match &settings.queue.url {
        QueueUrl::Local(_) if *settings.origin("queue.url") == Origin::Default => DEFAULT_VHOST.to_owned(),
        QueueUrl::Local(_) => {
            return Err(AppError::Usage(
                "queue.url is an embedded queue, which has no exchanges: give the URL of RabbitMQ with --queue, or none"
                    .to_owned(),
            ));
        }
        QueueUrl::Amqp(url) => broker::vhost(url)?,
    };
    let topology = Topology::new(&Names::new(&settings.amqp.prefix));
    print(&format!("{:#}\n", definitions(&topology, &vhost)));
    Ok(CommandOutcome::Success)
}
