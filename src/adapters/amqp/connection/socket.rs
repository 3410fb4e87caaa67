//! The socket under a connection, and the means to cut it.
//!
//! lapin runs each connection on a thread of its own, which doesn't notice that nobody waits for it any more: a
//! broker that takes connections and answers nothing (frozen, or behind a firewall that drops everything) would collect
//! one thread and one socket for each attempt. Here the owner cuts the socket, which ends the thread.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// How long a connection that is given up may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Cuts the connection's socket when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Socket(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Connecting,
    Connected(TcpStream),
    Cut,
}

/// Connects and logs in. Dropping the future cuts what was begun; the TCP and TLS part ends by itself after `limit`.
pub(crate) async fn connect(
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
    properties: ConnectionProperties,
    limit: Duration,
) -> lapin::Result<(Connection, Socket)> {
    let socket = Socket::default();
    let slot = Arc::clone(&socket.0);
    let runtime = lapin::runtime::default_runtime()?;
    let connection = Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            let AMQPUri { scheme, authority, .. } = uri;
            let connecting = async {
                let address = runtime.to_socket_addrs((authority.host.clone(), authority.port));
                let stream = AsyncTcpStream::connect(&runtime, address).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    keep(&slot, TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?))?;
                }
                match (scheme, &tls) {
                    (AMQPScheme::AMQP, _) => Ok(stream),
                    (AMQPScheme::AMQPS, Some(connector)) => stream.into_rustls(connector, &authority.host).await,
                    (AMQPScheme::AMQPS, None) => Err(io::Error::from(io::ErrorKind::Unsupported)),
                }
            };
            let connected = timeout(limit, connecting).await;
            Ok(connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))?)
        },
        properties,
    )
    .await?;
    Ok((connection, socket))
}

fn keep(slot: &Mutex<Slot>, stream: TcpStream) -> io::Result<()> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*slot, Slot::Cut) {
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    }
    *slot = Slot::Connected(stream);
    Ok(())
}

fn cut(slot: &Mutex<Slot>) -> Option<TcpStream> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match std::mem::replace(&mut *slot, Slot::Cut) {
        Slot::Connected(stream) => Some(stream),
        Slot::Connecting | Slot::Cut => None,
    }
}

impl Socket {
    /// Cuts it now.
    pub(crate) fn cut(&self) {
        drop(cut(&self.0).map(Cutting));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(stream) = cut(&self.0) else { return };
        let cutting = Cutting(stream);
        if let Ok(runtime) = Handle::try_current() {
            // The thread may still be writing the connection's last frames.
            runtime.spawn(async move {
                sleep(GOODBYE).await;
                drop(cutting);
            });
        }
    }
}

/// Cuts even where its task never runs to its end.
struct Cutting(TcpStream);

impl Drop for Cutting {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
