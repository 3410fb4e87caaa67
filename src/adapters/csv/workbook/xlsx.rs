//! `.xlsx`: cells are streamed by calamine, which holds the workbook's distinct texts and styles in memory, at most
//! [`super::archive::PART_BYTES_MAX`] of each.
//!
//! calamine doesn't read which rows are hidden, and refuses a sheet with an error value that it doesn't know (`#SPILL!`).
//! Both are read by a pass of our own over the sheet's XML.

use std::io::{Read, Seek};

use calamine::{DataRef, Reader as _, SheetType, SheetVisible, Xlsx, XlsxError};
use quick_xml::events::Event;
use zip::ZipArchive;

use crate::adapters::csv::workbook::archive::{attribute, check_intact, check_size, part};
use crate::adapters::csv::workbook::cell_text::{date_text, number_text};
use crate::adapters::csv::workbook::number_format::NumberFormat;
use crate::adapters::csv::workbook::sheet_row::{RowBuilder, RowSink};
use crate::adapters::csv::workbook::{MergedCells, RowRanges, SheetFindings, SheetName, WorkbookError};

/// Error values that calamine knows.
const KNOWN_ERRORS: [&str; 7] = ["#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"];

/// Most other error values of a sheet. A sheet with more is refused.
const OTHER_ERRORS_MAX: usize = 100_000;

/// A cell with an error value that calamine doesn't know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherError {
    row: u64,
    column: usize,
    text: String,
}

impl From<XlsxError> for WorkbookError {
    fn from(error: XlsxError) -> Self {
        match error {
            XlsxError::Password => Self::Encrypted,
            _ => Self::Damaged,
        }
    }
}

fn open<R: Read + Seek + Clone>(file: R) -> Result<Xlsx<R>, WorkbookError> {
    if let Ok(mut archive) = ZipArchive::new(file.clone()) {
        check_size(&mut archive, |part| !part.contains("worksheets/"))?;
    }
    Ok(Xlsx::new(file)?)
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
    other_errors: &[OtherError],
    sink: &mut RowSink<'_>,
) -> Result<(), WorkbookError> {
    let mut workbook = open(file)?;
    let mut cells = workbook.worksheet_cells_reader(sheet)?;
    let formats: Vec<Option<NumberFormat>> = cells
        .styles()
        .iter()
        .map(|style| style.number_format.as_ref().and_then(|format| NumberFormat::parse(&format.format_code)))
        .collect();
    let mut other_errors = other_errors.iter();
    let mut builder = RowBuilder::new(bytes_max);
    loop {
        let (cell, style) = match cells.next_cell_with_style_id() {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(XlsxError::CellError(_)) => {
                let OtherError { row, column, text } = other_errors.next().ok_or(WorkbookError::Damaged)?;
                if !builder.add(*row, *column, text, sink) {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (row, column) = cell.get_position();
        let text;
        let text = match cell.get_value() {
            DataRef::Empty => continue,
            DataRef::SharedString(shared) => shared,
            DataRef::String(own) | DataRef::DateTimeIso(own) | DataRef::DurationIso(own) => own.as_str(),
            DataRef::Bool(truth) => {
                if *truth {
                    "true"
                } else {
                    "false"
                }
            }
            other => {
                text = match other {
                    DataRef::Float(value) => number_text(*value, formats.get(style).and_then(Option::as_ref)),
                    DataRef::Int(value) => number_text(*value as f64, formats.get(style).and_then(Option::as_ref)),
                    DataRef::DateTime(date) => date_text(*date),
                    DataRef::Error(error) => error.to_string(),
                    _ => String::new(),
                };
                &text
            }
        };
        if !builder.add(u64::from(row), column as usize, text, sink) {
            return Ok(());
        }
    }
    builder.finish(sink);
    Ok(())
}

/// Returns what the XML of a sheet holds beside its cells. `None`: its part isn't found.
pub(super) fn findings<R: Read + Seek>(file: R, sheet: &str) -> Result<Option<SheetFindings>, WorkbookError> {
    let mut archive = ZipArchive::new(file).map_err(|_| WorkbookError::Damaged)?;
    check_intact(&mut archive, |part| part.ends_with(".xml") && !part.contains("worksheets/"))?;
    let Some(path) = sheet_part(&mut archive, sheet) else { return Ok(None) };
    let Some(mut xml) = part(&mut archive, &path) else { return Ok(None) };
    let (mut hidden, mut merged, mut other_errors, mut rows) =
        (RowRanges::default(), MergedCells::default(), Vec::new(), 0);
    let mut position = (0, 0);
    let (mut is_error, mut is_value) = (false, false);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).map_err(|_| WorkbookError::Damaged)? {
            Event::Start(element) => match element.local_name().as_ref() {
                "row" => {
                    let line = attribute(&element, "r").and_then(|line| line.parse().ok());
                    position = (line.unwrap_or(rows + 1), 0);
                    rows = position.0;
                    if attribute(&element, "hidden").is_some_and(|value| matches!(value.as_str(), "1" | "true")) {
                        hidden.add(rows, rows);
                    }
                }
                "c" => {
                    is_error = attribute(&element, "t").is_some_and(|kind| kind == "e");
                    if is_error && let Some(name) = attribute(&element, "r") {
                        position.1 = column_of(&name);
                    }
                }
                "v" => is_value = is_error,
                "mergeCell" => merged.add(attribute(&element, "ref").unwrap_or_default()),
                _ => {}
            },
            Event::Text(text) if is_value => {
                let text = text.xml10_content();
                if !KNOWN_ERRORS.contains(&&*text) {
                    let (line, column) = position;
                    other_errors.push(OtherError { row: line - 1, column, text: text.into_owned() });
                    if other_errors.len() > OTHER_ERRORS_MAX {
                        return Err(WorkbookError::Damaged);
                    }
                }
                is_value = false;
            }
            Event::End(element) if element.local_name().as_ref() == "c" => position.1 += 1,
            Event::Eof => {
                return Ok(Some(SheetFindings { rows, hidden: Some(hidden), merged: Some(merged), other_errors }));
            }
            _ => {}
        }
    }
}

/// Returns the column of a cell name such as `AB12`, from 0.
fn column_of(name: &str) -> usize {
    let letters = name.bytes().take_while(u8::is_ascii_alphabetic).take(3);
    letters
        .fold(0, |column, letter| column * 26 + usize::from(letter.to_ascii_uppercase() - b'A') + 1)
        .saturating_sub(1)
}

/// Returns the name of the part with the cells of a sheet: package -> workbook -> sheet.
fn sheet_part<R: Read + Seek>(archive: &mut ZipArchive<R>, sheet: &str) -> Option<String> {
    let workbook = relation(archive, "_rels/.rels", |element| {
        attribute(element, "Type").is_some_and(|kind| kind.ends_with("/officeDocument"))
    })?;
    let workbook = workbook.trim_start_matches('/').to_owned();
    let (folder, name) = workbook.rsplit_once('/').unwrap_or(("", &workbook));
    let mut xml = part(archive, &workbook)?;
    let mut buffer = Vec::new();
    let id = loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).ok()? {
            Event::Start(element)
                if element.local_name().as_ref() == "sheet"
                    && attribute(&element, "name").as_deref() == Some(sheet) =>
            {
                let mut attributes = element.attributes();
                let mut ids = attributes.with_checks(false).flatten().filter(|id| id.key.as_ref().ends_with(":id"));
                break ids.next()?.value.into_owned();
            }
            Event::Eof => return None,
            _ => {}
        }
    };
    drop(xml);
    let relations = format!("{folder}/_rels/{name}.rels");
    let target = relation(archive, relations.trim_start_matches('/'), |element| {
        attribute(element, "Id").as_deref() == Some(id.as_ref())
    })?;
    Some(match target.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None => format!("{folder}/{target}").trim_start_matches('/').to_owned(),
    })
}

/// Returns the target of the first relation of a part that fits.
fn relation<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    name: &str,
    fits: impl Fn(&quick_xml::events::BytesStart<'_>) -> bool,
) -> Option<String> {
    let mut xml = part(archive, name)?;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).ok()? {
            Event::Start(element) if element.local_name().as_ref() == "Relationship" && fits(&element) => {
                return attribute(&element, "Target");
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::column_of;

    #[test]
    fn the_column_of_a_cell_name_is_counted_from_0() {
        for (name, column) in [("A1", 0), ("Z9", 25), ("AA1", 26), ("XFD1048576", 16_383)] {
            assert_eq!(column_of(name), column);
        }
    }
}
