//! Workbooks: `.xlsx`, `.xls` and `.ods`.
//!
//! ```text
//! xlsx ┐
//! xls  ├─ each_row: numbers, dates, errors -> texts ─> RowBuilder ─> SheetRow
//! ods  ┘
//! ```
//!
//! | format | in memory | number formats | hidden rows |
//! | --- | --- | --- | --- |
//! | .xlsx | distinct texts and styles | as shown | reported |
//! | .ods | nothing | as shown | reported |
//! | .xls | the whole workbook | not known | not known |

mod archive;
mod cell_text;
mod findings;
mod number_format;
mod ods;
mod sheet_row;
mod xls;
mod xls_check;
mod xlsx;

use std::io::{Read, Seek};

pub(crate) use self::findings::{MergedCells, RowRanges};
pub(super) use self::sheet_row::{RowSink, SheetRow};
pub(crate) use self::xlsx::OtherError;

/// Format of a workbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkbookKind {
    Xlsx,
    Xls,
    Ods,
}

/// Why a workbook can't be read. The caller adds the name of the file. Errors of the parsers are left out, because some
/// quote cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkbookError {
    Encrypted,
    Damaged,
    TooLarge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SheetName {
    pub(super) name: String,
    pub(super) is_visible: bool,
}

/// What a sheet holds beside its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SheetFindings {
    /// Number of the last row.
    pub rows: u64,
    /// `None`: not known.
    pub hidden: Option<RowRanges>,
    /// `None`: not known.
    pub merged: Option<MergedCells>,
    /// Error values that need care when the cells are read.
    pub other_errors: Vec<OtherError>,
}

impl WorkbookKind {
    /// Returns the sheets in their order.
    pub(super) fn sheets<R: Read + Seek + Clone>(self, file: R) -> Result<Vec<SheetName>, WorkbookError> {
        match self {
            Self::Xlsx => xlsx::sheets(file),
            Self::Xls => xls::sheets(file),
            Self::Ods => ods::sheets(file),
        }
    }

    /// Returns what a sheet holds beside its cells.
    pub(super) fn findings<R: Read + Seek + Clone>(self, file: R, sheet: &str) -> Result<SheetFindings, WorkbookError> {
        let unknown = || SheetFindings { rows: 0, hidden: None, merged: None, other_errors: Vec::new() };
        match self {
            Self::Xlsx => xlsx::findings(file, sheet).map(|found| found.unwrap_or_else(unknown)),
            Self::Xls => xls::findings(file, sheet),
            Self::Ods => ods::findings(file, sheet),
        }
    }

    /// Passes the rows of a sheet on until `sink` returns `false`. A row has at most `bytes_max` bytes of text.
    pub(super) fn each_row<R: Read + Seek + Clone>(
        self,
        file: R,
        sheet: &str,
        bytes_max: usize,
        other_errors: &[OtherError],
        sink: &mut RowSink<'_>,
    ) -> Result<(), WorkbookError> {
        match self {
            Self::Xlsx => xlsx::each_row(file, sheet, bytes_max, other_errors, sink),
            Self::Xls => xls::each_row(file, sheet, bytes_max, sink),
            Self::Ods => ods::each_row(file, sheet, bytes_max, sink),
        }
    }
}
