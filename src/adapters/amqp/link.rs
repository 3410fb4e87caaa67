//! A connection that is rebuilt whenever it breaks.
//!
//! lapin's own recovery is not used: after a broker's restart it hangs for a long time without saying so, and it
//! never recovers a closed channel. Here, everything is thrown away and made anew, with a time limit around each step,
//! because a frozen broker answers nothing at all.

use std::fmt;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::time::{sleep, timeout};

use super::topology::Topology;
use crate::telemetry::BrokerLink;

/// How a broker is reached.
#[derive(Clone)]
pub struct LinkConfig {
    /// Host, virtual host, credentials, heartbeat.
    pub uri: AMQPUri,
    /// Custom CA and client certificate, for `amqps://`.
    pub tls: OwnedTLSConfig,
    /// Longest time for connecting and declaring together.
    pub connect_timeout: Duration,
    /// What has to be there.
    pub topology: Topology,
    /// Whether it is declared, or only verified because the broker's operators own it.
    pub declares: bool,
}

impl fmt::Debug for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkConfig([redacted])")
    }
}

/// First and longest pause between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Connects, again and again until it succeeds. Says once that the broker is away, once for each new reason, and once
/// that it is back. `name` is shown in the broker's list of connections.
pub(super) async fn connect(config: &LinkConfig, name: &str, jitter: &mut fastrand::Rng) -> (Connection, Channel) {
    let mut pause = RETRY.0;
    let mut told: Option<String> = None;
    loop {
        let failure = match timeout(config.connect_timeout, try_connect(config, name)).await {
            Ok(Ok(link)) => {
                BrokerLink::Connected { name }.emit();
                return link;
            }
            Ok(Err(error)) => explain(&error),
            Err(_) => format!("no answer within {} s: is it frozen?", config.connect_timeout.as_secs()),
        };
        if told.as_ref() != Some(&failure) {
            BrokerLink::Away { name, reason: &failure }.emit();
            told = Some(failure);
        }
        sleep(pause.mul_f64(0.5 + jitter.f64() / 2.0)).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn try_connect(config: &LinkConfig, name: &str) -> lapin::Result<(Connection, Channel)> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime()?;
    let connection =
        Connection::connect_uri_with_config(config.uri.clone(), properties, config.tls.clone(), runtime).await?;
    let channel = connection.create_channel().await?;
    if config.declares {
        config.topology.declare(&channel).await?;
    } else {
        config.topology.verify(&channel).await?;
    }
    Ok((connection, channel))
}

/// The broker's error in words. lapin's own text is not used: it may hold the URL.
pub(super) fn explain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => {
            let text = refusal.get_message().to_string();
            let advice = match refusal.get_id() {
                403 => "; check user, password and permissions",
                404 => "; it is missing: declare it, or set amqp.topology to declare",
                406 => {
                    "; it is there with other arguments: delete it once it is empty, or give another amqp.prefix, \
                     or set amqp.topology to verify"
                }
                530 => "; check the virtual host",
                _ => "",
            };
            format!("the broker refuses: {text}{advice}")
        }
        ErrorKind::IOError(error) => format!("{}: check host, port and TLS", error.kind()),
        ErrorKind::MissingHeartbeatError => "it stopped answering heartbeats".to_owned(),
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
            "the connection is gone".to_owned()
        }
        _ => "the connection failed".to_owned(),
    }
}
