//! First pass: format, fingerprint, encoding, delimiter and header of a file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};

use crate::adapters::csv::encoding::{EncodingDecision, EncodingEvidence, EncodingOrigin};
use crate::adapters::csv::error::shown;
use crate::adapters::csv::file_cursor::FileCursor;
use crate::adapters::csv::format::{TableFormat, is_gzip, recognise};
use crate::adapters::csv::header_search::{self, FoundHeader};
use crate::adapters::csv::sheet_records::{SheetRecords, SheetSource};
use crate::adapters::csv::text::{self, TextRecords};
use crate::adapters::csv::workbook::{RowRanges, SheetFindings, WorkbookError, WorkbookKind};
use crate::adapters::csv::{CsvError, CsvHeader, Delimiter, ReadOptions, job_lines};

/// Bytes of a read. The byte order mark and the magic numbers are in the first one.
const CHUNK_BYTES: usize = 64 * 1024;

/// Properties of a file. The same bytes and options always give the same scan.
#[derive(Debug, Clone)]
pub(crate) struct CsvScan {
    /// SHA-256 of the file's bytes, and of the sheet and the line of the header where they are a choice. A later run
    /// recognises its rows by it.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the file's bytes.
    pub digest: [u8; 32],
    /// Size of the file.
    pub bytes: u64,
    /// What is in the file.
    pub format: TableFormat,
    /// Whether it is compressed by gzip.
    pub is_gzip: bool,
    /// Number of lines, or of rows of the sheet, about.
    lines: u64,
    /// Encoding.
    pub encoding: &'static Encoding,
    /// Why the encoding was chosen.
    pub encoding_origin: EncodingOrigin,
    /// Letters beyond ASCII that a guessed encoding yields, for a person to confirm.
    pub guessed_letters: String,
    /// Whether result files begin with a byte order mark.
    pub has_bom: bool,
    /// Separator of cells, in the result files too.
    pub delimiter: Delimiter,
    /// Columns.
    pub header: CsvHeader,
    /// Line of the header; 0 if the file has none.
    pub header_line: u64,
    /// Rows above the header.
    pub skipped: RowRanges,
    /// The sheet of a workbook.
    pub sheet: Option<SheetScan>,
}

/// The sheet that is read.
#[derive(Debug, Clone)]
pub(crate) struct SheetScan {
    pub name: String,
    /// The other visible sheets.
    pub others: Vec<String>,
    pub findings: SheetFindings,
}

impl CsvScan {
    /// Approximate number of rows. Line ends inside cells are counted too.
    pub(crate) const fn rows_about(&self) -> u64 {
        self.lines.saturating_sub(self.header_line)
    }
}

/// Reads the whole file, in constant memory; of a workbook see [`super::workbook`].
///
/// # Errors
/// [`CsvError`] if the file isn't a customer file or its header can't be used.
pub(crate) fn scan(path: &Path, options: &ReadOptions) -> Result<CsvScan, CsvError> {
    let file = Arc::new(open_regular(path)?);
    let reading = |error| CsvError::reading(path, error);
    let mut head = Vec::with_capacity(CHUNK_BYTES);
    fill(&mut FileCursor::new(file.clone()), &mut head).map_err(reading)?;
    let is_gzip = is_gzip(&head);
    if is_gzip {
        head.clear();
        fill(&mut text::bytes(FileCursor::new(file.clone()), true), &mut head).map_err(reading)?;
    }
    let format = recognise(&head, FileCursor::new(file.clone()), is_gzip)
        .map_err(|format| CsvError::Foreign { file: shown(path), format })?;
    let (digest, bytes) = digest_of(FileCursor::new(file.clone())).map_err(reading)?;
    let pass = ScanPass { path, file, options, is_gzip, digest, bytes };
    match format {
        TableFormat::Text => pass.text(),
        TableFormat::Jobs => pass.jobs(),
        TableFormat::Workbook(kind) => pass.workbook(kind),
    }
}

/// Returns the SHA-256 of a file.
///
/// # Errors
/// The system's error.
pub(crate) fn digest(path: &Path) -> io::Result<[u8; 32]> {
    digest_of(File::open(path)?).map(|(digest, _)| digest)
}

fn digest_of(mut file: impl Read) -> io::Result<([u8; 32], u64)> {
    let mut hash = Sha256::new();
    let (mut bytes, mut chunk) = (0, Vec::with_capacity(CHUNK_BYTES));
    loop {
        chunk.clear();
        match fill(&mut file, &mut chunk)? {
            0 => return Ok((hash.finalize().into(), bytes)),
            read => bytes += read as u64,
        }
        hash.update(&chunk);
    }
}

/// A file whose format is known.
struct ScanPass<'s> {
    path: &'s Path,
    file: Arc<File>,
    options: &'s ReadOptions,
    is_gzip: bool,
    digest: [u8; 32],
    bytes: u64,
}

impl ScanPass<'_> {
    fn text(self) -> Result<CsvScan, CsvError> {
        let TextEvidence { encoding, mark, lines } = self.text_evidence()?;
        let EncodingDecision { encoding, origin: encoding_origin, letters: guessed_letters } = encoding;
        let (delimiter, found) = self.text_header(encoding)?;
        let (header, header_line, skipped) = self.header(found)?;
        Ok(CsvScan {
            fingerprint: self.fingerprint(None),
            digest: self.digest,
            bytes: self.bytes,
            format: TableFormat::Text,
            is_gzip: self.is_gzip,
            lines,
            encoding,
            encoding_origin,
            guessed_letters,
            has_bom: mark == Some(encoding),
            delimiter,
            header,
            header_line,
            skipped,
            sheet: None,
        })
    }

    fn jobs(self) -> Result<CsvScan, CsvError> {
        let header = CsvHeader::parse(job_lines::titles()).unwrap_or_else(|_| unreachable!("it has every field once"));
        let mut bytes = text::bytes(FileCursor::new(self.file.clone()), self.is_gzip);
        let lines = line_ends(&mut bytes).map_err(|error| CsvError::reading(self.path, error))?;
        Ok(self.without_encoding(TableFormat::Jobs, header, lines))
    }

    fn workbook(self, kind: WorkbookKind) -> Result<CsvScan, CsvError> {
        let failed = |error| CsvError::workbook(self.path, error);
        let file = || FileCursor::new(self.file.clone());
        let sheets = kind.sheets(file()).map_err(failed)?;
        let names =
            |visible: bool| sheets.iter().filter(move |sheet| sheet.is_visible == visible).map(|sheet| &sheet.name);
        let mut all = names(true).chain(names(false));
        let name = match &self.options.sheet {
            None => all.next().ok_or(WorkbookError::Damaged).map_err(failed)?,
            Some(wanted) => all.find(|name| *name == wanted).ok_or_else(|| CsvError::NoSheet {
                file: shown(self.path),
                sheet: wanted.clone(),
                sheets: names(true).cloned().collect(),
            })?,
        };
        let others = names(true).filter(|other| *other != name).cloned().collect();
        let findings = kind.findings(file(), name).map_err(failed)?;
        let mut rows = SheetRecords::start(SheetSource {
            kind,
            file: file(),
            sheet: name.clone(),
            other_errors: findings.other_errors.clone(),
            bytes_max: self.options.record_bytes_max,
        });
        let found = header_search::find(&mut rows, self.options.header_row)
            .map_err(|error| CsvError::in_record(self.path, error))?;
        let (header, header_line, skipped) = match self.header(found) {
            Ok(found) => found,
            Err(CsvError::NoHeader { .. } | CsvError::Empty { .. }) if sheets.len() > 1 => {
                let sheets = names(true).cloned().collect();
                return Err(CsvError::NoHeaderInSheet { file: shown(self.path), sheet: name.clone(), sheets });
            }
            Err(error) => return Err(error),
        };
        let fingerprint = self.fingerprint(Some((name, header_line)));
        let lines = findings.rows;
        let sheet = Some(SheetScan { name: name.clone(), others, findings });
        let scan = self.without_encoding(TableFormat::Workbook(kind), header, lines);
        // The spreadsheet that wrote the workbook opens the result files too, and needs the mark.
        Ok(CsvScan { fingerprint, header_line, skipped, sheet, has_bom: true, ..scan })
    }

    /// A file whose format says which encoding its texts have.
    fn without_encoding(&self, format: TableFormat, header: CsvHeader, lines: u64) -> CsvScan {
        CsvScan {
            fingerprint: self.digest,
            digest: self.digest,
            bytes: self.bytes,
            format,
            is_gzip: self.is_gzip,
            lines,
            encoding: UTF_8,
            encoding_origin: EncodingOrigin::Valid,
            guessed_letters: String::new(),
            has_bom: false,
            delimiter: Delimiter::Comma,
            header,
            header_line: 0,
            skipped: RowRanges::default(),
            sheet: None,
        }
    }

    /// Another sheet, or another header, makes other rows of the same file.
    fn fingerprint(&self, sheet: Option<(&str, u64)>) -> [u8; 32] {
        let header_row = self.options.header_row.map(|line| ("", line));
        let Some((sheet, header_line)) = sheet.or(header_row) else { return self.digest };
        let hash = Sha256::new().chain_update(self.digest).chain_update(header_line.to_be_bytes());
        hash.chain_update(sheet).finalize().into()
    }

    fn header(&self, found: FoundHeader) -> Result<(CsvHeader, u64, RowRanges), CsvError> {
        let file = shown(self.path);
        match found {
            FoundHeader::Header { line, titles, skipped, .. } => match CsvHeader::parse(&titles) {
                Ok(header) => Ok((header, line, skipped)),
                Err(problems) => Err(CsvError::Header { file, line, problems }),
            },
            FoundHeader::None { is_quoted_whole: true, line } => Err(CsvError::QuotedLines { file, line }),
            FoundHeader::None { line, .. } => Err(CsvError::NoHeader { file, line }),
            FoundHeader::Empty => Err(CsvError::Empty { file }),
        }
    }

    /// Finds the header with the delimiter that gives the most known titles.
    fn text_header(&self, encoding: &'static Encoding) -> Result<(Delimiter, FoundHeader), CsvError> {
        let ReadOptions { delimiter, record_bytes_max, header_row, .. } = self.options;
        let candidates = delimiter.as_ref().map_or(&Delimiter::ALL[..], std::slice::from_ref);
        let mut best: Option<(usize, Delimiter, FoundHeader)> = None;
        for &delimiter in candidates {
            let bytes = text::bytes(FileCursor::new(self.file.clone()), self.is_gzip);
            let found = TextRecords::new(bytes, encoding, delimiter, *record_bytes_max)
                .map_err(|error| CsvError::reading(self.path, error))
                .and_then(|mut records| {
                    header_search::find(&mut records, *header_row)
                        .map_err(|error| CsvError::in_record(self.path, error))
                })?;
            let recognised = match &found {
                FoundHeader::Header { recognised, .. } => *recognised,
                FoundHeader::None { .. } | FoundHeader::Empty => 0,
            };
            if best.as_ref().is_none_or(|(most, ..)| recognised > *most) {
                best = Some((recognised, delimiter, found));
            }
        }
        let (_, delimiter, found) = best.unwrap_or((0, Delimiter::Comma, FoundHeader::Empty));
        Ok((delimiter, found))
    }

    fn text_evidence(&self) -> Result<TextEvidence, CsvError> {
        let mut file = text::bytes(FileCursor::new(self.file.clone()), self.is_gzip);
        let mut evidence = EncodingEvidence::new();
        let mut settled = self.options.encoding.map(|encoding| (encoding, EncodingOrigin::Option));
        let (mut lines, mut mark, mut is_first) = (0, None, true);
        // Begins with the incomplete character at the end of the last chunk.
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        loop {
            let carried = chunk.len();
            if fill(&mut file, &mut chunk).map_err(|error| CsvError::reading(self.path, error))? == 0 {
                break;
            }
            if is_first {
                mark = Encoding::for_bom(&chunk).map(|(encoding, _)| encoding);
                settled = settled.or(mark.map(|encoding| (encoding, EncodingOrigin::ByteOrderMark)));
                refuse_zero_bytes(self.path, &chunk, settled.map(|(encoding, _)| encoding))?;
                is_first = false;
            }
            lines += count_line_ends(&chunk[carried..]);
            let unfinished = if settled.is_none() { evidence.feed(&chunk) } else { 0 };
            chunk.drain(..chunk.len() - unfinished);
        }
        let encoding = match settled {
            Some((encoding, origin)) => EncodingDecision::known(encoding, origin),
            None => evidence.decide(&chunk).map_err(|failure| CsvError::encoding(self.path, failure))?,
        };
        Ok(TextEvidence { encoding, mark, lines })
    }
}

/// What the bytes of a text show.
struct TextEvidence {
    encoding: EncodingDecision,
    /// Encoding of the byte order mark.
    mark: Option<&'static Encoding>,
    /// Number of line ends.
    lines: u64,
}

fn count_line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

fn line_ends(file: &mut impl Read) -> io::Result<u64> {
    let (mut lines, mut chunk) = (0, Vec::with_capacity(CHUNK_BYTES));
    while fill(file, &mut chunk)? > 0 {
        lines += count_line_ends(&chunk);
        chunk.clear();
    }
    Ok(lines)
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

fn refuse_zero_bytes(path: &Path, head: &[u8], encoding: Option<&'static Encoding>) -> Result<(), CsvError> {
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
fn fill(file: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<usize> {
    file.take((CHUNK_BYTES - chunk.len()) as u64).read_to_end(chunk)
}
