//! Response bodies that arrive in pieces: the first half only, or all of it very slowly.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use crate::sandbox::fault_kind::DRIP;

/// Number of pieces of a dripping body.
const PIECES: u32 = 20;

/// A body as a stream of pieces.
pub(super) struct Trickle {
    rest: Bytes,
    piece: usize,
    pause: Duration,
    next: Pin<Box<Sleep>>,
    /// Whether the connection is closed after the last piece, before the announced length.
    breaks: bool,
}

impl Trickle {
    /// The first half; then the connection is closed.
    pub(super) fn half(body: Bytes) -> Self {
        let half = body.slice(..body.len() / 2);
        Self {
            piece: half.len().max(1),
            rest: half,
            pause: Duration::ZERO,
            next: Box::pin(sleep(Duration::ZERO)),
            breaks: true,
        }
    }

    /// The whole body over [`DRIP`].
    pub(super) fn drip(body: Bytes) -> Self {
        let pause = DRIP / PIECES;
        let piece = body.len().div_ceil(PIECES as usize).max(1);
        Self { rest: body, piece, pause, next: Box::pin(sleep(pause)), breaks: false }
    }
}

impl Stream for Trickle {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.next.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            let breaks = std::mem::take(&mut self.breaks);
            return Poll::Ready(breaks.then(|| Err(io::ErrorKind::ConnectionReset.into())));
        }
        let length = self.piece.min(self.rest.len());
        let piece = self.rest.split_to(length);
        self.next = Box::pin(sleep(self.pause));
        Poll::Ready(Some(Ok(piece)))
    }
}
