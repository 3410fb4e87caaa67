//! Errors of reading a customer file and of writing a result file.

use std::io;
use std::path::Path;

use crate::adapters::csv::encoding::EncodingFailure;
use crate::adapters::csv::format::ForeignFormat;
use crate::adapters::csv::header_error::HeaderError;
use crate::adapters::csv::record::RecordError;
use crate::adapters::csv::workbook::WorkbookError;

/// Ends the reading or writing of a file. The text names the file, the line and the remedy, and contains no value of a
/// cell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CsvError {
    /// The path doesn't exist.
    #[error("{file}: no such file: check the path")]
    NotFound {
        /// Path as given.
        file: String,
    },
    /// The system denies access.
    #[error("{file}: permission denied: give the user that runs plu-onboard access to it")]
    PermissionDenied {
        /// Path as given.
        file: String,
    },
    #[error("{file}: is a directory: give a CSV file or a workbook")]
    Directory {
        /// Path as given.
        file: String,
    },
    /// A pipe or a device, which can't be read twice.
    #[error("{file}: is not a regular file and can't be read twice: save the rows to a file first")]
    NotAFile {
        /// Path as given.
        file: String,
    },
    /// Only white space is in it.
    #[error("{file}: is empty: the first line must name the columns")]
    Empty {
        /// Path as given.
        file: String,
    },
    /// A format that can't be read.
    #[error("{file}: {format}")]
    Foreign {
        /// Path as given.
        file: String,
        /// What it is.
        format: ForeignFormat,
    },
    /// A workbook with a password.
    #[error("{file}: is a workbook with a password: open it, remove the password and save it again")]
    EncryptedWorkbook {
        /// Path as given.
        file: String,
    },
    /// A workbook that the parsers refuse.
    #[error(
        "{file}: is a workbook that is damaged, or that another program wrote in a way this program can't read: open it \
         in a spreadsheet and save it as a new .xlsx file, or as CSV UTF-8"
    )]
    DamagedWorkbook {
        /// Path as given.
        file: String,
    },
    /// A workbook with parts that don't fit into the memory that is allowed.
    #[error("{file}: is a workbook that is too large to be read: save it as CSV UTF-8, which has no limit")]
    WorkbookTooLarge {
        /// Path as given.
        file: String,
    },
    /// `--sheet` names none of the sheets.
    #[error("{file}: has no sheet {sheet:?}: give another --sheet (they are {})", quoted(sheets))]
    NoSheet {
        /// Path as given.
        file: String,
        /// The name that was given.
        sheet: String,
        /// Names of the visible sheets.
        sheets: Vec<String>,
    },
    /// The sheet has no header, and there are others.
    #[error(
        "{file} sheet {sheet:?}: none of its first 20 rows names the columns: choose another sheet with --sheet (they are \
         {}), or name the columns as the API does (firstName, lastName, email, ...)",
        quoted(sheets)
    )]
    NoHeaderInSheet {
        /// Path as given.
        file: String,
        /// Name of the sheet.
        sheet: String,
        /// Names of the visible sheets.
        sheets: Vec<String>,
    },
    /// Compressed data that end too early or are damaged.
    #[error("{file}: is damaged or incomplete: download it or save it again")]
    Damaged {
        /// Path as given.
        file: String,
    },
    /// A program has put quotation marks around each line of another file.
    #[error(
        "{file} line {line}: the whole line is in quotation marks, so it is one cell: export the file again without \
         them, or open it in a spreadsheet, split the column at the separator and save it"
    )]
    QuotedLines {
        /// Path as given.
        file: String,
        /// Line of the header.
        line: u64,
    },
    /// The header line contains zero bytes.
    #[error(
        "{file}: contains zero bytes, so it is not text, or UTF-16 without a byte order mark: save it as CSV UTF-8"
    )]
    NotText {
        /// Path as given.
        file: String,
    },
    /// A code page of DOS.
    #[error(
        "{file}: is in a code page of DOS (850 or 437), which Excel calls CSV (MS-DOS): save it as CSV UTF-8, or \
         convert it with iconv -f CP850 -t UTF-8"
    )]
    DosCodePage {
        /// Path as given.
        file: String,
    },
    /// The guessed encoding is proven wrong.
    #[error(
        "{file}: is not UTF-8, and the best guess, {encoding}, is wrong: {controls} of its characters would be control \
         characters. Save it as CSV UTF-8, or name its encoding with --encoding (rows with control characters are \
         rejected)"
    )]
    UnknownEncoding {
        /// Path as given.
        file: String,
        /// The guess.
        encoding: &'static str,
        /// Number of control characters that it yields.
        controls: u64,
    },
    /// None of the first rows names columns, or the one that the user gave doesn't. The message doesn't quote its cells,
    /// because they may be a customer's data.
    #[error(
        "{file} line {line}: is not a header: one of the first 20 lines must name the columns as the API does \
         (firstName, lastName, email, ...), separated by commas, semicolons, tabs or |; if it is further down, give its \
         line with --header-row"
    )]
    NoHeader {
        /// Path as given.
        file: String,
        /// Line of the first row.
        line: u64,
    },
    /// The header can't be used.
    #[error("{file} line {line}: {problems}")]
    Header {
        /// Path as given.
        file: String,
        /// Line of the header.
        line: u64,
        /// Every problem.
        problems: HeaderError,
    },
    /// A record exceeds the limit and spans several lines, has no end, or is the header. A quotation mark that isn't
    /// closed is the usual cause.
    #[error(
        "{file} line {line}: the record is longer than {bytes_max} bytes: a quotation mark that is not closed \
         swallows the rows after it; close it or remove it, or shorten the record"
    )]
    RecordTooLong {
        /// Path as given.
        file: String,
        /// First line of the record.
        line: u64,
        /// Limit in bytes.
        bytes_max: usize,
    },
    /// The file ends inside quotation marks.
    #[error(
        "{file} line {line}: a quotation mark in this record is not closed and swallows the rows after it; \
         close it or remove it"
    )]
    QuoteNotClosed {
        /// Path as given.
        file: String,
        /// First line of the record.
        line: u64,
    },
    /// The file changed between or during the two passes.
    #[error("{file}: was changed while it was read: start again when no other program writes to it")]
    Changed {
        /// Path as given.
        file: String,
    },
    /// Reading failed.
    #[error("{file}: can't be read: {source}: check the disk or the network drive, and start again")]
    Read {
        /// Path as given.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// Writing failed.
    #[error("{file}: can't be written: {source}: check that the folder exists, may be written to and has space left")]
    Write {
        /// Path of the result file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
}

impl CsvError {
    /// Converts an error of opening or reading.
    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        let file = shown(path);
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { file },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { file },
            // The decoder of gzip.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged { file }
            }
            _ => Self::Read { file, source },
        }
    }

    /// Converts the reason why no encoding was found.
    pub(super) fn encoding(path: &Path, failure: EncodingFailure) -> Self {
        let file = shown(path);
        match failure {
            EncodingFailure::Dos => Self::DosCodePage { file },
            EncodingFailure::ProvenWrong { encoding, controls } => {
                Self::UnknownEncoding { file, encoding: encoding.name(), controls }
            }
        }
    }

    /// Converts an error of writing.
    pub(super) fn writing(path: &Path, source: io::Error) -> Self {
        Self::Write { file: shown(path), source }
    }

    /// Adds the name of the file to the error of a record.
    pub(super) fn in_record(path: &Path, error: RecordError) -> Self {
        let file = shown(path);
        match error {
            RecordError::TooLong { line, bytes_max } => Self::RecordTooLong { file, line, bytes_max },
            RecordError::QuoteNotClosed { line } => Self::QuoteNotClosed { file, line },
            RecordError::Io(source) => Self::reading(path, source),
            RecordError::Workbook(error) => Self::workbook(path, error),
        }
    }

    /// Adds the name of the file to the error of a workbook.
    pub(super) fn workbook(path: &Path, error: WorkbookError) -> Self {
        let file = shown(path);
        match error {
            WorkbookError::Encrypted => Self::EncryptedWorkbook { file },
            WorkbookError::Damaged => Self::DamagedWorkbook { file },
            WorkbookError::TooLarge => Self::WorkbookTooLarge { file },
        }
    }
}

/// Most names of sheets in a message.
const SHEETS_SHOWN_MAX: usize = 20;

fn quoted(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHEETS_SHOWN_MAX).map(|name| format!("{name:?}")).collect();
    shown.join(", ") + if names.len() > SHEETS_SHOWN_MAX { ", ..." } else { "" }
}

/// Path as the user gave it.
pub(super) fn shown(path: &Path) -> String {
    // A file without a name, which holds what was read from standard input.
    if path.starts_with("/proc/self/fd") { "standard input".to_owned() } else { path.display().to_string() }
}
