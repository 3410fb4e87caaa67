//! Where the header is, compressed files, files of jobs, and files that aren't what their name says.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Returns the line of the header, the lines above it and the line of the first row.
fn found(text: &str) -> (u64, String, u64) {
    let (_folder, path) = file_of(text);
    let (scan, rows) = read_ok(&path);
    (scan.header_line, scan.skipped.to_string(), rows[0].line)
}

#[test]
fn the_header_is_found_below_titles_comments_and_the_separator() {
    let header = header_line();
    for (above, line, skipped) in [
        ("", 1, ""),
        ("sep=;\n", 2, "1"),
        ("Customers 2026\n\n", 3, "1"),
        ("# exported on 2026-11-28\n# by the CRM, \"v2\"\n", 3, "1-2"),
        ("Program\n", 2, "1"),
        (&"title,of,something\n".repeat(19), 20, "1-19"),
    ] {
        let text = format!("{above}{header}\nJane,Doe\n");
        assert_eq!(found(&text), (line, skipped.to_owned(), line + 1), "{above}");
        let semicolons = text.replace(',', ";");
        assert_eq!(found(&semicolons), (line, skipped.to_owned(), line + 1), "{above}");
    }
    assert!(error_of(format!("{}{header}\n", "x\n".repeat(20))).contains("line 1: is not a header"));
}

#[test]
fn the_line_of_the_header_can_be_given() {
    let text = format!("{}\n{}{}\nJane,Doe\n", header_line(), "x\n".repeat(30), header_line());
    let (_folder, path) = file_of(&text);
    let with = |line| read(&path, &ReadOptions { header_row: Some(line), ..ReadOptions::default() });
    let (scan, rows) = with(32).unwrap();
    assert_eq!((scan.header_line, rows.len(), rows[0].line), (32, 1, 33));
    assert_eq!(scan.skipped.to_string(), "1-31");
    let (first, rows) = with(1).unwrap();
    assert!(first.header_line == 1 && rows.len() == 32 && first.fingerprint != scan.fingerprint);
    assert!(with(5).unwrap_err().to_string().contains("line 5: is not a header"));
    assert!(with(99).unwrap_err().to_string().contains("line 99: is not a header"));
}

#[test]
fn a_compressed_file_is_read_like_the_file_in_it() {
    let text = fs::read_to_string(sample("customers.csv")).unwrap();
    let (_folder, path) = file_of(gzip(&text));
    let (scan, rows) = read_ok(&path);
    let (_, plain) = read_ok(&sample("customers.csv"));
    assert!(scan.is_gzip);
    assert_eq!((rows.len(), scan.rows_about()), (200, 201), "one cell spans two lines");
    assert!(rows.iter().map(|row| &row.cells).eq(plain.iter().map(|row| &row.cells)));
    let cut = gzip(&text);
    assert!(error_of(&cut[..cut.len() / 2]).ends_with("is damaged or incomplete: download it or save it again"));
    assert!(error_of(gzip("PK\x03\x04")).contains("compressed workbook: unpack it"));
}

#[test]
fn a_file_of_jobs_has_a_row_for_each_line() {
    let text = "{\"jobId\":\"a\",\"user\":{\"firstName\":\"Ada\"}}\n\nnot json\n{\"user\":{\"postalCode\":2139}}\n";
    for bytes in [text.as_bytes().to_vec(), gzip(text)] {
        let (_folder, path) = file_of(bytes);
        let (scan, rows) = read_ok(&path);
        assert_eq!((scan.format, scan.header_line), (TableFormat::Jobs, 0));
        let lines: Vec<_> = rows.iter().map(|row| (row.record, row.line)).collect();
        assert_eq!(lines, [(1, 1), (2, 3), (3, 4)]);
        assert!(rows.iter().all(|row| row.job.is_some() && row.column_problem(&scan.header).is_none()));
        let title = |name: &str| scan.header.titles().iter().position(|title| title == name).unwrap();
        assert_eq!(&rows[0].cells[title("firstName")], "Ada");
        assert_eq!(&rows[2].cells[title("postalCode")], "2139");
    }
}

#[test]
fn a_file_that_is_something_else_is_named() {
    let quoted: String = format!("{}\nJane,Doe\n", header_line()).lines().map(|line| format!("\"{line}\"\n")).collect();
    for (text, message) in [
        (quoted.as_str(), "customers.csv line 1: the whole line is in quotation marks"),
        ("<html><table>", "customers.csv: is a web page (HTML)"),
        ("[{\"firstName\": \"Ada\"}]", "customers.csv: is JSON, but not one job a line"),
        ("%PDF-1.7", "customers.csv: is a PDF document"),
    ] {
        let error = error_of(text);
        assert!(error.starts_with(message), "{error}");
    }
}
