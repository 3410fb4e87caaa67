//! `.ods`: the cells are streamed from the XML, in constant memory.
//!
//! Not read by calamine, because it holds the sheet as a rectangle of cells, which a single cell far below makes as large
//! as the sheet, and because it drops the text that the sheet shows (`02139`) for the number 2139.

use std::io::{Read, Seek};

use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use crate::adapters::csv::workbook::archive::{PartReader, attribute, check_intact, part};
use crate::adapters::csv::workbook::cell_text::number_text;
use crate::adapters::csv::workbook::findings::cell_name;
use crate::adapters::csv::workbook::sheet_row::{RowBuilder, RowSink};
use crate::adapters::csv::workbook::{MergedCells, RowRanges, SheetFindings, SheetName, WorkbookError};

/// Rows and columns of a sheet. A file can claim more repeats.
const ROWS_MAX: u64 = 1_048_576;
const COLUMNS_MAX: usize = 16_384;

fn archive<R: Read + Seek>(file: R) -> Result<ZipArchive<R>, WorkbookError> {
    let mut archive = ZipArchive::new(file).map_err(|_| WorkbookError::Damaged)?;
    let mut manifest = String::new();
    if let Ok(part) = archive.by_name("META-INF/manifest.xml") {
        let read = part.take(1024 * 1024).read_to_string(&mut manifest);
        read.map_err(|_| WorkbookError::Damaged)?;
    }
    if manifest.contains("encryption-data") { Err(WorkbookError::Encrypted) } else { Ok(archive) }
}

/// Returns the sheets in their order.
pub(super) fn sheets<R: Read + Seek>(file: R) -> Result<Vec<SheetName>, WorkbookError> {
    let mut archive = archive(file)?;
    let mut xml = part(&mut archive, "content.xml").ok_or(WorkbookError::Damaged)?;
    let (mut sheets, mut buffer) = (Vec::new(), Vec::new());
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).map_err(|_| WorkbookError::Damaged)? {
            // A style would say whether the sheet is hidden.
            Event::Start(element) if element.name().as_ref() == "table:table" => {
                let name = attribute(&element, "table:name").unwrap_or_default();
                sheets.push(SheetName { name, is_visible: true });
            }
            Event::Eof => return Ok(sheets),
            _ => {}
        }
    }
}

/// Passes the rows of a sheet on.
pub(super) fn each_row<R: Read + Seek>(
    file: R,
    sheet: &str,
    bytes_max: usize,
    sink: &mut RowSink<'_>,
) -> Result<(), WorkbookError> {
    SheetReader::new(bytes_max).read(&mut archive(file)?, sheet, sink).map(drop)
}

/// Returns what a sheet holds beside its cells.
pub(super) fn findings<R: Read + Seek>(file: R, sheet: &str) -> Result<SheetFindings, WorkbookError> {
    let mut archive = archive(file)?;
    check_intact(&mut archive, |part| part == "content.xml")?;
    SheetReader::new(usize::MAX).read(&mut archive, sheet, &mut |_| true)
}

/// A row of the file, which may represent several rows of the sheet.
#[derive(Default)]
struct OdsRow {
    repeats: u64,
    /// Number of columns so far.
    columns: usize,
    /// Cells with a text.
    cells: Vec<(usize, String)>,
}

struct SheetReader {
    builder: RowBuilder,
    /// Index of the next row.
    row: u64,
    hidden: RowRanges,
    merged: MergedCells,
    last_row_with_text: u64,
    bytes_max: usize,
}

impl SheetReader {
    fn new(bytes_max: usize) -> Self {
        Self {
            builder: RowBuilder::new(bytes_max),
            row: 0,
            hidden: RowRanges::default(),
            merged: MergedCells::default(),
            last_row_with_text: 0,
            bytes_max,
        }
    }

    fn read<R: Read + Seek>(
        mut self,
        archive: &mut ZipArchive<R>,
        sheet: &str,
        sink: &mut RowSink<'_>,
    ) -> Result<SheetFindings, WorkbookError> {
        let mut xml = part(archive, "content.xml").ok_or(WorkbookError::Damaged)?;
        let (mut is_in_sheet, mut row, mut buffer) = (false, OdsRow::default(), Vec::new());
        loop {
            buffer.clear();
            match xml.read_event_into(&mut buffer).map_err(|_| WorkbookError::Damaged)? {
                Event::Start(element) => match element.name().as_ref() {
                    "table:table" => is_in_sheet = attribute(&element, "table:name").as_deref() == Some(sheet),
                    _ if !is_in_sheet => {}
                    "table:table-row" => row = self.start_row(&element),
                    "table:table-cell" | "table:covered-table-cell" => {
                        let repeats = repeats(&element, "table:number-columns-repeated").min(COLUMNS_MAX as u64);
                        self.note_merge(&element, &row);
                        let text = cell_text(&mut xml, &element.to_owned(), self.bytes_max)?;
                        row.add(text, repeats as usize, self.bytes_max);
                    }
                    _ => {}
                },
                Event::End(element) if is_in_sheet => match element.name().as_ref() {
                    "table:table" => break,
                    "table:table-row" if !self.end_row(&row, sink) => break,
                    _ => {}
                },
                Event::Eof => break,
                _ => {}
            }
        }
        self.builder.finish(sink);
        Ok(SheetFindings {
            rows: self.last_row_with_text,
            hidden: Some(self.hidden),
            merged: Some(self.merged),
            other_errors: Vec::new(),
        })
    }

    fn start_row(&mut self, element: &BytesStart<'_>) -> OdsRow {
        let repeats = repeats(element, "table:number-rows-repeated").min(ROWS_MAX.saturating_sub(self.row));
        let is_hidden = attribute(element, "table:visibility").is_some_and(|value| value != "visible");
        // The empty rows below the data may be hidden too.
        if is_hidden && repeats > 0 && repeats < ROWS_MAX / 2 {
            self.hidden.add(self.row + 1, self.row + repeats);
        }
        OdsRow { repeats, ..OdsRow::default() }
    }

    /// `false`: no more rows are needed.
    fn end_row(&mut self, row: &OdsRow, sink: &mut RowSink<'_>) -> bool {
        let first = self.row;
        self.row += row.repeats;
        if row.cells.is_empty() {
            return true;
        }
        self.last_row_with_text = self.row;
        (first..self.row)
            .all(|index| row.cells.iter().all(|(column, text)| self.builder.add(index, *column, text, sink)))
    }

    fn note_merge(&mut self, element: &BytesStart<'_>, row: &OdsRow) {
        let rows = repeats(element, "table:number-rows-spanned");
        let columns = repeats(element, "table:number-columns-spanned");
        if rows * columns > 1 {
            let (first_row, first_column) = (self.row, row.columns as u64);
            let last = cell_name(first_row + rows - 1, first_column + columns - 1);
            self.merged.add(format!("{}:{last}", cell_name(first_row, first_column)));
        }
    }
}

impl OdsRow {
    fn add(&mut self, text: String, repeats: usize, bytes_max: usize) {
        let first = self.columns;
        self.columns = (first + repeats).min(COLUMNS_MAX);
        if text.is_empty() {
            return;
        }
        let mut bytes = self.cells.iter().map(|(_, text)| text.len()).sum::<usize>();
        for column in first..self.columns {
            self.cells.push((column, text.clone()));
            bytes = bytes.saturating_add(text.len());
            // One cell more than allowed shows that the row is too long.
            if bytes > bytes_max {
                return;
            }
        }
    }
}

/// Returns the number in an attribute that is 1 if it is missing.
fn repeats(element: &BytesStart<'_>, name: &str) -> u64 {
    attribute(element, name).and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, ROWS_MAX)
}

/// Reads a cell to its end and returns its text.
fn cell_text<R: Read + Seek>(
    xml: &mut PartReader<'_, R>,
    cell: &BytesStart<'_>,
    bytes_max: usize,
) -> Result<String, WorkbookError> {
    let shown = shown_text(xml, cell, bytes_max)?;
    let value = |name| attribute(cell, name);
    Ok(match value("office:value-type").as_deref() {
        Some("float" | "currency") => match value("office:value").and_then(|value| value.parse().ok()) {
            Some(number) => number_as_shown(number, &shown),
            None => shown,
        },
        Some("boolean") => value("office:boolean-value").unwrap_or(shown),
        Some("date") => {
            value("office:date-value").map_or(shown, |date| date.replace("T00:00:00", "").replace('T', " "))
        }
        _ => shown,
    })
}

/// Returns the shown text where it has the digits of the number, perhaps with zeros before them: `02139`,
/// `+1 415 555-0132`. Otherwise the number: it may be shown as `1.42E+10` or with thousands separators.
fn number_as_shown(number: f64, shown: &str) -> String {
    let plain = number_text(number, None);
    let is_fixed = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '(' | ')' | ' ' | ':');
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    let is_same = digits.trim_start_matches('0') == plain.trim_start_matches('0') && !digits.is_empty();
    // A space alone between digits may separate thousands.
    let has_mark = shown.starts_with('0') || shown.contains(['+', '-', '(', ':']);
    if is_same && has_mark && shown.chars().all(is_fixed) { shown.trim().to_owned() } else { plain }
}

/// Reads a cell to its end and returns the text in it: paragraphs on lines of their own, without notes.
fn shown_text<R: Read + Seek>(
    xml: &mut PartReader<'_, R>,
    cell: &BytesStart<'_>,
    bytes_max: usize,
) -> Result<String, WorkbookError> {
    let (mut text, mut buffer) = (String::new(), Vec::new());
    let (mut notes, mut paragraphs) = (0_usize, 0_usize);
    loop {
        buffer.clear();
        let event = xml.read_event_into(&mut buffer).map_err(|_| WorkbookError::Damaged)?;
        let has_room = text.len() <= bytes_max;
        match event {
            Event::Start(element) => match element.name().as_ref() {
                "office:annotation" => notes += 1,
                _ if notes > 0 || !has_room => {}
                "text:p" => {
                    if paragraphs > 0 {
                        text.push('\n');
                    }
                    paragraphs += 1;
                }
                "text:s" => (0..repeats(&element, "text:c").min(1_000)).for_each(|_| text.push(' ')),
                "text:tab" => text.push('\t'),
                "text:line-break" => text.push('\n'),
                _ => {}
            },
            Event::End(element) if element.name() == cell.name() && notes == 0 => return Ok(text),
            Event::End(element) if element.name().as_ref() == "office:annotation" => notes = notes.saturating_sub(1),
            Event::Text(part) if notes == 0 && paragraphs > 0 && has_room => text.push_str(&part.xml10_content()),
            Event::GeneralRef(name) if notes == 0 && paragraphs > 0 && has_room => {
                let named = quick_xml::escape::resolve_xml_entity(&name).map(str::to_owned);
                let numbered = || name.resolve_char_ref().ok().flatten().map(String::from);
                text.push_str(&named.or_else(numbered).unwrap_or_default());
            }
            Event::Eof => return Err(WorkbookError::Damaged),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::number_as_shown;

    #[test]
    fn a_number_is_taken_as_shown_if_only_zeros_or_signs_are_added() {
        for (number, shown, text) in [
            (2_139.0, "02139", "02139"),
            (0.0, "00000", "00000"),
            (14_155_550_132.0, "+14155550132", "+14155550132"),
            (4_155_550_132.0, "(415) 555-0132", "(415) 555-0132"),
            (14_155_550_132.0, "1.42E+10", "14155550132"),
            (2_139.0, "2,139", "2139"),
            (2_139.0, "2 139", "2139"),
            (2_139.0, "2139.00", "2139"),
            (12.5, "12,5", "12.5"),
            (-5.0, "-5", "-5"),
        ] {
            assert_eq!(number_as_shown(number, shown), text, "{shown}");
        }
    }
}
