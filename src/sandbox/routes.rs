//! The sandbox's routes, and the translation between HTTP and the model.
//!
//! | route | what it is |
//! | --- | --- |
//! | `POST /v2/partner/card/users` | the API: creates a user |
//! | `GET /v1/partner/card/users` | the API: lists users |
//! | `GET /stats` | [`SandboxStats`](crate::sandbox::SandboxStats) as JSON |
//! | `GET /healthz` | 200 while the sandbox runs |
//! | `POST /control` | a [`Control`], from loopback addresses only |
//!
//! The API's paths work under `/api` too, where the partner's base URLs end. Whatever else is asked
//! for is answered 404 or 405 in the API's error shape. A body larger than 64 KiB is answered 413
//! and not counted.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use serde::Serialize;

use crate::sandbox::control::Control;
use crate::sandbox::hostile::{Answer, Wire};
use crate::sandbox::model::{CreateRequest, ListRequest};
use crate::sandbox::reply::Reply;
use crate::sandbox::severable::Connection;
use crate::sandbox::shared::Shared;
use crate::sandbox::trickle::Trickle;

/// The largest request body that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router =
        Router::new().route("/stats", get(stats)).route("/healthz", get(healthz)).route("/control", post(control));
    for prefix in ["", "/api"] {
        router = router
            .route(&format!("{prefix}/v2/partner/card/users"), post(create))
            .route(&format!("{prefix}/v1/partner/card/users"), get(list));
    }
    // The fallback for methods reaches only the routes that are already there.
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed).with_state(shared)
}

async fn create(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return too_large();
    };
    let answer = shared.create(&CreateRequest {
        authorization: text(&parts.headers, &header::AUTHORIZATION),
        idempotency_key: text(&parts.headers, &IDEMPOTENCY_KEY),
        content_type: text(&parts.headers, &header::CONTENT_TYPE),
        body: &body,
    });
    deliver(&shared, &connection, answer).await
}

async fn list(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let answer = shared.list(&ListRequest {
        authorization: text(request.headers(), &header::AUTHORIZATION),
        query: request.uri().query().unwrap_or_default(),
    });
    deliver(&shared, &connection, answer).await
}

async fn stats(State(shared): State<Arc<Shared>>) -> Reply {
    Reply::json(200, &shared.stats())
}

async fn healthz() -> Reply {
    Reply::json(200, &Health { status: "ok" })
}

async fn not_found() -> Reply {
    Reply::error(404, "NOT_FOUND", "There is no such resource")
}

async fn method_not_allowed() -> Reply {
    Reply::error(405, "METHOD_NOT_ALLOWED", "This resource has no such method")
}

async fn control(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response {
    if !connection.peer.ip().to_canonical().is_loopback() {
        return Reply::error(403, "LOOPBACK_ONLY", "The sandbox is controlled from its own machine").into_response();
    }
    match serde_json::from_slice::<Control>(&body) {
        Ok(control) => {
            shared.control(&control);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => Reply::error(422, "VALIDATION_ERROR", &error.to_string()).into_response(),
    }
}

/// Sends an answer when its time has come, or as much of it as is to arrive.
async fn deliver(shared: &Shared, connection: &Connection, answer: Answer) -> Response {
    shared.hold_back(answer.delay).await;
    let mut response = written(connection, answer.wire);
    if let Some(date) = shared.date().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn written(connection: &Connection, wire: Wire) -> Response {
    match wire {
        Wire::Whole(reply) => reply.into_response(),
        Wire::Half(reply) => slowly(reply, Trickle::half),
        Wire::Drip(reply) => slowly(reply, Trickle::drip),
        Wire::Nothing => {
            connection.sever();
            // Not a byte of this is sent.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The answer with a body that comes in pieces; its announced length is the whole one.
fn slowly(reply: Reply, pieces: fn(Bytes) -> Trickle) -> Response {
    let body = Bytes::from(reply.body.clone());
    let mut response = reply.into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from_stream(pieces(body));
    response
}

fn too_large() -> Response {
    Reply::error(413, "PAYLOAD_TOO_LARGE", "The body is larger than 64 KiB").into_response()
}

/// A header's value; `None` if it is absent or isn't visible ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let mut response = (status, [content_type], self.body).into_response();
        if let Some(value) = self.retry_after.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
