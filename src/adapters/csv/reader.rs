//! Second pass: reads the rows of a scanned file, one after the other.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapters::csv::error::shown;
use crate::adapters::csv::file_cursor::FileCursor;
use crate::adapters::csv::format::TableFormat;
use crate::adapters::csv::job_lines::JobLines;
use crate::adapters::csv::row_source::RowSource;
use crate::adapters::csv::sheet_records::{SheetRecords, SheetSource};
use crate::adapters::csv::swallowed::has_swallowed_rows;
use crate::adapters::csv::text::{self, TextRecords};
use crate::adapters::csv::{CsvError, CsvRow, CsvScan, ReadOptions};

/// Reads the rows of a file in constant memory; of a workbook see [`super::workbook`].
///
/// It can't start in the middle, because line numbers are known only after the lines before were read. To resume an
/// earlier run, read the rows again and drop those that are done.
pub(crate) struct RowReader {
    source: Box<dyn RowSource>,
    path: PathBuf,
    /// The same file, to check its size.
    file: Arc<File>,
    /// Size of the file when it was scanned.
    bytes: u64,
    /// Rows returned.
    rows: u64,
    /// `None`: cells can't contain other rows.
    delimiter: Option<u8>,
    /// Cells that are missing at the end of a row are empty.
    fills_rows: bool,
    columns: usize,
}

impl RowReader {
    /// Opens the file and skips its header.
    ///
    /// # Errors
    /// [`CsvError::Changed`] if this isn't the file that was scanned, otherwise as for reading.
    pub(crate) fn open(path: &Path, scan: &CsvScan, options: &ReadOptions) -> Result<Self, CsvError> {
        let file = File::open(path).map(Arc::new).map_err(|error| CsvError::reading(path, error))?;
        let mut reader = Self {
            source: source(path, &file, scan, options)?,
            path: path.to_owned(),
            file,
            bytes: scan.bytes,
            rows: 0,
            delimiter: (scan.format == TableFormat::Text).then(|| scan.delimiter.byte()),
            fills_rows: scan.sheet.is_some(),
            columns: scan.header.titles().len(),
        };
        reader.check_size()?;
        reader.skip_header(scan)?;
        Ok(reader)
    }

    fn skip_header(&mut self, scan: &CsvScan) -> Result<(), CsvError> {
        let mut row = CsvRow::default();
        while row.line < scan.header_line {
            let is_read = self.source.read(&mut row).map_err(|error| CsvError::in_record(&self.path, error))?;
            let is_header = row.line == scan.header_line && row.cells.iter().eq(scan.header.titles());
            if !is_read || row.line >= scan.header_line && !is_header {
                return Err(CsvError::Changed { file: shown(&self.path) });
            }
        }
        Ok(())
    }

    /// Names another file in errors: the one that this file is a copy of.
    #[must_use]
    pub(crate) fn named(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Reads the next row into `row`. Returns `false` at the end of the file; `row` has no meaning then.
    ///
    /// # Errors
    /// [`CsvError`] if the file can't be read further: the rows after this position are unknown, so the file must not
    /// count as finished. [`CsvError::Changed`] if the file has another size at its end than when it was scanned: the
    /// rows may not be those of the fingerprint.
    pub(crate) fn read(&mut self, row: &mut CsvRow) -> Result<bool, CsvError> {
        if !self.source.read(row).map_err(|error| CsvError::in_record(&self.path, error))? {
            self.check_size()?;
            return Ok(false);
        }
        self.rows += 1;
        row.record = self.rows;
        while self.fills_rows && row.cut_at.is_none() && row.cells.len() < self.columns {
            row.cells.push_field("");
        }
        row.has_swallowed_rows =
            self.delimiter.is_some_and(|delimiter| has_swallowed_rows(&row.cells, self.columns, delimiter));
        Ok(true)
    }

    fn check_size(&self) -> Result<(), CsvError> {
        let metadata = self.file.metadata().map_err(|error| CsvError::reading(&self.path, error))?;
        if metadata.len() == self.bytes { Ok(()) } else { Err(CsvError::Changed { file: shown(&self.path) }) }
    }
}

fn source(
    path: &Path,
    file: &Arc<File>,
    scan: &CsvScan,
    options: &ReadOptions,
) -> Result<Box<dyn RowSource>, CsvError> {
    let cursor = FileCursor::new(file.clone());
    let bytes_max = options.record_bytes_max;
    Ok(match (scan.format, &scan.sheet) {
        (TableFormat::Workbook(kind), Some(sheet)) => Box::new(SheetRecords::start(SheetSource {
            kind,
            file: cursor,
            sheet: sheet.name.clone(),
            other_errors: sheet.findings.other_errors.clone(),
            bytes_max,
        })),
        (TableFormat::Jobs, _) => Box::new(JobLines::new(text::bytes(cursor, scan.is_gzip), bytes_max)),
        (TableFormat::Text | TableFormat::Workbook(_), _) => {
            let records = TextRecords::new(text::bytes(cursor, scan.is_gzip), scan.encoding, scan.delimiter, bytes_max);
            Box::new(records.map_err(|error| CsvError::reading(path, error))?)
        }
    })
}
