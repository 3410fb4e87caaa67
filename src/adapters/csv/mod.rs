//! Customer files: what comes out of a spreadsheet or a database, row by row, and the result files.
//!
//! ```text
//! scan ──> Scan: fingerprint, encoding, delimiter, Header      a first pass over the whole file
//!            │
//! RowReader ─┴─> Row ──> column_problem, else encoding_problems, else domain::validate(to_raw_user)
//!                 │
//! ResultWriter <──┘      created.csv, rejected.csv, ...
//! ```
//!
//! Two passes, because the encoding of a file is only known once its last byte has been seen: a file that turns
//! out not to be UTF-8 at its last row must not have been read as UTF-8 up to there.
//!
//! What is wrong with one row is a problem of that row, and the others go on: too many cells, bytes that are no
//! text, zero bytes in a cell, more than [`ReadOptions::record_bytes_max`] on one line. Only where rows may have
//! been swallowed (a quotation mark that isn't closed, a record on several lines beyond the limit) is it the
//! whole file's.
//!
//! **Invariants:** memory doesn't grow with the file; a file that was read to its end without an error has had
//! every record in it handed out; no error and no `Debug` output contains a cell's value.

mod encoding;
mod error;
mod header;
mod reader;
mod record;
mod row;
mod scan;
mod writer;

#[cfg(test)]
mod tests;

use encoding_rs::Encoding;

pub(crate) use self::encoding::EncodingOrigin;
pub(crate) use self::error::CsvError;
pub(crate) use self::header::Header;
pub(crate) use self::reader::RowReader;
pub(crate) use self::row::Row;
pub(crate) use self::scan::{Scan, scan};
pub(crate) use self::writer::ResultWriter;

/// What stands between two cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delimiter {
    /// `,`
    Comma,
    /// `;`: what spreadsheets write where the comma is the decimal sign.
    Semicolon,
    /// The tab character.
    Tab,
    /// `|`
    Pipe,
}

impl Delimiter {
    /// Every delimiter, the most common first.
    pub(crate) const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// The delimiter as it stands in the file.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }

    /// Its name in messages and settings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Comma => "comma",
            Self::Semicolon => "semicolon",
            Self::Tab => "tab",
            Self::Pipe => "pipe",
        }
    }
}

/// How a file is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    /// The encoding, where it is known better than the file tells.
    pub encoding: Option<&'static Encoding>,
    /// The delimiter, where it is known better than the header tells.
    pub delimiter: Option<Delimiter>,
    /// Longest record that is read whole, as UTF-8 with its quotation marks and line end, in bytes.
    pub record_bytes_max: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { encoding: None, delimiter: None, record_bytes_max: 64 * 1024 }
    }
}
