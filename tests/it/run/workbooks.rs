//! Workbooks as people have them: the program reads them like the same rows in a CSV file. LibreOffice converts them to
//! the other formats.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::process::Command;

use rust_xlsxwriter::{Format, Workbook, Worksheet};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::support::{Results, Table, TestDir, run_tool};

/// Columns whose cells a spreadsheet keeps as numbers, each with a number format that shows them as they were.
const NUMBERS: [(&str, &str); 2] = [("postalCode", "00000"), ("phoneNumber", "+0")];

/// Writes the sample customers with an address in the USA, with phones and postal codes as numbers, below a title.
fn sheet_of_customers(sheet: &mut Worksheet, table: &Table) {
    sheet.write(0, 0, "Customers").unwrap();
    for (column, title) in (0..).zip(&table.titles) {
        sheet.write(2, column, title).unwrap();
    }
    for (row, cells) in (3..).zip(&table.rows) {
        for ((column, title), cell) in (0..).zip(&table.titles).zip(cells) {
            let format =
                NUMBERS.iter().find(|(name, _)| name == title).map(|(_, code)| Format::new().set_num_format(*code));
            let digits = cell.strip_prefix('+').unwrap_or(cell);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            match (format.filter(|_| is_number), title.as_str()) {
                (Some(format), _) => {
                    sheet.write_with_format(row, column, digits.parse::<f64>().unwrap(), &format).unwrap();
                }
                (None, "isTermsOfServiceAccepted") => {
                    sheet.write(row, column, cell == "true").unwrap();
                }
                _ => {
                    sheet.write(row, column, cell).unwrap();
                }
            }
        }
    }
}

/// The sample customers in the USA: their codes and phone numbers are digits.
fn customers(dir: &TestDir) -> Table {
    let mut table = dir.table("customers.csv");
    let country = table.titles.iter().position(|title| title == "countryCode").unwrap();
    let phone = table.titles.iter().position(|title| title == "phoneNumber").unwrap();
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    table.rows.retain(|row| row[country] == "US" && row[phone].strip_prefix('+').is_some_and(is_digits));
    assert!(table.rows.len() > 5 && table.column("postalCode").iter().any(|code| code.starts_with('0')));
    table
}

fn workbook(dir: &TestDir) -> Table {
    let table = customers(dir);
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet().set_name("Customers").unwrap();
    sheet_of_customers(sheet, &table);
    sheet.set_row_hidden(5).unwrap();
    sheet.merge_range(0, 1, 0, 3, "of 2026", &Format::new()).unwrap();
    workbook.add_worksheet().set_name("Notes").unwrap().write(0, 0, "private").unwrap();
    workbook.save(dir.path("customers.xlsx")).unwrap();
    table
}

/// Converts a file in the directory with LibreOffice.
fn convert(dir: &TestDir, file: &str, format: &str) {
    let profile = format!("-env:UserInstallation=file://{}", dir.path("profile").display());
    let convert = ["--headless", "--convert-to", format, "--outdir", ".", file];
    run_tool(Command::new("soffice").arg(profile).args(convert).current_dir(dir.path("")).env("HOME", dir.path("")));
}

/// The idempotency keys, which are derived from the bodies that were sent.
fn keys(results: &Results) -> BTreeSet<String> {
    results.events().iter().map(|event| event["idempotencyKey"].as_str().unwrap().to_owned()).collect()
}

fn own_cells(table: &Table, columns: usize) -> Vec<Vec<String>> {
    table.rows.iter().map(|row| row[..columns].to_vec()).collect()
}

#[test]
fn a_workbook_is_read_like_the_same_rows_in_a_csv_file() {
    let dir = TestDir::with_sample("customers.csv");
    let table = workbook(&dir);
    table.write(&dir.path("plain.csv"));
    dir.program("run plain.csv --sandbox --rate 0 --out plain").expect_exit(0);
    convert(&dir, "customers.xlsx", "ods");
    convert(&dir, "customers.xlsx", "xls");
    for name in ["customers.xlsx", "customers.ods"] {
        let output = dir.program(&format!("run {name} --sandbox --rate 0 --out {name}.results")).expect_exit(0);
        output.assert_output(&[
            "note: the columns are named in line 3; the rows above it (line 1) are not read",
            "note: only this sheet is read; for another, give --sheet with \"Notes\"",
            "note: 1 hidden rows are read like the others (line 6)",
            "note: 1 merged cells (B1:D1)",
        ]);
        let (workbook, plain) = (dir.results(&format!("{name}.results")), dir.results("plain"));
        let mut created = workbook.table("created");
        assert_eq!(created.titles, plain.table("created").titles);
        // LibreOffice makes the number 1 of a truth value.
        (0..created.rows.len()).for_each(|row| created.set(row, "isTermsOfServiceAccepted", "true"));
        assert_eq!(own_cells(&created, table.titles.len()), table.rows, "{name}");
        assert_eq!(keys(&workbook), keys(&plain), "{name}: other bodies were sent");
    }
}

#[test]
fn an_old_workbook_is_read_without_its_number_formats_and_says_so() {
    let dir = TestDir::with_sample("customers.csv");
    let table = workbook(&dir);
    convert(&dir, "customers.xlsx", "xls");
    let output = dir.program("check customers.xls").expect_exit(0);
    output.assert_output(&[
        "customers.xls: ",
        "sheet \"Customers\"",
        "which rows are hidden is not known",
        "number formats of .xls are not known: a number that is shown as 02139 is read as 2139",
        "1 merged cells (B1:D1)",
    ]);
    let rows = table.rows.len();
    output.assert_output(&[&format!("{rows} rows")]);
}

#[test]
fn a_run_of_a_workbook_resumes_from_its_copy() {
    let dir = TestDir::with_sample("customers.csv");
    let table = workbook(&dir);
    let run = || dir.program("run customers.xlsx --sandbox --rate 50 --out out");
    let mut running = run().start();
    running.wait_until("an outcome", || dir.results("out").event_lines() > 0);
    running.kill();
    // Another sheet of the same file is another list.
    let refused = dir.program("run customers.xlsx --sandbox --out out --header-row 3 --sheet Notes").expect_exit(2);
    refused.assert_output(&["sheet \"Notes\": none of its first 20 rows names the columns"]);
    run().expect_exit(0);
    let results = dir.results("out");
    assert_eq!(results.events().len(), table.rows.len());
    let [created, existing, ..] = results.tally();
    assert_eq!(created + existing, table.rows.len() as u64);
}

/// Both formats keep their outer form: an .xlsx with a password is a compound file, an .ods a ZIP archive.
#[test]
fn a_workbook_with_a_password_says_so() {
    let dir = TestDir::new();
    let mut locked = cfb::create(dir.path("locked.xlsx")).unwrap();
    locked.create_stream("EncryptionInfo").unwrap().write_all(&[0; 100]).unwrap();
    locked.create_stream("EncryptedPackage").unwrap().write_all(&[7; 5_000]).unwrap();
    drop(locked);
    let mut locked = ZipWriter::new(File::create(dir.path("locked.ods")).unwrap());
    for (name, content) in [
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"),
        ("content.xml", "\u{7}\u{8}"),
    ] {
        locked.start_file(name, SimpleFileOptions::default()).unwrap();
        locked.write_all(content.as_bytes()).unwrap();
    }
    locked.finish().unwrap();
    for name in ["locked.xlsx", "locked.ods"] {
        let refused = dir.program(&format!("check {name}")).expect_exit(2);
        refused.assert_output(&[&format!("{name}: is a workbook with a password: open it, remove the password")]);
    }
}
