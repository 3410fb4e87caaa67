//! The status as server-sent events.
//!
//! **Invariant:** bounded: so many streams, each with one event waiting at most. Whoever reads slowly misses events
//! instead of piling them up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Most streams at once. The page asks for `/status.json` instead where there is none left.
pub(crate) const STREAMS_MAX: usize = 32;

/// How long a stream lasts; a browser then opens another by itself, and one that was forgotten makes room.
const STREAM_MAX: Duration = Duration::from_secs(600);

type Latest = watch::Receiver<Arc<str>>;

/// One event for the state as it is, and one for each look from then on.
pub(crate) fn stream(streams: &Arc<Semaphore>, mut latest: Latest) -> Response {
    let Ok(permit) = Arc::clone(streams).try_acquire_owned() else {
        let text = "too many live views are open; ask for /status.json instead\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "60")], text).into_response();
    };
    latest.mark_changed();
    let end = Instant::now() + STREAM_MAX;
    Sse::new(Live { next: Box::pin(next(latest, end)), end, _permit: permit }).into_response()
}

type Next = Pin<Box<dyn Future<Output = Option<(Latest, Arc<str>)>> + Send>>;

struct Live {
    next: Next,
    end: Instant,
    _permit: OwnedSemaphorePermit,
}

async fn next(mut latest: Latest, end: Instant) -> Option<(Latest, Arc<str>)> {
    tokio::time::timeout_at(end, latest.changed()).await.ok()?.ok()?;
    let status = Arc::clone(&latest.borrow_and_update());
    Some((latest, status))
}

impl Stream for Live {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some((latest, status)) = ready!(self.next.as_mut().poll(context)) else {
            self.next = Box::pin(std::future::ready(None));
            return Poll::Ready(None);
        };
        self.next = Box::pin(next(latest, self.end));
        Poll::Ready(Some(Ok(Event::default().data(status))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_are_limited_and_one_that_ends_makes_room() {
        let streams = Arc::new(Semaphore::new(1));
        let (_tell, latest) = watch::channel(Arc::from("{}"));
        let first = stream(&streams, latest.clone());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(stream(&streams, latest.clone()).status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert_eq!(stream(&streams, latest).status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_the_latest_state_only_and_a_stream_ends() {
        let (tell, latest) = watch::channel(Arc::from("1"));
        let end = Instant::now() + STREAM_MAX;
        let mut waiting = latest.clone();
        waiting.mark_changed();
        let (waiting, first) = next(waiting, end).await.unwrap();
        tell.send_replace(Arc::from("2"));
        tell.send_replace(Arc::from("3"));
        let (waiting, second) = next(waiting, end).await.unwrap();
        assert_eq!((&*first, &*second), ("1", "3"));
        assert!(next(waiting, end).await.is_none());
    }
}
