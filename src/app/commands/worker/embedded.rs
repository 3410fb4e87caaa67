//! `worker` on an embedded queue. Events are appended to `results.ndjson`.

use std::path::Path;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open, record_target};
use crate::adapters::local_queue::report;
use crate::adapters::local_queue::source::WhenEmpty;
use crate::app::commands::worker::halt_options;
use crate::app::error::AppError;
use crate::app::ops::{self, WatchedQueue};
use crate::app::results::folders::{create_private_folder, folder_of_queue};
use crate::app::service::local_storage::{EVENTS_FILE, LocalStorage};
use crate::app::service::partner;
use crate::cli::WorkerArgs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::pipeline::worker::{WorkerEnd, work};

pub(super) async fn work_until_stopped(
    arguments: &WorkerArgs,
    settings: &Settings,
    queue: &Path,
    stop: CancellationToken,
) -> Result<WorkerEnd, AppError> {
    let service = &arguments.service;
    let folder = arguments.out.out.clone().unwrap_or_else(|| folder_of_queue(queue));
    let open = || Ok(open(queue, IfMissing::Create, OpenPurpose::Work, settings.queue.size_mib_max)?);
    let is_new = !queue.exists();
    let connection: Connection = open()?;
    if is_new {
        tracing::warn!(queue = %queue.display(), "this queue did not exist and was created empty; check its path");
    }
    let lock = WorkerLock::acquire(queue, Clock::System.now())?;
    record_target(&connection, queue, &partner::target(settings, service.sandbox))?;
    let partner = partner::connect(settings, service.sandbox, halt_options(arguments, false), stop.clone()).await?;
    partner::restore_daily_count(settings, &partner.context, &connection, queue)?;
    create_private_folder(&folder)?;
    let tally = report::jobs(&connection, queue)?;
    tracing::info!(
        queue = %queue.display(), events = %folder.join(EVENTS_FILE).display(), waiting = tally.waiting,
        "worker started"
    );
    let watched = WatchedQueue::Local(queue.to_owned(), settings.queue.size_mib_max);
    let ops = ops::serve_if_asked(service.listen, &partner.context, watched, report::Tally::default()).await?;
    let (storage, [signup, bulk]) = LocalStorage::start(&partner.context, queue, &folder, WhenEmpty::Wait, open)?;
    let ended = work(partner.context, signup, bulk).await;
    partner.traces.finish().await;
    drop(ops);
    let written = storage.close().await;
    drop(lock);
    // Where both failed, the second error says where the outcomes are.
    written?;
    Ok(ended?)
}
