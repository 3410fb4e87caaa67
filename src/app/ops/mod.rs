//! `--listen ADDR`: what those who watch get to see. Read-only, and nothing about anybody.
//!
//! | path | what |
//! | --- | --- |
//! | `/` | the status page, whole in itself |
//! | `/status.json`, `/status/events` | what it shows: once, and as server-sent events |
//! | `/metrics` | for Prometheus |
//! | `/healthz` | the process lives |
//! | `/readyz` | it can work; else 503 with the reason |
//!
//! `listener` accepts who asks, [`condition`] puts the state into words, `observer` looks at the worker, `depth` at its queue, `live` streams, `page`
//! is the page.
//!
//! **Invariant:** whoever asks never holds up the work: answers are made from counters and from what was looked at last.

pub(crate) mod condition;
mod depth;
mod listener;
mod live;
mod observer;
mod page;

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

pub(crate) use self::depth::QueueAt;
pub(crate) use self::listener::Bounded;
use self::observer::Observer;
use crate::adapters::local_queue::report::Tally;
use crate::app::console::error::AppError;
use crate::pipeline::Context;

/// Between two looks at the worker.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is served. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ops {
    /// Where.
    pub address: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 3],
}

struct Shared<A> {
    observer: Observer<A>,
    /// The last look, as JSON.
    latest: watch::Receiver<Arc<str>>,
    streams: Arc<Semaphore>,
    page: page::Page,
}

/// Serves until the result is dropped. `None`: nobody asked. `before`: the rows of a file that were over before.
///
/// # Errors
/// Where the address can't be bound.
pub(crate) async fn serve_if_asked<A: Send + Sync + 'static>(
    address: Option<SocketAddr>,
    context: &Arc<Context<A>>,
    queue: QueueAt,
    before: Tally,
) -> Result<Option<Ops>, AppError> {
    let Some(address) = address else { return Ok(None) };
    let unfit = |error| AppError::Usage(format!("--listen {address}: {error}; give a free address"));
    let listener = TcpListener::bind(address).await.map_err(unfit)?;
    let address = listener.local_addr().map_err(unfit)?;
    let counts_deliveries = matches!(queue, QueueAt::Broker(..));
    let (depth_task, depth) = depth::follow(queue);
    let observer = Observer::new(Arc::clone(context), depth, counts_deliveries, before);
    let (tell, latest) = watch::channel(json(&observer.snapshot()));
    let streams = Arc::new(Semaphore::new(live::STREAMS_MAX));
    let shared = Arc::new(Shared { observer, latest, streams, page: page::Page::new() });
    let looked_at = Arc::clone(&shared);
    let look = tokio::spawn(async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            tell.send_replace(json(&looked_at.observer.snapshot()));
        }
    });
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(Bounded::new(listener), router(shared)).await {
            tracing::warn!(%error, "status, metrics and health are no longer served");
        }
    });
    tracing::info!("status page, metrics and health: http://{address}/");
    let tasks = [depth_task, AbortOnDropHandle::new(look), AbortOnDropHandle::new(server)];
    Ok(Some(Ops { address, _tasks: tasks }))
}

fn router<A: Send + Sync + 'static>(shared: Arc<Shared<A>>) -> Router {
    Router::new()
        .route("/", get(page_now::<A>))
        .route("/status.json", get(status::<A>))
        .route("/status/events", get(events::<A>))
        .route("/metrics", get(metrics::<A>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<A>))
        .layer(axum::middleware::map_response(with_headers))
        .with_state(shared)
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

async fn page_now<A: Send + Sync + 'static>(State(shared): State<Arc<Shared<A>>>) -> Response {
    shared.page.show(&shared.observer.snapshot())
}

async fn status<A: Send + Sync + 'static>(State(shared): State<Arc<Shared<A>>>) -> Response {
    as_json(StatusCode::OK, json(&shared.observer.snapshot()))
}

async fn events<A: Send + Sync + 'static>(State(shared): State<Arc<Shared<A>>>) -> Response {
    live::stream(&shared.streams, shared.latest.clone())
}

async fn metrics<A: Send + Sync + 'static>(State(shared): State<Arc<Shared<A>>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.observer.metrics()).into_response()
}

async fn ready<A: Send + Sync + 'static>(State(shared): State<Arc<Shared<A>>>) -> Response {
    let standing = shared.observer.standing();
    let status = if standing.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    as_json(status, json(&standing))
}

fn as_json(status: StatusCode, body: Arc<str>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn json(value: &impl Serialize) -> Arc<str> {
    // Numbers, codes and texts always become JSON.
    serde_json::to_string(value).unwrap_or_default().into()
}
