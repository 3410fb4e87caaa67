//! Standard input, compressed files, files of jobs, and files that aren't what their name says.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use serde_json::json;

use crate::support::{TestDir, customers, run_tool, user};

#[test]
fn standard_input_is_stored_in_the_run_and_a_resumed_run_needs_it_no_more() {
    let dir = TestDir::with("people.csv", customers(0..60));
    let run = || dir.program("run - --sandbox --rate 30 --out out");
    let mut running = run().stdin(&dir.path("people.csv")).start();
    running.wait_until("an outcome", || dir.results("out").event_lines() > 0);
    running.kill();
    let copy = dir.read("out/queue.db.input");
    assert_eq!(copy, customers(0..60));
    // Nothing is piped into this start.
    run().expect_exit(0).assert_output(&["stdin: 60 rows"]);
    let created = dir.results("out").table("created");
    let existing = dir.results("out").table("existing");
    assert_eq!(created.rows.len() + existing.rows.len(), 60);
}

#[test]
fn check_and_import_read_standard_input() {
    let dir = TestDir::with("people.csv", customers(0..20) + "Jane,Doe\n");
    let check = dir.program("check -").stdin(&dir.path("people.csv")).expect_exit(3);
    check.assert_output(&["stdin: 21 rows, UTF-8, separated by commas", "line 22: "]);
    let import = dir.program("import - --queue local:q.db").stdin(&dir.path("people.csv")).expect_exit(3);
    import.assert_output(&["stdin: 21 rows", "put on q.db: 20", "stdin-rejected.csv"]);
    dir.program("check -").expect_exit(2).assert_output(&["standard input: is empty"]);
}

#[test]
fn a_compressed_file_is_read_like_the_file_in_it() {
    let dir = TestDir::with_sample("customers.csv");
    run_tool(Command::new("gzip").arg(dir.path("customers.csv")));
    let output = dir.program("run customers.csv.gz --sandbox --rate 0 --out out").expect_exit(0);
    output.assert_output(&["customers.csv.gz: 200 rows"]);
    assert_eq!(dir.results("out").tally(), [200, 0, 0, 0, 0]);
}

#[test]
fn a_file_of_jobs_keeps_their_references_and_metadata() {
    let dir = TestDir::new();
    let mut file = fs::File::create(dir.path("jobs.ndjson")).unwrap();
    let mut number = user(3);
    number["postalCode"] = json!(62_701);
    for job in [
        json!({"jobId": "crm-1", "metadata": {"team": [1, 2]}, "user": user(0)}),
        json!({"user": user(1), "batchId": "mine"}),
        json!({"user": user(2), "colour": "red"}),
        json!({"jobId": "crm-4", "user": number}),
    ] {
        writeln!(file, "{job}").unwrap();
    }
    writeln!(file, "{{\"user\": ").unwrap();
    let output = dir.program("run jobs.ndjson --sandbox --rate 0 --out out").expect_exit(3);
    output.assert_output(&["jobs.ndjson: 5 rows", "2 + 0 + 3 + 0 + 0 = 5 of 5: every row is accounted for"]);
    let results = dir.results("out");
    let created = results.table("created");
    assert_eq!(created.column("line"), ["1", "2"]);
    assert_eq!(created.column("jobId"), ["crm-1", ""]);
    assert_eq!(created.column("metadata"), ["{\"team\":[1,2]}", ""]);
    let rejected = results.table("rejected");
    assert_eq!(rejected.column("line"), ["3", "4", "5"]);
    assert_eq!(rejected.column("errorCode"), ["MALFORMED_JOB", "WRONG_TYPE", "MALFORMED_JOB"]);
    let events = results.events();
    let first = events.iter().find(|event| event["jobId"] == "crm-1").unwrap();
    assert_eq!(first["metadata"], json!({"team": [1, 2]}));
    assert_eq!(first["source"], json!({"file": "jobs.ndjson", "line": 1}));
    assert!(events.iter().any(|event| event["batchId"] == "mine"));
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_named_or_read_as_what_it_is() {
    let dir = TestDir::with("people.csv", customers(0..3));
    dir.write("page.xls", "<html><body><table><tr><td>firstName</td></tr></table></body></html>");
    dir.write("people.json", "[{\"firstName\": \"Ada\"}]");
    dir.write("quoted.csv", customers(0..2).lines().map(|line| format!("\"{line}\"\n")).collect::<String>());
    dir.write("list.xlsx", customers(0..3).replace(',', "\t"));
    for (file, text) in [
        ("page.xls", "page.xls: is a web page (HTML), whatever its name says: open it in a spreadsheet"),
        ("people.json", "people.json: is JSON, but not one job a line"),
        ("quoted.csv", "quoted.csv line 1: the whole line is in quotation marks, so it is one cell"),
    ] {
        for command in ["check", "run --sandbox", "import --queue local:q.db"] {
            dir.program(&format!("{command} {file}")).expect_exit(2).assert_output(&[text]);
        }
    }
    dir.program("check list.xlsx").expect_exit(0).assert_output(&[
        "list.xlsx: 3 rows, UTF-8, separated by tabs",
        "its name ends with .xlsx, but it is a text file with separators, not a workbook, and is read as that",
    ]);
}

#[test]
fn rows_above_the_header_are_reported() {
    let dir = TestDir::with("people.csv", format!("sep=,\n# all customers\n{}", customers(0..3)));
    let note = "the columns are named in line 3; the rows above it (line 1-2) are not read";
    dir.program("check people.csv").expect_exit(0).assert_output(&["people.csv: 3 rows", note]);
    dir.program("run people.csv --sandbox --out out").expect_exit(0).assert_output(&[&format!("note: {note}")]);
    assert_eq!(dir.results("out").tally(), [3, 0, 0, 0, 0]);
    dir.program("check people.csv --header-row 2")
        .expect_exit(2)
        .assert_output(&["people.csv line 2: is not a header"]);
    dir.program("check people.csv --header-row 0").expect_exit(2).assert_output(&["a whole number from 1 to 10000"]);
}
