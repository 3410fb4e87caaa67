//! The second step of a run: its queue is worked on until it is empty.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::local_queue::export;
use crate::adapters::local_queue::open::OpenPurpose;
use crate::adapters::local_queue::report;
use crate::adapters::local_queue::source::WhenEmpty;
use crate::app::commands::run::job::RunJob;
use crate::app::console::progress::{ConsoleProgress, WorkProgress};
use crate::app::error::AppError;
use crate::app::ops::{self, WatchedQueue};
use crate::app::service::local_storage::{EVENTS_FILE, LocalStorage};
use crate::app::service::partner::{self, HaltOptions};
use crate::cli::RunArgs;
use crate::pipeline::guards::halt::{HaltAction, HaltNotice, OutcomeMix};
use crate::pipeline::worker::{WorkerEnd, work};

/// How the work ended.
pub(super) struct WorkOutcome {
    pub ended: WorkerEnd,
    /// The outcomes for which it halted, if it did.
    pub halted: Option<OutcomeMix>,
}

pub(super) async fn work_on_queue(
    job: &RunJob,
    progress: &ConsoleProgress,
    arguments: &RunArgs,
    batch: i64,
    stop: CancellationToken,
) -> Result<WorkOutcome, AppError> {
    let service = &arguments.service;
    let canary = arguments.canary.map_or(0, |rows| rows as usize);
    let halting = HaltOptions { halt_action: HaltAction::Stop, queue_forgets: false, canary, yes: service.yes };
    let partner = partner::connect(&job.settings, service.sandbox, halting, stop.clone()).await?;
    let context = partner.context;
    partner::restore_daily_count(&job.settings, &context, &job.open(OpenPurpose::Work)?, &job.queue)?;
    let watched = WatchedQueue::Local(job.queue.clone(), job.settings.queue.size_mib_max);
    let before = report::rows(&job.open(OpenPurpose::Work)?, &job.queue, batch)?;
    let ops = ops::serve_if_asked(service.listen, &context, watched, before).await?;
    if let Some(ops) = &ops {
        progress.print_line(&format!("status page: http://{}/", ops.address));
    }
    let events_file = job.folder.join(EVENTS_FILE);
    if !events_file.exists() {
        // A deleted events file is written again from its beginning.
        export::forget(&job.open(OpenPurpose::Work)?, &job.queue, &events_file)?;
    }
    let (storage, [signup, bulk]) =
        LocalStorage::start(&context, &job.queue, &job.folder, WhenEmpty::End, || job.open(OpenPurpose::Work))?;
    let work_progress =
        WorkProgress { display: progress.clone(), before, metrics: context.metrics.clone(), began: Instant::now() };
    let notices = context.halt.notices();
    let display_tasks = [
        AbortOnDropHandle::new(tokio::spawn(work_progress.show(Arc::clone(&context)))),
        AbortOnDropHandle::new(tokio::spawn(report_canary(notices.clone(), progress.clone()))),
    ];
    let ended = work(context, signup, bulk).await;
    partner.traces.finish().await;
    drop(display_tasks);
    let halted = match &*notices.borrow() {
        Some(HaltNotice::Halted(mix)) => Some(mix.clone()),
        _ => None,
    };
    drop(ops);
    // Where both failed, the second error says where the outcomes are.
    storage.close().await?;
    let ended = ended?;
    Ok(WorkOutcome { ended, halted })
}

async fn report_canary(mut notices: watch::Receiver<Option<HaltNotice>>, progress: ConsoleProgress) {
    while let Ok(notice) = notices.wait_for(Option::is_some).await.map(|notice| notice.clone()) {
        if let Some(HaltNotice::CanaryPassed(mix)) = notice {
            progress.print_line(&format!("canary passed: {mix}; sending the remaining rows"));
        }
        if notices.changed().await.is_err() {
            return;
        }
    }
}
