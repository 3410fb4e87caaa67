//! The first pass: what a file is, before any row of it is believed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use csv::StringRecord;
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};

use crate::adapters::csv::encoding::{EncodingOrigin, Evidence};
use crate::adapters::csv::error::shown;
use crate::adapters::csv::{CsvError, Delimiter, Header, ReadOptions, reader};

/// Read at once. More than enough for the byte order mark and the magic numbers.
const CHUNK_BYTES: usize = 64 * 1024;
/// The first record is a header where it has at least so many known titles, or nothing else. Else it may be a customer's
/// row, and no message may quote it.
const RECOGNISED_MIN: usize = 3;
/// How a ZIP archive begins, and so every .xlsx and .ods.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// How an OLE document begins, and so every .xls.
const OLE_MAGIC: &[u8] = b"\xD0\xCF\x11\xE0";

/// What a file is. The same bytes and options always give the same.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// SHA-256 of the file's bytes: tells whether a later run has the same file.
    pub fingerprint: [u8; 32],
    /// Size of the file.
    pub bytes: u64,
    /// Line ends in it.
    pub line_ends: u64,
    /// What its bytes mean.
    pub encoding: &'static Encoding,
    /// How that is known.
    pub encoding_origin: EncodingOrigin,
    /// Whether it begins with the byte order mark of its encoding.
    pub has_bom: bool,
    /// What separates its cells.
    pub delimiter: Delimiter,
    /// Its columns.
    pub header: Header,
}

impl Scan {
    /// About how many records there are: a cell may hold line ends, and the header has one as well.
    pub(crate) const fn rows_about(&self) -> u64 {
        self.line_ends.saturating_sub(1)
    }
}

/// Reads the whole file once, in constant memory.
///
/// # Errors
/// [`CsvError`] where this is no customer file, or its header can't be used.
pub(crate) fn scan(path: &Path, options: &ReadOptions) -> Result<Scan, CsvError> {
    let Survey { fingerprint, bytes, line_ends, mark, encoding: (encoding, encoding_origin) } = survey(path, options)?;
    let (delimiter, header) = header(path, encoding, options)?;
    let has_bom = mark == Some(encoding);
    Ok(Scan { fingerprint, bytes, line_ends, encoding, encoding_origin, has_bom, delimiter, header })
}

/// What the bytes of a file say, before they are text.
struct Survey {
    fingerprint: [u8; 32],
    bytes: u64,
    line_ends: u64,
    mark: Option<&'static Encoding>,
    encoding: (&'static Encoding, EncodingOrigin),
}

fn survey(path: &Path, options: &ReadOptions) -> Result<Survey, CsvError> {
    let mut file = open_regular(path)?;
    let mut hash = Sha256::new();
    let mut evidence = Evidence::new();
    let mut settled = options.encoding.map(|encoding| (encoding, EncodingOrigin::Option));
    let (mut bytes, mut line_ends, mut mark) = (0, 0, None);
    // Begins with the bytes that the last chunk could not make sense of.
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
    let encoding = settled.unwrap_or_else(|| evidence.verdict(&chunk));
    Ok(Survey { fingerprint: hash.finalize().into(), bytes, line_ends, mark, encoding })
}

fn open_regular(path: &Path) -> Result<File, CsvError> {
    let failed = |error| CsvError::reading(path, error);
    // Before opening: to open a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(CsvError::Directory { file: shown(path) });
    }
    if !metadata.is_file() {
        return Err(CsvError::NotAFile { file: shown(path) });
    }
    File::open(path).map_err(failed)
}

/// Looks at the first bytes for what people give in place of a CSV file.
fn refuse_other_formats(path: &Path, head: &[u8], encoding: Option<&'static Encoding>) -> Result<(), CsvError> {
    if head.starts_with(ZIP_MAGIC) || head.starts_with(OLE_MAGIC) {
        return Err(CsvError::Workbook { file: shown(path) });
    }
    let is_utf_16 = encoding.is_some_and(|encoding| encoding == UTF_16LE || encoding == UTF_16BE);
    // Elsewhere a zero byte is a problem of its row.
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let mut header_line = head.iter().skip_while(|byte| is_line_end(byte)).take_while(|byte| !is_line_end(byte));
    if !is_utf_16 && header_line.any(|byte| *byte == 0) {
        return Err(CsvError::NotText { file: shown(path) });
    }
    Ok(())
}

/// Fills `chunk` up to [`CHUNK_BYTES`], so that the magic numbers at the beginning are never cut in two.
fn fill(file: &mut File, chunk: &mut Vec<u8>) -> io::Result<usize> {
    file.take((CHUNK_BYTES - chunk.len()) as u64).read_to_end(chunk)
}

/// The header under the delimiter that makes most sense of it.
fn header(path: &Path, encoding: &'static Encoding, options: &ReadOptions) -> Result<(Delimiter, Header), CsvError> {
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
        let recognised = Header::count_recognised(&titles);
        if best.as_ref().is_none_or(|(most, ..)| recognised > *most) {
            best = Some((recognised, delimiter, line, titles));
        }
    }
    match best {
        Some((recognised, delimiter, line, titles)) if recognised >= RECOGNISED_MIN.min(titles.len()) => {
            Header::parse(&titles).map(|header| (delimiter, header)).map_err(|problems| CsvError::Header {
                file: shown(path),
                line,
                problems,
            })
        }
        best => Err(CsvError::NoHeader { file: shown(path), line: best.map_or(1, |(_, _, line, _)| line) }),
    }
}
