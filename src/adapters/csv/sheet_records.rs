//! Rows of a sheet. A thread of its own parses the workbook, and stays a few batches of rows ahead.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::adapters::csv::file_cursor::FileCursor;
use crate::adapters::csv::record::RecordError;
use crate::adapters::csv::row::CsvRow;
use crate::adapters::csv::row_source::RowSource;
use crate::adapters::csv::workbook::{OtherError, SheetRow, WorkbookError, WorkbookKind};

/// Most rows of a batch.
const BATCH_ROWS: usize = 256;
/// Most bytes of text of a batch; one row more may fit in.
const BATCH_BYTES: usize = 1024 * 1024;
/// Most batches that wait.
const BATCHES_WAITING: usize = 4;

enum RowBatch {
    Rows(Vec<SheetRow>),
    /// The end of the sheet. A channel that closes without it means that the parser has panicked.
    End(Result<(), WorkbookError>),
}

/// Which sheet is read, and how.
pub(super) struct SheetSource {
    pub(super) kind: WorkbookKind,
    pub(super) file: FileCursor,
    pub(super) sheet: String,
    pub(super) other_errors: Vec<OtherError>,
    pub(super) bytes_max: usize,
}

/// Reads the rows of a sheet.
pub(super) struct SheetRecords {
    batches: Receiver<RowBatch>,
    batch: std::vec::IntoIter<SheetRow>,
    bytes_max: usize,
}

impl SheetRecords {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn start(source: SheetSource) -> Self {
        let bytes_max = source.bytes_max;
        let (sender, batches) = sync_channel(BATCHES_WAITING);
        thread::spawn(move || parse(source, &sender));
        Self { batches, batch: Vec::new().into_iter(), bytes_max }
    }
}

fn parse(source: SheetSource, sender: &SyncSender<RowBatch>) {
    let SheetSource { kind, file, sheet, other_errors, bytes_max } = source;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let ended = kind.each_row(file, &sheet, bytes_max, &other_errors, &mut |row| {
        bytes += row.cells.as_slice().len();
        batch.push(row);
        if batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            return true;
        }
        bytes = 0;
        sender.send(RowBatch::Rows(std::mem::take(&mut batch))).is_ok()
    });
    // Fails if the receiver of the rows is gone.
    let _ = sender.send(RowBatch::Rows(batch)).and_then(|()| sender.send(RowBatch::End(ended)));
}

impl RowSource for SheetRecords {
    fn read(&mut self, row: &mut CsvRow) -> Result<bool, RecordError> {
        loop {
            if let Some(found) = self.batch.next() {
                row.line = found.line;
                row.cells = found.cells;
                row.cut_at = found.is_cut.then_some(self.bytes_max);
                return Ok(true);
            }
            match self.batches.recv() {
                Ok(RowBatch::Rows(rows)) => self.batch = rows.into_iter(),
                Ok(RowBatch::End(ended)) => return ended.map(|()| false).map_err(RecordError::Workbook),
                Err(_) => return Err(RecordError::Workbook(WorkbookError::Damaged)),
            }
        }
    }
}
