//! `worker` on RabbitMQ. Events are published; the rate limit is shared with the other workers on the same queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::adapters::amqp::consume::config::ConsumeConfig;
use crate::adapters::amqp::consume::consumer::consume;
use crate::adapters::amqp::consume::worker_count::OnWorkerCount;
use crate::adapters::amqp::publish::publisher::{PublishConfig, Publisher, Unroutable};
use crate::adapters::amqp::topology::Names;
use crate::adapters::local_queue::report::Tally;
use crate::app::commands::worker::halt_options;
use crate::app::error::AppError;
use crate::app::ops::{self, WatchedQueue};
use crate::app::service::broker;
use crate::app::service::partner;
use crate::cli::WorkerArgs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::pipeline::Context;
use crate::pipeline::worker::{WorkerEnd, work};
use crate::telemetry::WorkersCounted;

pub(super) async fn work_until_stopped(
    arguments: &WorkerArgs,
    settings: &Settings,
    broker: &Url,
    stop: CancellationToken,
) -> Result<WorkerEnd, AppError> {
    let service = &arguments.service;
    let partner = partner::connect(settings, service.sandbox, halt_options(arguments, true), stop.clone()).await?;
    let names = Names::new(&settings.amqp.prefix);
    let connection = broker::connection_config(settings, broker, &names, &partner.context.metrics)?;
    let policy = partner.context.policy;
    let name = broker::client_name("worker");
    let watched = WatchedQueue::Broker(Box::new(connection.clone()), names.clone(), format!("{name}.monitor"));
    let ops = ops::serve_if_asked(service.listen, &partner.context, watched, Tally::default()).await?;
    tracing::info!(queue = %settings.queue.url, prefix = %settings.amqp.prefix, "worker started");
    let publisher = Publisher::start(PublishConfig {
        connection: connection.clone(),
        name: format!("{name}.publisher"),
        confirm_timeout: Duration::from_secs(settings.amqp.confirm_timeout_s),
        seed: policy.seed,
        unroutable: Unroutable::Wait,
    });
    // No user is created before events can be published.
    partner.context.gate.set_event_sink_open(false);
    let context = Arc::clone(&partner.context);
    let event_sink = publisher.follow(move |is_open| context.gate.set_event_sink_open(is_open));
    let event_sink = AbortOnDropHandle::new(tokio::spawn(event_sink));
    let config = ConsumeConfig {
        connection,
        names,
        name,
        prefetch: u16::try_from(policy.jobs_max()).unwrap_or(u16::MAX),
        seed: policy.seed,
        on_count: share_rate_limit(&partner.context),
    };
    let (consumer, signup, bulk) = consume(config, &publisher, Clock::System, stop);
    let ended = work(partner.context, signup, bulk).await;
    partner.traces.finish().await;
    // Together, because both wait for the broker.
    tokio::join!(consumer.close(), publisher.close());
    drop((event_sink, ops));
    Ok(ended?)
}

/// Makes the rate limiter send nothing until the workers have been counted, and its share of the rate from then on.
fn share_rate_limit<A: Send + Sync + 'static>(context: &Arc<Context<A>>) -> OnWorkerCount {
    context.rate_limiter.share_with_fleet();
    let context = Arc::clone(context);
    let last_count = AtomicU32::new(0);
    OnWorkerCount::new(move |asked, workers| {
        context.rate_limiter.counted(asked, workers);
        if last_count.swap(workers.get(), Ordering::Relaxed) != workers.get() {
            WorkersCounted { workers: workers.get() }.emit();
        }
    })
}
