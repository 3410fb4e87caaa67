//! Errors of reading a customer file and of writing a result file.

use std::io;
use std::path::Path;

use crate::adapters::csv::header_error::HeaderError;
use crate::adapters::csv::record::RecordError;

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
    /// A directory.
    #[error("{file}: is a directory: give a CSV file")]
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
    /// An .xlsx, .ods or .xls file.
    #[error("{file}: is a spreadsheet workbook: open it, save it as CSV UTF-8 and use that file")]
    Workbook {
        /// Path as given.
        file: String,
    },
    /// The header line contains zero bytes.
    #[error(
        "{file}: contains zero bytes, so it is not text, or UTF-16 without a byte order mark: save it as CSV UTF-8"
    )]
    NotText {
        /// Path as given.
        file: String,
    },
    /// The first record names no columns. The message doesn't quote its cells, because they may be a customer's data.
    #[error(
        "{file} line {line}: is not a header: the first line must name the columns as the API does \
         (firstName, lastName, email, ...), separated by commas, semicolons, tabs or |"
    )]
    NoHeader {
        /// Path as given.
        file: String,
        /// Line of the first record.
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
            _ => Self::Read { file, source },
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
        }
    }
}

/// Path as the user gave it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
