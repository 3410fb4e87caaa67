//! Bodies that don't come as one piece: half of one, and one that drips.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures_core::Stream;
use tokio::time::{Sleep, sleep};

use crate::sandbox::plan::DRIP;

/// In how many pieces a dripping body comes.
const PIECES: u32 = 20;

/// The stream of a body's pieces.
pub(super) struct Trickle {
    rest: Bytes,
    piece: usize,
    pause: Duration,
    next: Pin<Box<Sleep>>,
    /// The connection breaks after the last piece.
    breaks: bool,
}

impl Trickle {
    /// The first half, and then the connection breaks.
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

    /// All of it, within [`DRIP`].
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
