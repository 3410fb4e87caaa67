//! `webhooks`: receives the partner's webhooks about the verification of users and publishes them as events.
//!
//! Beside an embedded queue, events are appended to `kyc.ndjson`; on RabbitMQ they are published to the events
//! exchange.
//!
//! **Invariant:** a webhook is answered with 2xx only after its event is recorded.

mod health;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use self::health::WebhookHealth;
use crate::adapters::amqp::publish::kyc_events::KycEventSink;
use crate::adapters::amqp::publish::publisher::{PublishConfig, Publisher, Unroutable};
use crate::adapters::amqp::topology::Names;
use crate::adapters::kyc_file::{KycFile, KycFileError};
use crate::adapters::webhook_http::{self, ReadSecret, WebhookConfig};
use crate::app::commands::CommandOutcome;
use crate::app::error::AppError;
use crate::app::ops::BoundedListener;
use crate::app::results::folders::{create_private_folder, folder_of_queue};
use crate::app::service::broker;
use crate::app::service::logging::{new_metrics, start_logging};
use crate::app::service::signals::stop_on_signal;
use crate::cli::WebhooksArgs;
use crate::clock::Clock;
use crate::config::{QueueUrl, Settings};
use crate::telemetry::{WebhookMetrics, logging};

/// The events file beside an embedded queue.
pub(crate) const KYC_FILE: &str = "kyc.ndjson";

/// Runs the command.
///
/// # Errors
/// [`AppError`] where there is no secret, or an address, file or broker can't be used.
pub(crate) async fn webhooks(arguments: &WebhooksArgs, settings: Settings) -> Result<CommandOutcome, AppError> {
    let (log, _flushed_when_dropped) = logging::stderr_writer();
    start_logging(&settings, "info", log)?;
    // Before anything is opened: without a secret, any client could make events.
    let secret = settings.webhook_secret().map_err(|error| AppError::Usage(error.to_string()))?;
    let stop = stop_on_signal(|| {
        tracing::info!("stopping: answering the requests received so far; a second signal exits at once");
    })?;
    let metrics = WebhookMetrics::new().map_err(|error| AppError::CannotContinue(error.to_string()))?;
    let receiver = WebhookServer {
        address: arguments.receive,
        grace: Duration::from_secs(settings.worker.shutdown_grace_s),
        stop: stop.clone(),
    };
    let config = webhook_config(&settings)?;
    let url = settings.queue.url.clone();
    match &url {
        QueueUrl::Local(queue) => {
            let folder = arguments.out.out.clone().unwrap_or_else(|| folder_of_queue(queue));
            let (sink, file) = open_kyc_file(&folder)?;
            let health = Arc::new(WebhookHealth::new(true, metrics.clone(), stop));
            let ops = health.serve_if_asked(arguments.listen).await?;
            tracing::info!(events = %file.display(), "events are written to a file");
            let on_recorded = {
                let health = Arc::clone(&health);
                Box::new(move |is_recorded| health.set_ready(is_recorded))
            };
            let read_secret = secret_reader(settings);
            let router = webhook_http::router(config, &secret, read_secret, sink, metrics, on_recorded, Clock::System);
            receiver.receive(router).await?;
            drop(ops);
        }
        QueueUrl::Amqp(url) => {
            broker::refuse_out_folder(arguments.out.out.as_deref(), &settings)?;
            let health = Arc::new(WebhookHealth::new(false, metrics.clone(), stop));
            let ops = health.serve_if_asked(arguments.listen).await?;
            let (publisher, names) = publisher(&settings, url)?;
            let readiness = {
                let health = Arc::clone(&health);
                publisher.follow(move |is_open| health.set_ready(is_open))
            };
            let readiness = AbortOnDropHandle::new(tokio::spawn(readiness));
            let sink = KycEventSink::new(publisher.clone(), &names);
            tracing::info!(queue = %settings.queue.url, exchange = names.events_exchange(), "events are published");
            // The readiness follows the publisher instead.
            let on_recorded = Box::new(|_| {});
            let read_secret = secret_reader(settings);
            let router = webhook_http::router(config, &secret, read_secret, sink, metrics, on_recorded, Clock::System);
            receiver.receive(router).await?;
            publisher.close().await;
            drop((readiness, ops));
        }
    }
    tracing::info!("stopped");
    Ok(CommandOutcome::Success)
}

fn webhook_config(settings: &Settings) -> Result<WebhookConfig, AppError> {
    let webhooks = &settings.webhooks;
    let signature_header = webhooks.signature_header.parse();
    Ok(WebhookConfig {
        path: webhooks.path.clone(),
        signature_header: signature_header.map_err(|error| {
            AppError::Usage(format!("webhooks.signature_header: {error}; give the name of a header"))
        })?,
        signature_encoding: webhooks.signature_encoding,
        publish_timeout: Duration::from_secs(webhooks.publish_timeout_s),
    })
}

fn open_kyc_file(folder: &Path) -> Result<(KycFile, PathBuf), AppError> {
    create_private_folder(folder)?;
    let file = folder.join(KYC_FILE);
    let sink = KycFile::open(&file).map_err(|error| match error {
        KycFileError::Locked(_) => AppError::Usage(error.to_string()),
        KycFileError::Io { .. } => AppError::CannotContinue(error.to_string()),
    })?;
    Ok((sink, file))
}

/// Reads the secret again, so that it can be changed without a restart.
fn secret_reader(settings: Settings) -> ReadSecret {
    Arc::new(move || settings.webhook_secret().inspect_err(|error| tracing::warn!("{error}")).ok())
}

fn publisher(settings: &Settings, url: &Url) -> Result<(Publisher, Names), AppError> {
    let names = Names::new(&settings.amqp.prefix);
    // These metrics are a worker's and are not served here.
    let connection = broker::connection_config(settings, url, &names, &new_metrics()?)?;
    let publisher = Publisher::start(PublishConfig {
        connection,
        name: broker::client_name("webhooks"),
        confirm_timeout: Duration::from_secs(settings.amqp.confirm_timeout_s),
        seed: u64::from(std::process::id()),
        unroutable: Unroutable::Wait,
    });
    Ok((publisher, names))
}

struct WebhookServer {
    address: SocketAddr,
    /// Time for the requests in flight after `stop`.
    grace: Duration,
    stop: CancellationToken,
}

impl WebhookServer {
    /// Serves the routes until `stop` is cancelled, and the requests received by then for `grace` longer.
    async fn receive(self, router: Router) -> Result<(), AppError> {
        let Self { address, grace, stop } = self;
        let listener = bind("--receive", address).await?;
        let bound = listener.local_addr().map_err(|error| cannot_bind("--receive", address, &error))?;
        tracing::info!("webhooks are received on http://{bound}");
        let server =
            axum::serve(BoundedListener::new(listener), router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let mut server = std::pin::pin!(server.into_future());
        let served = tokio::select! {
            served = &mut server => served,
            () = stop.cancelled() => timeout(grace, server).await.unwrap_or(Ok(())),
        };
        served.map_err(|error: io::Error| AppError::CannotContinue(format!("webhooks are no longer received: {error}")))
    }
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|error| cannot_bind(flag, address, &error))
}

fn cannot_bind(flag: &str, address: SocketAddr, error: &io::Error) -> AppError {
    AppError::Usage(format!("{flag} {address}: {error}; give a free address"))
}
