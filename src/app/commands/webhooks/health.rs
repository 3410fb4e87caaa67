//! `webhooks --listen ADDR`: metrics and health of the receiver.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::commands::webhooks::{bind, cannot_bind};
use crate::app::error::AppError;
use crate::app::ops::BoundedListener;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::telemetry::WebhookMetrics;
use crate::telemetry::status::WorkerStatus;

/// Whether events can be recorded.
pub(super) struct WebhookHealth {
    is_ready: AtomicBool,
    since: Mutex<Timestamp>,
    metrics: WebhookMetrics,
    stop: CancellationToken,
}

impl WebhookHealth {
    pub(super) fn new(is_ready: bool, metrics: WebhookMetrics, stop: CancellationToken) -> Self {
        let since = Mutex::new(Clock::System.now());
        Self { is_ready: AtomicBool::new(is_ready), since, metrics, stop }
    }

    pub(super) fn set_ready(&self, is_ready: bool) {
        if self.is_ready.swap(is_ready, Ordering::Relaxed) != is_ready {
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Clock::System.now();
        }
    }

    fn status(&self) -> WorkerStatus {
        let ready = self.is_ready.load(Ordering::Relaxed) && !self.stop.is_cancelled();
        let (state, message, advice) = match (ready, self.stop.is_cancelled()) {
            (_, true) => ("stopping", "Stopping: requests received so far are answered", None),
            (true, _) => ("working", "Receiving webhooks", None),
            (false, _) => (
                "blocked",
                "Events can't be recorded: webhooks are answered with 503, so that the partner sends them again",
                Some(
                    "look at the log, which says what is wrong with the broker or the disk; it resumes by itself"
                        .to_owned(),
                ),
            ),
        };
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        WorkerStatus {
            ready,
            state,
            reason: None,
            since,
            until: None,
            message: message.to_owned(),
            advice,
            warning: None,
        }
    }

    /// Serves until the result is dropped. `None`: no address is given.
    pub(super) async fn serve_if_asked(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
    ) -> Result<Option<AbortOnDropHandle<()>>, AppError> {
        let Some(address) = address else { return Ok(None) };
        let listener = bind("--listen", address).await?;
        let bound = listener.local_addr().map_err(|error| cannot_bind("--listen", address, &error))?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(self));
        tracing::info!("metrics and health: http://{bound}/");
        Ok(Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = axum::serve(BoundedListener::new(listener), router).await {
                tracing::warn!(%error, "metrics and health are no longer served");
            }
        }))))
    }
}

async fn metrics(State(health): State<Arc<WebhookHealth>>) -> Response {
    let text = health.metrics.render(health.status().ready);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(health): State<Arc<WebhookHealth>>) -> Response {
    let health = health.status();
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&health).unwrap_or_default() + "\n";
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
