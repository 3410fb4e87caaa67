//! `--listen ADDR`: metrics and health for those who watch.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::error::AppError;
use crate::pipeline::Context;

/// Serves `/metrics` and `/healthz` until the result is dropped. `None`: nobody asked.
///
/// # Errors
/// Where the address can't be bound.
pub async fn serve_if_asked<A: Send + Sync + 'static>(
    address: Option<SocketAddr>,
    context: &Arc<Context<A>>,
) -> Result<Option<AbortOnDropHandle<()>>, AppError> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| AppError::Usage(format!("--listen {address}: {error}; give a free address")))?;
    let metrics = context.metrics.clone();
    let router = Router::new()
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()) }),
        )
        .route("/healthz", get(|| async { "ok\n" }));
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "metrics and health are no longer served");
        }
    });
    Ok(Some(AbortOnDropHandle::new(server)))
}
