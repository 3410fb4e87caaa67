//! `import FILE` onto a lane of RabbitMQ.
//!
//! ```text
//! reading thread: rows -> validate -> index of keys and emails (on disk) ──> bounded channel
//!                          └─ rejected: FILE-rejected.csv                         v
//! checkpoint file, synced <── last record up to which all is confirmed <── producer: many rows in flight
//! ```
//!
//! Started again, it reads the whole file again, which is fast, and sends the rows behind the checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::adapters::amqp::connection::config::AmqpConnectionConfig;
use crate::adapters::amqp::publish::producer::{ImportOffset, ProduceConfig, ProduceResult, UNSAVED_MAX, produce};
use crate::adapters::amqp::topology::Names;
use crate::adapters::csv::{self, CsvScan, ReadOptions};
use crate::app::commands::CommandOutcome;
use crate::app::commands::import::checkpoint::{Checkpoint, ImportIdentity, ImportStage};
use crate::app::commands::import::row_reader::{self, ReadingResult, RowReaderConfig};
use crate::app::commands::import::{file_stem, outcome};
use crate::app::console::grouped;
use crate::app::console::next_command::{resume_on_broker, worker_on_broker};
use crate::app::console::progress::{ConsoleProgress, DRAW_EVERY, LINE_EVERY, PRODUCE_STYLE};
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::input::questions::confirm_encoding;
use crate::app::input::row_parser::file_name;
use crate::app::input::rows::ImportCounts;
use crate::app::input::standard_input::InputFile;
use crate::app::input::{file_notes, read_options, reading_options};
use crate::app::results::folders::create_private_folder;
use crate::app::service::broker;
use crate::app::service::logging::{new_metrics, start_logging};
use crate::app::service::signals;
use crate::cli::ImportArgs;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::Timestamp;
use crate::telemetry::logging::AboveProgress;

/// Most rows that wait between the reading and the sending.
const ROWS_WAITING_MAX: usize = 1_000;

pub(super) async fn import(arguments: &ImportArgs, settings: &Settings, url: &Url) -> Result<CommandOutcome, AppError> {
    let progress = ConsoleProgress::new(settings.log.format);
    // Information too, so that lost and restored connections are logged.
    start_logging(settings, "warn,plu_onboard=info", AboveProgress(progress.bar.clone()))?;
    let names = Names::new(&settings.amqp.prefix);
    let connection = broker::connection_config(settings, url, &names, &new_metrics()?)?;
    let stop = signals::stop_on_signal({
        let progress = progress.clone();
        move || progress.print_line("stopping: waiting for the confirms of sent rows; a second signal exits at once")
    })?;
    let argument = arguments.file.clone();
    let options = read_options(&arguments.csv);
    let scanned = tokio::task::spawn_blocking(move || {
        let file = InputFile::open(&argument, None)?;
        Ok((csv::scan(&file.path, &options)?, options, file))
    });
    let (scan, options, file) = joined(scanned).await?;
    file_notes::notes(&file.name, &scan).iter().for_each(|note| progress.print_line(&format!("note: {note}")));
    let (scan, is_answered) = (scan, arguments.yes);
    let asked = tokio::task::spawn_blocking(move || confirm_encoding(&scan, is_answered).map(|()| scan));
    let scan = joined(asked).await?;

    let folder = checkpoint_folder(arguments)?;
    let identity = identity(arguments, &scan, &connection, settings);
    let (checkpoint, stage) = Checkpoint::open(&folder, &file_stem(&file.name), &identity, Clock::System.now())?;
    let (record, may_repeat_since) = match stage {
        ImportStage::Complete { counts, at } => return Ok(report_complete(arguments, &checkpoint, &counts, at)),
        ImportStage::Begun { record, may_repeat_since } => (record, may_repeat_since),
    };
    let path = checkpoint.path().to_owned();
    let task = ImportTask {
        arguments,
        settings,
        file,
        scan,
        options,
        record,
        stop,
        progress,
        names,
        connection,
        may_repeat_since,
    };
    task.run(checkpoint, &path).await
}

/// The folder given with `--out`, else the folder of the input, where the checkpoint is found from any working folder.
fn checkpoint_folder(arguments: &ImportArgs) -> Result<PathBuf, AppError> {
    if let Some(out) = &arguments.out.out {
        create_private_folder(out)?;
        return Ok(out.clone());
    }
    let beside = arguments.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(beside.map_or_else(|| PathBuf::from("."), Path::to_owned))
}

fn identity(
    arguments: &ImportArgs,
    scan: &CsvScan,
    connection: &AmqpConnectionConfig,
    settings: &Settings,
) -> ImportIdentity {
    ImportIdentity {
        file: file_name(&InputFile::name_of(&arguments.file)),
        fingerprint: hex::encode(scan.fingerprint),
        encoding: scan.encoding.name().to_owned(),
        delimiter: char::from(scan.delimiter.byte()),
        reading: reading_options(&arguments.csv).to_string(),
        broker: format!("{}:{}", connection.uri.authority.host, connection.uri.authority.port),
        vhost: connection.uri.vhost.clone(),
        prefix: settings.amqp.prefix.clone(),
        lane: settings.import.lane.name().to_owned(),
    }
}

fn report_complete(
    arguments: &ImportArgs,
    checkpoint: &Checkpoint,
    counts: &ImportCounts,
    at: Timestamp,
) -> CommandOutcome {
    print(&format!(
        "{file}: complete already: {new} rows were put on this broker's lane until {at}; nothing to do.\nTo put them \
         on it once more, delete {path}\n",
        file = file_name(&InputFile::name_of(&arguments.file)),
        new = grouped(counts.new),
        path = checkpoint.path().display(),
    ));
    outcome(counts)
}

struct ImportTask<'i> {
    arguments: &'i ImportArgs,
    settings: &'i Settings,
    file: InputFile,
    scan: CsvScan,
    options: ReadOptions,
    /// The last record up to which all was confirmed before.
    record: u64,
    /// Rows behind `record` may be on the queue already, since this time at the earliest.
    may_repeat_since: Option<Timestamp>,
    stop: CancellationToken,
    progress: ConsoleProgress,
    names: Names,
    connection: AmqpConnectionConfig,
}

impl ImportTask<'_> {
    async fn run(self, checkpoint: Checkpoint, path: &Path) -> Result<CommandOutcome, AppError> {
        let queue = self.names.jobs_queue(self.settings.import.lane);
        tracing::info!(broker = %self.settings.queue.url, queue, "putting the file's rows on a queue");
        let start = ImportOffset { rows: 0, record: self.record };
        let (rows, outgoing) = mpsc::channel(ROWS_WAITING_MAX);
        let (confirmed, confirmed_rows) = watch::channel(start);
        let (saved, saved_rows) = watch::channel(start);
        let saver = tokio::spawn(save(checkpoint, confirmed_rows.clone(), saved));
        let reader = row_reader::start(self.reader_config(), rows);
        let display_task =
            AbortOnDropHandle::new(tokio::spawn(show(self.progress.clone(), self.scan.rows_about(), confirmed_rows)));
        let produced = produce(self.produce_config(), outgoing, &confirmed, saved_rows, &self.stop).await;
        // Ends the saver.
        drop(confirmed);
        drop(display_task);
        self.progress.clear();
        // The checkpoint comes first: of several errors, its own is the one to report.
        let mut checkpoint = joined(saver).await?;
        let read = joined(reader).await;
        let produced = produced?;
        let read = read?;
        match read.counts {
            Some(counts) if produced.is_complete => {
                checkpoint.complete(counts, Clock::System.now())?;
                print(&self.summary(&counts, &read, &produced));
                Ok(outcome(&counts))
            }
            _ => {
                let is_clean = produced.unconfirmed == 0 && !self.may_still_repeat(produced.offset.rows);
                checkpoint.confirmed(produced.offset.record, is_clean)?;
                self.progress.print_line(&self.stopped(&produced, path));
                Ok(CommandOutcome::Stopped)
            }
        }
    }

    fn produce_config(&self) -> ProduceConfig {
        let clock = Clock::System.now().unix_ms().unsigned_abs();
        ProduceConfig {
            connection: self.connection.clone(),
            names: self.names.clone(),
            name: broker::client_name("import"),
            lane: self.settings.import.lane,
            confirm_timeout: Duration::from_secs(self.settings.amqp.confirm_timeout_s),
            seed: clock ^ u64::from(std::process::id()),
            may_repeat_since: self.may_repeat_since,
        }
    }

    fn reader_config(&self) -> RowReaderConfig {
        RowReaderConfig {
            file: self.file.name.clone(),
            read_from: self.file.path.clone(),
            scan: self.scan.clone(),
            options: self.options.clone(),
            reading: reading_options(&self.arguments.csv),
            lane: self.settings.import.lane,
            message_bytes_max: self.settings.queue.message_bytes_max,
            rejects_folder: self.arguments.out.out.clone(),
            confirmed_record: self.record,
            stop: self.stop.clone(),
        }
    }

    fn summary(&self, counts: &ImportCounts, read: &ReadingResult, produced: &ProduceResult) -> String {
        let ImportCounts { rows, new, repeated, rejected, .. } = *counts;
        let rejects = read.rejects.as_ref().map_or_else(String::new, |path| format!(": see {}", path.display()));
        format!(
            "{file}: {rows} rows\n  put on {queue}: {put}\n  put on it by an earlier start: {before}\n  repeat an \
             earlier row: {repeated}\n  rejected, not put on it: {rejected}{rejects}\n{twice}Start a worker on it \
             {command}\n",
            file = file_name(&self.file.name),
            rows = grouped(rows),
            queue = self.names.jobs_queue(self.settings.import.lane),
            put = grouped(new - read.confirmed_before),
            before = grouped(read.confirmed_before),
            repeated = grouped(repeated),
            rejected = grouped(rejected),
            twice = self.repeat_note(produced).map_or_else(String::new, |note| format!("  {note}\n")),
            command = worker_on_broker(self.settings),
        )
    }

    /// Whether rows that a killed start put on the queue may still lie ahead, after this start has put on `rows`.
    fn may_still_repeat(&self, rows: u64) -> bool {
        self.may_repeat_since.is_some() && rows < UNSAVED_MAX
    }

    /// A note on rows that may be on the queue twice; `None`: there are none.
    fn repeat_note(&self, produced: &ProduceResult) -> Option<String> {
        let earlier = if self.may_repeat_since.is_some() { produced.offset.rows.min(UNSAVED_MAX) } else { 0 };
        // A row that was sent three times is counted twice in `repeated`.
        let rows = (earlier + produced.repeated).min(produced.offset.rows);
        (rows > 0).then(|| {
            format!(
                "up to {} of them may be on it twice, because their confirm was lost; that is harmless: a repeat has \
                 the same key, so no user is created twice",
                grouped(rows)
            )
        })
    }

    fn stopped(&self, produced: &ProduceResult, path: &Path) -> String {
        let unconfirmed = match produced.unconfirmed {
            0 => String::new(),
            rows => format!(
                " {} more were sent and not confirmed: they may be sent twice, which is harmless, as a repeat has the \
                 same key.",
                grouped(rows as u64)
            ),
        };
        let twice = self.repeat_note(produced).map_or_else(String::new, |note| format!(" ({note})"));
        format!(
            "stopped. {} rows were put on the queue by this start{twice}, and every row up to number {} is confirmed.\
             {unconfirmed} The progress is saved in {}. Resume {}",
            grouped(produced.offset.rows),
            grouped(produced.offset.record),
            path.display(),
            resume_on_broker(self.settings),
        )
    }
}

/// Writes the last confirmed record to the checkpoint, as often as the disk allows. Ends when `confirmed` is closed.
async fn save(
    mut checkpoint: Checkpoint,
    mut confirmed: watch::Receiver<ImportOffset>,
    saved: watch::Sender<ImportOffset>,
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

/// Shows the progress until the future is dropped.
async fn show(progress: ConsoleProgress, rows_about: u64, confirmed: watch::Receiver<ImportOffset>) {
    progress.start(rows_about, PRODUCE_STYLE);
    let began = Instant::now();
    let mut ticks = interval(if progress.is_on_terminal() { DRAW_EVERY } else { LINE_EVERY });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick completes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let ImportOffset { rows, record } = *confirmed.borrow();
        progress.bar.set_position(record);
        if !progress.is_on_terminal() {
            let per_second = rows as f64 / began.elapsed().as_secs_f64();
            let (row, about) = (grouped(record), grouped(rows_about.max(record)));
            progress.print_line(&format!(
                "up to row {row} of about {about}: on the queue and confirmed ({per_second:.0} rows/s)"
            ));
        }
    }
}

async fn joined<T>(task: JoinHandle<Result<T, AppError>>) -> Result<T, AppError> {
    task.await.map_err(|error| AppError::panicked("a part of the import", &error))?
}
