//! The reading side of an import onto RabbitMQ: a thread that validates the rows, leaves out repeats and passes new
//! rows on to the producer.

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::adapters::amqp::publish::producer::OutgoingRow;
use crate::adapters::csv::{CsvRow, CsvScan, ReadOptions};
use crate::adapters::local_queue::import::{BatchKind, Importer};
use crate::app::commands::import::rejects_file::RejectsFile;
use crate::app::console::progress::ConsoleProgress;
use crate::app::error::AppError;
use crate::app::input::row_parser::{RowParser, ValidRow, batch_of};
use crate::app::input::rows::{self, ImportCounts, RowVisitor, RowsJob};
use crate::app::input::scratch_queue;
use crate::domain::job::InvalidJob;
use crate::domain::{Lane, ReadingOptions};
use crate::telemetry::logging::LogFormat;

/// What is read, and how.
pub(super) struct RowReaderConfig {
    /// The file's name.
    pub file: PathBuf,
    /// Its content.
    pub read_from: PathBuf,
    pub scan: CsvScan,
    pub options: ReadOptions,
    pub reading: ReadingOptions,
    pub lane: Lane,
    pub message_bytes_max: usize,
    /// Folder for the rejected rows; `None`: the working folder.
    pub rejects_folder: Option<PathBuf>,
    /// The last record that was confirmed before. New rows up to it are only counted.
    pub confirmed_record: u64,
    pub stop: CancellationToken,
}

pub(super) struct ReadingResult {
    /// `None`: stopped before the end of the file.
    pub counts: Option<ImportCounts>,
    /// New rows that an earlier start put on the queue.
    pub confirmed_before: u64,
    pub rejects: Option<PathBuf>,
}

/// Reads every row on a blocking thread, until the end of the file or until `rows` is closed.
pub(super) fn start(
    config: RowReaderConfig,
    rows: mpsc::Sender<OutgoingRow>,
) -> JoinHandle<Result<ReadingResult, AppError>> {
    tokio::task::spawn_blocking(move || read(&config, rows))
}

fn read(config: &RowReaderConfig, rows: mpsc::Sender<OutgoingRow>) -> Result<ReadingResult, AppError> {
    let RowReaderConfig { file, scan, options, stop, .. } = config;
    let batch = batch_of(file, scan);
    let mut index = scratch_queue::importer("import", &batch, BatchKind::Index)?;
    // Never shown: the bar shows what is confirmed, not what is read.
    let hidden_progress = ConsoleProgress::new(LogFormat::Text);
    let job = RowsJob {
        file,
        read_from: &config.read_from,
        scan,
        options,
        row_parser: &RowParser::new(&batch, &scan.header, config.message_bytes_max, config.reading),
        lane: config.lane,
        after_record: 0,
        progress: &hidden_progress,
        stop,
    };
    let mut forwarder = RowForwarder {
        rejects: RejectsFile::new(scan, file, config.rejects_folder.as_deref()),
        rows,
        confirmed_record: config.confirmed_record,
        confirmed_before: 0,
        is_closed: false,
    };
    let counts = match rows::enqueue(&job, &mut index, &mut forwarder) {
        // The producer's own error says why.
        Err(_) if forwarder.is_closed => None,
        counts => counts?,
    };
    let RowForwarder { rejects, confirmed_before, .. } = forwarder;
    let rejects = if counts.is_some() { rejects.finish()? } else { None };
    Ok(ReadingResult { counts, confirmed_before, rejects })
}

/// Sends new rows to the producer, and the rejected ones to the rejects file.
struct RowForwarder<'s> {
    rejects: RejectsFile<'s>,
    rows: mpsc::Sender<OutgoingRow>,
    confirmed_record: u64,
    confirmed_before: u64,
    /// Whether the producer has ended.
    is_closed: bool,
}

impl RowVisitor for RowForwarder<'_> {
    fn rejected(&mut self, importer: &mut Importer, row: &CsvRow, invalid: &InvalidJob) -> Result<(), AppError> {
        self.rejects.rejected(importer, row, invalid)
    }

    fn accepted(&mut self, row: &CsvRow, valid: ValidRow) -> Result<(), AppError> {
        if row.record <= self.confirmed_record {
            self.confirmed_before += 1;
            return Ok(());
        }
        let row = OutgoingRow { record: row.record, key: valid.job.key, body: valid.body };
        self.rows.blocking_send(row).map_err(|_| {
            self.is_closed = true;
            AppError::CannotContinue("the producer has ended".to_owned())
        })
    }
}
