//! How RabbitMQ is reached, from the settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

use crate::adapters::amqp::connection::link::{LinkConfig, read_password};
use crate::adapters::amqp::connection::tls::{self, TlsFiles};
use crate::adapters::amqp::topology::{Names, Topology};
use crate::app::console::error::AppError;
use crate::config::{Settings, TopologyMode};
use crate::telemetry::Metrics;

/// Longest frame that is agreed on with the broker at first. lapin keeps room for 64 of them on each connection: with
/// RabbitMQ's own 128 KiB that would be 8 MiB a connection, for jobs of half a kibibyte. Longer messages take several frames;
/// for longer headers the consuming connection is made anew with frames of 128 KiB.
const FRAME_BYTES_MAX: u32 = 12 * 1_024;

/// The link to a broker. Nothing is connected yet.
///
/// # Errors
/// [`AppError::Usage`] where the URL or one of the files can't be used. Doesn't quote the URL: it may hold a password.
pub(crate) fn link(
    settings: &Settings,
    broker: &Url,
    names: &Names,
    metrics: &Metrics,
) -> Result<LinkConfig, AppError> {
    let amqp = &settings.amqp;
    let mut uri = parse(broker)?;
    if !amqp.user.is_empty() {
        amqp.user.clone_into(&mut uri.authority.userinfo.username);
    }
    uri.query.heartbeat = uri.query.heartbeat.or(Some(amqp.heartbeat_s));
    uri.query.frame_max = uri.query.frame_max.or(Some(FRAME_BYTES_MAX));
    let password_file = given(&amqp.password_file);
    if let Some(file) = &password_file {
        // Tried here, so that a wrong path ends the command; the link reads it for itself.
        read_password(file).map_err(|error| AppError::Usage(format!("amqp.password_file: {error}")))?;
    }
    let tls = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => {
            let identity = given(&amqp.client_cert_file).zip(given(&amqp.client_key_file));
            let files = TlsFiles { ca_file: given(&amqp.ca_file), identity };
            // Tried here as well, so that a wrong file ends the command.
            tls::connector(&files).map_err(AppError::Usage)?;
            Some(files)
        }
    };
    metrics.expect_broker();
    Ok(LinkConfig {
        uri,
        tls,
        password_file,
        connect_timeout: Duration::from_secs(amqp.connect_timeout_s),
        topology: Topology::new(names),
        declares: amqp.topology == TopologyMode::Declare,
        metrics: metrics.clone(),
    })
}

/// The virtual host that a URL names.
///
/// # Errors
/// [`AppError::Usage`] where the URL can't be used.
pub(crate) fn vhost(broker: &Url) -> Result<String, AppError> {
    Ok(parse(broker)?.vhost)
}

fn parse(broker: &Url) -> Result<AMQPUri, AppError> {
    let mut uri: AMQPUri =
        broker.as_str().parse().map_err(|error| AppError::Usage(format!("the queue URL can't be used: {error}")))?;
    // lapin's own parser takes an IPv6 address for no host, and then goes to localhost.
    if let Some(Host::Ipv6(address)) = broker.host() {
        uri.authority.host = address.to_string();
    }
    Ok(uri)
}

fn given(file: &Path) -> Option<PathBuf> {
    (!file.as_os_str().is_empty()).then(|| file.to_owned())
}

/// What the broker's list of connections shows: the program's part, its machine and its process.
pub(crate) fn client_name(part: &str) -> String {
    let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    format!("plu-onboard.{part}@{}.{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_the_one_that_the_url_names() {
        for (url, host, port, vhost) in [
            ("amqp://rabbit.example", "rabbit.example", 5672, "/"),
            ("amqps://u:p%40s%2Fs@rabbit.example/a%2Fb", "rabbit.example", 5671, "a/b"),
            ("amqp://u:p@192.0.2.7:5673", "192.0.2.7", 5673, "/"),
            ("amqp://u:p@[2001:db8::5]:5673/cards", "2001:db8::5", 5673, "cards"),
        ] {
            let uri = parse(&url.parse().unwrap()).unwrap();
            assert_eq!((&*uri.authority.host, uri.authority.port, &*uri.vhost), (host, port, vhost), "{url}");
        }
    }
}
