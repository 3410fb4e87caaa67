//! Second pass: reads the rows of a scanned file, one after the other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use encoding_rs::Encoding;
use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use crate::adapters::csv::error::shown;
use crate::adapters::csv::record::{RecordInfo, RecordReader};
use crate::adapters::csv::swallowed::has_swallowed_rows;
use crate::adapters::csv::{CsvError, CsvRow, CsvScan, Delimiter, ReadOptions};

/// Size of the buffer of the decoder.
const DECODE_BYTES: usize = 64 * 1024;

/// A file, decoded to UTF-8.
pub(super) type DecodedFile = DecodeReaderBytes<File, Vec<u8>>;

/// Reads the records of a file with a known encoding and delimiter. Drops a byte order mark and replaces malformed
/// bytes by U+FFFD.
pub(super) fn records(
    file: File,
    encoding: &'static Encoding,
    delimiter: Delimiter,
    record_bytes_max: usize,
) -> io::Result<RecordReader<DecodedFile>> {
    let mut decoder = DecodeReaderBytesBuilder::new();
    decoder.encoding(Some(encoding)).bom_sniffing(false);
    let decoded = decoder.build_with_buffer(file, vec![0; DECODE_BYTES])?;
    Ok(RecordReader::new(decoded, delimiter, record_bytes_max))
}

/// Reads the rows of a file in constant memory.
///
/// It can't start in the middle, because line numbers are known only after the lines before were read. To resume an
/// earlier run, read the rows again and drop those that are done.
pub(crate) struct RowReader {
    records: RecordReader<DecodedFile>,
    path: PathBuf,
    /// The same file, to check its size.
    file: File,
    /// Size of the file when it was scanned.
    bytes: u64,
    /// Rows returned.
    rows: u64,
    delimiter: u8,
    columns: usize,
}

impl RowReader {
    /// Opens the file and skips its header.
    ///
    /// # Errors
    /// [`CsvError::Changed`] if this isn't the file that was scanned, otherwise as for reading.
    pub(crate) fn open(path: &Path, scan: &CsvScan, options: &ReadOptions) -> Result<Self, CsvError> {
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
        let record = self.records.read(&mut row.cells).map_err(|error| CsvError::in_record(&self.path, error))?;
        let Some(RecordInfo { line, cut_at }) = record else {
            self.check_size()?;
            return Ok(false);
        };
        self.rows += 1;
        (row.record, row.line, row.cut_at) = (self.rows, line, cut_at);
        row.has_swallowed_rows = has_swallowed_rows(&row.cells, self.columns, self.delimiter);
        Ok(true)
    }

    fn check_size(&self) -> Result<(), CsvError> {
        let metadata = self.file.metadata().map_err(|error| CsvError::reading(&self.path, error))?;
        if metadata.len() == self.bytes { Ok(()) } else { Err(CsvError::Changed { file: shown(&self.path) }) }
    }
}
