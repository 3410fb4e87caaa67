//! Reads the rows of a file and puts them on an embedded queue: the part that `run`, `import` and `check` share.
//!
//! ```text
//! reading thread: read -> parse, validate -> up to 1,000 rows -> caller's thread: enqueue or reject, commit
//! ```
//!
//! What happens to a row beyond that is up to the command's [`RowVisitor`].

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tokio_util::sync::CancellationToken;

use crate::adapters::csv::{CsvRow, CsvScan, ReadOptions, RowReader};
use crate::adapters::local_queue::import::{Enqueued, Importer, RowPosition};
use crate::app::console::progress::ConsoleProgress;
use crate::app::error::AppError;
use crate::app::input::row_parser::{RowParser, ValidRow, email_conflict, key_conflict};
use crate::clock::Clock;
use crate::domain::job::{Identity, InvalidJob};
use crate::domain::{Lane, Problem, Source, Warning};

/// Rows between two updates of the progress bar.
const ROWS_PER_TICK: u64 = 500;

/// Most rows that are read and validated before they are written together.
const ROWS_PER_WRITE: usize = 1_000;

/// The same limit in bytes of their cells; bounds the memory.
const BYTES_PER_WRITE: usize = 4 * 1024 * 1024;

/// The file to read and where its rows are put.
pub(crate) struct RowsJob<'r> {
    /// The input's path for error messages.
    pub file: &'r Path,
    /// The file that is read: the input itself, or a copy of it.
    pub read_from: &'r Path,
    pub scan: &'r CsvScan,
    pub options: &'r ReadOptions,
    pub row_parser: &'r RowParser<'r>,
    pub lane: Lane,
    /// The last record that was imported before; records up to it are skipped.
    pub after_record: u64,
    pub progress: &'r ConsoleProgress,
    /// Ends the reading early when cancelled.
    pub stop: &'r CancellationToken,
}

/// What a command does with rows beyond putting them on the queue. An error ends the reading.
pub(crate) trait RowVisitor {
    /// A row that can't be sent.
    ///
    /// # Errors
    /// Where the rejection can't be recorded.
    fn rejected(&mut self, importer: &mut Importer, row: &CsvRow, invalid: &InvalidJob) -> Result<(), AppError>;

    /// A row that became a new job.
    ///
    /// # Errors
    /// Where the row can't be passed on.
    fn accepted(&mut self, _row: &CsvRow, _valid: ValidRow) -> Result<(), AppError> {
        Ok(())
    }

    /// A row that repeats the row on line `_line`.
    ///
    /// # Errors
    /// Where the repeat can't be recorded.
    fn repeated(&mut self, _row: &CsvRow, _line: u64) -> Result<(), AppError> {
        Ok(())
    }

    /// A valid row with a value that may be wrong.
    ///
    /// # Errors
    /// Where the warning can't be recorded.
    fn warned(&mut self, _row: &CsvRow, _warning: &Warning) -> Result<(), AppError> {
        Ok(())
    }
}

/// How many rows had which result.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportCounts {
    /// Rows read by this start.
    pub rows: u64,
    /// Rows that became a new job.
    pub new: u64,
    /// Rows whose job was on the queue, or finished, before.
    pub known: u64,
    /// Rows that repeat an earlier row of the file.
    pub repeated: u64,
    /// Rows that can't be sent.
    pub rejected: u64,
    /// Valid rows with warnings.
    pub warned: u64,
}

/// Reads every row and puts it on the queue. `None`: stopped before the end; the rows read so far are on the queue.
///
/// The next rows are read while the ones before are written. On a shared queue, reading waits until a transaction has
/// ended, so that other processes get their share of the file lock.
///
/// # Errors
/// Where the file can't be read to its end, or the queue can't be written.
pub(crate) fn enqueue(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn RowVisitor,
) -> Result<Option<ImportCounts>, AppError> {
    let reader = RowReader::open(job.read_from, job.scan, job.options)?.named(job.file);
    let mut counts = ImportCounts::default();
    // Each request is for the rows of one write, which bounds how many rows are in memory.
    let (request_sender, requests) = mpsc::channel();
    let (rows_sender, rows_receiver) = mpsc::channel();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(job, reader, requests, rows_sender));
        // Moved here, so that both are dropped when this closure returns or panics, which ends the reading thread.
        let (request_sender, rows_receiver) = (request_sender, rows_receiver);
        let request_rows = || {
            // Fails after the last row, when the reading thread has ended.
            let _ = request_sender.send(());
        };
        request_rows();
        for rows in rows_receiver {
            let commits = importer.should_commit_after(rows.len())?;
            let yields_lock = commits && importer.is_shared();
            if !yields_lock {
                request_rows();
            }
            write(job, importer, visitor, rows, &mut counts)?;
            if commits {
                importer.commit()?;
            }
            if yields_lock {
                request_rows();
            }
        }
        importer.commit()?;
        let is_complete = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(is_complete.then_some(counts))
    })
}

/// Reads and validates rows for each request, until the requests end, the file ends or the command is stopped. Returns
/// whether it reached the end of the file.
fn read(
    job: &RowsJob<'_>,
    mut reader: RowReader,
    requests: Receiver<()>,
    sender: Sender<Vec<ParsedRow>>,
) -> Result<bool, AppError> {
    let mut row = CsvRow::default();
    let (mut is_stopped, mut is_at_end) = (false, false);
    for () in requests {
        let (mut rows, mut bytes) = (Vec::with_capacity(ROWS_PER_WRITE), 0);
        while rows.len() < ROWS_PER_WRITE && bytes < BYTES_PER_WRITE && !is_stopped {
            is_at_end = !reader.read(&mut row)?;
            if is_at_end {
                break;
            }
            if row.record % ROWS_PER_TICK == 0 {
                job.progress.bar.set_position(row.record);
                is_stopped = job.stop.is_cancelled();
            }
            if row.record > job.after_record {
                bytes += row.cells.as_slice().len();
                rows.push((row.clone(), job.row_parser.parse(&row)));
            }
        }
        if sender.send(rows).is_err() || is_at_end || is_stopped {
            break;
        }
    }
    Ok(is_at_end)
}

/// A row and its job or problems.
type ParsedRow = (CsvRow, Result<ValidRow, Box<InvalidJob>>);

fn write(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn RowVisitor,
    rows: Vec<ParsedRow>,
    counts: &mut ImportCounts,
) -> Result<(), AppError> {
    for (row, parsed) in rows {
        counts.rows += 1;
        write_row(job, importer, visitor, &row, parsed, counts)?;
    }
    Ok(())
}

fn write_row(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn RowVisitor,
    row: &CsvRow,
    parsed: Result<ValidRow, Box<InvalidJob>>,
    counts: &mut ImportCounts,
) -> Result<(), AppError> {
    let invalid = match parsed {
        Ok(valid) => match enqueue_row(job, importer, visitor, row, &valid, counts)? {
            EnqueueOutcome::New => return visitor.accepted(row, valid),
            EnqueueOutcome::Known => return Ok(()),
            EnqueueOutcome::Conflict(problem) => {
                Box::new(InvalidJob { identity: valid.job.identity, key: None, problems: vec![problem] })
            }
        },
        Err(invalid) => invalid,
    };
    counts.rejected += 1;
    visitor.rejected(importer, row, &invalid)
}

/// What happened to a valid row.
enum EnqueueOutcome {
    /// It is a new job.
    New,
    /// Its job was there before.
    Known,
    /// It contradicts another row or job.
    Conflict(Problem),
}

fn enqueue_row(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn RowVisitor,
    row: &CsvRow,
    valid: &ValidRow,
    counts: &mut ImportCounts,
) -> Result<EnqueueOutcome, AppError> {
    let place = RowPosition { record: row.record, line: row.line };
    let mut outcome = EnqueueOutcome::Known;
    match importer.enqueue(place, &valid.job, &valid.body, job.lane, Clock::System.now())? {
        Enqueued::New => {
            counts.new += 1;
            outcome = EnqueueOutcome::New;
        }
        Enqueued::Known => counts.known += 1,
        Enqueued::Repeat { line } => {
            counts.repeated += 1;
            visitor.repeated(row, line)?;
        }
        Enqueued::EmailConflict { line } => return Ok(EnqueueOutcome::Conflict(email_conflict(line))),
        Enqueued::KeyConflict => return Ok(EnqueueOutcome::Conflict(key_conflict())),
    }
    counts.warned += u64::from(!valid.warnings.is_empty());
    for warning in &valid.warnings {
        visitor.warned(row, warning)?;
    }
    Ok(outcome)
}

/// The identity of a rejected row, for its event: with a job id and a source even where the row has none.
pub(crate) fn identity_of_rejected(identity: &Identity, batch_id: &str, row: &CsvRow, file: &str) -> Identity {
    let mut identity = identity.clone();
    identity.job_id.get_or_insert_with(|| format!("{batch_id}:{}", row.line));
    identity.source.get_or_insert_with(|| Source { file: file.to_owned(), line: row.line });
    identity
}
