//! First pass: fingerprint, encoding, delimiter and header of a file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use csv::StringRecord;
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};

use crate::adapters::csv::encoding::{EncodingEvidence, EncodingOrigin};
use crate::adapters::csv::error::shown;
use crate::adapters::csv::{CsvError, CsvHeader, Delimiter, ReadOptions, reader};

/// Bytes of a read. The byte order mark and the magic numbers are in the first one.
const CHUNK_BYTES: usize = 64 * 1024;
/// The first record is a header if it has at least this many known titles, or known titles only. Otherwise it may be a
/// customer's row, and no message may quote it.
const RECOGNISED_MIN: usize = 3;
/// First bytes of a ZIP archive, and so of every .xlsx and .ods file.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// First bytes of an OLE document, and so of every .xls file.
const OLE_MAGIC: &[u8] = b"\xD0\xCF\x11\xE0";

/// Properties of a file. The same bytes and options always give the same scan.
#[derive(Debug, Clone)]
pub(crate) struct CsvScan {
    /// SHA-256 of the file's bytes. A later run recognises the file by it.
    pub fingerprint: [u8; 32],
    /// Size of the file.
    pub bytes: u64,
    /// Number of line ends.
    pub line_ends: u64,
    /// Encoding.
    pub encoding: &'static Encoding,
    /// Why the encoding was chosen.
    pub encoding_origin: EncodingOrigin,
    /// Whether the file begins with the byte order mark of its encoding.
    pub has_bom: bool,
    /// Separator of cells.
    pub delimiter: Delimiter,
    /// Columns.
    pub header: CsvHeader,
}

impl CsvScan {
    /// Approximate number of rows. Line ends inside cells are counted too.
    pub(crate) const fn rows_about(&self) -> u64 {
        self.line_ends.saturating_sub(1)
    }
}

/// Reads the whole file once, in constant memory.
///
/// # Errors
/// [`CsvError`] if the file isn't a customer file or its header can't be used.
pub(crate) fn scan(path: &Path, options: &ReadOptions) -> Result<CsvScan, CsvError> {
    let ByteScan { fingerprint, bytes, line_ends, mark, encoding: (encoding, encoding_origin) } =
        scan_bytes(path, options)?;
    let (delimiter, header) = header(path, encoding, options)?;
    let has_bom = mark == Some(encoding);
    Ok(CsvScan { fingerprint, bytes, line_ends, encoding, encoding_origin, has_bom, delimiter, header })
}

/// Properties of a file's bytes.
struct ByteScan {
    fingerprint: [u8; 32],
    bytes: u64,
    line_ends: u64,
    /// Encoding of the byte order mark.
    mark: Option<&'static Encoding>,
    encoding: (&'static Encoding, EncodingOrigin),
}

fn scan_bytes(path: &Path, options: &ReadOptions) -> Result<ByteScan, CsvError> {
    let mut file = open_regular(path)?;
    let mut hash = Sha256::new();
    let mut evidence = EncodingEvidence::new();
    let mut settled = options.encoding.map(|encoding| (encoding, EncodingOrigin::Option));
    let (mut bytes, mut line_ends, mut mark) = (0, 0, None);
    // Begins with the incomplete character at the end of the last chunk.
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let carried = chunk.len();
        let read = fill(&mut file, &mut chunk).map_err(|error| CsvError::reading(path, error))?;
        if read == 0 {
            break;
        }
        if bytes == 0 {
            mark = Encoding::for_bom(&chunk).map(|(encoding, _)| encoding);
            settled = settled.or(mark.map(|encoding| (encoding, EncodingOrigin::ByteOrderMark)));
            refuse_other_formats(path, &chunk, settled.map(|(encoding, _)| encoding))?;
        }
        bytes += read as u64;
        hash.update(&chunk[carried..]);
        line_ends += chunk[carried..].iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        let unfinished = if settled.is_none() { evidence.feed(&chunk) } else { 0 };
        chunk.drain(..chunk.len() - unfinished);
    }
    let encoding = settled.unwrap_or_else(|| evidence.decide(&chunk));
    Ok(ByteScan { fingerprint: hash.finalize().into(), bytes, line_ends, mark, encoding })
}

fn open_regular(path: &Path) -> Result<File, CsvError> {
    let failed = |error| CsvError::reading(path, error);
    // Checked before the file is opened, because opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(CsvError::Directory { file: shown(path) });
    }
    if !metadata.is_file() {
        return Err(CsvError::NotAFile { file: shown(path) });
    }
    File::open(path).map_err(failed)
}

/// Recognises by the first bytes the formats that people use instead of CSV.
fn refuse_other_formats(path: &Path, head: &[u8], encoding: Option<&'static Encoding>) -> Result<(), CsvError> {
    if head.starts_with(ZIP_MAGIC) || head.starts_with(OLE_MAGIC) {
        return Err(CsvError::Workbook { file: shown(path) });
    }
    let is_utf_16 = encoding.is_some_and(|encoding| encoding == UTF_16LE || encoding == UTF_16BE);
    // A zero byte after the header is a problem of its row.
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let mut header_line = head.iter().skip_while(|byte| is_line_end(byte)).take_while(|byte| !is_line_end(byte));
    if !is_utf_16 && header_line.any(|byte| *byte == 0) {
        return Err(CsvError::NotText { file: shown(path) });
    }
    Ok(())
}

/// Fills `chunk` up to [`CHUNK_BYTES`], so that the first chunk contains the magic numbers as a whole.
fn fill(file: &mut File, chunk: &mut Vec<u8>) -> io::Result<usize> {
    file.take((CHUNK_BYTES - chunk.len()) as u64).read_to_end(chunk)
}

/// Reads the header with the delimiter that gives the most known titles.
fn header(path: &Path, encoding: &'static Encoding, options: &ReadOptions) -> Result<(Delimiter, CsvHeader), CsvError> {
    let candidates = options.delimiter.as_ref().map_or(&Delimiter::ALL[..], std::slice::from_ref);
    let mut best: Option<(usize, Delimiter, u64, StringRecord)> = None;
    for &delimiter in candidates {
        let mut titles = StringRecord::new();
        let line = File::open(path)
            .and_then(|file| reader::records(file, encoding, delimiter, options.record_bytes_max))
            .map_err(|error| CsvError::reading(path, error))?
            .read_header(&mut titles)
            .map_err(|error| CsvError::in_record(path, error))?;
        let Some(line) = line else { return Err(CsvError::Empty { file: shown(path) }) };
        let recognised = CsvHeader::count_recognised(&titles);
        if best.as_ref().is_none_or(|(most, ..)| recognised > *most) {
            best = Some((recognised, delimiter, line, titles));
        }
    }
    match best {
        Some((recognised, delimiter, line, titles)) if recognised >= RECOGNISED_MIN.min(titles.len()) => {
            CsvHeader::parse(&titles).map(|header| (delimiter, header)).map_err(|problems| CsvError::Header {
                file: shown(path),
                line,
                problems,
            })
        }
        best => Err(CsvError::NoHeader { file: shown(path), line: best.map_or(1, |(_, _, line, _)| line) }),
    }
}
