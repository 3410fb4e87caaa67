//! The connection to RabbitMQ and its names, as the settings say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

use crate::adapters::amqp::connection::config::{AmqpConnectionConfig, read_password};
use crate::adapters::amqp::connection::tls::{self, TlsFiles};
use crate::adapters::amqp::topology::{Names, Topology};
use crate::app::error::AppError;
use crate::config::{Settings, TopologyMode};
use crate::telemetry::Metrics;

/// `amqp.prefix` ends with this where `--sandbox` works on a broker.
///
/// An embedded queue records which API its jobs are for. On a broker only the names can keep the jobs of a sandbox run
/// apart from real ones.
pub(crate) const SANDBOX_PREFIX_ENDING: &str = "sandbox";

/// Whether a prefix says that the jobs behind it are those of a sandbox run.
pub(crate) fn is_sandbox_prefix(prefix: &str) -> bool {
    prefix.ends_with(SANDBOX_PREFIX_ENDING)
}

/// Refuses `--out` on RabbitMQ, where a worker writes no files.
///
/// # Errors
/// [`AppError::Usage`] where a folder is given.
pub(crate) fn refuse_out_folder(folder: Option<&Path>, settings: &Settings) -> Result<(), AppError> {
    let Some(folder) = folder else { return Ok(()) };
    Err(AppError::Usage(format!(
        "nothing is written into {}: on RabbitMQ, every event is published to the exchange {}; leave --out out, and \
         bind a queue to that exchange",
        folder.display(),
        Names::new(&settings.amqp.prefix).events_exchange(),
    )))
}

/// Longest frame that is negotiated with the broker at first. lapin keeps a buffer of 64 frames for each connection:
/// with RabbitMQ's default of 128 KiB that would be 8 MiB a connection, for jobs of half a kibibyte. Longer messages
/// take several frames; for longer headers the consuming connection is opened again with frames of 128 KiB.
const FRAME_BYTES_MAX: u32 = 12 * 1_024;

/// How to connect to a broker. Doesn't connect yet.
///
/// # Errors
/// [`AppError::Usage`] where the URL or one of the files can't be used. The text never holds the URL, which may hold a
/// password.
pub(crate) fn connection_config(
    settings: &Settings,
    broker: &Url,
    names: &Names,
    metrics: &Metrics,
) -> Result<AmqpConnectionConfig, AppError> {
    let amqp = &settings.amqp;
    let mut uri = parse(broker)?;
    if !amqp.user.is_empty() {
        amqp.user.clone_into(&mut uri.authority.userinfo.username);
    }
    uri.query.heartbeat = uri.query.heartbeat.or(Some(amqp.heartbeat_s));
    uri.query.frame_max = uri.query.frame_max.or(Some(FRAME_BYTES_MAX));
    let password_file = if_set(&amqp.password_file);
    if let Some(file) = &password_file {
        // Read here too, so that a wrong path ends the command; the connection reads it again each time it opens.
        read_password(file).map_err(|error| AppError::Usage(format!("amqp.password_file: {error}")))?;
    }
    let tls = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => {
            let identity = if_set(&amqp.client_cert_file).zip(if_set(&amqp.client_key_file));
            let files = TlsFiles { ca_file: if_set(&amqp.ca_file), identity };
            // Built here too, so that a wrong file ends the command.
            tls::connector(&files).map_err(AppError::Usage)?;
            Some(files)
        }
    };
    metrics.expect_broker();
    Ok(AmqpConnectionConfig {
        uri,
        tls,
        password_file,
        connect_timeout: Duration::from_secs(amqp.connect_timeout_s),
        topology: Topology::new(names),
        declares: amqp.topology == TopologyMode::Declare,
        metrics: metrics.clone(),
    })
}

/// The virtual host in a broker's URL.
///
/// # Errors
/// [`AppError::Usage`] where the URL can't be used.
pub(crate) fn vhost(broker: &Url) -> Result<String, AppError> {
    Ok(parse(broker)?.vhost)
}

fn parse(broker: &Url) -> Result<AMQPUri, AppError> {
    let mut uri: AMQPUri =
        broker.as_str().parse().map_err(|error| AppError::Usage(format!("the queue URL can't be used: {error}")))?;
    // lapin's parser ignores an IPv6 address and would connect to localhost.
    if let Some(Host::Ipv6(address)) = broker.host() {
        uri.authority.host = address.to_string();
    }
    Ok(uri)
}

fn if_set(file: &Path) -> Option<PathBuf> {
    (!file.as_os_str().is_empty()).then(|| file.to_owned())
}

/// The name in the broker's list of connections: the program's part, its host and its process id.
pub(crate) fn client_name(part: &str) -> String {
    let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    format!("plu-onboard.{part}@{}.{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_host_port_and_virtual_host() {
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
