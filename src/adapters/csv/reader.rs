//! The second pass: the rows of a scanned file, one after the other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use encoding_rs::Encoding;
use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use crate::adapters::csv::error::shown;
use crate::adapters::csv::record::{Found, Records};
use crate::adapters::csv::{CsvError, Delimiter, ReadOptions, Row, Scan};

/// Decoded at once.
const DECODE_BYTES: usize = 64 * 1024;

/// A file whose bytes come out as UTF-8.
pub(super) type Decoded = DecodeReaderBytes<File, Vec<u8>>;

/// The records of a file in a known encoding and delimiter. A byte order mark is removed, and what is malformed
/// becomes U+FFFD.
pub(super) fn records(
    file: File,
    encoding: &'static Encoding,
    delimiter: Delimiter,
    record_bytes_max: usize,
) -> io::Result<Records<Decoded>> {
    let mut decoder = DecodeReaderBytesBuilder::new();
    decoder.encoding(Some(encoding)).bom_sniffing(false);
    let decoded = decoder.build_with_buffer(file, vec![0; DECODE_BYTES])?;
    Ok(Records::new(decoded, delimiter, record_bytes_max))
}

/// Reads the rows of a file in constant memory.
///
/// There is no way to start in the middle: line numbers are only known to who has seen the lines. Whoever goes on
/// where an earlier run stopped reads the rows before that place and drops them.
pub(crate) struct RowReader {
    records: Records<Decoded>,
    path: PathBuf,
    /// The same file, to ask for its size.
    file: File,
    /// Its size when it was scanned.
    bytes: u64,
    /// Rows handed out.
    rows: u64,
    delimiter: u8,
    columns: usize,
}

impl RowReader {
    /// Opens the file and goes past its header.
    ///
    /// # Errors
    /// [`CsvError::Changed`] where this is not the file that was scanned; else as for reading.
    pub(crate) fn open(path: &Path, scan: &Scan, options: &ReadOptions) -> Result<Self, CsvError> {
        let open = || {
            let file = File::open(path)?;
            let records = records(file.try_clone()?, scan.encoding, scan.delimiter, options.record_bytes_max)?;
            Ok((file, records))
        };
        let (file, records) = open().map_err(|error| CsvError::reading(path, error))?;
        let (delimiter, columns) = (scan.delimiter.byte(), scan.header.titles().len());
        let mut reader = Self { records, path: path.to_owned(), file, bytes: scan.bytes, rows: 0, delimiter, columns };
        reader.check_size()?;
        let mut titles = StringRecord::new();
        let header = reader.records.read_header(&mut titles);
        header.map_err(|error| CsvError::in_record(path, error))?;
        if !titles.iter().eq(scan.header.titles()) {
            return Err(CsvError::Changed { file: shown(path) });
        }
        Ok(reader)
    }

    /// Has errors name another file, of which this one is a copy.
    #[must_use]
    pub(crate) fn named(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Reads the next row into `row`. `false` at the end of the file; `row` means nothing then.
    ///
    /// # Errors
    /// [`CsvError`] where the file can't be read on: the rows after this place are unknown, so the file must not
    /// be taken for done. [`CsvError::Changed`] where it has another size at its end than when it was scanned:
    /// rows were handed out that may not be what the fingerprint stands for.
    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, CsvError> {
        let found = self.records.read(&mut row.cells).map_err(|error| CsvError::in_record(&self.path, error))?;
        let Some(Found { line, cut_at }) = found else {
            self.check_size()?;
            return Ok(false);
        };
        self.rows += 1;
        (row.record, row.line, row.cut_at) = (self.rows, line, cut_at);
        row.has_swallowed_rows = self.has_swallowed_rows(&row.cells);
        Ok(true)
    }

    /// Whether a cell has swallowed rows. A quotation mark that isn't closed takes the following rows in, up to the next one; where that
    /// one stands in another column, the number of cells is wrong, and else nothing is. What gives it away: the line on which the cell begins
    /// goes on in it with about as many separators as a row has after that column, and the line on which it ends begins in it with as many as
    /// a row has before it. The lines of a long text don't.
    fn has_swallowed_rows(&self, cells: &StringRecord) -> bool {
        let separators = |line: &str| line.bytes().filter(|byte| *byte == self.delimiter).count();
        // Rows may have some cells too few, or one or two too many.
        let is_about = |found: usize, expected: usize| (expected * 3).div_ceil(4) <= found && found <= expected + 2;
        let holds_rows = |(before, cell): (usize, &str)| {
            let lines = cell.split_once(['\n', '\r']).zip(cell.rsplit_once(['\n', '\r']));
            let after = (self.columns - 1).saturating_sub(before);
            lines.is_some_and(|((first, _), (_, last))| {
                is_about(separators(first), after) && is_about(separators(last), before)
            })
        };
        // All cells at once: most rows stand on one line.
        cells.as_slice().contains(['\n', '\r']) && cells.iter().enumerate().any(holds_rows)
    }

    fn check_size(&self) -> Result<(), CsvError> {
        let metadata = self.file.metadata().map_err(|error| CsvError::reading(&self.path, error))?;
        if metadata.len() == self.bytes { Ok(()) } else { Err(CsvError::Changed { file: shown(&self.path) }) }
    }
}
