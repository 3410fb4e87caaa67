//! `.xls`: read by calamine, which holds the whole workbook in memory; a sheet has at most 65,536 rows.
//!
//! calamine reads neither number formats nor hidden rows, so a postal code that is a number has no leading zeros here.

use std::io::{Read, Seek};

use calamine::{Data, Reader as _, SheetType, SheetVisible, Xls, XlsError};

use crate::adapters::csv::workbook::cell_text::{date_text, number_text};
use crate::adapters::csv::workbook::findings::cell_name;
use crate::adapters::csv::workbook::sheet_row::{RowBuilder, RowSink};
use crate::adapters::csv::workbook::xls_check::{check, guarded};
use crate::adapters::csv::workbook::{MergedCells, SheetFindings, SheetName, WorkbookError};

impl From<XlsError> for WorkbookError {
    fn from(error: XlsError) -> Self {
        match error {
            XlsError::Password => Self::Encrypted,
            _ => Self::Damaged,
        }
    }
}

fn open<R: Read + Seek + Clone>(file: R) -> Result<Xls<R>, WorkbookError> {
    check(file.clone())?;
    guarded(|| Ok(Xls::new(file)?))
}

/// Returns the sheets with cells, in their order.
pub(super) fn sheets<R: Read + Seek + Clone>(file: R) -> Result<Vec<SheetName>, WorkbookError> {
    let workbook = open(file)?;
    let sheets = workbook.sheets_metadata().iter().filter(|sheet| sheet.typ == SheetType::WorkSheet);
    Ok(sheets
        .map(|sheet| SheetName { name: sheet.name.clone(), is_visible: sheet.visible == SheetVisible::Visible })
        .collect())
}

/// Passes the rows of a sheet on.
pub(super) fn each_row<R: Read + Seek + Clone>(
    file: R,
    sheet: &str,
    bytes_max: usize,
    sink: &mut RowSink<'_>,
) -> Result<(), WorkbookError> {
    let mut workbook = open(file)?;
    let range = guarded(|| Ok(workbook.worksheet_range(sheet)?))?;
    let (first_row, first_column) = range.start().unwrap_or_default();
    let mut builder = RowBuilder::new(bytes_max);
    for (row, column, value) in range.used_cells() {
        let text = match value {
            Data::Empty => continue,
            Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.clone(),
            Data::Bool(truth) => truth.to_string(),
            Data::Float(value) => number_text(*value, None),
            Data::Int(value) => value.to_string(),
            Data::DateTime(date) => date_text(*date),
            Data::Error(error) => error.to_string(),
        };
        if !builder.add(u64::from(first_row) + row as u64, first_column as usize + column, &text, sink) {
            return Ok(());
        }
    }
    builder.finish(sink);
    Ok(())
}

/// Returns the number of rows and the merged cells.
pub(super) fn findings<R: Read + Seek + Clone>(file: R, sheet: &str) -> Result<SheetFindings, WorkbookError> {
    let mut workbook = open(file)?;
    let rows = guarded(|| Ok(workbook.worksheet_range(sheet)?))?.end().map_or(0, |(row, _)| u64::from(row) + 1);
    let mut merged = MergedCells::default();
    for area in workbook.merge_cells_by_sheet_name(sheet)? {
        let name = |(row, column): (u32, u32)| cell_name(row.into(), column.into());
        merged.add(format!("{}:{}", name(area.start), name(area.end)));
    }
    Ok(SheetFindings { rows, hidden: None, merged: Some(merged), other_errors: Vec::new() })
}
