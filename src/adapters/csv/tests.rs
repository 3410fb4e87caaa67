//! Tests with whole files: the sample data, and files with problems.

mod formats;
mod workbooks;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use crate::adapters::csv::*;
use crate::domain::{Field, Problem, Warning, WarningKind, validate};

const ERROR_COLUMNS: [&str; 3] = ["errorField", "errorCode", "errorMessage"];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn file_of(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("customers.csv");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// A header line with the names of the API.
fn header_line() -> String {
    Field::ALL.map(Field::name).join(",")
}

fn read(path: &Path, options: &ReadOptions) -> Result<(CsvScan, Vec<CsvRow>), CsvError> {
    let scan = scan(path, options)?;
    let mut reader = RowReader::open(path, &scan, options)?;
    let (mut row, mut rows) = (CsvRow::default(), Vec::new());
    while reader.read(&mut row)? {
        rows.push(row.clone());
    }
    Ok((scan, rows))
}

fn read_ok(path: &Path) -> (CsvScan, Vec<CsvRow>) {
    read(path, &ReadOptions::default()).unwrap()
}

/// The error of reading a file with this content, without its folder.
fn error_of(bytes: impl AsRef<[u8]>) -> String {
    let (folder, path) = file_of(bytes);
    let error = read(&path, &ReadOptions::default()).map(|_| ()).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

fn cells(row: &CsvRow) -> Vec<&str> {
    row.cells.iter().collect()
}

/// Checks a row like the callers do. Returns the number of warnings.
fn problems_of(row: &CsvRow, header: &CsvHeader) -> Result<Vec<Warning>, Vec<Problem>> {
    if let Some(problem) = row.column_problem(header) {
        return Err(vec![problem]);
    }
    let unreadable = row.encoding_problems(header);
    if !unreadable.is_empty() {
        return Err(unreadable);
    }
    validate(&row.to_raw_user(header)).map(|(_, warnings)| warnings)
}

#[test]
fn every_sample_customer_is_valid() {
    let (scan, rows) = read_ok(&sample("customers.csv"));
    assert_eq!(rows.len(), 200);
    for row in &rows {
        assert_eq!(problems_of(row, &scan.header), Ok(vec![]), "line {}", row.line);
    }
    assert_eq!(rows.last().map(|row| row.record), Some(200));
    assert_eq!((scan.delimiter, scan.encoding_origin), (Delimiter::Comma, EncodingOrigin::Valid));
    assert_eq!(scan.bytes, fs::metadata(sample("customers.csv")).unwrap().len());
    assert_eq!(scan.header.ignored().count(), 0);
}

#[test]
fn the_sample_with_problems_has_the_expected_problems() {
    #[derive(Deserialize)]
    struct Expected {
        line: u64,
        kind: String,
        fields: Vec<String>,
    }
    let json = fs::read(sample("customers-with-problems.expected.json")).unwrap();
    let expected: Vec<Expected> = serde_json::from_slice(&json).unwrap();
    // Duplicates and conflicts are found by the import, not here.
    let expected = expected.into_iter().filter(|row| ["invalid", "warning", "converted"].contains(&row.kind.as_str()));
    let expected: Vec<_> = expected.map(|row| (row.line, row.kind, row.fields)).collect();

    let (scan, rows) = read_ok(&sample("customers-with-problems.csv"));
    let found = rows.iter().filter_map(|row| match problems_of(row, &scan.header) {
        Ok(warnings) => {
            let Warning { field, kind, .. } = warnings.first()?;
            let kind = if *kind == WarningKind::Converted { "converted" } else { "warning" };
            Some((row.line, kind.to_owned(), vec![field.name().to_owned()]))
        }
        Err(problems) => {
            let mut fields: Vec<_> = problems.into_iter().filter_map(|problem| problem.field).collect();
            fields.dedup();
            Some((row.line, "invalid".to_owned(), fields))
        }
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(rows.len(), 200);
}

#[test]
fn files_in_all_encodings_have_the_same_cells() {
    let (_, plain) = read_ok(&sample("customers.csv"));
    for (name, encoding, origin, has_bom, delimiter) in [
        ("utf8-bom.csv", "UTF-8", EncodingOrigin::ByteOrderMark, true, Delimiter::Comma),
        ("headers-spaced.csv", "UTF-8", EncodingOrigin::Valid, false, Delimiter::Comma),
        ("semicolon-windows-1252.csv", "windows-1252", EncodingOrigin::Guessed, false, Delimiter::Semicolon),
        ("tab-utf16le.csv", "UTF-16LE", EncodingOrigin::ByteOrderMark, true, Delimiter::Tab),
    ] {
        let (scan, rows) = read_ok(&sample(&format!("encodings/{name}")));
        assert_eq!(
            (scan.encoding.name(), scan.encoding_origin, scan.has_bom, scan.delimiter),
            (encoding, origin, has_bom, delimiter),
            "{name}"
        );
        assert_eq!(rows.len(), 5, "{name}");
        for row in &rows {
            let email = row.cells.get(2);
            let same = plain.iter().find(|plain| plain.cells.get(2) == email).unwrap();
            let lower = |row: &CsvRow| {
                let cells = row.cells.iter();
                cells.map(|cell| if cell == "TRUE" { "true" } else { cell }.to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(lower(row), lower(same), "{name} line {}", row.line);
            assert_eq!(problems_of(row, &scan.header), Ok(vec![]), "{name} line {}", row.line);
        }
        let lines: Vec<_> = rows.iter().map(|row| (row.record, row.line)).collect();
        assert_eq!(lines, [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)], "{name}");
    }
}

#[test]
fn the_fingerprint_is_the_sha_256_of_the_bytes() {
    // Two chunks, with a character across their border.
    let text = format!("{}\n{}é\n", header_line(), "x".repeat(64 * 1024 - header_line().len() - 2));
    let (_folder, path) = file_of(&text);
    let scan = scan(&path, &ReadOptions::default()).unwrap();
    let expected: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()).into();
    assert_eq!(scan.fingerprint, expected);
    assert_eq!((scan.bytes, scan.encoding_origin), (text.len() as u64, EncodingOrigin::Valid));
}

#[test]
fn a_file_that_is_no_customer_file_is_refused_with_a_remedy() {
    for (bytes, message) in [
        (&b""[..], "customers.csv: is empty: the first line must name the columns"),
        (b"\xEF\xBB\xBF\r\n\r\n", "customers.csv: is empty: the first line must name the columns"),
        (
            b"PK\x03\x04\x14\0\x06\0",
            "customers.csv: is a damaged or incomplete ZIP file or workbook: download or save it again",
        ),
        (
            b"f\0i\0r\0s\0t\0N\0a\0m\0e\0",
            "customers.csv: contains zero bytes, so it is not text, or UTF-16 without a byte order mark: save it as CSV \
             UTF-8",
        ),
        (
            b"\n\nJane,Secret,jane.secret@example.com\n",
            "customers.csv line 3: is not a header: one of the first 20 lines must name the columns as the API does \
             (firstName, lastName, email, ...), separated by commas, semicolons, tabs or |; if it is further down, give \
             its line with --header-row",
        ),
        (
            b"firstName,email\nJane,jane@example.com\n",
            "customers.csv line 1: there is no column for accountPurpose, address, city, countryCode, ipAddress, \
             isTermsOfServiceAccepted, lastName, phoneNumber, postalCode, program, region: add it (the columns are \
             firstName, email)",
        ),
        (
            b"firstName;lastName;e-mail;adress\n",
            "customers.csv line 1: column 4 \"adress\" is not known: did you mean address?; there is no column for \
             accountPurpose, city, countryCode, ipAddress, isTermsOfServiceAccepted, phoneNumber, postalCode, program, \
             region: add it (the columns are firstName, lastName, e-mail, adress)",
        ),
    ] {
        assert_eq!(error_of(bytes), message);
    }
}

#[test]
fn a_missing_file_a_directory_and_a_device_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("customers.csv");
    assert!(matches!(scan(&path, &ReadOptions::default()), Err(CsvError::NotFound { .. })));
    assert!(matches!(scan(folder.path(), &ReadOptions::default()), Err(CsvError::Directory { .. })));
    #[cfg(unix)]
    assert!(matches!(scan(Path::new("/dev/null"), &ReadOptions::default()), Err(CsvError::NotAFile { .. })));
}

#[test]
fn options_override_detection() {
    let options = ReadOptions {
        encoding: Some(encoding_rs::WINDOWS_1251),
        delimiter: Some(Delimiter::Pipe),
        ..ReadOptions::default()
    };
    let text = format!("{}|jobId\nАнна|Иванова\n", header_line().replace(',', "|"));
    let (bytes, _, _) = encoding_rs::WINDOWS_1251.encode(&text);
    let (_folder, path) = file_of(bytes);
    let (scan, rows) = read(&path, &options).unwrap();
    assert_eq!((scan.encoding_origin, scan.has_bom), (EncodingOrigin::Option, false));
    assert_eq!(cells(&rows[0]), ["Анна", "Иванова"]);
}

#[test]
fn an_unclosed_quotation_mark_is_an_error_in_bounded_memory() {
    let (_folder, path) = file_of(header_line() + "\n");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let row = "x,".repeat(49) + "\n";
    let mut text = row.repeat(10);
    text.push_str("a,\"Secret street,");
    text.push_str(&row.repeat(100_000));
    file.write_all(text.as_bytes()).unwrap();
    assert!(text.len() > 9_000_000);

    let options = ReadOptions::default();
    let scan = scan(&path, &options).unwrap();
    let mut reader = RowReader::open(&path, &scan, &options).unwrap();
    let mut row = CsvRow::default();
    for line in 2..12 {
        assert!(reader.read(&mut row).unwrap());
        assert_eq!(row.line, line);
    }
    let error = reader.read(&mut row).unwrap_err();
    assert!(matches!(error, CsvError::RecordTooLong { line: 12, bytes_max: 65_536, .. }), "{error}");
    let message = "customers.csv line 12: the record is longer than 65536 bytes: a quotation mark that is not closed \
                   swallows the rows after it; close it or remove it, or shorten the record";
    assert!(error.to_string().ends_with(message), "{error}");
    assert!(row.cells.is_empty(), "swallowed rows are not kept");
}

#[test]
fn a_quotation_mark_open_at_the_end_of_a_small_file_is_an_error() {
    let text = format!("{}\na,b\nc,\"Secret street\nd,e\n", header_line());
    assert_eq!(
        error_of(text),
        "customers.csv line 3: a quotation mark in this record is not closed and swallows the rows after it; close it \
         or remove it"
    );
}

#[test]
fn a_too_long_row_is_rejected_and_the_others_are_read() {
    let text = fs::read_to_string(sample("customers.csv")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let email = lines[1].split(',').nth(2).unwrap().to_owned();
    lines[1] = lines[1].replacen("personal use", &"x".repeat(70_000), 1);
    assert!(lines[1].len() > 70_000);
    let (folder, path) = file_of(lines.join("\n"));
    let (scan, rows) = read_ok(&path);
    let (_, plain) = read_ok(&sample("customers.csv"));
    let positions = |rows: &[CsvRow]| rows.iter().map(|row| (row.record, row.line)).collect::<Vec<_>>();
    assert_eq!(positions(&rows), positions(&plain));
    let bad: Vec<_> = rows.iter().filter_map(|row| Some((row.line, problems_of(row, &scan.header).err()?))).collect();
    let message = "is longer than 65536 bytes and was not read to its end: shorten its \
                   longest cell in the original file";
    assert_eq!(bad, [(2, vec![Problem::whole("RECORD_TOO_LONG", message)])]);

    let mut writer = ResultWriter::create(folder.path(), "rejected", &scan, &["errorCode"]).unwrap();
    writer.write(&rows[0], &["RECORD_TOO_LONG"]).unwrap();
    let written = fs::read_to_string(writer.finish().unwrap()).unwrap();
    assert!(written.contains(&email) && written.ends_with("RECORD_TOO_LONG\n"));
}

#[test]
fn a_cut_cell_is_no_reference() {
    let text = format!("jobId,idempotencyKey,{}\ncrm-1,{}\n", header_line(), "k".repeat(70_000));
    let (_folder, path) = file_of(text);
    let (scan, rows) = read_ok(&path);
    assert_eq!((rows[0].job_id(&scan.header), rows[0].idempotency_key(&scan.header)), (Some("crm-1"), None));
}

#[test]
fn a_header_that_is_too_long_is_an_error() {
    let error = error_of(format!("{},{}\na\n", header_line(), "x".repeat(70_000)));
    assert!(error.starts_with("customers.csv line 1: the record is longer than 65536 bytes"), "{error}");
}

#[test]
fn a_zero_byte_is_a_problem_of_its_row() {
    for changed_line in [2, 3, 100] {
        let text = fs::read_to_string(sample("customers.csv")).unwrap();
        let change = |(index, line): (usize, &str)| match index + 1 == changed_line {
            true => format!("\0{line}\n"),
            false => format!("{line}\n"),
        };
        let (_folder, path) = file_of(text.lines().enumerate().map(change).collect::<String>());
        let (scan, rows) = read_ok(&path);
        let bad = rows.iter().filter_map(|row| Some((row.line, problems_of(row, &scan.header).err()?)));
        let bad: Vec<_> = bad.flat_map(|(line, problems)| problems.into_iter().map(move |p| (line, p.code))).collect();
        assert_eq!(bad, [(changed_line as u64, "CONTROL_CHARACTER".to_owned())]);
    }
}

#[test]
fn bytes_that_are_not_text_are_a_problem_of_their_field() {
    let mut bytes = fs::read(sample("customers.csv")).unwrap();
    let at = bytes.windows(6).position(|window| window == "Jürgen".as_bytes().get(..6).unwrap()).unwrap();
    bytes.splice(at + 1..at + 3, [0xFC]);
    let (_folder, path) = file_of(bytes);
    let (scan, rows) = read_ok(&path);
    assert_eq!(scan.encoding_origin, EncodingOrigin::Damaged);
    let bad: Vec<_> = rows.iter().filter_map(|row| Some((row.line, problems_of(row, &scan.header).err()?))).collect();
    let [(3, problems)] = &bad[..] else { panic!("{bad:?}") };
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].field.as_deref(), problems[0].code.as_str()), (Some("firstName"), "UNREADABLE_TEXT"));
}

#[test]
fn a_file_that_changes_between_or_during_the_passes_is_refused() {
    let (_folder, path) = file_of(header_line() + ",note\na\n");
    let options = ReadOptions::default();
    let scan = scan(&path, &options).unwrap();
    let mut reader = RowReader::open(&path, &scan, &options).unwrap();
    let mut row = CsvRow::default();
    assert!(reader.read(&mut row).unwrap());
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"b\n").unwrap();
    let error = loop {
        match reader.read(&mut row) {
            Ok(more) => assert!(more, "the change was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CsvError::Changed { .. }), "{error}");

    for other in [",remarks\na\n", ",mote\na\n"] {
        fs::write(&path, header_line() + other).unwrap();
        let reader = RowReader::open(&path, &scan, &options).map(|_| ());
        assert!(matches!(reader, Err(CsvError::Changed { .. })), "{other}");
    }
}

#[test]
fn a_result_file_has_the_cells_of_the_input_and_the_extra_ones() {
    for name in ["customers.csv", "encodings/semicolon-windows-1252.csv", "encodings/tab-utf16le.csv"] {
        let (scan, rows) = read_ok(&sample(name));
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ResultWriter::create(folder.path(), "rejected", &scan, &ERROR_COLUMNS).unwrap();
        let extra = ["email", "INVALID_EMAIL", "is not one, \"at all\";\nmend it"];
        for row in &rows {
            writer.write(row, &extra).unwrap();
        }
        let path = writer.finish().unwrap();
        assert_eq!(path, folder.path().join("rejected.csv"));

        let (again, rows_again) = read_ok(&path);
        assert_eq!((again.delimiter, again.encoding.name()), (scan.delimiter, "UTF-8"));
        assert_eq!(again.has_bom, scan.has_bom || scan.encoding != encoding_rs::UTF_8);
        assert_eq!(again.header.titles()[..15], *scan.header.titles());
        assert_eq!(again.header.titles()[15..], ERROR_COLUMNS);
        assert_eq!(again.header.ignored().count(), 0);
        assert_eq!(rows_again.len(), rows.len());
        for (row, row_again) in rows.iter().zip(&rows_again) {
            assert_eq!(cells(row_again), [cells(row), extra.to_vec()].concat());
        }
    }
}

#[test]
fn result_columns_of_an_earlier_run_are_left_out() {
    let text = format!("errorCode,{},Service ID,note\nOLD,a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,OLD,mine\n", header_line());
    let (folder, path) = file_of(text);
    let (scan, rows) = read_ok(&path);
    let mut writer = ResultWriter::create(folder.path(), "rejected", &scan, &ERROR_COLUMNS).unwrap();
    writer.write(&rows[0], &["city", "NEW", "why"]).unwrap();
    let written = fs::read_to_string(writer.finish().unwrap()).unwrap();
    assert_eq!(
        written,
        format!(
            "{},note,errorField,errorCode,errorMessage\na,b,c,d,e,f,g,h,i,j,k,l,m,n,o,mine,city,NEW,why\n",
            header_line()
        )
    );
}

#[test]
fn rows_with_too_few_or_too_many_cells_keep_all_cells() {
    let (folder, path) = file_of(header_line() + "\n1,2,3\n1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17\n");
    let (scan, rows) = read_ok(&path);
    let mut writer = ResultWriter::create(folder.path(), "rejected", &scan, &["errorCode"]).unwrap();
    for row in &rows {
        assert_eq!(row.column_problem(&scan.header).unwrap().code, "WRONG_COLUMN_COUNT");
        writer.write(row, &["BAD"]).unwrap();
    }
    let written = fs::read_to_string(writer.finish().unwrap()).unwrap();
    let lines: Vec<_> = written.lines().skip(1).collect();
    assert_eq!(lines, ["1,2,3,,,,,,,,,,,,,BAD", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,BAD,16,17"]);
}

#[test]
fn a_result_file_is_complete_or_absent() {
    let (scan, rows) = read_ok(&sample("customers.csv"));
    let folder = tempfile::tempdir().unwrap();
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    // Left by a killed run.
    fs::write(folder.path().join(".created.csv.part"), "half").unwrap();
    fs::write(folder.path().join("created.csv"), "earlier").unwrap();

    let mut writer = ResultWriter::create(folder.path(), "created", &scan, &["serviceId"]).unwrap();
    writer.write(&rows[0], &["acme-user-1"]).unwrap();
    assert_eq!(names().len(), 2);
    drop(writer);
    assert_eq!(names(), ["created.csv"]);
    assert_eq!(fs::read_to_string(folder.path().join("created.csv")).unwrap(), "earlier");

    let writer = ResultWriter::create(folder.path(), "created", &scan, &["serviceId"]).unwrap();
    writer.finish().unwrap();
    assert_eq!(names(), ["created.csv"]);
    assert!(fs::read_to_string(folder.path().join("created.csv")).unwrap().ends_with("countryCode,serviceId\n"));
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_result_file_from_its_first_moment() {
    use std::os::unix::fs::PermissionsExt;

    let (scan, _) = read_ok(&sample("customers.csv"));
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    let part = folder.path().join(".created.csv.part");
    fs::write(&part, "").unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
    let writer = ResultWriter::create(folder.path(), "created", &scan, &["serviceId"]).unwrap();
    assert_eq!(mode(".created.csv.part"), 0o600);
    writer.finish().unwrap();
    assert_eq!(mode("created.csv"), 0o600);
}

#[test]
fn a_missing_folder_is_an_error() {
    let (scan, _) = read_ok(&sample("customers.csv"));
    let error = ResultWriter::create(Path::new("no/such/folder"), "created", &scan, &[]).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("no/such/folder/created.csv: can't be written: "), "{error}");
}

#[test]
fn swallowed_rows_are_distinguished_from_a_long_text() {
    let header = "firstName,lastName,note,email,phoneNumber,accountPurpose,ipAddress,isTermsOfServiceAccepted,program,address,city,region,postalCode,countryCode";
    let row = |note: &str, email: &str| {
        format!("Jane,Doe,{note},{email},+1,p,1.2.3.4,true,custodial,1 Main St,Springfield,IL,62701,US")
    };
    let at_end = |rest: &str| {
        format!("Jane,Doe,j@example.com,+1,p,1.2.3.4,true,custodial,1 Main St,Springfield,IL,62701,US{rest}")
    };
    let header_at_end = header.replace("note,", "") + ",note";
    let problems = |header: &str, rows: &[String]| {
        let (_folder, path) = file_of(format!("{header}\n{}\n", rows.join("\n")));
        let (scan, rows) = read_ok(&path);
        rows.iter().map(|row| row.column_problem(&scan.header).map(|problem| problem.code)).collect::<Vec<_>>()
    };
    let swallowed = || vec![Some("QUOTE_NOT_CLOSED".to_owned())];
    // With an invalid email, without an email, and with a missing cell in the swallowed row.
    assert_eq!(problems(header, &[row("\"vip", "jane at example.com"), row("ok\"", "b@example.com")]), swallowed());
    assert_eq!(problems(header, &[row("\"vip", ""), row("ok\"", "b@example.com")]), swallowed());
    let short = at_end(",ok\"").replace(",IL", "");
    assert_eq!(problems(&header_at_end, &[at_end(",\"vip"), short]), swallowed());
    assert_eq!(problems(&header_at_end, &[at_end(",\"vip"), at_end(","), at_end(","), at_end(",ok\"")]), swallowed());
    // A text with a dozen commas, and an address on several lines.
    let text_with_commas = "\"Dear Sir, as discussed, please call me, or my wife, Mary, on 5 May, 6 May, 7 May, 8 May, 9 May, 10 May, or write to mary@example.com, please.\nThanks,\nJane\"";
    assert_eq!(problems(&header_at_end, &[at_end(&format!(",{text_with_commas}")), at_end(",")]), [None, None]);
    assert_eq!(
        problems(header, &[row(text_with_commas, "a@example.com"), row("\"a,\nb,\nc\"", "b@example.com")]),
        [None, None]
    );
}
