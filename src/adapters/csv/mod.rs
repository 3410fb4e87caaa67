//! Customer files, exported from a spreadsheet or a database, and the result files of a run.
//!
//! ```text
//! scan ──> CsvScan: format, fingerprint, encoding, delimiter or sheet, CsvHeader   first pass over the whole file
//!            │
//! RowReader ─┴─> CsvRow ──> column_problem, else encoding_problems, else domain::validate(to_raw_user)
//!     ^           │
//!     │           └─> ResultWriter: created.csv, rejected.csv, ...
//! RowSource: TextRecords (CSV, CSV in gzip), SheetRecords (.xlsx, .xls, .ods), JobLines (NDJSON)
//! ```
//!
//! What a file is follows from its bytes ([`TableFormat`]); its name only helps to explain a mistake.
//!
//! Two passes are needed, because the encoding is known only after the last byte. A file that stops being UTF-8 in its
//! last row must not have been read as UTF-8 before it.
//!
//! Most problems concern one row, and the other rows are read: too many cells, bytes that aren't text, zero bytes in a
//! cell, more than [`ReadOptions::record_bytes_max`] on one line. A problem concerns the whole file if one record may
//! contain other rows: a quotation mark that isn't closed, or a record of several lines beyond the limit.
//!
//! **Invariants:** memory doesn't grow with the file (of a workbook see [`workbook`]); if a file was read to its end
//! without an error, every record was returned; no error and no `Debug` output contains the value of a cell.

mod columns;
mod encoding;
mod encoding_score;
mod error;
mod file_cursor;
mod format;
mod header;
mod header_error;
mod header_search;
mod job_lines;
mod line_buffer;
mod quoting;
mod reader;
mod record;
mod row;
mod row_source;
mod scan;
mod sheet_records;
mod swallowed;
mod text;
mod workbook;
mod writer;

#[cfg(test)]
mod tests;

use encoding_rs::Encoding;
use strum::VariantArray;

pub(crate) use self::columns::{ERROR_TITLES, LINK_TITLES};
pub(crate) use self::encoding::EncodingOrigin;
pub(crate) use self::error::CsvError;
pub(crate) use self::format::TableFormat;
pub(crate) use self::header::CsvHeader;
pub(crate) use self::reader::RowReader;
pub(crate) use self::row::CsvRow;
pub(crate) use self::scan::{CsvScan, SheetScan, digest, scan};
pub(crate) use self::workbook::WorkbookKind;
pub(crate) use self::writer::ResultWriter;

/// Separator of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Delimiter {
    /// `,`
    Comma,
    /// `;`: written by spreadsheets in countries where the comma is the decimal sign.
    Semicolon,
    /// The tab character.
    Tab,
    /// `|`
    Pipe,
}

impl Delimiter {
    /// Every delimiter, the most common first.
    pub(crate) const ALL: [Self; 4] = *Self::VARIANTS.as_array().unwrap();

    /// Byte in the file.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }

    /// Name in messages and settings.
    pub(crate) const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// Longest record that is read whole, in bytes. A missing closing quotation mark makes one record of the rest of the
/// file; the limit keeps that out of memory. The columns that are sent hold 3 kB at most.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024;

/// How a file is read.
#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    /// Encoding that the user gave. `None`: detected.
    pub encoding: Option<&'static Encoding>,
    /// Delimiter that the user gave. `None`: detected.
    pub delimiter: Option<Delimiter>,
    /// Name of the sheet of a workbook. `None`: the first visible one.
    pub sheet: Option<String>,
    /// Line of the header. `None`: found among the first rows.
    pub header_row: Option<u64>,
    /// Longest record that is read whole, as UTF-8 with its quotation marks and line end, in bytes.
    pub record_bytes_max: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { encoding: None, delimiter: None, sheet: None, header_row: None, record_bytes_max: RECORD_BYTES_MAX }
    }
}
