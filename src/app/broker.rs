//! How RabbitMQ is reached, from the settings.

use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use url::Url;

use super::error::AppError;
use crate::adapters::amqp::link::LinkConfig;
use crate::adapters::amqp::topology::{Names, Topology};
use crate::config::{Settings, TopologyMode};

/// The link to a broker. Nothing is connected yet.
///
/// # Errors
/// [`AppError::Usage`] where the URL or the CA file can't be used. Doesn't quote the URL: it may hold a password.
pub fn link(settings: &Settings, broker: &Url, names: &Names) -> Result<LinkConfig, AppError> {
    let uri: AMQPUri =
        broker.as_str().parse().map_err(|error| AppError::Usage(format!("the queue URL can't be used: {error}")))?;
    let ca_file = &settings.amqp.ca_file;
    let cert_chain = if ca_file.as_os_str().is_empty() {
        None
    } else {
        let pem = std::fs::read_to_string(ca_file)
            .map_err(|error| AppError::Usage(format!("amqp.ca_file {}: {error}", ca_file.display())))?;
        Some(pem)
    };
    Ok(LinkConfig {
        uri,
        tls: OwnedTLSConfig { identity: None, cert_chain },
        connect_timeout: Duration::from_secs(settings.amqp.connect_timeout_s),
        topology: Topology::new(names),
        declares: settings.amqp.topology == TopologyMode::Declare,
    })
}

/// What the broker's list of connections shows: the program's part, its machine and its process.
pub fn client_name(part: &str) -> String {
    let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    format!("plu-onboard.{part}@{}.{}", host.trim(), std::process::id())
}
