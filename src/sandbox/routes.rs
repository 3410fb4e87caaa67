//! The routes of the sandbox, and the translation between HTTP and the model.
//!
//! | route | what it is |
//! | --- | --- |
//! | `POST /v2/partner/card/users` | the API: creates a user |
//! | `GET /v1/partner/card/users` | the API: lists users |
//! | `DELETE /v1/partner/card/users/{serviceId}` | the API: deletes a user |
//! | `GET /v1/partner/wallet` | the API: the balance |
//! | `GET /stats` | [`SandboxStats`](crate::sandbox::SandboxStats) as JSON |
//! | `GET /healthz` | 200 while the sandbox runs |
//! | `POST /control` | a [`SandboxControl`], from loopback addresses only |
//!
//! The API's paths also work under `/api`, the end of the partner's base URLs. Every other request is answered 404 or
//! 405 in the API's error shape. A body larger than 64 KiB is answered 413 and not counted.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use serde::Serialize;

use crate::sandbox::control::SandboxControl;
use crate::sandbox::hostile::{SandboxAnswer, Wire};
use crate::sandbox::reply::SandboxReply;
use crate::sandbox::request::{CreateRequest, DeleteRequest, ListRequest, WalletRequest};
use crate::sandbox::severable::ClientConnection;
use crate::sandbox::shared::SandboxShared;
use crate::sandbox::trickle::Trickle;

/// The largest request body that is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
}

pub(super) fn router(shared: Arc<SandboxShared>) -> Router {
    let mut router =
        Router::new().route("/stats", get(stats)).route("/healthz", get(healthz)).route("/control", post(control));
    for prefix in ["", "/api"] {
        router = router
            .route(&format!("{prefix}/v2/partner/card/users"), post(create))
            .route(&format!("{prefix}/v1/partner/card/users"), get(list))
            .route(&format!("{prefix}/v1/partner/card/users/{{service_id}}"), delete(delete_user))
            .route(&format!("{prefix}/v1/partner/wallet"), get(wallet));
    }
    // The fallback for methods reaches only the routes that are already there.
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed).with_state(shared)
}

async fn create(
    State(shared): State<Arc<SandboxShared>>,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
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
    State(shared): State<Arc<SandboxShared>>,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    request: Request,
) -> Response {
    let answer = shared.list(&ListRequest {
        authorization: text(request.headers(), &header::AUTHORIZATION),
        query: request.uri().query().unwrap_or_default(),
    });
    deliver(&shared, &connection, answer).await
}

async fn delete_user(
    State(shared): State<Arc<SandboxShared>>,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    Path(service_id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = shared.delete(&DeleteRequest {
        authorization: text(&headers, &header::AUTHORIZATION),
        idempotency_key: text(&headers, &IDEMPOTENCY_KEY),
        service_id: &service_id,
    });
    deliver(&shared, &connection, answer).await
}

async fn wallet(
    State(shared): State<Arc<SandboxShared>>,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    headers: HeaderMap,
) -> Response {
    let answer = shared.wallet(&WalletRequest { authorization: text(&headers, &header::AUTHORIZATION) });
    deliver(&shared, &connection, answer).await
}

async fn stats(State(shared): State<Arc<SandboxShared>>) -> SandboxReply {
    SandboxReply::json(200, &shared.stats())
}

async fn healthz() -> SandboxReply {
    SandboxReply::json(200, &HealthBody { status: "ok" })
}

async fn not_found() -> SandboxReply {
    SandboxReply::error(404, "NOT_FOUND", "The resource does not exist")
}

async fn method_not_allowed() -> SandboxReply {
    SandboxReply::error(405, "METHOD_NOT_ALLOWED", "The resource does not allow this method")
}

async fn control(
    State(shared): State<Arc<SandboxShared>>,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    body: Bytes,
) -> Response {
    if !connection.peer.ip().to_canonical().is_loopback() {
        return SandboxReply::error(403, "LOOPBACK_ONLY", "The sandbox is controlled from its own machine")
            .into_response();
    }
    match serde_json::from_slice::<SandboxControl>(&body) {
        Ok(control) => match shared.control(&control).as_slice() {
            [] => StatusCode::NO_CONTENT.into_response(),
            unknown => {
                let text = format!("These users don't exist, so nothing was changed: {}", unknown.join(", "));
                SandboxReply::error(404, "USER_NOT_FOUND", &text).into_response()
            }
        },
        Err(error) => SandboxReply::error(422, "VALIDATION_ERROR", &error.to_string()).into_response(),
    }
}

/// Sends an answer after its delay, as far as its fault allows.
async fn deliver(shared: &SandboxShared, connection: &ClientConnection, answer: SandboxAnswer) -> Response {
    shared.delay_answer(answer.delay).await;
    let mut response = response_for(connection, answer.wire);
    if let Some(date) = shared.date().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn response_for(connection: &ClientConnection, wire: Wire) -> Response {
    match wire {
        Wire::Whole(reply) => reply.into_response(),
        Wire::Half(reply) => in_pieces(reply, Trickle::half),
        Wire::Drip(reply) => in_pieces(reply, Trickle::drip),
        Wire::Nothing => {
            connection.sever();
            // The connection fails before a byte of this is sent.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The answer with a body that arrives in pieces. `Content-Length` is that of the whole body.
fn in_pieces(reply: SandboxReply, pieces: fn(Bytes) -> Trickle) -> Response {
    let body = Bytes::from(reply.encoded_body());
    let mut response = reply.into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from_stream(pieces(body));
    response
}

fn too_large() -> Response {
    SandboxReply::error(413, "PAYLOAD_TOO_LARGE", "The body is larger than 64 KiB").into_response()
}

/// A header's value; `None` if it is absent or isn't visible ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl IntoResponse for SandboxReply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.encoded_body()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(encoding) = self.content_encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        if let Some(value) = self.retry_after.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::RETRY_AFTER, value);
        }
        response
    }
}
