//! `worker` on an embedded queue. Events are appended to `results.ndjson`.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::adapters::local_queue::export::EventsFileExporter;
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open, record_target};
use crate::adapters::local_queue::report;
use crate::adapters::local_queue::source::{LocalQueueSource, POLL_INTERVAL, WhenEmpty};
use crate::adapters::local_queue::store::LocalQueueStore;
use crate::app::commands::worker::halt_options;
use crate::app::console::error::AppError;
use crate::app::ops::{self, WatchedQueue};
use crate::app::results::folders::{create_private_folder, folder_of_queue};
use crate::app::service::partner;
use crate::cli::WorkerArgs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::Lane;
use crate::pipeline::worker::{WorkerEnd, work};

pub(super) async fn work_until_stopped(
    arguments: &WorkerArgs,
    settings: &Settings,
    queue: &Path,
    stop: CancellationToken,
) -> Result<WorkerEnd, AppError> {
    let service = &arguments.service;
    let folder = arguments.out.out.clone().unwrap_or_else(|| folder_of_queue(queue));
    let open = || open(queue, IfMissing::Create, OpenPurpose::Work, settings.queue.size_mib_max);
    let is_new = !queue.exists();
    let connection = open()?;
    if is_new {
        tracing::warn!(queue = %queue.display(), "this queue did not exist and was created empty; check its path");
    }
    let lock = WorkerLock::acquire(queue, Clock::System.now())?;
    record_target(&connection, queue, &partner::target(settings, service.sandbox))?;
    let partner = partner::connect(settings, service.sandbox, halt_options(arguments, false), stop.clone()).await?;
    partner::restore_daily_count(settings, &partner.context, &connection, queue)?;
    create_private_folder(&folder)?;
    let events_file = folder.join("results.ndjson");
    let tally = report::jobs(&connection, queue)?;
    tracing::info!(
        queue = %queue.display(), events = %events_file.display(), waiting = tally.waiting, "worker started"
    );
    let watched = WatchedQueue::Local(queue.to_owned(), settings.queue.size_mib_max);
    let ops = ops::serve_if_asked(service.listen, &partner.context, watched, report::Tally::default()).await?;
    let exporter = EventsFileExporter::start(connection, queue, &events_file, move || stop.cancel())?;
    let store = LocalQueueStore::start(open()?, queue, exporter.waker())?;
    let source = |lane| LocalQueueSource::new(store.clone(), lane, WhenEmpty::Wait, POLL_INTERVAL, Clock::System);
    let (signup, bulk) = (source(Lane::Signup), source(Lane::Bulk));
    drop(store);
    let ended = work(partner.context, signup, bulk).await;
    partner.traces.finish().await;
    drop(ops);
    let exported = tokio::task::spawn_blocking(|| exporter.finish())
        .await
        .map_err(|error| AppError::panicked("writing events", &error))?;
    drop(lock);
    let ended = ended?;
    exported?;
    Ok(ended)
}
