//! `import FILE --queue amqp://...`: puts the rows of a file on a lane of RabbitMQ.
//!
//! ```text
//! reading thread: rows -> validate -> keys and emails seen before (an index on disk) ──> bounded channel
//!                          └─ rejected: FILE-rejected.csv                                     v
//! checkpoint, synced <── up to which record all is confirmed <── producer: many rows on their way at once
//! ```
//!
//! Started again, it reads the whole file again, which costs little, makes the same of every row, and sends those behind
//! the checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::adapters::amqp::connection::link::LinkConfig;
use crate::adapters::amqp::publish::producer::{Mark, OutgoingRow, ProduceConfig, Produced, UNSAVED_MAX, produce};
use crate::adapters::amqp::topology::Names;
use crate::adapters::csv::{self, ReadOptions, Row, Scan};
use crate::adapters::local_queue::import::{Batch, Importer, Kind};
use crate::adapters::local_queue::open::{IfMissing, Purpose, open};
use crate::app::commands::import::checkpoint::{Checkpoint, Identity, Progress as Stage};
use crate::app::commands::import::{RejectsFile, stem};
use crate::app::console::error::AppError;
use crate::app::console::next_command::{resume_on_the_same_broker, worker_on_the_same_broker};
use crate::app::console::progress::{PRODUCE_STYLE, Progress};
use crate::app::console::stdout::print;
use crate::app::input::row_parser::{self, RowParser, ValidRow, hex};
use crate::app::input::rows::{self, Counts, RowsJob, Visitor};
use crate::app::results::summary::grouped;
use crate::app::results::tables;
use crate::app::service::broker;
use crate::app::service::signals;
use crate::app::{Finished, read_options, start_logging};
use crate::cli::ImportArgs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::Timestamp;
use crate::domain::job::InvalidJob;
use crate::telemetry::logging::{AboveProgress, LogFormat};

/// Rows that wait between the reading and the sending.
const AHEAD_MAX: usize = 1_000;

/// Between two plain lines of progress, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Between two updates of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// Imports.
///
/// # Errors
/// [`AppError`] where the file can't be read, its progress not be noted, or the broker has no queue for the lane.
pub(crate) async fn import(arguments: &ImportArgs, settings: &Settings, url: &Url) -> Result<Finished, AppError> {
    let progress = Progress::new(settings.log.format);
    // The broker's comings and goings are told.
    start_logging(settings, "warn,plu_onboard=info", AboveProgress(progress.bar.clone()))?;
    let names = Names::new(&settings.amqp.prefix);
    let link = broker::link(settings, url, &names, &crate::app::metrics()?)?;
    let stop = signals::stop_on_signal({
        let progress = progress.clone();
        move || progress.say("stopping: waiting for the confirms of what was sent; once more ends at once")
    })?;
    let file = arguments.file.clone();
    let options = read_options(&arguments.csv, settings);
    let scanned = tokio::task::spawn_blocking(move || Ok((csv::scan(&file, &options)?, options)));
    let (scan, options) = joined(scanned).await?;

    let folder = checkpoint_folder(arguments)?;
    let identity = identity(&arguments.file, &scan, &link, settings);
    let (checkpoint, stage) = Checkpoint::open(&folder, &stem(&arguments.file), &identity, Clock::System.now())?;
    let (record, may_repeat_since) = match stage {
        Stage::Complete { counts, at } => return Ok(complete_already(arguments, &checkpoint, &counts, at)),
        Stage::Begun { record, may_repeat_since } => (record, may_repeat_since),
    };
    let path = checkpoint.path().to_owned();
    let task = ImportTask { arguments, settings, scan, options, record, stop, progress, names, link, may_repeat_since };
    task.run(checkpoint, &path).await
}

/// Beside the file, where it is found from any working folder, unless told otherwise.
fn checkpoint_folder(arguments: &ImportArgs) -> Result<PathBuf, AppError> {
    if let Some(out) = &arguments.out.out {
        tables::create_private_folder(out)?;
        return Ok(out.clone());
    }
    let beside = arguments.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(beside.map_or_else(|| PathBuf::from("."), Path::to_owned))
}

fn identity(file: &Path, scan: &Scan, link: &LinkConfig, settings: &Settings) -> Identity {
    Identity {
        file: row_parser::file_name(file),
        fingerprint: hex(&scan.fingerprint),
        encoding: scan.encoding.name().to_owned(),
        delimiter: char::from(scan.delimiter.byte()),
        broker: format!("{}:{}", link.uri.authority.host, link.uri.authority.port),
        vhost: link.uri.vhost.clone(),
        prefix: settings.amqp.prefix.clone(),
        lane: settings.import.lane.name().to_owned(),
    }
}

fn complete_already(arguments: &ImportArgs, checkpoint: &Checkpoint, counts: &Counts, at: Timestamp) -> Finished {
    print(&format!(
        "{file}: complete already: {new} rows were put on this broker's lane until {at}; nothing to do.\nTo put them on it \
         once more, delete {path}\n",
        file = row_parser::file_name(&arguments.file),
        new = grouped(counts.new),
        path = checkpoint.path().display(),
    ));
    finished(counts)
}

fn finished(counts: &Counts) -> Finished {
    if counts.rejected > 0 { Finished::WithRejects } else { Finished::Well }
}

/// One import on its way.
struct ImportTask<'i> {
    arguments: &'i ImportArgs,
    settings: &'i Settings,
    scan: Scan,
    options: ReadOptions,
    /// Everything up to here was confirmed before.
    record: u64,
    may_repeat_since: Option<Timestamp>,
    stop: CancellationToken,
    progress: Progress,
    names: Names,
    link: LinkConfig,
}

/// What the reading came to.
struct ReadRows {
    /// `None`: stopped.
    counts: Option<Counts>,
    /// Rows that were confirmed before.
    before: u64,
    rejects: Option<PathBuf>,
}

impl ImportTask<'_> {
    async fn run(self, checkpoint: Checkpoint, path: &Path) -> Result<Finished, AppError> {
        let lane = self.names.jobs_queue(self.settings.import.lane);
        tracing::info!(broker = %self.settings.queue.url, queue = lane, "putting the file's rows on a queue");
        let start = Mark { rows: 0, record: self.record };
        let (rows, outgoing) = mpsc::channel(AHEAD_MAX);
        let (confirmed, confirmed_rows) = watch::channel(start);
        let (saved, saved_rows) = watch::channel(start);
        let saver = tokio::spawn(save(checkpoint, confirmed_rows.clone(), saved));
        let reader = self.read(rows);
        let shown =
            AbortOnDropHandle::new(tokio::spawn(show(self.progress.clone(), self.scan.rows_about(), confirmed_rows)));
        let produced = produce(self.config(), outgoing, &confirmed, saved_rows, &self.stop).await;
        drop(confirmed);
        drop(shown);
        self.progress.clear();
        // What the progress file says matters more than why it ended.
        let mut checkpoint = joined(saver).await?;
        let read = joined(reader).await;
        let produced = produced?;
        let read = read?;
        match read.counts {
            Some(counts) if produced.is_whole => {
                checkpoint.complete(counts, Clock::System.now())?;
                print(&self.summary(&counts, &read, &produced));
                Ok(finished(&counts))
            }
            _ => {
                let is_clean = produced.unconfirmed == 0 && !self.may_still_repeat(produced.mark.rows);
                checkpoint.confirmed(produced.mark.record, is_clean)?;
                self.progress.say(&self.stopped(&produced, path));
                Ok(Finished::NotAtAll)
            }
        }
    }

    fn config(&self) -> ProduceConfig {
        let clock = Clock::System.now().unix_ms().unsigned_abs();
        ProduceConfig {
            link: self.link.clone(),
            names: self.names.clone(),
            name: broker::client_name("import"),
            lane: self.settings.import.lane,
            confirm_timeout: Duration::from_secs(self.settings.amqp.confirm_timeout_s),
            seed: clock ^ u64::from(std::process::id()),
            may_repeat_since: self.may_repeat_since,
        }
    }

    /// Reads the rows on a thread of its own, for as long as somebody takes them.
    fn read(&self, sender: mpsc::Sender<OutgoingRow>) -> JoinHandle<Result<ReadRows, AppError>> {
        let file = self.arguments.file.clone();
        let out = self.arguments.out.out.clone();
        let (scan, options, stop) = (self.scan.clone(), self.options, self.stop.clone());
        let (lane, after) = (self.settings.import.lane, self.record);
        let message_bytes_max = self.settings.queue.message_bytes_max;
        tokio::task::spawn_blocking(move || {
            let batch = Batch {
                batch_id: row_parser::batch_id(&file, &scan.fingerprint),
                fingerprint: scan.fingerprint,
                file: row_parser::file_name(&file),
            };
            let mut index = index(&batch)?;
            let row_parser = RowParser {
                file: batch.file.clone(),
                batch_id: batch.batch_id.clone(),
                header: &scan.header,
                message_bytes_max,
            };
            // Shown is what is confirmed, not what is read.
            let unseen = Progress::new(LogFormat::Text);
            let job = RowsJob {
                file: &file,
                read_from: &file,
                scan: &scan,
                options: &options,
                row_parser: &row_parser,
                lane,
                after_record: 0,
                progress: &unseen,
                stop: &stop,
            };
            let rejects = RejectsFile::new(&scan, &file, out.as_deref());
            let mut sender = Sender { rejects, sender, after, before: 0, is_over: false };
            let counts = match rows::enqueue(&job, &mut index, &mut sender) {
                Err(_) if sender.is_over => None,
                counts => counts?,
            };
            let Sender { rejects, before, .. } = sender;
            let rejects = if counts.is_some() { rejects.finish()? } else { None };
            Ok(ReadRows { counts, before, rejects })
        })
    }

    fn summary(&self, counts: &Counts, read: &ReadRows, produced: &Produced) -> String {
        let Counts { rows, new, repeated, rejected, .. } = *counts;
        let rejects = read.rejects.as_ref().map_or_else(String::new, |path| format!(": see {}", path.display()));
        format!(
            "{file}: {rows} rows\n  put on {queue}: {put}\n  on it from an earlier start: {before}\n  repeat an earlier row: \
             {repeated}\n  rejected, not put on it: {rejected}{rejects}\n{twice}Work on it {command}\n",
            file = row_parser::file_name(&self.arguments.file),
            rows = grouped(rows),
            queue = self.names.jobs_queue(self.settings.import.lane),
            put = grouped(new - read.before),
            before = grouped(read.before),
            repeated = grouped(repeated),
            rejected = grouped(rejected),
            twice = self.twice(produced).map_or_else(String::new, |twice| format!("  {twice}\n")),
            command = worker_on_the_same_broker(self.settings),
        )
    }

    /// Whether rows that this start, having put on so many, has not come to may be on the queue from a start that was
    /// killed.
    fn may_still_repeat(&self, put: u64) -> bool {
        self.may_repeat_since.is_some() && put < UNSAVED_MAX
    }

    /// What may be on the queue twice.
    fn twice(&self, produced: &Produced) -> Option<String> {
        let earlier = if self.may_repeat_since.is_some() { produced.mark.rows.min(UNSAVED_MAX) } else { 0 };
        // A row that was sent three times counts twice among the repeated.
        let rows = (earlier + produced.repeated).min(produced.mark.rows);
        (rows > 0).then(|| {
            format!(
                "up to {} of them may be on it twice, because their confirm was lost; that is harmless: a repeat has the same \
                 key, so nobody is created twice",
                grouped(rows)
            )
        })
    }

    fn stopped(&self, produced: &Produced, path: &Path) -> String {
        let open = match produced.unconfirmed {
            0 => String::new(),
            rows => format!(
                " {} more were sent and not confirmed: they may come twice, which is harmless, as a repeat has the same key.",
                grouped(rows as u64)
            ),
        };
        let twice = self.twice(produced).map_or_else(String::new, |twice| format!(" ({twice})"));
        format!(
            "stopped. {} rows were put on the queue by this start{twice}, and every row up to number {} is confirmed.{open} How \
             far it got is in {}. Go on {}",
            grouped(produced.mark.rows),
            grouped(produced.mark.record),
            path.display(),
            resume_on_the_same_broker(self.settings),
        )
    }
}

/// Notes how far it is, as often as the disk allows. Ends when nothing more will be confirmed.
async fn save(
    mut checkpoint: Checkpoint,
    mut confirmed: watch::Receiver<Mark>,
    saved: watch::Sender<Mark>,
) -> Result<Checkpoint, AppError> {
    while confirmed.changed().await.is_ok() {
        let mark = *confirmed.borrow_and_update();
        if mark.record == saved.borrow().record {
            continue;
        }
        let written = tokio::task::spawn_blocking(move || {
            checkpoint.confirmed(mark.record, false)?;
            Ok(checkpoint)
        });
        checkpoint = joined(written).await?;
        saved.send_replace(mark);
    }
    Ok(checkpoint)
}

async fn show(progress: Progress, about: u64, confirmed: watch::Receiver<Mark>) {
    progress.start(about, PRODUCE_STYLE);
    let began = Instant::now();
    let mut ticks = interval(if progress.is_on_terminal() { DRAW_EVERY } else { LINE_EVERY });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Mark { rows, record } = *confirmed.borrow();
        progress.bar.set_position(record);
        if !progress.is_on_terminal() {
            let per_second = rows as f64 / began.elapsed().as_secs_f64();
            let (row, about) = (grouped(record), grouped(about.max(record)));
            progress
                .say(&format!("up to row {row} of about {about}: on the queue and confirmed ({per_second:.0} rows/s)"));
        }
    }
}

async fn joined<T>(task: JoinHandle<Result<T, AppError>>) -> Result<T, AppError> {
    task.await.map_err(|error| AppError::CannotContinue(format!("a part of the import ended abnormally: {error}")))?
}

/// The keys and emails of the file, on disk, in a file that has no name any more, so that nothing of it stays behind.
fn index(batch: &Batch) -> Result<Importer, AppError> {
    let folder = tempfile::Builder::new()
        .prefix("plu-onboard-import-")
        .tempdir()
        .map_err(|error| AppError::CannotContinue(format!("no temporary folder could be made: {error}")))?;
    let path = folder.path().join("index.db");
    let connection = open(&path, IfMissing::Create, Purpose::Scratch, u64::from(u32::MAX))?;
    folder
        .close()
        .map_err(|error| AppError::CannotContinue(format!("the temporary folder can't be removed: {error}")))?;
    Ok(Importer::begin(connection, &path, batch, Kind::Index, None)?)
}

/// Hands new rows on to the producer, and the others to the rejects.
struct Sender<'s> {
    rejects: RejectsFile<'s>,
    sender: mpsc::Sender<OutgoingRow>,
    after: u64,
    before: u64,
    /// Nobody takes rows any more.
    is_over: bool,
}

impl Visitor for Sender<'_> {
    fn rejected(&mut self, importer: &mut Importer, row: &Row, invalid: &InvalidJob) -> Result<(), AppError> {
        self.rejects.rejected(importer, row, invalid)
    }

    fn accepted(&mut self, row: &Row, good: ValidRow) -> Result<(), AppError> {
        if row.record <= self.after {
            self.before += 1;
            return Ok(());
        }
        let row = OutgoingRow { record: row.record, key: good.job.key, body: good.body };
        self.sender.blocking_send(row).map_err(|_| {
            self.is_over = true;
            AppError::CannotContinue("the sending has ended".to_owned())
        })
    }
}
