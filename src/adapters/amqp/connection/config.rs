//! Settings of a connection to the broker.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::uri::AMQPUri;

use crate::adapters::amqp::connection::tls::TlsFiles;
use crate::adapters::amqp::topology::Topology;
use crate::telemetry::Metrics;

/// How to connect to a broker.
#[derive(Clone)]
pub struct AmqpConnectionConfig {
    /// Host, virtual host, credentials, heartbeat.
    pub uri: AMQPUri,
    /// Certificates for `amqps://`; see [`crate::adapters::amqp::connection::tls::connector`].
    pub tls: Option<TlsFiles>,
    /// File with the password, which replaces the URL's. Read for each connection: a new password needs no restart.
    pub password_file: Option<PathBuf>,
    /// Time limit of connecting, logging in and declaring together.
    pub connect_timeout: Duration,
    /// Exchanges, queues and bindings that must exist.
    pub topology: Topology,
    /// Declares the topology if set; otherwise only verifies it, because the broker's operators own it.
    pub declares: bool,
    /// Metrics of the connection's state.
    pub metrics: Metrics,
}

impl fmt::Debug for AmqpConnectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AmqpConnectionConfig([redacted])")
    }
}

/// RabbitMQ's default maximum size of a frame, in bytes.
///
/// The headers of a message are in one frame, which the broker delivers even if it is longer than the negotiated
/// size. So this is also the maximum size of the headers of a message on a queue.
pub const LONGEST_FRAME_BYTES: u32 = 128 * 1_024;

/// Maximum size of a password file, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4_096;

impl AmqpConnectionConfig {
    /// Negotiates the longest frames from the next connection on.
    pub fn allow_longest_frames(&mut self) {
        let frame_max = &mut self.uri.query.frame_max;
        *frame_max = (*frame_max).max(Some(LONGEST_FRAME_BYTES));
    }
}

/// Reads the password in a file, without white space around it.
///
/// # Errors
/// Says why the file can't be used. Never quotes the file.
pub fn read_password(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(file).and_then(|open| open.take(PASSWORD_BYTES_MAX).read_to_string(&mut text)).map_err(|error| {
        format!("the password file {} can't be read: {error}; check amqp.password_file", file.display())
    })?;
    match text.trim() {
        "" => {
            Err(format!("the password file {} is empty: put the password of the broker's user there", file.display()))
        }
        password => Ok(password.to_owned()),
    }
}
