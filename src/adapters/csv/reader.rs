//! The second pass: the rows of a scanned file, one after the other.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use encoding_rs::Encoding;
use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use super::record::Records;
use super::{CsvError, Delimiter, ReadOptions, Row, Scan};

/// Decoded at once.
const DECODE_BYTES: usize = 64 * 1024;

/// A file whose bytes come out as UTF-8.
pub(super) type Decoded = DecodeReaderBytes<File, Vec<u8>>;

/// Opens `path` in a known encoding and delimiter. A byte order mark is removed, and what is malformed becomes
/// U+FFFD.
pub(super) fn records(
    path: &Path,
    encoding: &'static Encoding,
    delimiter: Delimiter,
    record_bytes_max: usize,
) -> Result<Records<Decoded>, CsvError> {
    let decoded = File::open(path).and_then(|file| {
        let mut decoder = DecodeReaderBytesBuilder::new();
        decoder.encoding(Some(encoding)).bom_sniffing(false).build_with_buffer(file, vec![0; DECODE_BYTES])
    });
    let decoded = decoded.map_err(|error| CsvError::reading(path, error))?;
    Ok(Records::new(decoded, delimiter, record_bytes_max))
}

/// Reads the rows of a file in constant memory.
///
/// There is no way to start in the middle: line numbers are only known to who has seen the lines. Whoever goes on
/// where an earlier run stopped reads the rows before that place and drops them.
pub struct RowReader {
    records: Records<Decoded>,
    path: PathBuf,
    /// Rows handed out.
    rows: u64,
}

impl RowReader {
    /// Opens the file and goes past its header.
    ///
    /// # Errors
    /// [`CsvError::Changed`] where the header is not the one that was scanned; else as for reading.
    pub fn open(path: &Path, scan: &Scan, options: &ReadOptions) -> Result<Self, CsvError> {
        let mut records = records(path, scan.encoding, scan.delimiter, options.record_bytes_max)?;
        let mut titles = StringRecord::new();
        records.read(&mut titles).map_err(|error| CsvError::in_record(path, error))?;
        if !titles.iter().eq(scan.header.titles()) {
            return Err(CsvError::Changed { file: super::error::shown(path) });
        }
        Ok(Self { records, path: path.to_owned(), rows: 0 })
    }

    /// Reads the next row into `row`. `false` at the end of the file; `row` means nothing then.
    ///
    /// # Errors
    /// [`CsvError`] where the file can't be read on: the rows after this place are unknown, so the file must not
    /// be taken for done.
    pub fn read(&mut self, row: &mut Row) -> Result<bool, CsvError> {
        let line = self.records.read(&mut row.cells).map_err(|error| CsvError::in_record(&self.path, error))?;
        let Some(line) = line else { return Ok(false) };
        self.rows += 1;
        (row.record, row.line) = (self.rows, line);
        Ok(true)
    }
}
