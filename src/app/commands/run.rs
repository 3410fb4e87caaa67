//! `run FILE`: the whole job on one machine. Import, onboard, write the results; go on where it stopped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::csv::{self, ReadOptions, Row, Scan};
use crate::adapters::local_queue::export::{self, Exporter};
use crate::adapters::local_queue::import::{self, Batch, Importer, Kind, KnownBatch, Place};
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, Purpose, claim_target, open};
use crate::adapters::local_queue::report;
use crate::adapters::local_queue::source::{LocalSource, WhenEmpty};
use crate::adapters::local_queue::store::Store;
use crate::app::Finished;
use crate::app::console::error::AppError;
use crate::app::console::next_command::{check_command, command_with_out, resume_command};
use crate::app::console::progress::{Progress, READ_STYLE, WorkProgress, counts};
use crate::app::console::stdout::print;
use crate::app::input::input_copy;
use crate::app::input::row_parser::{self, RowParser};
use crate::app::input::rows::{self, RowsJob, Visitor};
use crate::app::results::summary;
use crate::app::results::tables::{self, Summary};
use crate::app::service::partner::{self, Halting};
use crate::app::service::signals::stop_on_signal;
use crate::app::{ops, read_options, start_logging};
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::config::{Origin, QueueUrl, Settings};
use crate::domain::job::InvalidJob;
use crate::domain::{Event, EventType, Lane};
use crate::pipeline::guards::halt::{HaltAction, Notice, OutcomeMix};
use crate::pipeline::worker::{Ended, work};
use crate::telemetry::NEWS_TARGET;
use crate::telemetry::logging::AboveProgress;

/// One run: where everything is.
struct Run {
    file: PathBuf,
    folder: PathBuf,
    queue: PathBuf,
    /// Its own copy of the file.
    input: PathBuf,
    scan: Scan,
    options: ReadOptions,
    batch: Batch,
    /// The API it is for: base URL, or `sandbox`.
    target: String,
    settings: Settings,
}

/// Runs.
///
/// # Errors
/// [`AppError`] with what, where and how to mend it.
pub(crate) async fn run(arguments: &RunArgs, settings: Settings) -> Result<Finished, AppError> {
    let progress = Progress::new(settings.log.format);
    start_logging(&settings, &format!("warn,{}=info", NEWS_TARGET), AboveProgress(progress.bar.clone()))?;
    if !arguments.service.sandbox {
        // Before anything is read or written: a run without a key would only find out at the first request.
        partner::check_api_key(&settings)?;
    }
    let stop = stop_on_signal({
        let progress = progress.clone();
        move || progress.say("stopping: finishing what is on its way; once more ends at once")
    })?;
    let run = prepare(arguments, settings)?;
    let lock = WorkerLock::acquire(&run.queue, Clock::System.now())?;
    let (run, progress, known) = import_all(run, progress, stop.clone()).await?;
    let Some(known) = known else {
        progress.say(&format!(
            "stopped while reading the file: nothing has been sent. Go on with:\n  {}",
            resume_command()
        ));
        return Ok(Finished::NotAtAll);
    };
    let connection = run.open(Purpose::Work)?;
    claim_target(&connection, &run.queue, &run.target)?;
    let before = report::rows(&connection, &run.queue, known.id)?;
    if before.waiting == 0
        && let Some(summary) = tables::read_summary(&run.folder, &run.batch.batch_id, &run.target)?
    {
        if let Some(purged_at) = summary.purged_at {
            progress.say(&format!(
                "{} is finished, and its results were purged at {purged_at}: nothing to do.",
                run.file.display()
            ));
            return Ok(Finished::Well);
        }
        // The files stay as they are: somebody may be correcting rejected.csv where it lies.
        progress.say(&format!(
            "{} is finished already: nothing to do. To read it anew, as with another --encoding, give another --out.",
            run.file.display()
        ));
        let missing = tables::missing(&run.folder);
        if !missing.is_empty() {
            progress.say(&format!(
                "{folder} has no {files} any more. To have every result file written anew, rejected.csv as it was too, delete \
                 {folder}/summary.json and start this again.",
                folder = run.folder.display(),
                files = missing.join(", "),
            ));
        }
        return Ok(finish(&run, &summary));
    }
    run.keep_input()?;
    let worked = onboard(&run, &progress, arguments, known.id, stop).await;
    progress.clear();
    // Whatever the end was: what is known is written down.
    let written = run.write_results(&connection, known.id, worked.is_ok());
    drop(lock);
    // What stopped the work says more than what that did to the files.
    let (Worked { ended, halted }, summary) = (worked?, written?);
    match ended {
        Ended::Drained => Ok(finish(&run, &summary)),
        Ended::Stopped | Ended::CutOff { .. } if let Some(mix) = halted => {
            if summary.tally.waiting == 0 {
                progress.say(&format!("note: it halted with the last row, and nothing was left to hold back: {mix}"));
                return Ok(finish(&run, &summary));
            }
            Ok(halted_at(&run, &progress, &mix, &summary))
        }
        Ended::Stopped => stopped(&run, &progress, &left(&summary, 0)),
        Ended::CutOff { jobs } => stopped(&run, &progress, &left(&summary, jobs)),
    }
}

/// Reads the file once and finds the place of the run, without writing anything but the folder.
fn prepare(arguments: &RunArgs, settings: Settings) -> Result<Run, AppError> {
    let options = read_options(&arguments.csv, &settings);
    let file = arguments.file.clone();
    let target = partner::target(&settings, arguments.service.sandbox);
    let folder = arguments.out.out.clone().unwrap_or_else(|| default_folder(&file, arguments.service.sandbox));
    let queue = match (settings.origin("queue.url"), &settings.queue.url) {
        (Origin::Flag(_), QueueUrl::Local(path)) => path.clone(),
        (Origin::Flag(_), QueueUrl::Amqp(_)) => {
            return Err(AppError::Usage(
                "run works on an embedded queue: leave --queue out, or write local:PATH; for RabbitMQ use import and worker"
                    .to_owned(),
            ));
        }
        // The queue of a settings file is the worker's; a run has one of its own.
        _ => folder.join("queue.db"),
    };
    let input = input_copy::path(&queue);
    let scan = csv::scan(&file, &options).map_err(|error| match (file.exists(), kept_at(&input)) {
        (false, kept) if !kept.is_empty() => AppError::Usage(format!("{error}{kept}")),
        _ => error.into(),
    })?;
    refuse_a_result_file(&file, &folder)?;
    tables::create_private_folder(&folder)?;
    let batch = Batch {
        batch_id: row_parser::batch_id(&file, &scan.fingerprint),
        fingerprint: scan.fingerprint,
        file: row_parser::file_name(&file),
    };
    Ok(Run { file, folder, queue, input, scan, options, batch, target, settings })
}

/// Beside the working folder's other things, named after the file. A sandbox run has a folder of its own, so
/// that nobody takes its results for real ones.
fn default_folder(file: &Path, with_sandbox: bool) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "plu-onboard".into(), |stem| stem.to_string_lossy().into_owned());
    PathBuf::from(format!("{stem}-results{}", if with_sandbox { "-sandbox" } else { "" }))
}

/// The results would be written over it.
fn refuse_a_result_file(file: &Path, folder: &Path) -> Result<(), AppError> {
    let place = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let its_place = place(file);
    let is_result = |event_type: &EventType| {
        let path = folder.join(format!("{}.csv", event_type.short()));
        its_place.is_some() && place(&path) == its_place
    };
    if !EventType::ALL.iter().any(is_result) {
        return Ok(());
    }
    Err(AppError::Usage(format!(
        "{} is a result file of {}, and this run's would be written over it: give run a copy of it elsewhere, or another --out",
        file.display(),
        folder.display()
    )))
}

/// Where the file is still as it was.
fn kept_at(input: &Path) -> String {
    if input.is_file() { format!(" ({} is a copy of it)", input.display()) } else { String::new() }
}

impl Run {
    fn open(&self, purpose: Purpose) -> Result<Connection, AppError> {
        Ok(open(&self.queue, IfMissing::Create, purpose, self.settings.queue.size_mib_max)?)
    }

    /// Makes sure that there is a copy of the input as it was when the run began. Only where it is known to be the same still: a
    /// file that has changed must not take the copy's place.
    fn keep_input(&self) -> Result<(), AppError> {
        input_copy::make(&self.file, &self.scan, &self.options, &self.input)
    }

    fn write_results(&self, connection: &Connection, batch: i64, has_all_events: bool) -> Result<Summary, AppError> {
        // Whoever has changed the copy meanwhile would have people get each other's links.
        self.keep_input()?;
        let run = tables::Run {
            file: &self.file,
            read_from: &self.input,
            scan: &self.scan,
            options: &self.options,
            queue: &self.queue,
            batch,
            batch_id: &self.batch.batch_id,
            target: &self.target,
            has_all_events,
        };
        tables::write(&run, connection, &self.folder, Clock::System.now())
    }

    /// The batch of this run, if it was begun before.
    fn known(&self, connection: &mut Connection) -> Result<Option<KnownBatch>, AppError> {
        for known in import::batches(connection, &self.queue)? {
            if known.batch.fingerprint == self.batch.fingerprint {
                return Ok(Some(known));
            }
            if known.batch.file != self.batch.file {
                return Err(AppError::Usage(format!(
                    "{} holds the run of {}, not of {}: give another --out DIR or leave --queue out",
                    self.queue.display(),
                    known.batch.file,
                    self.batch.file
                )));
            }
            if !known.is_complete {
                // Nobody has been sent yet: the file was mended while it was being read in.
                import::discard(connection, &self.queue, known.id)?;
                continue;
            }
            return Err(AppError::Usage(format!(
                "{file} has changed since the run in {folder} began (it was {was}, it is {is}). \
                 To go on with that run, put the file back as it was{kept}. To onboard the changed file, start a run of its own, \
                 in which nobody is created twice either:\n  {command}",
                kept = kept_at(&self.input),
                file = self.file.display(),
                folder = self.folder.display(),
                command = command_with_out(&format!("{}-2", self.folder.display())),
                was = row_parser::hex(&known.batch.fingerprint[..4]),
                is = row_parser::hex(&self.batch.fingerprint[..4]),
            )));
        }
        Ok(None)
    }
}

/// Puts every row on the queue, on a thread of its own. Gives everything back, and the batch if it is whole.
async fn import_all(
    run: Run,
    progress: Progress,
    stop: CancellationToken,
) -> Result<(Run, Progress, Option<KnownBatch>), AppError> {
    let thread = tokio::task::spawn_blocking(move || {
        let known = import_rows(&run, &progress, &stop)?;
        Ok((run, progress, known))
    });
    thread.await.map_err(|error| AppError::CannotContinue(format!("reading the file ended abnormally: {error}")))?
}

fn import_rows(run: &Run, progress: &Progress, stop: &CancellationToken) -> Result<Option<KnownBatch>, AppError> {
    let mut connection = run.open(Purpose::Import)?;
    let known = run.known(&mut connection)?;
    if let Some(known) = known.as_ref().filter(|known| known.is_complete) {
        return Ok(Some(known.clone()));
    }
    run.keep_input()?;
    for (column, title) in run.scan.header.ignored() {
        progress.say(&format!("note: column {column} {title:?} is not sent; it comes back in the result files"));
    }
    if let Some(note) = row_parser::encoding_note(&run.scan) {
        progress.say(&format!("note: {note}"));
    }
    progress.start(run.scan.rows_about(), READ_STYLE);
    let mut importer = Importer::begin(connection, &run.queue, &run.batch, Kind::Run, known.as_ref())?;
    let row_parser = RowParser {
        file: run.batch.file.clone(),
        batch_id: run.batch.batch_id.clone(),
        header: &run.scan.header,
        message_bytes_max: run.settings.queue.message_bytes_max,
    };
    let job = RowsJob {
        file: &run.file,
        read_from: &run.input,
        scan: &run.scan,
        options: &run.options,
        row_parser: &row_parser,
        lane: run.settings.import.lane,
        after_record: known.as_ref().map_or(0, |known| known.last_record),
        progress,
        stop,
    };
    let mut visitor = RejectAsEvent { row_parser: &row_parser, lane: job.lane };
    let read = rows::enqueue(&job, &mut importer, &mut visitor);
    progress.clear();
    let counts = match read {
        Ok(counts) => counts,
        Err(error) => {
            // The file must be mended, and is another file then: begin anew.
            importer.finish(false)?;
            let mut connection = run.open(Purpose::Work)?;
            if let Some(known) = run.known(&mut connection)? {
                import::discard(&mut connection, &run.queue, known.id)?;
            }
            return Err(error);
        }
    };
    importer.finish(counts.is_some())?;
    if let Some(warned) = counts.map(|counts| counts.warned).filter(|warned| *warned > 0) {
        progress.say(&format!(
            "note: rows that deserve a look: {warned}. They are listed by:\n  {}",
            check_command(&run.file)
        ));
    }
    Ok(if counts.is_some() { run.known(&mut run.open(Purpose::Work)?)? } else { None })
}

/// An invalid row is over at once: its event is recorded like any other outcome.
struct RejectAsEvent<'i> {
    row_parser: &'i RowParser<'i>,
    lane: Lane,
}

impl Visitor for RejectAsEvent<'_> {
    fn rejected(&mut self, importer: &mut Importer, row: &Row, invalid: &InvalidJob) -> Result<(), AppError> {
        let now = Clock::System.now();
        let RowParser { file, batch_id, .. } = self.row_parser;
        let surrogate_key = row_parser::surrogate_key(batch_id, row.line);
        let identity = rows::named(&invalid.identity, batch_id, row, file);
        let event = Event::of_invalid(invalid.problems.clone(), identity, surrogate_key, now);
        let place = Place { record: row.record, line: row.line };
        Ok(importer.reject(place, surrogate_key, &event, self.lane, now)?)
    }
}

/// How the work ended.
struct Worked {
    ended: Ended,
    /// The outcomes that halted it.
    halted: Option<OutcomeMix>,
}

async fn onboard(
    run: &Run,
    progress: &Progress,
    arguments: &RunArgs,
    batch: i64,
    stop: CancellationToken,
) -> Result<Worked, AppError> {
    let service = &arguments.service;
    let canary = arguments.canary.map_or(0, |rows| rows as usize);
    let halting = Halting { halt_action: HaltAction::Stop, queue_forgets: false, canary, yes: service.yes };
    let partner = partner::connect(&run.settings, service.sandbox, halting, stop.clone()).await?;
    let context = partner.context;
    partner::remember_day(&run.settings, &context, &run.open(Purpose::Work)?, &run.queue)?;
    let at = ops::QueueAt::Local(run.queue.clone(), run.settings.queue.size_mib_max);
    let before = report::rows(&run.open(Purpose::Work)?, &run.queue, batch)?;
    let ops = ops::serve_if_asked(service.listen, &context, at, before).await?;
    if let Some(ops) = &ops {
        progress.say(&format!("status page: http://{}/", ops.address));
    }
    let events_file = run.folder.join("results.ndjson");
    if !events_file.exists() {
        export::forget(&run.open(Purpose::Work)?, &run.queue, &events_file)?;
    }
    let exporter = Exporter::start(run.open(Purpose::Work)?, &run.queue, &events_file, move || stop.cancel())?;
    let store = Store::start(run.open(Purpose::Work)?, &run.queue, exporter.waker())?;
    let poll = Duration::from_millis(run.settings.queue.poll_ms);
    let source = |lane| LocalSource::new(store.clone(), lane, WhenEmpty::End, poll, Clock::System);
    let sources = (source(Lane::Signup), source(Lane::Bulk));
    drop(store);
    let shown =
        WorkProgress { progress: progress.clone(), before, metrics: context.metrics.clone(), began: Instant::now() };
    let shown = tokio::spawn(shown.show(std::sync::Arc::clone(&context)));
    let notices = context.halt.notices();
    let told = tokio::spawn(tell_canary(notices.clone(), progress.clone()));
    let ended = work(context, sources.0, sources.1).await;
    partner.traces.finish().await;
    shown.abort();
    told.abort();
    let halted = match &*notices.borrow() {
        Some(Notice::Halted(mix)) => Some(mix.clone()),
        _ => None,
    };
    drop(ops);
    let exported = tokio::task::spawn_blocking(|| exporter.finish())
        .await
        .map_err(|error| AppError::CannotContinue(format!("writing events ended abnormally: {error}")))?;
    let ended = ended?;
    exported?;
    Ok(Worked { ended, halted })
}

async fn tell_canary(mut notices: watch::Receiver<Option<Notice>>, progress: Progress) {
    while let Ok(notice) = notices.wait_for(Option::is_some).await.map(|notice| notice.clone()) {
        if let Some(Notice::CanaryWell(mix)) = notice {
            progress.say(&format!("canary: {mix}: going on with the rest"));
        }
        if notices.changed().await.is_err() {
            return;
        }
    }
}

fn halted_at(run: &Run, progress: &Progress, mix: &OutcomeMix, summary: &Summary) -> Finished {
    let halt = &run.settings.halt;
    let command = resume_command();
    progress.say(&format!(
        "halted, because this is not what was planned: the last rows that were sent are {mix}.\n\
         (Limits: a share of {} rejected or failed, of {} existing; see [halt] in the settings.)\n\
         {} of {} rows are still waiting, nothing is lost; what is known so far is in {}.\n\
         If it is as it should be, go on with:\n  {command}{}",
        halt.on_rejected_share,
        halt.on_existing_share,
        summary.tally.waiting,
        summary.rows,
        run.folder.display(),
        if command.ends_with(" --yes") { "" } else { " --yes" },
    ));
    Finished::NotAtAll
}

fn finish(run: &Run, summary: &Summary) -> Finished {
    print(&summary::text(summary, &run.folder, &run.queue));
    if !summary.is_complete {
        Finished::NotAtAll
    } else if summary.tally.rejected + summary.tally.failed > 0 {
        Finished::WithRejects
    } else {
        Finished::Well
    }
}

fn left(summary: &Summary, cut_off: usize) -> String {
    let in_flight = if cut_off > 0 {
        format!("; {cut_off} requests were still on their way and will be looked up")
    } else {
        String::new()
    };
    let counts = counts(&summary.tally);
    format!("with {counts} and {} of {} rows still waiting{in_flight}", summary.tally.waiting, summary.rows)
}

fn stopped(run: &Run, progress: &Progress, how: &str) -> Result<Finished, AppError> {
    progress.say(&format!(
        "stopped {how}. Nothing is lost; go on with:\n  {}\nwhat is known so far is in {}",
        resume_command(),
        run.folder.display()
    ));
    Ok(Finished::NotAtAll)
}
