//! A listener that limits the number of connections and closes idle ones.
//!
//! **Invariant:** a client that leaves connections open can't use up the file descriptors that the work needs, and
//! keeps other clients waiting for at most [`IDLE_MAX`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Most connections at once: half of the usual limit of open files of a process.
const CONNECTIONS_MAX: usize = 512;

/// A connection without a read or write for this long is closed. Longer than the usual scrape interval, so that
/// Prometheus keeps its connection.
const IDLE_MAX: Duration = Duration::from_secs(20);

pub(crate) struct BoundedListener {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
    idle: Duration,
}

impl BoundedListener {
    pub(crate) fn new(tcp: TcpListener) -> Self {
        Self::with(tcp, CONNECTIONS_MAX, IDLE_MAX)
    }

    fn with(tcp: TcpListener, connections: usize, idle: Duration) -> Self {
        Self { tcp, permits: Arc::new(Semaphore::new(connections)), idle }
    }
}

impl Listener for BoundedListener {
    type Io = IdleLimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (IdleLimitedStream, SocketAddr) {
        // Never an error: the semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (tcp, peer) = Listener::accept(&mut self.tcp).await;
        (IdleLimitedStream { tcp, idle: self.idle, timer: Box::pin(sleep(self.idle)), _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection that fails when it has been idle for too long.
pub(crate) struct IdleLimitedStream {
    tcp: TcpStream,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl IdleLimitedStream {
    /// Returns the result of a read or write, or an error when the idle timer has expired.
    fn unless_idle<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.timer.as_mut().reset(Instant::now() + self.idle);
            return polled;
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for IdleLimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buf);
        self.unless_idle(cx, polled)
    }
}

impl AsyncWrite for IdleLimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.unless_idle(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn idle_connections_are_closed_and_make_room() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = BoundedListener::with(tcp, 2, Duration::from_millis(100));
        let router = Router::new().route("/healthz", get(|| async { "ok" }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        third.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"), "{answer}");
        for silent in &mut silent {
            assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed");
        }
        server.abort();
    }
}
