//! Connections that a handler can close without an answer: the client sees its connection closed and receives no byte.
//!
//! The stream and the handlers share a [`ClientConnection`]; handlers get it as axum's connect info. Once it is
//! severed, every write fails, and hyper closes the connection. On HTTP/2 this loses all answers in flight on the
//! connection, as a real fault would; over plain TCP, clients use HTTP/1.1 by default.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// One client's connection.
#[derive(Clone, Debug)]
pub(super) struct ClientConnection {
    pub(super) peer: SocketAddr,
    severed: Arc<AtomicBool>,
}

impl ClientConnection {
    /// Closes the connection at the next write.
    pub(super) fn sever(&self) {
        self.severed.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, SeverableListener>> for ClientConnection {
    fn connect_info(stream: IncomingStream<'_, SeverableListener>) -> Self {
        stream.io().connection.clone()
    }
}

/// Accepts [`SeverableStream`]s, without Nagle's delay.
#[derive(Debug)]
pub(super) struct SeverableListener(pub(super) TcpListener);

impl Listener for SeverableListener {
    type Io = SeverableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SeverableStream, SocketAddr) {
        let (tcp, peer) = Listener::accept(&mut self.0).await;
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::trace!(%error, "TCP_NODELAY was refused");
        }
        let connection = ClientConnection { peer, severed: Arc::new(AtomicBool::new(false)) };
        (SeverableStream { tcp, connection }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A TCP stream whose writes fail once its [`ClientConnection`] is severed.
#[derive(Debug)]
pub(super) struct SeverableStream {
    tcp: TcpStream,
    connection: ClientConnection,
}

impl SeverableStream {
    fn tcp_unless_severed(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.connection.severed.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Pin::new(&mut self.tcp))
    }
}

impl AsyncRead for SeverableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for SeverableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp_unless_severed()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp_unless_severed()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp_unless_severed()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
