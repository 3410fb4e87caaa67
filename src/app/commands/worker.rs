//! `worker`: consumes the queue until it is stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::adapters::amqp::consume::fleet::OnCount;
use crate::adapters::amqp::consume::source::{ConsumeConfig, consume};
use crate::adapters::amqp::publish::publisher::{PublishConfig, Publisher, Unroutable};
use crate::adapters::amqp::topology::Names;
use crate::adapters::local_queue::export::Exporter;
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, Purpose, claim_target, open};
use crate::adapters::local_queue::report;
use crate::adapters::local_queue::source::{LocalSource, WhenEmpty};
use crate::adapters::local_queue::store::Store;
use crate::app::console::error::AppError;
use crate::app::ops::QueueAt;
use crate::app::results::tables;
use crate::app::service::broker;
use crate::app::service::partner;
use crate::app::service::partner::Halting;
use crate::app::service::signals::stop_on_signal;
use crate::app::{Finished, ops, start_logging};
use crate::cli::WorkerArgs;
use crate::clock::Clock;
use crate::config::{QueueUrl, STAGING_HOST, Settings, is_loopback};
use crate::domain::Lane;
use crate::pipeline::Context;
use crate::pipeline::guards::halt::HaltAction;
use crate::pipeline::worker::{Ended, work};
use crate::telemetry::{FleetCounted, logging};

/// Works.
///
/// # Errors
/// [`AppError`] with what, where and how to mend it.
pub(crate) async fn worker(arguments: &WorkerArgs, settings: Settings) -> Result<Finished, AppError> {
    let (log, _written_at_the_end) = logging::aside();
    start_logging(&settings, "info", log)?;
    if matches!(settings.queue.url, QueueUrl::Amqp(_)) {
        refuse_real_jobs(arguments, &settings)?;
        refuse_a_folder(arguments.out.out.as_deref(), &settings)?;
    }
    if !arguments.service.sandbox {
        // Before anything is opened: a worker without a key would only find out at the first request.
        partner::check_api_key(&settings)?;
    }
    let stop = stop_on_signal(|| tracing::info!("told to stop: finishing what is on its way; once more ends at once"))?;
    let ended = match &settings.queue.url {
        QueueUrl::Local(queue) => on_local_queue(arguments, &settings, queue, stop).await?,
        QueueUrl::Amqp(broker) => on_broker(arguments, &settings, broker, stop).await?,
    };
    match ended {
        Ended::CutOff { jobs } => {
            tracing::warn!(jobs, "stopped; requests were still on their way and will be looked up");
        }
        Ended::Stopped | Ended::Drained => tracing::info!("stopped; everything else is on the queue"),
    }
    Ok(Finished::Well)
}

/// What the names on a broker end with under which `--sandbox` works.
pub(crate) const REHEARSAL: &str = "sandbox";

/// An embedded queue remembers which API it is for; on a broker only the names can tell a rehearsal from the real thing.
fn refuse_real_jobs(arguments: &WorkerArgs, settings: &Settings) -> Result<(), AppError> {
    let prefix = &settings.amqp.prefix;
    match (arguments.service.sandbox, prefix.ends_with(REHEARSAL)) {
        (false, true) if !is_for_rehearsals(&settings.api.url) => {
            return Err(AppError::Usage(format!(
                "amqp.prefix ({prefix}) says that these jobs are a rehearsal's, and this worker would send them to {}: give --sandbox, or                  the amqp.prefix of the real jobs",
                settings.api.url.host_str().unwrap_or_default(),
            )));
        }
        (true, false) => {}
        _ => return Ok(()),
    }
    Err(AppError::Usage(format!(
        "with --sandbox this worker would take the jobs of {prefix} from RabbitMQ and tell of users whom nobody created: \
         give the rehearsal, and whoever publishes its jobs, an amqp.prefix that ends with {REHEARSAL}, such as \
         PLU_ONBOARD__AMQP__PREFIX={prefix}.{REHEARSAL}",
    )))
}

/// Whether nobody is charged there: the partner's staging, and whatever runs on this machine.
fn is_for_rehearsals(api: &Url) -> bool {
    api.host_str() == Some(STAGING_HOST) || is_loopback(api)
}

/// On a broker there is no file to write.
pub(crate) fn refuse_a_folder(folder: Option<&Path>, settings: &Settings) -> Result<(), AppError> {
    let Some(folder) = folder else { return Ok(()) };
    Err(AppError::Usage(format!(
        "nothing is written into {}: on RabbitMQ, every event goes to the exchange {}; leave --out out, and bind a queue to \
         that exchange",
        folder.display(),
        Names::new(&settings.amqp.prefix).events_exchange(),
    )))
}

async fn on_local_queue(
    arguments: &WorkerArgs,
    settings: &Settings,
    queue: &Path,
    stop: CancellationToken,
) -> Result<Ended, AppError> {
    let folder = arguments.out.out.clone().unwrap_or_else(|| default_folder(queue));
    let open = || open(queue, IfMissing::Create, Purpose::Work, settings.queue.size_mib_max);
    let is_new = !queue.exists();
    let connection = open()?;
    if is_new {
        tracing::warn!(queue = %queue.display(), "there was no such queue: made an empty one; is the path right?");
    }
    let lock = WorkerLock::acquire(queue, Clock::System.now())?;
    claim_target(&connection, queue, &partner::target(settings, arguments.service.sandbox))?;
    let partner =
        partner::connect(settings, arguments.service.sandbox, halting(arguments, false), stop.clone()).await?;
    partner::remember_day(settings, &partner.context, &connection, queue)?;
    tables::create_private_folder(&folder)?;
    let events_file = folder.join("results.ndjson");
    let tally = report::jobs(&connection, queue)?;
    tracing::info!(
        queue = %queue.display(), events = %events_file.display(), waiting = tally.waiting, "working until told to stop"
    );
    let at = QueueAt::Local(queue.to_owned(), settings.queue.size_mib_max);
    let ops = ops::serve_if_asked(arguments.service.listen, &partner.context, at, report::Tally::default()).await?;
    let exporter = Exporter::start(connection, queue, &events_file, move || stop.cancel())?;
    let store = Store::start(open()?, queue, exporter.waker())?;
    let poll = Duration::from_millis(settings.queue.poll_ms);
    let source = |lane| LocalSource::new(store.clone(), lane, WhenEmpty::Wait, poll, Clock::System);
    let sources = (source(Lane::Signup), source(Lane::Bulk));
    drop(store);
    let ended = work(partner.context, sources.0, sources.1).await;
    partner.traces.finish().await;
    drop(ops);
    let exported = tokio::task::spawn_blocking(|| exporter.finish())
        .await
        .map_err(|error| AppError::CannotContinue(format!("writing events ended abnormally: {error}")))?;
    drop(lock);
    let ended = ended?;
    exported?;
    Ok(ended)
}

async fn on_broker(
    arguments: &WorkerArgs,
    settings: &Settings,
    broker: &Url,
    stop: CancellationToken,
) -> Result<Ended, AppError> {
    let partner = partner::connect(settings, arguments.service.sandbox, halting(arguments, true), stop.clone()).await?;
    let names = Names::new(&settings.amqp.prefix);
    let link = broker::link(settings, broker, &names, &partner.context.metrics)?;
    let policy = partner.context.policy;
    let name = broker::client_name("worker");
    let at = QueueAt::Broker(Box::new(link.clone()), names.clone(), format!("{name}.monitor"));
    let ops = ops::serve_if_asked(arguments.service.listen, &partner.context, at, report::Tally::default()).await?;
    tracing::info!(queue = %settings.queue.url, prefix = %settings.amqp.prefix, "working until told to stop");
    let publisher = Publisher::start(PublishConfig {
        link: link.clone(),
        name: format!("{name}.publisher"),
        confirm_timeout: Duration::from_secs(settings.amqp.confirm_timeout_s),
        seed: policy.seed,
        unroutable: Unroutable::Wait,
    });
    partner.context.gate.set_event_sink(false);
    let context = Arc::clone(&partner.context);
    let following = publisher.follow(move |is_open| context.gate.set_event_sink(is_open));
    let following = AbortOnDropHandle::new(tokio::spawn(following));
    let config = ConsumeConfig {
        link,
        names,
        name,
        prefetch: u16::try_from(policy.window).unwrap_or(u16::MAX),
        seed: policy.seed,
        on_count: count_for(&partner.context),
    };
    let (consuming, signup, bulk) = consume(config, &publisher, Clock::System, stop);
    let ended = work(partner.context, signup, bulk).await;
    partner.traces.finish().await;
    // Both wait for the broker, at most as long as the slower one.
    tokio::join!(consuming.close(), publisher.close());
    drop((following, ops));
    Ok(ended?)
}

fn halting(arguments: &WorkerArgs, queue_forgets: bool) -> Halting {
    Halting { halt_action: HaltAction::HoldBulk, queue_forgets, canary: 0, yes: arguments.service.yes }
}

/// From now on the pace is shared with whoever else consumes.
fn count_for<A: Send + Sync + 'static>(context: &Arc<Context<A>>) -> OnCount {
    context.rate_limiter.share_with_others();
    let context = Arc::clone(context);
    let last = AtomicU32::new(0);
    OnCount::new(move |asked, workers| {
        context.rate_limiter.counted(asked, workers);
        if last.swap(workers.get(), Ordering::Relaxed) != workers.get() {
            FleetCounted { workers: workers.get() }.emit();
        }
    })
}

/// Beside the queue, named after it.
pub(crate) fn default_folder(queue: &Path) -> PathBuf {
    let stem = queue.file_stem().map_or_else(|| "queue".into(), |stem| stem.to_string_lossy().into_owned());
    queue.with_file_name(format!("{stem}-results"))
}
