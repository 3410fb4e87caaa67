//! `/status/events`: the status as server-sent events.
//!
//! **Invariant:** bounded: at most [`STREAMS_MAX`] streams with one waiting event each. A slow reader misses events
//! instead of making them pile up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Most streams at once. A page that gets none requests `/status.json` instead.
pub(super) const STREAMS_MAX: usize = 32;

/// Longest life of a stream. A browser opens the next one by itself, and a forgotten one makes room.
const STREAM_MAX: Duration = Duration::from_secs(600);

/// The last status, as JSON.
type LatestStatus = watch::Receiver<Arc<str>>;

/// Responds with one event for the current status and one for each later status.
pub(super) fn respond(streams: &Arc<Semaphore>, mut latest: LatestStatus) -> Response {
    let Ok(permit) = Arc::clone(streams).try_acquire_owned() else {
        let text = "too many live views are open; request /status.json instead\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "60")], text).into_response();
    };
    latest.mark_changed();
    let end = Instant::now() + STREAM_MAX;
    let events = stream::unfold(latest, move |latest| next_status(latest, end)).map(move |status| {
        // Held until the stream is dropped.
        let _permit = &permit;
        Ok::<_, Infallible>(Event::default().data(status))
    });
    Sse::new(events).into_response()
}

/// Waits for a status that wasn't sent yet. `None`: the stream has ended.
async fn next_status(mut latest: LatestStatus, end: Instant) -> Option<(Arc<str>, LatestStatus)> {
    tokio::time::timeout_at(end, latest.changed()).await.ok()?.ok()?;
    let status = Arc::clone(&latest.borrow_and_update());
    Some((status, latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_are_limited_and_a_dropped_one_makes_room() {
        let streams = Arc::new(Semaphore::new(1));
        let (_sender, latest) = watch::channel(Arc::from("{}"));
        let first = respond(&streams, latest.clone());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(respond(&streams, latest.clone()).status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert_eq!(respond(&streams, latest).status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_the_latest_status_only_and_a_stream_ends() {
        let (sender, latest) = watch::channel(Arc::from("1"));
        let end = Instant::now() + STREAM_MAX;
        let mut reader = latest.clone();
        reader.mark_changed();
        let (first, reader) = next_status(reader, end).await.unwrap();
        sender.send_replace(Arc::from("2"));
        sender.send_replace(Arc::from("3"));
        let (second, reader) = next_status(reader, end).await.unwrap();
        assert_eq!((&*first, &*second), ("1", "3"));
        assert!(next_status(reader, end).await.is_none());
    }
}
