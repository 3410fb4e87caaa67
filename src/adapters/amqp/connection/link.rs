//! A connection that is rebuilt whenever it breaks.
//!
//! lapin's own recovery is not used: after a broker's restart it hangs for a long time without saying so, and it
//! never recovers a closed channel. Here, everything is thrown away and made anew, with a time limit around each step,
//! because a frozen broker answers nothing at all.
//!
//! A refusal that only a person can mend (wrong password, missing virtual host, other arguments) is waited out like
//! everything else: once it is mended, the work goes on without a restart.

use std::fmt;
use std::fs::File;
use std::future::poll_fn;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::time::{sleep, timeout};

use crate::adapters::amqp::connection::connection_log::ConnectionLog;
use crate::adapters::amqp::connection::refusal::explain;
use crate::adapters::amqp::connection::socket::{self, Socket};
use crate::adapters::amqp::connection::tls::{self, TlsFiles};
use crate::adapters::amqp::topology::Topology;
use crate::adapters::amqp::topology::establish::establish;
use crate::telemetry::{Metrics, TopologyMismatch};

/// How a broker is reached.
#[derive(Clone)]
pub struct LinkConfig {
    /// Host, virtual host, credentials, heartbeat.
    pub uri: AMQPUri,
    /// Whom `amqps://` trusts, and what it shows; see [`crate::adapters::amqp::connection::tls::connector`].
    pub tls: Option<TlsFiles>,
    /// File that holds the password; wins over the URL's. Read for each connection, so that a new password needs
    /// no restart.
    pub password_file: Option<PathBuf>,
    /// Longest time for connecting and declaring together.
    pub connect_timeout: Duration,
    /// What has to be there.
    pub topology: Topology,
    /// Whether it is declared, or only verified because the broker's operators own it.
    pub declares: bool,
    /// Told of every change.
    pub metrics: Metrics,
}

impl fmt::Debug for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkConfig([redacted])")
    }
}

/// RabbitMQ's own limit of a frame, in bytes, and so the length of the longest headers that can be on a queue: headers
/// travel in one frame, and the broker delivers it whatever was agreed on.
pub const LONGEST_FRAME_BYTES: u32 = 128 * 1_024;

impl LinkConfig {
    /// From the next connection on frames may be this long.
    pub fn allow_longest_frames(&mut self) {
        let frame_max = &mut self.uri.query.frame_max;
        *frame_max = (*frame_max).max(Some(LONGEST_FRAME_BYTES));
    }
}

/// A connection with its first channel. Dropped, it ends within a second, whatever the broker does.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    pub(crate) connection: Connection,
    pub(crate) socket: Socket,
}

/// First and longest pause between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A connection that lived shorter broke for a reason that the next one may meet as well.
pub(crate) const SHORT_LIFE: Duration = Duration::from_secs(5);

/// The pauses between connections: none after a long life, and growing ones where each breaks at once, because of a message that
/// the broker closes the channel for, or a missing permission.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(RETRY.0)
    }
}

impl Pauses {
    /// Waits as long as is right after such a life.
    pub(crate) async fn after(&mut self, life: Duration) {
        if life >= SHORT_LIFE {
            *self = Self::default();
            return;
        }
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(RETRY.1);
    }
}

/// Longest password, in bytes; a longer file isn't a password file.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// Connects, again and again until it succeeds. Says once for each reason that it can't; that it works is for the caller to say,
/// once it does what it is there for.
pub(crate) async fn connect(
    config: &LinkConfig,
    connection_log: &mut ConnectionLog,
    jitter: &mut fastrand::Rng,
) -> Link {
    let mut pause = RETRY.0;
    loop {
        let failure = match timeout(config.connect_timeout, try_connect(config, connection_log.name())).await {
            Ok(Ok(link)) => return link,
            Ok(Err(failure)) => failure,
            Err(_) => format!("no answer within {} s: is it frozen?", config.connect_timeout.as_secs()),
        };
        connection_log.away(&failure);
        sleep(pause.mul_f64(0.5 + jitter.f64() / 2.0)).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Connects once, and neither tells nor declares anything.
pub(crate) async fn open(config: &LinkConfig, name: &str) -> Result<(Connection, Socket), String> {
    let mut uri = config.uri.clone();
    if let Some(file) = &config.password_file {
        uri.authority.userinfo.password = read_password(file)?;
    }
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = config.tls.as_ref().map(tls::connector).transpose()?;
    let connecting = socket::connect(uri, tls, properties, config.connect_timeout).await;
    connecting.map_err(|error| match error.kind() {
        ErrorKind::ProtocolError(refusal) if refusal.get_id() == 530 && config.uri.vhost.is_empty() => {
            "the queue URL ends with a slash, which names the virtual host \"\": leave the slash away for the default \
             one, or name one"
                .to_owned()
        }
        _ => explain(&error),
    })
}

async fn try_connect(config: &LinkConfig, name: &str) -> Result<Link, String> {
    let (connection, socket) = open(config, name).await?;
    let channel = establish(&connection, &config.topology, config.declares).await?;
    Ok(Link { channel, connection, socket })
}

/// How often it is looked whether everything is there still.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Mends what somebody has deleted, or says once that it is missing, for as long as it is polled: an exchange or a binding that upstreams
/// use goes without a word to this connection.
pub(crate) async fn tend(connection: &Connection, config: &LinkConfig) -> ! {
    let mut told = None;
    loop {
        sleep(LOOK_EVERY).await;
        let looking = establish(connection, &config.topology, config.declares);
        match timeout(config.connect_timeout, looking).await {
            Ok(Ok(channel)) => {
                if told.take().is_some() {
                    TopologyMismatch { reason: None }.emit(&config.metrics);
                }
                let _ = channel.close(200, "done".into()).await;
            }
            Ok(Err(reason)) if connection.status().connected() && told.as_ref() != Some(&reason) => {
                TopologyMismatch { reason: Some(&reason) }.emit(&config.metrics);
                told = Some(reason);
            }
            // The connection's own trouble is told elsewhere.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// The password in a file, without white space around it.
///
/// # Errors
/// Why there is none. Never quotes the file.
pub fn read_password(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(file)
        .and_then(|open| open.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("the password file {} can't be read: {error}", file.display()))?;
    match text.trim() {
        "" => Err(format!("the password file {} is empty", file.display())),
        password => Ok(password.to_owned()),
    }
}

/// What a connection says about itself between its beginning and its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The broker takes nothing on this connection for now, and says why.
    Blocked(String),
    /// It does again.
    Unblocked,
    /// The connection is gone, and why.
    Gone(String),
}

/// The notices of a connection. One reader a connection: a second one would take notices away from the first.
pub(crate) struct Notices(Pin<Box<dyn Stream<Item = Event> + Send>>);

impl Link {
    pub(crate) fn notices(&self) -> Notices {
        Notices(Box::pin(self.connection.events_listener()))
    }
}

impl Notices {
    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Notice {
        loop {
            match poll_fn(|context| self.0.as_mut().poll_next(context)).await {
                Some(Event::ConnectionBlocked(reason)) => return Notice::Blocked(reason),
                Some(Event::ConnectionUnblocked) => return Notice::Unblocked,
                Some(Event::Error(error)) => return Notice::Gone(explain(&error)),
                Some(_) => {}
                None => return Notice::Gone("the connection is gone".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_that_break_at_once_are_made_anew_more_and_more_slowly() {
        let mut pauses = Pauses::default();
        let mut waited = Vec::new();
        for life_ms in [60_000, 10, 10, 10, 10, 10, 10, 10, 60_000, 10] {
            let start = Instant::now();
            pauses.after(Duration::from_millis(life_ms)).await;
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(waited, [0, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 0, 200]);
    }
}
