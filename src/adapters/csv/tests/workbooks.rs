//! Workbooks made by rust_xlsxwriter. Those of LibreOffice are in tests/it/run/workbooks.rs.

use std::io::Read as _;

use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook, Worksheet};

use super::*;

fn saved(mut workbook: Workbook) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("customers.xlsx");
    workbook.save(&path).unwrap();
    (folder, path)
}

fn with_header(sheet: &mut Worksheet, row: u32) {
    for (column, field) in (0..).zip(Field::ALL) {
        sheet.write(row, column, field.name()).unwrap();
    }
}

fn column(field: Field) -> u16 {
    field as u16
}

#[test]
fn cells_become_the_texts_that_a_person_sees() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    with_header(sheet, 0);
    let zeros = Format::new().set_num_format("00000");
    let phone = Format::new().set_num_format("[<=9999999]###-####;(###) ###-####");
    sheet.write_with_format(1, column(Field::PostalCode), 2_139, &zeros).unwrap();
    sheet.write_with_format(1, column(Field::PhoneNumber), 4_155_550_132_u64, &phone).unwrap();
    sheet.write(1, column(Field::IsTermsOfServiceAccepted), true).unwrap();
    sheet.write(1, column(Field::FirstName), "Zoë & <Ada>\nLee").unwrap();
    let date = Format::new().set_num_format("d. mmm yyyy");
    sheet.write_with_format(1, column(Field::Address), ExcelDateTime::from_ymd(2026, 2, 1).unwrap(), &date).unwrap();
    sheet.write(3, column(Field::PhoneNumber), 14_155_550_132_u64).unwrap();
    sheet.write(3, column(Field::PostalCode), 12.5).unwrap();
    sheet.write(3, column(Field::City), Formula::new("=A1").set_result("#REF!")).unwrap();
    sheet.write(3, column(Field::Region), Formula::new("=1+1").set_result("2")).unwrap();
    let (_folder, path) = saved(workbook);
    let (scan, rows) = read_ok(&path);
    let cell = |row: usize, field: Field| &rows[row].cells[usize::from(column(field))];
    assert_eq!(rows.iter().map(|row| (row.record, row.line)).collect::<Vec<_>>(), [(1, 2), (2, 4)]);
    assert_eq!(cell(0, Field::PostalCode), "02139");
    assert_eq!(cell(0, Field::PhoneNumber), "(415) 555-0132");
    assert_eq!(cell(0, Field::IsTermsOfServiceAccepted), "true");
    assert_eq!(cell(0, Field::FirstName), "Zoë & <Ada>\nLee");
    assert_eq!(cell(0, Field::Address), "2026-02-01");
    assert_eq!(cell(1, Field::PhoneNumber), "14155550132");
    assert_eq!(cell(1, Field::PostalCode), "12.5");
    assert_eq!(cell(1, Field::City), "#REF!");
    assert_eq!(cell(1, Field::Region), "2");
    assert!(rows.iter().all(|row| row.column_problem(&scan.header).is_none()));
    assert_eq!(scan.sheet.unwrap().name, "Sheet1");
}

#[test]
fn hidden_rows_merged_cells_and_rows_above_the_header_are_found() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    let plain = Format::new();
    sheet.merge_range(0, 0, 0, 5, "Customers", &plain).unwrap();
    with_header(sheet, 2);
    for row in 3..40 {
        sheet.write(row, 0, "personal use").unwrap();
    }
    sheet.merge_range(10, 1, 12, 1, "1 Main Street", &plain).unwrap();
    for row in [5, 6, 7, 20] {
        sheet.set_row_hidden(row).unwrap();
    }
    let (_folder, path) = saved(workbook);
    let (scan, rows) = read_ok(&path);
    assert_eq!((scan.header_line, scan.skipped.to_string().as_str(), rows.len()), (3, "1", 37));
    assert_eq!(scan.rows_about(), 37);
    let findings = scan.sheet.unwrap().findings;
    assert_eq!(findings.hidden.map(|hidden| (hidden.rows, hidden.to_string())), Some((4, "6-8, 21".to_owned())));
    assert_eq!(
        findings.merged.map(|merged| (merged.count, merged.to_string())),
        Some((2, "A1:F1, B11:B13".to_owned()))
    );
    assert_eq!((&rows[7].cells[1], &rows[8].cells[1]), ("1 Main Street", ""));
}

/// Copies a workbook with texts in its parts replaced.
fn rewritten(path: &Path, replacements: &[(&str, &str)]) -> PathBuf {
    let mut source = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let target = path.with_file_name("rewritten.xlsx");
    let mut copy = zip::ZipWriter::new(fs::File::create(&target).unwrap());
    for index in 0..source.len() {
        let mut part = source.by_index(index).unwrap();
        copy.start_file(part.name().unwrap().into_owned(), zip::write::SimpleFileOptions::default()).unwrap();
        let mut text = String::new();
        part.read_to_string(&mut text).unwrap();
        let text = replacements.iter().fold(text, |text, (from, to)| text.replace(from, to));
        copy.write_all(text.as_bytes()).unwrap();
    }
    copy.finish().unwrap();
    target
}

#[test]
fn error_values_of_newer_programs_are_read_as_they_are() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    with_header(sheet, 0);
    for (row, column) in [(1, 1), (1, 2), (2, 0), (4, 14)] {
        sheet.write(row, column, Formula::new("=1").set_result("#NUM!")).unwrap();
    }
    sheet.write(2, 5, "Ada").unwrap();
    let (_folder, path) = saved(workbook);
    // XML has both kinds of quotation marks.
    for error_type in ["t=\"e\"", "t='e'", "t = \"e\""] {
        let (_, rows) = read_ok(&rewritten(&path, &[("#NUM!", "#SPILL!"), ("t=\"e\"", error_type)]));
        let found: Vec<(u64, Vec<(usize, &str)>)> = rows
            .iter()
            .map(|row| (row.line, row.cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()).collect()))
            .collect();
        let spill = |column| (column, "#SPILL!");
        let expected = [(2, vec![spill(1), spill(2)]), (3, vec![spill(0), (5, "Ada")]), (5, vec![spill(14)])];
        assert_eq!(found, expected, "{error_type}");
    }
}

#[test]
fn a_sheet_is_chosen_by_its_name() {
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Notes").unwrap().write(0, 0, "nothing here").unwrap();
    with_header(workbook.add_worksheet().set_name("Kunden & Söhne").unwrap(), 0);
    workbook.add_worksheet().set_name("Old").unwrap().set_hidden(true);
    let (_folder, path) = saved(workbook);
    let with = |sheet: &str| read(&path, &ReadOptions { sheet: Some(sheet.to_owned()), ..ReadOptions::default() });
    let (scan, _) = with("Kunden & Söhne").unwrap();
    assert_eq!(
        scan.sheet.map(|sheet| (sheet.name, sheet.others)),
        Some(("Kunden & Söhne".to_owned(), vec!["Notes".to_owned()]))
    );
    let error = with("Kunden").unwrap_err().to_string();
    assert!(
        error.ends_with("has no sheet \"Kunden\": give another --sheet (they are \"Notes\", \"Kunden & Söhne\")"),
        "{error}"
    );
    let error = read(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("sheet \"Notes\": none of its first 20 rows names the columns"), "{error}");
}

#[test]
fn a_surplus_cell_and_a_long_cell_are_problems_of_their_row() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    with_header(sheet, 0);
    sheet.write(1, 40, "far away").unwrap();
    for column in 0..4 {
        sheet.write(2, column, "x".repeat(30_000)).unwrap();
    }
    sheet.write(3, 0, "fine").unwrap();
    let (_folder, path) = saved(workbook);
    let (scan, rows) = read_ok(&path);
    let codes = rows.iter().map(|row| row.column_problem(&scan.header).map(|problem| problem.code));
    let codes: Vec<_> = codes.collect();
    assert_eq!(codes, [Some("WRONG_COLUMN_COUNT".to_owned()), Some("RECORD_TOO_LONG".to_owned()), None]);
}

#[test]
fn damaged_workbooks_are_errors_and_never_the_end_of_the_rows() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    with_header(sheet, 0);
    for row in 1..2_000 {
        sheet.write(row, 0, format!("purpose {row}")).unwrap();
    }
    let (folder, path) = saved(workbook);
    let whole = fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.xlsx");
    // The rows are in the middle of the file.
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        fs::write(&damaged, &bytes).unwrap();
        if let Ok((_, rows)) = read(&damaged, &ReadOptions::default()) {
            assert_eq!(rows.len(), 1_999, "byte {at}");
            assert!(rows.iter().zip(1..).all(|(row, number)| row.cells[0] == format!("purpose {number}")), "byte {at}");
        }
        fs::write(&damaged, &whole[..at]).unwrap();
        assert!(read(&damaged, &ReadOptions::default()).is_err(), "cut at {at}");
    }
}
