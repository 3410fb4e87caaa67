//! Connections that a handler can cut, so that an answer is truly lost: the client sees its
//! connection closed, without a single byte of an answer.
//!
//! A [`Connection`] is shared by the stream and, as axum's connect info, by the handlers. Once it
//! is severed every write fails, and hyper gives up the connection. On HTTP/2 that loses every
//! answer the connection still owed, as a real fault would; over plain TCP clients speak HTTP/1.1
//! unless told otherwise.

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
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    severed: Arc<AtomicBool>,
}

impl Connection {
    /// Closes the connection as soon as something is to be written to it.
    pub(super) fn sever(&self) {
        self.severed.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, SeverableListener>> for Connection {
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
        let connection = Connection { peer, severed: Arc::new(AtomicBool::new(false)) };
        (SeverableStream { tcp, connection }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A TCP stream whose writes fail once its [`Connection`] is severed.
#[derive(Debug)]
pub(super) struct SeverableStream {
    tcp: TcpStream,
    connection: Connection,
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
