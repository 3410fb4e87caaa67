//! What a person should know about how a file is read, before its rows are looked at. Pure.

use std::path::Path;

use crate::adapters::csv::{CsvScan, SheetScan, TableFormat, WorkbookKind};

/// Most names of sheets in a note.
const SHEETS_SHOWN_MAX: usize = 10;

/// Returns what the file is: `UTF-8, separated by commas`, or the sheet that is read.
pub(crate) fn description(scan: &CsvScan) -> String {
    let gzip = if scan.is_gzip { ", compressed" } else { "" };
    match (scan.format, &scan.sheet) {
        (TableFormat::Workbook(_), Some(sheet)) => format!("sheet {:?}", sheet.name),
        (TableFormat::Jobs, _) => format!("one job a line{gzip}"),
        _ => format!("{}, separated by {}s{gzip}", scan.encoding.name(), scan.delimiter.name()),
    }
}

/// Returns one note for each finding.
pub(crate) fn notes(file: &Path, scan: &CsvScan) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(wrong_name(file, scan));
    if scan.skipped.rows > 0 {
        notes.push(format!(
            "the columns are named in line {}; the rows above it (line {}) are not read",
            scan.header_line, scan.skipped
        ));
    }
    if let Some(sheet) = &scan.sheet {
        sheet_notes(sheet, scan, &mut notes);
    }
    if scan.format != TableFormat::Jobs {
        let ignored = scan.header.ignored();
        notes.extend(
            ignored
                .map(|(column, title)| format!("column {column} {title:?} is not sent; the result files contain it")),
        );
    }
    notes
}

/// A file that can be read and isn't what its name says.
fn wrong_name(file: &Path, scan: &CsvScan) -> Option<String> {
    let ending = file.extension()?.to_str()?.to_ascii_lowercase();
    let is_workbook_name = matches!(ending.as_str(), "xlsx" | "xlsm" | "xls" | "ods");
    let is = match scan.format {
        TableFormat::Text if is_workbook_name => "a text file with separators, not a workbook",
        TableFormat::Jobs if is_workbook_name || ending == "csv" => "a file with one job (JSON) a line",
        TableFormat::Workbook(kind) => match (kind, ending.as_str()) {
            (WorkbookKind::Xlsx, "xls" | "ods" | "csv" | "tsv" | "txt") => "a workbook in the format of .xlsx",
            (WorkbookKind::Xls, "xlsx" | "ods" | "csv" | "tsv" | "txt") => "a workbook in the format of .xls",
            (WorkbookKind::Ods, "xlsx" | "xls" | "csv" | "tsv" | "txt") => "a workbook in the format of .ods",
            _ => return None,
        },
        _ => return None,
    };
    Some(format!("its name ends with .{ending}, but it is {is}, and is read as that"))
}

fn sheet_notes(sheet: &SheetScan, scan: &CsvScan, notes: &mut Vec<String>) {
    if !sheet.others.is_empty() {
        let mut names: Vec<String> =
            sheet.others.iter().take(SHEETS_SHOWN_MAX).map(|name| format!("{name:?}")).collect();
        if sheet.others.len() > SHEETS_SHOWN_MAX {
            names.push("...".to_owned());
        }
        notes.push(format!("only this sheet is read; for another, give --sheet with {}", names.join(" or ")));
    }
    match &sheet.findings.hidden {
        Some(hidden) if hidden.rows > 0 => notes.push(format!(
            "{} hidden rows are read like the others (line {hidden}): delete them if they don't belong to the list",
            hidden.rows
        )),
        Some(_) => {}
        None => notes.push("which rows are hidden is not known; hidden rows are read like the others".to_owned()),
    }
    match &sheet.findings.merged {
        Some(merged) if merged.count > 0 => notes.push(format!(
            "{} merged cells ({merged}): only the first cell of each has its value, the others are empty",
            merged.count
        )),
        Some(_) => {}
        None => notes.push("which cells are merged is not known".to_owned()),
    }
    if scan.format == TableFormat::Workbook(WorkbookKind::Xls) {
        notes.push(
            "number formats of .xls are not known: a number that is shown as 02139 is read as 2139. Save it as .xlsx if \
             its codes or phone numbers are numbers"
                .to_owned(),
        );
    }
}
