//! Receives the partner's webhooks over HTTP: verifies the signature, converts the end of a verification into an event,
//! and answers 200 only after the event is recorded.
//!
//! | answer | when |
//! | --- | --- |
//! | 200 | the event is recorded, or the webhook is about something else |
//! | 400 | it is signed, but doesn't have the documented shape |
//! | 401 | it isn't signed with the configured secret |
//! | 408, 413 | it did not arrive in time, or is too long |
//! | 503 | the event isn't recorded yet: recording is retried, and the partner should send the webhook again |
//!
//! `signature` verifies signatures, `recorder` records events through the port [`KycSink`].
//!
//! **Invariants:** an unsigned body is never parsed; bodies and waiting events are bounded.

mod recorder;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use secrecy::SecretString;
use tokio::time::timeout;

use self::recorder::EventRecorder;
pub(crate) use self::recorder::OnRecorded;
pub(crate) use self::signature::ReadSecret;
use self::signature::SignatureVerifier;
use crate::clock::Clock;
use crate::domain::kyc::{SignatureEncoding, Webhook, read};
use crate::ports::KycSink;
use crate::telemetry::{WebhookMetrics, WebhookReceived, WebhookResult};

/// Longest body that is read, in bytes; bounds memory for requests whose signature isn't verified yet. The partner's
/// webhooks have a few hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Time limit for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// `Retry-After` of an answer 503, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// Settings of the receiver.
#[derive(Debug, Clone)]
pub(crate) struct WebhookConfig {
    /// Path that webhooks are posted to.
    pub path: String,
    /// Header with the signature: HMAC-SHA256 of the body. An assumption; the vendor doesn't document it.
    pub signature_header: HeaderName,
    /// How the signature is written. A prefix `sha256=` is allowed.
    pub signature_encoding: SignatureEncoding,
    /// Time limit for recording an event before the answer is 503.
    pub publish_timeout: Duration,
}

struct WebhookReceiver<S> {
    config: WebhookConfig,
    verifier: SignatureVerifier,
    recorder: Arc<EventRecorder<S>>,
    metrics: WebhookMetrics,
    clock: Clock,
}

/// Returns the routes. `secret` signs the webhooks; `read_secret` reads it again if a signature doesn't match.
pub(crate) fn router<S: KycSink>(
    config: WebhookConfig,
    secret: &SecretString,
    read_secret: ReadSecret,
    sink: S,
    metrics: WebhookMetrics,
    on_recorded: OnRecorded,
    clock: Clock,
) -> Router {
    let path = config.path.clone();
    let verifier = SignatureVerifier::new(secret, config.signature_encoding, read_secret);
    let recorder = Arc::new(EventRecorder::new(sink, metrics.clone(), on_recorded));
    let receiver = WebhookReceiver { config, verifier, recorder, metrics, clock };
    Router::new().route(&path, post(receive::<S>)).with_state(Arc::new(receiver))
}

async fn receive<S: KycSink>(
    State(receiver): State<Arc<WebhookReceiver<S>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let WebhookReceiver { config, verifier, recorder, metrics, clock } = &*receiver;
    let refuse = |status: StatusCode, result, why: &str| {
        WebhookReceived { result, event: None, why: Some(why) }.emit(metrics);
        answer(status, why)
    };
    let Some(signature) = headers.get(&config.signature_header) else {
        let why = format!("there is no header {}", config.signature_header);
        return refuse(StatusCode::UNAUTHORIZED, WebhookResult::Unsigned, &why);
    };
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let why = format!("the body is incomplete, or longer than {BODY_BYTES_MAX} bytes");
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, WebhookResult::Incomplete, &why);
        }
        Err(_) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, WebhookResult::Incomplete, "the body did not arrive in time");
        }
    };
    if !verifier.verify(signature.as_bytes(), &body).await {
        return refuse(StatusCode::UNAUTHORIZED, WebhookResult::Unsigned, "the signature doesn't match");
    }
    let event = match read(&body, clock.now()) {
        Ok(Webhook::Kyc(event)) => event,
        Ok(Webhook::Other) => {
            WebhookReceived { result: WebhookResult::Ignored, event: None, why: None }.emit(metrics);
            return answer(StatusCode::OK, "ignored");
        }
        Ok(Webhook::UnknownStatus) => {
            WebhookReceived { result: WebhookResult::UnknownStatus, event: None, why: None }.emit(metrics);
            return answer(StatusCode::OK, "ignored: unknown status");
        }
        Err(error) => return refuse(StatusCode::BAD_REQUEST, WebhookResult::Malformed, &error.to_string()),
    };
    let id = event.id;
    match recorder.record(event, config.publish_timeout).await {
        Ok(()) => answer(StatusCode::OK, "recorded"),
        Err(why) => {
            let result = WebhookResult::NotPublished;
            WebhookReceived { result, event: Some(id), why: Some(&why) }.emit(metrics);
            // The reason is for the operator only.
            answer(StatusCode::SERVICE_UNAVAILABLE, "the event can't be recorded now: send the webhook again")
        }
    }
}

fn answer(status: StatusCode, message: &str) -> Response {
    let word = if status.is_success() { "success" } else { "error" };
    let body = serde_json::json!({"status": word, "message": message}).to_string();
    let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    }
    response
}
