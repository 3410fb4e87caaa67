//! Putting the rows of a file on the embedded queue, or through it onto another: the part that `run`, `import` and `check`
//! share.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tokio_util::sync::CancellationToken;

use crate::adapters::csv::{ReadOptions, Row, RowReader, Scan};
use crate::adapters::local_queue::import::{Enqueued, Importer, Place};
use crate::app::console::error::AppError;
use crate::app::console::progress::Progress;
use crate::app::input::row_parser::{RowParser, ValidRow, email_conflict, key_conflict};
use crate::clock::Clock;
use crate::domain::job::{Identity, InvalidJob};
use crate::domain::{Lane, Problem, Source, Warning};

/// Rows between two updates of the progress.
const ROWS_PER_TICK: u64 = 500;

/// Rows that are read and validated before they are put on the queue together.
const ROWS_PER_WRITE: usize = 1_000;

/// The same in bytes of their cells: bounds the memory.
const BYTES_PER_WRITE: usize = 4 * 1024 * 1024;

/// What is to be read, and where the rows go.
pub(crate) struct RowsJob<'r> {
    /// The input, for messages.
    pub file: &'r Path,
    /// Where it is read: the input itself, or a copy of it.
    pub read_from: &'r Path,
    /// What it is.
    pub scan: &'r Scan,
    /// How it is read.
    pub options: &'r ReadOptions,
    /// From rows to jobs.
    pub row_parser: &'r RowParser<'r>,
    /// The lane they go in.
    pub lane: Lane,
    /// The last record that is in already.
    pub after_record: u64,
    /// Shown while it goes on.
    pub progress: &'r Progress,
    /// Ends it early.
    pub stop: &'r CancellationToken,
}

/// What a command does with rows that are not simply put on the queue.
pub(crate) trait Visitor {
    /// A row that can't be sent.
    ///
    /// # Errors
    /// Where it can't be recorded; ends the reading.
    fn rejected(&mut self, importer: &mut Importer, row: &Row, invalid: &InvalidJob) -> Result<(), AppError>;

    /// A row that became a new job.
    ///
    /// # Errors
    /// Where it can't be taken; ends the reading.
    fn accepted(&mut self, _row: &Row, _good: ValidRow) -> Result<(), AppError> {
        Ok(())
    }

    /// A row that asks for the same as the row on this line.
    ///
    /// # Errors
    /// Where it can't be told; ends the reading.
    fn repeated(&mut self, _row: &Row, _line: u64) -> Result<(), AppError> {
        Ok(())
    }

    /// Something a person should look at.
    ///
    /// # Errors
    /// Where it can't be told; ends the reading.
    fn warned(&mut self, _row: &Row, _warning: &Warning) -> Result<(), AppError> {
        Ok(())
    }
}

/// What became of the rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Read now.
    pub rows: u64,
    /// New jobs.
    pub new: u64,
    /// Jobs that the queue had from before.
    pub known: u64,
    /// The same as an earlier row of the file.
    pub repeated: u64,
    /// Not put on the queue.
    pub rejected: u64,
    /// Rows to look at.
    pub warned: u64,
}

/// Reads every row. `None`: told to stop before the end; what was read is on the queue.
///
/// Rows are read and validated on a thread of their own, while those before them are written; where a transaction on a shared
/// queue ends, only afterwards, so that another process gets its turn on it.
///
/// # Errors
/// Where the file can't be read on, or the queue not be written.
pub(crate) fn enqueue(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn Visitor,
) -> Result<Option<Counts>, AppError> {
    let reader = RowReader::open(job.read_from, job.scan, job.options)?.named(job.file);
    let mut counts = Counts::default();
    // Each word asks for one write's worth of rows, which bounds how many there are.
    let (ask, asked) = mpsc::channel();
    let (sender, arriving) = mpsc::channel();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(job, reader, asked, sender));
        // Both ends of this side are gone when it ends, however it ends, and the reading ends with them.
        let (ask, arriving) = (ask, arriving);
        let ask_for_more = || {
            // Nobody reads on after the last row.
            let _ = ask.send(());
        };
        ask_for_more();
        for rows in arriving {
            let commits = importer.should_commit_after(rows.len())?;
            let gives_way = commits && importer.is_shared();
            if !gives_way {
                ask_for_more();
            }
            write(job, importer, visitor, rows, &mut counts)?;
            if commits {
                importer.commit()?;
            }
            if gives_way {
                ask_for_more();
            }
        }
        importer.commit()?;
        let is_whole = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(is_whole.then_some(counts))
    })
}

/// Reads and validates rows for as long as somebody takes them. Whether it came to the end of the file.
fn read(
    job: &RowsJob<'_>,
    mut reader: RowReader,
    asked: Receiver<()>,
    sender: Sender<Vec<ReadRow>>,
) -> Result<bool, AppError> {
    let mut row = Row::default();
    let (mut is_stopped, mut is_over) = (false, false);
    for () in asked {
        let (mut rows, mut bytes) = (Vec::with_capacity(ROWS_PER_WRITE), 0);
        while rows.len() < ROWS_PER_WRITE && bytes < BYTES_PER_WRITE && !is_stopped {
            is_over = !reader.read(&mut row)?;
            if is_over {
                break;
            }
            if row.record % ROWS_PER_TICK == 0 {
                job.progress.bar.set_position(row.record);
                is_stopped = job.stop.is_cancelled();
            }
            if row.record > job.after_record {
                bytes += row.cells.as_slice().len();
                rows.push((row.clone(), job.row_parser.read(&row)));
            }
        }
        if sender.send(rows).is_err() || is_over || is_stopped {
            break;
        }
    }
    Ok(is_over)
}

/// A row and what was made of it.
type ReadRow = (Row, Result<ValidRow, Box<InvalidJob>>);

fn write(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn Visitor,
    rows: Vec<ReadRow>,
    counts: &mut Counts,
) -> Result<(), AppError> {
    for (row, read) in rows {
        counts.rows += 1;
        one_row(job, importer, visitor, &row, read, counts)?;
    }
    Ok(())
}

fn one_row(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn Visitor,
    row: &Row,
    read: Result<ValidRow, Box<InvalidJob>>,
    counts: &mut Counts,
) -> Result<(), AppError> {
    let invalid = match read {
        Ok(good) => match put_in(job, importer, visitor, row, &good, counts)? {
            PutIn::New => return visitor.accepted(row, good),
            PutIn::Known => return Ok(()),
            PutIn::Not(problem) => {
                Box::new(InvalidJob { identity: good.job.identity, key: None, problems: vec![problem] })
            }
        },
        Err(invalid) => invalid,
    };
    counts.rejected += 1;
    visitor.rejected(importer, row, &invalid)
}

/// What became of a valid row.
enum PutIn {
    New,
    Known,
    /// Why it can't be put in.
    Not(Problem),
}

fn put_in(
    job: &RowsJob<'_>,
    importer: &mut Importer,
    visitor: &mut dyn Visitor,
    row: &Row,
    good: &ValidRow,
    counts: &mut Counts,
) -> Result<PutIn, AppError> {
    let place = Place { record: row.record, line: row.line };
    let mut put_in = PutIn::Known;
    match importer.enqueue(place, &good.job, &good.body, job.lane, Clock::System.now())? {
        Enqueued::New => {
            counts.new += 1;
            put_in = PutIn::New;
        }
        Enqueued::Known => counts.known += 1,
        Enqueued::Repeat { line } => {
            counts.repeated += 1;
            visitor.repeated(row, line)?;
        }
        Enqueued::EmailConflict { line } => return Ok(PutIn::Not(email_conflict(line))),
        Enqueued::KeyConflict => return Ok(PutIn::Not(key_conflict())),
    }
    counts.warned += u64::from(!good.warnings.is_empty());
    for warning in &good.warnings {
        visitor.warned(row, warning)?;
    }
    Ok(put_in)
}

/// The identity of a row, for the event of its rejection.
pub(crate) fn named(identity: &Identity, batch_id: &str, row: &Row, file: &str) -> Identity {
    let mut identity = identity.clone();
    identity.job_id.get_or_insert_with(|| format!("{batch_id}:{}", row.line));
    identity.source.get_or_insert_with(|| Source { file: file.to_owned(), line: row.line });
    identity
}
