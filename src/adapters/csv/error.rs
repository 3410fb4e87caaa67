//! Why a customer file can't be read or a result file can't be written.

use std::io;
use std::path::Path;

use crate::adapters::csv::header::HeaderError;
use crate::adapters::csv::record::RecordError;

/// Ends the reading or writing of a file. The text says which file, where in it, and how to mend it, and
/// contains no cell's value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CsvError {
    /// There is nothing at this path.
    #[error("{file}: no such file: check the path")]
    NotFound {
        /// The path as given.
        file: String,
    },
    /// The system refuses access.
    #[error("{file}: permission denied: give the user that runs this access to it")]
    PermissionDenied {
        /// The path as given.
        file: String,
    },
    /// A directory.
    #[error("{file}: is a directory: give a CSV file")]
    Directory {
        /// The path as given.
        file: String,
    },
    /// A pipe, a device: it can't be read twice.
    #[error("{file}: is not a regular file: it is read twice, so save the rows to a file first")]
    NotAFile {
        /// The path as given.
        file: String,
    },
    /// Nothing but white space is in it.
    #[error("{file}: is empty: the first line must name the columns")]
    Empty {
        /// The path as given.
        file: String,
    },
    /// An .xlsx, .ods or .xls.
    #[error("{file}: is a spreadsheet workbook: open it, save it as CSV UTF-8 and give that file")]
    Workbook {
        /// The path as given.
        file: String,
    },
    /// Zero bytes are in the header line.
    #[error(
        "{file}: contains zero bytes, so it is not text, or UTF-16 without a byte order mark: save it as CSV UTF-8"
    )]
    NotText {
        /// The path as given.
        file: String,
    },
    /// The first record names no columns. Its cells are not quoted here: they may be a customer's.
    #[error(
        "{file} line {line}: is not a header: the first line must name the columns as the API does \
         (firstName, lastName, email, ...), separated by commas, semicolons, tabs or |"
    )]
    NoHeader {
        /// The path as given.
        file: String,
        /// Where the first record starts.
        line: u64,
    },
    /// The header can't be used as it is.
    #[error("{file} line {line}: {problems}")]
    Header {
        /// The path as given.
        file: String,
        /// Where the header starts.
        line: u64,
        /// Everything that is wrong with it.
        problems: HeaderError,
    },
    /// A record exceeds the limit and goes on over several lines, nearly always because of a stray quotation mark,
    /// or has no end, or is the header.
    #[error(
        "{file} line {line}: the record is longer than {bytes_max} bytes: a quotation mark that is not closed \
         swallows the rows after it; close it or remove it, or shorten the record"
    )]
    RecordTooLong {
        /// The path as given.
        file: String,
        /// Where the record starts.
        line: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// The file ends inside quotation marks.
    #[error(
        "{file} line {line}: a quotation mark in this record is not closed and swallows the rows after it; \
         close it or remove it"
    )]
    QuoteNotClosed {
        /// The path as given.
        file: String,
        /// Where the record starts.
        line: u64,
    },
    /// Between the two passes somebody wrote to the file.
    #[error("{file}: was changed while it was read: start again when nobody writes to it any more")]
    Changed {
        /// The path as given.
        file: String,
    },
    /// Reading failed halfway.
    #[error("{file}: can't be read: {source}: check the disk or the network drive, and start again")]
    Read {
        /// The path as given.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// Writing failed.
    #[error("{file}: can't be written: {source}: check that the folder exists, may be written to and has space left")]
    Write {
        /// The path of the result file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
}

impl CsvError {
    /// The error of the system while `path` is opened or read.
    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        let file = shown(path);
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { file },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { file },
            _ => Self::Read { file, source },
        }
    }

    /// The error of the system while `path` is written.
    pub(super) fn writing(path: &Path, source: io::Error) -> Self {
        Self::Write { file: shown(path), source }
    }

    /// A record that can't be read, with the name of its file.
    pub(super) fn in_record(path: &Path, error: RecordError) -> Self {
        let file = shown(path);
        match error {
            RecordError::TooLong { line, bytes_max } => Self::RecordTooLong { file, line, bytes_max },
            RecordError::QuoteNotClosed { line } => Self::QuoteNotClosed { file, line },
            RecordError::Io(source) => Self::reading(path, source),
        }
    }
}

/// The path as the user gave it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
