//! `webhooks`: receives the partner's webhooks about people's verification, and publishes them as events.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::adapters::amqp::publish::kyc_events::KycEventSink;
use crate::adapters::amqp::publish::publisher::{PublishConfig, Publisher, Unroutable};
use crate::adapters::amqp::topology::Names;
use crate::adapters::kyc_file::{KycFile, KycFileError};
use crate::adapters::webhook_http::{self, ReadSecret, WebhookConfig};
use crate::app::commands::worker;
use crate::app::console::error::AppError;
use crate::app::ops::Bounded;
use crate::app::results::tables::create_private_folder;
use crate::app::service::broker;
use crate::app::service::signals::stop_on_signal;
use crate::app::{Finished, start_logging};
use crate::cli::WebhooksArgs;
use crate::clock::Clock;
use crate::config::{QueueUrl, Settings, SignatureEncoding};
use crate::domain::Timestamp;
use crate::telemetry::WebhookMetrics;
use crate::telemetry::logging;
use crate::telemetry::status::Standing;

/// Where events go beside an embedded queue.
pub(crate) const KYC_FILE: &str = "kyc.ndjson";

/// Receives until told to stop.
///
/// # Errors
/// [`AppError`]: no secret, an address or a file that can't be used.
pub(crate) async fn webhooks(arguments: &WebhooksArgs, settings: Settings) -> Result<Finished, AppError> {
    let (log, _written_at_the_end) = logging::aside();
    start_logging(&settings, "info", log)?;
    // Before anything is opened: without a secret anybody could make events.
    let secret = settings.webhook_secret().map_err(|error| AppError::Usage(error.to_string()))?;
    let stop = stop_on_signal(|| tracing::info!("told to stop: answering what has come; once more ends at once"))?;
    let metrics = WebhookMetrics::new().map_err(|error| AppError::CannotContinue(error.to_string()))?;
    let grace = Duration::from_secs(settings.worker.shutdown_grace_s);
    let config = webhook_config(&settings)?;
    let url = settings.queue.url.clone();
    match &url {
        QueueUrl::Local(queue) => {
            let folder = arguments.out.out.clone().unwrap_or_else(|| worker::default_folder(queue));
            create_private_folder(&folder)?;
            let file = folder.join(KYC_FILE);
            let sink = KycFile::open(&file).map_err(|error| match error {
                KycFileError::BulkHold(_) => AppError::Usage(error.to_string()),
                KycFileError::Io { .. } => AppError::CannotContinue(error.to_string()),
            })?;
            let health = Arc::new(Health::new(true, metrics.clone(), stop.clone()));
            let ops = health.serve_if_asked(arguments.listen).await?;
            tracing::info!(events = %file.display(), "events are written into a file");
            let told = {
                let health = Arc::clone(&health);
                Box::new(move |is_recorded| health.set_ready(is_recorded))
            };
            let router = webhook_http::router(config, &secret, rereading(settings), sink, metrics, told, Clock::System);
            receive(arguments.receive, router, stop, grace).await?;
            drop(ops);
        }
        QueueUrl::Amqp(url) => {
            worker::refuse_a_folder(arguments.out.out.as_deref(), &settings)?;
            let health = Arc::new(Health::new(false, metrics.clone(), stop.clone()));
            let ops = health.serve_if_asked(arguments.listen).await?;
            let (publisher, names) = publisher(&settings, url)?;
            let following = {
                let health = Arc::clone(&health);
                publisher.follow(move |is_open| health.set_ready(is_open))
            };
            let following = AbortOnDropHandle::new(tokio::spawn(following));
            let sink = KycEventSink::new(publisher.clone(), &names);
            tracing::info!(queue = %settings.queue.url, exchange = names.events_exchange(), "events are published");
            // The publisher itself says whether it is of use.
            let told = Box::new(|_| {});
            let router = webhook_http::router(config, &secret, rereading(settings), sink, metrics, told, Clock::System);
            receive(arguments.receive, router, stop, grace).await?;
            publisher.close().await;
            drop((following, ops));
        }
    }
    tracing::info!("stopped");
    Ok(Finished::Well)
}

fn webhook_config(settings: &Settings) -> Result<WebhookConfig, AppError> {
    let webhooks = &settings.webhooks;
    let signature_header = webhooks.signature_header.parse();
    Ok(WebhookConfig {
        path: webhooks.path.clone(),
        signature_header: signature_header
            .map_err(|error| AppError::Usage(format!("webhooks.signature_header: {error}")))?,
        signature_encoding: match webhooks.signature_encoding {
            SignatureEncoding::Hex => webhook_http::SignatureEncoding::Hex,
            SignatureEncoding::Base64 => webhook_http::SignatureEncoding::Base64,
        },
        body_bytes_max: webhooks.body_bytes_max,
        publish_timeout: Duration::from_secs(webhooks.publish_timeout_s),
    })
}

/// Reads the secret's file as it is then.
fn rereading(settings: Settings) -> ReadSecret {
    Arc::new(move || settings.webhook_secret().inspect_err(|error| tracing::warn!("{error}")).ok())
}

fn publisher(settings: &Settings, url: &Url) -> Result<(Publisher, Names), AppError> {
    let names = Names::new(&settings.amqp.prefix);
    // Its numbers are a worker's; nobody is shown them.
    let link = broker::link(settings, url, &names, &crate::app::metrics()?)?;
    let publisher = Publisher::start(PublishConfig {
        link,
        name: broker::client_name("webhooks"),
        confirm_timeout: Duration::from_secs(settings.amqp.confirm_timeout_s),
        seed: u64::from(std::process::id()),
        unroutable: Unroutable::Wait,
    });
    Ok((publisher, names))
}

/// Serves the routes until `stop` is cancelled, and what has come by then for `grace` longer.
async fn receive(
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), AppError> {
    let listener = bind("--receive", address).await?;
    let bound = listener.local_addr().map_err(|error| unfit("--receive", address, &error))?;
    tracing::info!("webhooks are received on http://{bound}");
    let serving = axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let mut serving = std::pin::pin!(serving.into_future());
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.cancelled() => timeout(grace, serving).await.unwrap_or(Ok(())),
    };
    served.map_err(|error: io::Error| AppError::CannotContinue(format!("webhooks are no longer received: {error}")))
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|error| unfit(flag, address, &error))
}

fn unfit(flag: &str, address: SocketAddr, error: &io::Error) -> AppError {
    AppError::Usage(format!("{flag} {address}: {error}; give a free address"))
}

/// Whether events can be recorded, for those who ask.
struct Health {
    is_ready: AtomicBool,
    since: Mutex<Timestamp>,
    metrics: WebhookMetrics,
    stop: CancellationToken,
}

impl Health {
    fn new(is_ready: bool, metrics: WebhookMetrics, stop: CancellationToken) -> Self {
        let since = Mutex::new(Clock::System.now());
        Self { is_ready: AtomicBool::new(is_ready), since, metrics, stop }
    }

    fn set_ready(&self, is_ready: bool) {
        if self.is_ready.swap(is_ready, Ordering::Relaxed) != is_ready {
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Clock::System.now();
        }
    }

    fn standing(&self) -> Standing {
        let ready = self.is_ready.load(Ordering::Relaxed) && !self.stop.is_cancelled();
        let (state, message, advice) = match (ready, self.stop.is_cancelled()) {
            (_, true) => ("stopping", "Stopping: what has come is answered", None),
            (true, _) => ("working", "Receiving webhooks", None),
            (false, _) => (
                "blocked",
                "Events can't be recorded: webhooks are answered with 503, so that the partner sends them again",
                Some(
                    "look at the log, which says what is wrong with the broker or the disk; it goes on by itself"
                        .to_owned(),
                ),
            ),
        };
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        Standing { ready, state, reason: None, since, until: None, message: message.to_owned(), advice }
    }

    /// Serves until the result is dropped. `None`: nobody asked.
    async fn serve_if_asked(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
    ) -> Result<Option<AbortOnDropHandle<()>>, AppError> {
        let Some(address) = address else { return Ok(None) };
        let listener = bind("--listen", address).await?;
        let bound = listener.local_addr().map_err(|error| unfit("--listen", address, &error))?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(self));
        tracing::info!("metrics and health: http://{bound}/");
        Ok(Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = axum::serve(Bounded::new(listener), router).await {
                tracing::warn!(%error, "metrics and health are no longer served");
            }
        }))))
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let text = health.metrics.render(health.standing().ready);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let standing = health.standing();
    let status = if standing.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&standing).unwrap_or_default() + "\n";
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
