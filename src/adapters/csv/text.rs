//! Lines of separated cells as a [`RowSource`]: decompressed and decoded to UTF-8 while they are read.

use std::io::{self, Read};

use encoding_rs::Encoding;
use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};
use flate2::read::MultiGzDecoder;

use crate::adapters::csv::Delimiter;
use crate::adapters::csv::file_cursor::FileCursor;
use crate::adapters::csv::record::{RecordError, RecordInfo, RecordReader};
use crate::adapters::csv::row::CsvRow;
use crate::adapters::csv::row_source::RowSource;

/// Size of the buffer of the decoder.
const DECODE_BYTES: usize = 64 * 1024;

/// The bytes of a file, decompressed if it is compressed.
pub(super) type FileBytes = Box<dyn Read + Send>;

/// Opens the bytes of a file.
pub(super) fn bytes(file: FileCursor, is_gzip: bool) -> FileBytes {
    if is_gzip {
        Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(DECODE_BYTES, file)))
    } else {
        Box::new(file)
    }
}

/// Reads the records of a file.
pub(super) struct TextRecords {
    records: RecordReader<DecodeReaderBytes<FileBytes, Vec<u8>>>,
}

impl TextRecords {
    /// Reads records in a known encoding, with a known delimiter. Drops a byte order mark and replaces malformed bytes
    /// by U+FFFD.
    pub(super) fn new(
        bytes: FileBytes,
        encoding: &'static Encoding,
        delimiter: Delimiter,
        record_bytes_max: usize,
    ) -> io::Result<Self> {
        let mut decoder = DecodeReaderBytesBuilder::new();
        decoder.encoding(Some(encoding)).bom_sniffing(false);
        let decoded = decoder.build_with_buffer(bytes, vec![0; DECODE_BYTES])?;
        Ok(Self { records: RecordReader::new(decoded, delimiter, record_bytes_max) })
    }
}

impl RowSource for TextRecords {
    fn read(&mut self, row: &mut CsvRow) -> Result<bool, RecordError> {
        let Some(record) = self.records.read(&mut row.cells)? else { return Ok(false) };
        let RecordInfo { line, cut_at, has_guessed_quotes } = record;
        (row.line, row.cut_at, row.has_guessed_quotes) = (line, cut_at, has_guessed_quotes);
        Ok(true)
    }
}
