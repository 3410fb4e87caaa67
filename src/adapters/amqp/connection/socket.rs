//! The socket below a connection, and the means to shut it down.
//!
//! lapin runs each connection on a thread of its own, which doesn't notice that its owner has given up. A broker that
//! accepts connections and answers nothing (frozen, or behind a firewall that drops packets) would collect a thread and
//! a socket for each attempt. So the owner shuts the socket down, which ends the thread.

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

/// Time for a dropped connection to write its last frames.
const LAST_FRAMES_MAX: Duration = Duration::from_secs(1);

/// Shuts the connection's socket down when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct SocketGuard(Arc<Mutex<SocketState>>);

#[derive(Debug, Default)]
enum SocketState {
    #[default]
    Connecting,
    Connected(TcpStream),
    ShutDown,
}

/// Connects and logs in. Dropping the future shuts the socket down; the TCP and TLS part ends by itself after `limit`.
pub(crate) async fn connect(
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
    properties: ConnectionProperties,
    limit: Duration,
) -> lapin::Result<(Connection, SocketGuard)> {
    let guard = SocketGuard::default();
    let state = Arc::clone(&guard.0);
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
                    set_connected(&state, TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?))?;
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
    Ok((connection, guard))
}

fn set_connected(state: &Mutex<SocketState>, stream: TcpStream) -> io::Result<()> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, SocketState::ShutDown) {
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    }
    *state = SocketState::Connected(stream);
    Ok(())
}

/// Marks the socket as shut down; the caller has to shut down the stream.
fn take_stream(state: &Mutex<SocketState>) -> Option<TcpStream> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match std::mem::replace(&mut *state, SocketState::ShutDown) {
        SocketState::Connected(stream) => Some(stream),
        SocketState::Connecting | SocketState::ShutDown => None,
    }
}

impl SocketGuard {
    pub(crate) fn shut_down(&self) {
        drop(take_stream(&self.0).map(ShutDownOnDrop));
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        let Some(stream) = take_stream(&self.0) else { return };
        let stream = ShutDownOnDrop(stream);
        if let Ok(runtime) = Handle::try_current() {
            // lapin's thread may still be writing the connection's last frames.
            runtime.spawn(async move {
                sleep(LAST_FRAMES_MAX).await;
                drop(stream);
            });
        }
    }
}

/// Shuts the stream down even if the task that holds it is aborted.
struct ShutDownOnDrop(TcpStream);

impl Drop for ShutDownOnDrop {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
