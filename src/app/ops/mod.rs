//! `--listen ADDR`: status page, metrics and health of a worker or run. Read-only, without personal data.
//!
//! | path | content |
//! | --- | --- |
//! | `/` | the status page; it loads nothing from elsewhere |
//! | `/status.json`, `/status/events` | its data: once, and as server-sent events |
//! | `/metrics` | metrics for Prometheus |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 if it can process jobs, else 503; the body says why |
//!
//! `observer` reads the state of the worker, `depth` that of its queue; `worker_state` puts the state into words;
//! `page` is the page, `status_stream` the events, `listener` limits connections.
//!
//! **Invariant:** a request never delays the work: answers are made from counters and from the last read of the queue.

mod depth;
mod listener;
mod observer;
mod page;
mod status_stream;
mod worker_state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::depth::WatchedQueue;
pub(crate) use self::listener::BoundedListener;
use self::observer::Observer;
use crate::adapters::local_queue::report::Tally;
use crate::app::error::AppError;
use crate::pipeline::Context;

/// Time between two events of the status.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// The running server. It stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Ops {
    pub address: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 3],
}

struct OpsState<A> {
    observer: Observer<A>,
    /// The last snapshot, as JSON.
    latest: watch::Receiver<Arc<str>>,
    streams: Arc<Semaphore>,
    page: page::StatusPage,
}

/// Serves until the result is dropped. `None`: no address is given. `before`: outcomes of the file at the start of this
/// process.
///
/// # Errors
/// [`AppError::Usage`] where the address can't be bound.
pub(crate) async fn serve_if_asked<A: Send + Sync + 'static>(
    address: Option<SocketAddr>,
    context: &Arc<Context<A>>,
    queue: WatchedQueue,
    before: Tally,
) -> Result<Option<Ops>, AppError> {
    let Some(address) = address else { return Ok(None) };
    let cannot_bind = |error| AppError::Usage(format!("--listen {address}: {error}; give a free address"));
    let listener = TcpListener::bind(address).await.map_err(cannot_bind)?;
    let address = listener.local_addr().map_err(cannot_bind)?;
    let counts_deliveries = matches!(queue, WatchedQueue::Broker(..));
    let (depth_task, depth) = depth::follow(queue);
    let observer = Observer::new(Arc::clone(context), depth, counts_deliveries, before);
    let (sender, latest) = watch::channel(json(&observer.snapshot()));
    let streams = Arc::new(Semaphore::new(status_stream::STREAMS_MAX));
    let state = Arc::new(OpsState { observer, latest, streams, page: page::StatusPage::new() });
    let observed = Arc::clone(&state);
    let snapshots = tokio::spawn(async move {
        let mut ticks = interval(SNAPSHOT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            sender.send_replace(json(&observed.observer.snapshot()));
        }
    });
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(BoundedListener::new(listener), router(state)).await {
            tracing::warn!(%error, "status, metrics and health are no longer served");
        }
    });
    tracing::info!("status page, metrics and health: http://{address}/");
    let tasks = [depth_task, AbortOnDropHandle::new(snapshots), AbortOnDropHandle::new(server)];
    Ok(Some(Ops { address, _tasks: tasks }))
}

fn router<A: Send + Sync + 'static>(state: Arc<OpsState<A>>) -> Router {
    Router::new()
        .route("/", get(status_page::<A>))
        .route("/status.json", get(status::<A>))
        .route("/status/events", get(events::<A>))
        .route("/metrics", get(metrics::<A>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<A>))
        .layer(axum::middleware::map_response(with_headers))
        .with_state(state)
}

async fn with_headers(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 3] = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    response.headers_mut().extend(HEADERS);
    response
}

async fn status_page<A: Send + Sync + 'static>(State(state): State<Arc<OpsState<A>>>) -> Response {
    state.page.respond(&state.observer.snapshot())
}

async fn status<A: Send + Sync + 'static>(State(state): State<Arc<OpsState<A>>>) -> Response {
    as_json(StatusCode::OK, json(&state.observer.snapshot()))
}

async fn events<A: Send + Sync + 'static>(State(state): State<Arc<OpsState<A>>>) -> Response {
    status_stream::respond(&state.streams, state.latest.clone())
}

async fn metrics<A: Send + Sync + 'static>(State(state): State<Arc<OpsState<A>>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.observer.metrics()).into_response()
}

async fn ready<A: Send + Sync + 'static>(State(state): State<Arc<OpsState<A>>>) -> Response {
    let worker = state.observer.status();
    let status = if worker.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    as_json(status, json(&worker))
}

fn as_json(status: StatusCode, body: Arc<str>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn json(value: &impl Serialize) -> Arc<str> {
    // Never fails on numbers and text.
    serde_json::to_string(value).unwrap_or_default().into()
}
