//! Receives the partner's webhooks: checks the signature, makes an event of what ends a verification, and answers 200 only once that
//! event is recorded.
//!
//! | answer | when |
//! | --- | --- |
//! | 200 | the event is recorded, or the webhook is about something else |
//! | 400 | it is signed, and can't be what the partner documents |
//! | 401 | it isn't signed with our secret |
//! | 408, 413 | it didn't come in time, or is too long |
//! | 503 | the event isn't recorded yet: to be sent again. It is tried on, whether or not it is |

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Mutex, OwnedSemaphorePermit, RwLock, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::KycEvent;
use crate::domain::kyc::{Webhook, read};
use crate::ports::{KycSink, QueueError};
use crate::telemetry::{WebhookMetrics, WebhookReceived, WebhookResult};

/// Longest wait for a body. The partner's are a few hundred bytes.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Most events that wait to be recorded, while a broker is away for instance: with the longest bodies 64 MiB.
const RECORDING_MAX: usize = 1_024;

/// When the partner should try again.
const RETRY_AFTER_S: &str = "5";

/// A secret that may have been renewed is read again at most so often, whoever sends what.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// How often it is looked whether an event that comes again is recorded.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Between two tries to record an event, at first and at most.
const RECORD_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureEncoding {
    /// In hexadecimal digits, small or capital.
    Hex,
    /// In base64 with padding.
    Base64,
}

/// How webhooks are received.
#[derive(Debug, Clone)]
pub(crate) struct WebhookConfig {
    /// Path that they are posted to.
    pub path: String,
    /// The header with the signature: HMAC-SHA256 of the body. Assumed: the vendor doesn't document it.
    pub signature_header: HeaderName,
    /// How it is written there; `sha256=` before it is allowed.
    pub signature_encoding: SignatureEncoding,
    /// Longest body that is read, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for an event to be recorded.
    pub publish_timeout: Duration,
}

/// Reads the secret; again whenever it may have been renewed.
pub(crate) type ReadSecret = Arc<dyn Fn() -> Option<SecretString> + Send + Sync>;

/// Told after each try to record an event whether it was.
pub(crate) type OnRecorded = Box<dyn Fn(bool) + Send + Sync>;

struct Receiver<S> {
    config: WebhookConfig,
    sink: S,
    signatures: Signatures,
    metrics: WebhookMetrics,
    clock: Clock,
    places: Arc<Semaphore>,
    /// The events that wait to be recorded.
    recording: Mutex<HashSet<Uuid>>,
    is_recording: OnRecorded,
}

/// The routes. `secret` signs the webhooks; `read_secret` reads it anew where a signature doesn't fit.
pub(crate) fn router<S: KycSink>(
    config: WebhookConfig,
    secret: &SecretString,
    read_secret: ReadSecret,
    sink: S,
    metrics: WebhookMetrics,
    is_recording: OnRecorded,
    clock: Clock,
) -> Router {
    let path = config.path.clone();
    let signatures = Signatures {
        key: RwLock::new(Arc::new(key(secret))),
        encoding: config.signature_encoding,
        read_secret,
        read_at: Mutex::new(Instant::now()),
    };
    let places = Arc::new(Semaphore::new(RECORDING_MAX));
    let recording = Mutex::default();
    let receiver = Receiver { config, sink, signatures, metrics, clock, places, recording, is_recording };
    Router::new().route(&path, post(receive::<S>)).with_state(Arc::new(receiver))
}

async fn receive<S: KycSink>(State(receiver): State<Arc<Receiver<S>>>, headers: HeaderMap, body: Body) -> Response {
    let Receiver { config, signatures, metrics, clock, places, recording, .. } = &*receiver;
    let refuse = |status: StatusCode, result, why: &str| {
        WebhookReceived { result, event: None, why: Some(why) }.emit(metrics);
        answer(status, why)
    };
    let Some(signature) = headers.get(&config.signature_header) else {
        let why = format!("there is no header {}", config.signature_header);
        return refuse(StatusCode::UNAUTHORIZED, WebhookResult::Unsigned, &why);
    };
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, config.body_bytes_max)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let why = format!("the body is cut off, or longer than {} bytes", config.body_bytes_max);
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, WebhookResult::Incomplete, &why);
        }
        Err(_) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, WebhookResult::Incomplete, "the body didn't come in time");
        }
    };
    if !signatures.fits(signature.as_bytes(), &body).await {
        return refuse(StatusCode::UNAUTHORIZED, WebhookResult::Unsigned, "the signature doesn't fit");
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
    let later = |why: &str| {
        WebhookReceived { result: WebhookResult::NotPublished, event: Some(event.id), why: Some(why) }.emit(metrics);
        // Why is nobody else's business.
        answer(StatusCode::SERVICE_UNAVAILABLE, "it can't be recorded now: send it again")
    };
    if !recording.lock().await.insert(event.id) {
        let over = async {
            while recording.lock().await.contains(&event.id) {
                sleep(LOOK_AGAIN).await;
            }
        };
        return match timeout(config.publish_timeout, over).await {
            Ok(()) => answer(StatusCode::OK, "recorded"),
            Err(_) => later("it came before, and waits to be recorded"),
        };
    }
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        recording.lock().await.remove(&event.id);
        return later("too many others wait to be recorded");
    };
    // In a task of its own: it is recorded as soon as it can be, whether or not the partner sends it again.
    let (tell, told) = oneshot::channel();
    tokio::spawn(record(Arc::clone(&receiver), event.clone(), tell, place));
    match timeout(config.publish_timeout, told).await {
        Ok(Ok(Ok(()))) => answer(StatusCode::OK, "recorded"),
        Ok(Ok(Err(error))) => later(&format!("{error}; it is tried on")),
        Ok(Err(_)) => later("the receiver is stopping"),
        Err(_) => later(&format!("it wasn't recorded within {} s; it is tried on", config.publish_timeout.as_secs())),
    }
}

/// Records an event, however often that has to be tried. Tells what came of the first try.
async fn record<S: KycSink>(
    receiver: Arc<Receiver<S>>,
    event: Box<KycEvent>,
    tell: oneshot::Sender<Result<(), QueueError>>,
    _place: OwnedSemaphorePermit,
) {
    let mut tell = Some(tell);
    let mut pause = RECORD_AGAIN.0;
    loop {
        let recorded = receiver.sink.publish(&event).await;
        let is_recorded = recorded.is_ok();
        (receiver.is_recording)(is_recorded);
        if is_recorded {
            receiver.recording.lock().await.remove(&event.id);
            let result = WebhookResult::Published(event.event_type);
            WebhookReceived { result, event: Some(event.id), why: None }.emit(&receiver.metrics);
        }
        if let Some(tell) = tell.take() {
            // Whoever asked may have waited for too long.
            let _ = tell.send(recorded);
        }
        if is_recorded {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECORD_AGAIN.1);
    }
}

fn answer(status: StatusCode, message: &str) -> Response {
    let word = if status.is_success() { "success" } else { "error" };
    let body = serde_json::json!({"status": word, "message": message}).to_string();
    let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static(RETRY_AFTER_S));
    }
    response
}

/// Compares signatures in a time that doesn't tell how much of one was right.
struct Signatures {
    key: RwLock<Arc<hmac::Key>>,
    encoding: SignatureEncoding,
    read_secret: ReadSecret,
    read_at: Mutex<Instant>,
}

impl Signatures {
    /// Whether it is the body's under the secret, or under the one that has come in its place.
    async fn fits(&self, signature: &[u8], body: &Bytes) -> bool {
        let Some(tag) = decoded(signature, self.encoding) else { return false };
        let key = Arc::clone(&*self.key.read().await);
        if hmac::verify(&key, body, &tag).is_ok() {
            return true;
        }
        {
            let mut read_at = self.read_at.lock().await;
            if read_at.elapsed() < READ_AGAIN {
                // Somebody else has looked just now; what was found is in its place.
                let now = Arc::clone(&*self.key.read().await);
                return !Arc::ptr_eq(&now, &key) && hmac::verify(&now, body, &tag).is_ok();
            }
            *read_at = Instant::now();
            let read = Arc::clone(&self.read_secret);
            let Ok(Some(secret)) = spawn_blocking(move || read()).await else { return false };
            *self.key.write().await = Arc::new(self::key(&secret));
        }
        let key = Arc::clone(&*self.key.read().await);
        hmac::verify(&key, body, &tag).is_ok()
    }
}

fn key(secret: &SecretString) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes())
}

/// The bytes of a signature; `None`: it is none.
fn decoded(signature: &[u8], encoding: SignatureEncoding) -> Option<Vec<u8>> {
    let text = signature.trim_ascii();
    let text = text.strip_prefix(b"sha256=").unwrap_or(text);
    match encoding {
        SignatureEncoding::Hex => hex::decode(text).ok(),
        SignatureEncoding::Base64 => BASE64_STANDARD.decode(text).ok(),
    }
}
