//! Opens a connection with a first channel on which the topology exists.

use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::time::{sleep, timeout};

use crate::adapters::amqp::connection::backoff::RECONNECT_DELAY;
use crate::adapters::amqp::connection::config::{AmqpConnectionConfig, read_password};
use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::explain::explain;
use crate::adapters::amqp::connection::socket::{self, SocketGuard};
use crate::adapters::amqp::connection::tls;
use crate::adapters::amqp::topology::establish::establish;

/// A connection with its first channel. Its socket is shut down within a second of the drop, whatever the broker does.
#[derive(Debug)]
pub(crate) struct AmqpConnection {
    pub(crate) channel: Channel,
    pub(crate) connection: Connection,
    pub(crate) socket: SocketGuard,
}

/// Connects, and retries until it succeeds: an error that an operator has to fix (a wrong password, a missing virtual
/// host, other queue arguments) needs no restart.
///
/// Logs each reason for a failure once. The caller logs the success, once the connection does its work.
pub(crate) async fn connect(
    config: &AmqpConnectionConfig,
    connection_log: &mut ConnectionLog,
    jitter: &mut fastrand::Rng,
) -> AmqpConnection {
    let mut delay = RECONNECT_DELAY.0;
    loop {
        let failure = match timeout(config.connect_timeout, try_connect(config, connection_log.name())).await {
            Ok(Ok(connection)) => return connection,
            Ok(Err(failure)) => failure,
            Err(_) => no_answer_within(config.connect_timeout),
        };
        connection_log.connect_failed(&failure);
        sleep(delay.mul_f64(0.5 + jitter.f64() / 2.0)).await;
        delay = (delay * 2).min(RECONNECT_DELAY.1);
    }
}

/// Connects once. Neither logs nor declares anything.
pub(crate) async fn open(config: &AmqpConnectionConfig, name: &str) -> Result<(Connection, SocketGuard), String> {
    let mut uri = config.uri.clone();
    if let Some(file) = &config.password_file {
        uri.authority.userinfo.password = read_password(file)?;
    }
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = config.tls.as_ref().map(tls::connector).transpose()?;
    let connecting = socket::connect(uri, tls, properties, config.connect_timeout).await;
    connecting.map_err(|error| match error.kind() {
        ErrorKind::ProtocolError(refusal) if refusal.get_id() == 530 && config.uri.vhost.is_empty() => {
            "the queue URL ends with a slash, which names the virtual host \"\": remove the slash for the default \
             virtual host, or name one"
                .to_owned()
        }
        _ => explain(&error),
    })
}

/// Message for a broker that accepts connections and answers nothing.
pub(crate) fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {} s: is the broker frozen?", limit.as_secs())
}

async fn try_connect(config: &AmqpConnectionConfig, name: &str) -> Result<AmqpConnection, String> {
    let (connection, socket) = open(config, name).await?;
    let channel = establish(&connection, &config.topology, config.declares).await?;
    Ok(AmqpConnection { channel, connection, socket })
}
