//! `run FILE`: creates every user of a file on this machine and writes the results. Started again, it resumes.
//!
//! ```text
//! RunJob::prepare -> import rows onto the run's embedded queue -> work until it is empty -> result files, summary
//! ```
//!
//! **Invariant:** however the work ends, the outcomes known so far are in the result files, and the command to resume
//! with is printed.

mod import;
mod job;
mod work;

use self::job::RunJob;
use self::work::WorkOutcome;
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{OpenPurpose, record_target};
use crate::adapters::local_queue::report;
use crate::app::commands::CommandOutcome;
use crate::app::console::next_command::resume_command;
use crate::app::console::progress::{ConsoleProgress, counts_text};
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::results::{RunSummary, missing_files, summary};
use crate::app::service::logging::start_logging;
use crate::app::service::partner;
use crate::app::service::signals::stop_on_signal;
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::pipeline::guards::halt::OutcomeMix;
use crate::pipeline::worker::WorkerEnd;
use crate::telemetry::logging::AboveProgress;
use crate::telemetry::{HALT_CAUSE, NOTICE_TARGET};

/// Runs the command.
///
/// # Errors
/// [`AppError`] where the file, the settings, the queue or the result files can't be used.
pub(crate) async fn run(arguments: &RunArgs, settings: Settings) -> Result<CommandOutcome, AppError> {
    let progress = ConsoleProgress::new(settings.log.format);
    start_logging(&settings, &format!("warn,{NOTICE_TARGET}=info"), AboveProgress(progress.bar.clone()))?;
    if !arguments.service.sandbox {
        // Before anything is read or written: without a key, the run would only fail at its first request.
        partner::check_api_key(&settings)?;
    }
    let stop = stop_on_signal({
        let progress = progress.clone();
        move || progress.print_line("stopping: finishing the requests in flight; a second signal exits at once")
    })?;
    let job = RunJob::prepare(arguments, settings)?;
    let lock = WorkerLock::acquire(&job.queue, Clock::System.now())?;
    let (job, progress, batch) = import::import(job, progress, stop.clone()).await?;
    let Some(batch) = batch else {
        progress.print_line(&format!(
            "stopped while reading the file: nothing has been sent. Resume with:\n  {}",
            resume_command()
        ));
        return Ok(CommandOutcome::Stopped);
    };
    let connection = job.open(OpenPurpose::Work)?;
    record_target(&connection, &job.queue, &job.target)?;
    let before = report::rows(&connection, &job.queue, batch.id)?;
    if before.waiting == 0
        && let Some(summary) = summary::read(&job.folder, &job.batch.batch_id, &job.target)?
    {
        return Ok(finished_before(&job, &progress, &summary));
    }
    job.keep_input()?;
    let worked = work::work_on_queue(&job, &progress, arguments, batch.id, stop).await;
    progress.clear();
    let written = job.write_results(&connection, batch.id, worked.is_ok());
    drop(lock);
    // Of two errors the first is the cause.
    let (worked, summary) = (worked?, written?);
    Ok(report_end(&job, &progress, worked, &summary))
}

/// A finished run is left as it is: rejected.csv may be open in an editor.
fn finished_before(job: &RunJob, progress: &ConsoleProgress, summary: &RunSummary) -> CommandOutcome {
    let file = job.file.display();
    if let Some(purged_at) = summary.purged_at {
        progress.print_line(&format!("{file} is finished, and its results were purged at {purged_at}: nothing to do."));
        return CommandOutcome::Success;
    }
    progress.print_line(&format!(
        "{file} is finished already: nothing to do. To read it again, for example with another --encoding, give \
         another --out."
    ));
    let missing = missing_files(&job.folder);
    if !missing.is_empty() {
        progress.print_line(&format!(
            "{folder} has no {files} any more. To write every result file again, including rejected.csv as it was, \
             delete {folder}/summary.json and start this command again.",
            folder = job.folder.display(),
            files = missing.join(", "),
        ));
    }
    report_complete(job, summary)
}

fn report_end(
    job: &RunJob,
    progress: &ConsoleProgress,
    WorkOutcome { ended, halted }: WorkOutcome,
    summary: &RunSummary,
) -> CommandOutcome {
    let requests_in_flight = match ended {
        WorkerEnd::Drained => return report_complete(job, summary),
        WorkerEnd::Stopped => 0,
        WorkerEnd::CutOff { jobs } => jobs,
    };
    match halted {
        Some(mix) if summary.tally.waiting == 0 => {
            progress
                .print_line(&format!("note: it halted with the last row, when no row was left to hold back: {mix}"));
            report_complete(job, summary)
        }
        Some(mix) => report_halted(job, progress, &mix, summary),
        None => report_stopped(job, progress, summary, requests_in_flight),
    }
}

fn report_complete(job: &RunJob, summary: &RunSummary) -> CommandOutcome {
    print(&summary::text(summary, &job.folder, &job.queue));
    if !summary.is_complete {
        CommandOutcome::Stopped
    } else if summary.tally.rejected + summary.tally.failed > 0 {
        CommandOutcome::WithRejectedRows
    } else {
        CommandOutcome::Success
    }
}

fn report_halted(job: &RunJob, progress: &ConsoleProgress, mix: &OutcomeMix, summary: &RunSummary) -> CommandOutcome {
    print_links_lost(progress, summary);
    let halt = &job.settings.halt;
    let command = resume_command();
    progress.print_line(&format!(
        "halted: {HALT_CAUSE}. The last rows sent are {mix}.\n\
         (Limits: a share of {} rejected or failed, of {} existing, of {} created without a link; see [halt] in the \
         settings.)\n\
         {} of {} rows are still waiting, nothing is lost; the results so far are in {}.\n\
         If these outcomes are as expected, resume with:\n  {command}{}",
        halt.on_rejected_share,
        halt.on_existing_share,
        halt.on_lost_link_share,
        summary.tally.waiting,
        summary.rows,
        job.folder.display(),
        if command.ends_with(" --yes") { "" } else { " --yes" },
    ));
    CommandOutcome::Stopped
}

fn report_stopped(
    job: &RunJob,
    progress: &ConsoleProgress,
    summary: &RunSummary,
    requests_in_flight: usize,
) -> CommandOutcome {
    print_links_lost(progress, summary);
    let in_flight = if requests_in_flight > 0 {
        format!("; {requests_in_flight} requests were still in flight, and their users will be looked up")
    } else {
        String::new()
    };
    progress.print_line(&format!(
        "stopped with {} and {} of {} rows still waiting{in_flight}. Nothing is lost; resume with:\n  {}\nthe results \
         so far are in {}",
        counts_text(&summary.tally),
        summary.tally.waiting,
        summary.rows,
        resume_command(),
        job.folder.display()
    ));
    CommandOutcome::Stopped
}

fn print_links_lost(progress: &ConsoleProgress, summary: &RunSummary) {
    summary::links_lost(summary).iter().for_each(|line| progress.print_line(line));
}
