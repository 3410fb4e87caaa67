//! `run` on the sample files in `tests/data`: every result file and each of its cells is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde::Deserialize;
use serde_json::json;

use crate::support::{CustomerFile, Partner, Table, TestDir, sample};

/// An entry of `customers-with-problems.expected.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    line: usize,
    kind: String,
    fields: Vec<String>,
    same_as: Option<usize>,
}

fn expected(kinds: &[&str]) -> Vec<Expected> {
    let text = fs::read(sample("customers-with-problems.expected.json")).unwrap();
    let all: Vec<Expected> = serde_json::from_slice(&text).unwrap();
    all.into_iter().filter(|expected| kinds.contains(&expected.kind.as_str())).collect()
}

/// Returns the rows of a sample by the line on which they start.
fn rows_by_line(name: &str) -> BTreeMap<usize, Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(sample(name)).unwrap();
    let line = |record: &csv::StringRecord| usize::try_from(record.position().unwrap().line()).unwrap();
    reader
        .records()
        .map(|record| record.unwrap())
        .map(|record| (line(&record), record.iter().map(str::to_owned).collect()))
        .collect()
}

#[test]
fn valid_rows_are_created_each_with_a_link_and_its_own_cells() {
    let dir = TestDir::with_sample("customers.csv");
    let output = dir.program("run customers.csv --sandbox --rate 0").expect_exit(0);
    output.assert_output(&[
        "200 + 0 + 0 + 0 + 0 = 200 of 200: every row is accounted for",
        "created.csv",
        "results.ndjson",
    ]);

    let results = dir.results("customers-results-sandbox");
    let (input, created) = (dir.table("customers.csv"), results.table("created"));
    let columns = input.titles.len();
    assert_eq!(created.titles[..columns], input.titles);
    assert_eq!(created.titles[columns..], ["serviceId", "verificationUrl", "linkExpiresAt"]);
    let own: Vec<&[String]> = created.rows.iter().map(|row| &row[..columns]).collect();
    assert_eq!(own, input.rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), "cells or their order have changed");
    for (title, begin) in [("serviceId", "sandbox-user-"), ("verificationUrl", "https://withpersona.com/verify?")] {
        let cells: BTreeSet<&str> = created.column(title).into_iter().collect();
        assert_eq!(cells.len(), 200, "rows share a {title}");
        assert!(cells.iter().all(|cell| cell.starts_with(begin)), "{cells:?}");
    }
    for name in ["existing", "rejected", "failed"] {
        assert!(results.table(name).rows.is_empty(), "{name}.csv");
    }
}

#[test]
fn events_have_the_fields_of_the_contract_and_match_the_result_file() {
    let dir = TestDir::with_sample("customers.csv");
    dir.program("run customers.csv --sandbox --rate 0 --out out").expect_exit(0);
    let results = dir.results("out");
    let (events, created) = (results.events(), results.table("created"));
    let rows: BTreeMap<&str, &Vec<String>> = created.column("serviceId").into_iter().zip(&created.rows).collect();
    assert_eq!(events.len(), 200);
    let lines: BTreeSet<u64> = events.iter().map(|event| event["source"]["line"].as_u64().unwrap()).collect();
    let expected: BTreeSet<u64> = rows_by_line("customers.csv").into_keys().map(|line| line as u64).collect();
    assert_eq!(lines, expected);
    for event in &events {
        assert_eq!(event["specVersion"], "1.0");
        assert_eq!(event["type"], "user.created");
        assert_eq!(event["attempts"], 1);
        assert_eq!(event["source"]["file"], "customers.csv");
        assert_eq!(event["jobId"], event["idempotencyKey"]);
        let key: uuid::Uuid = event["idempotencyKey"].as_str().unwrap().parse().unwrap();
        assert_eq!(event["id"], uuid::Uuid::new_v5(&key, b"user.created").to_string());
        assert!(event["batchId"].as_str().unwrap().starts_with("customers-"), "{event}");
        assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
        let row = rows[event["serviceId"].as_str().unwrap()];
        let [link, expires_at] = row.last_chunk().unwrap();
        assert_eq!((&event["verificationUrl"], &event["linkExpiresAt"]), (&json!(link), &json!(expires_at)));
        assert_eq!(event["email"], row[2].trim().to_lowercase());
    }
}

#[test]
fn only_their_owner_can_read_the_results() {
    let dir = TestDir::with("few.csv", CustomerFile::default().with(0..2).with_invalid(2).text);
    dir.program("run few.csv --sandbox --rate 0 --out a/b").expect_exit(3);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path("a/b")), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path("a/b")).unwrap() {
        let path = entry.unwrap().path();
        // The copy of the input is read-only, so that it isn't changed by mistake.
        let expected = if path.ends_with("queue.db.input") { 0o400 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{path:?}");
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in
        ["created.csv", "existing.csv", "rejected.csv", "failed.csv", "results.ndjson", "summary.json", "report.html"]
    {
        assert!(names.iter().any(|other| other == name), "{name} is missing among {names:?}");
    }
    assert!(!names.iter().any(|name| name.ends_with(".part")), "an incomplete file is left: {names:?}");
}

#[test]
fn valid_rows_of_a_file_are_created_and_the_others_have_their_problems() {
    let dir = TestDir::with_sample("customers-with-problems.csv");
    let output = dir.program("run customers-with-problems.csv --sandbox --rate 0 --out out").expect_exit(3);
    let results = dir.results("out");
    let (refused, repeats) = (expected(&["invalid", "conflict"]), expected(&["duplicate"]));
    let (rejected_count, existing_count) = (refused.len() as u64, repeats.len() as u64);
    let created_count = 200 - rejected_count - existing_count;
    assert_eq!(results.tally(), [created_count, existing_count, rejected_count, 0, 0]);
    assert_eq!(results.summary()["isComplete"], true);
    output.assert_output(&[
        &format!("{created_count} + {existing_count} + {rejected_count} + 0 + 0 = 200 of 200"),
        "2 x WRONG_COLUMN_COUNT",
        "in a copy of rejected.csv",
    ]);

    let input = rows_by_line("customers-with-problems.csv");
    let rejected = results.table("rejected");
    assert_eq!(rejected.rows.len(), refused.len());
    for ((expected, row), fields) in refused.iter().zip(&rejected.rows).zip(rejected.column("errorField")) {
        let own = &input[&expected.line];
        assert_eq!(row[..own.len().min(15)], own[..own.len().min(15)], "line {}", expected.line);
        let fields: BTreeSet<&str> = fields.split(" | ").filter(|field| !field.is_empty()).collect();
        assert_eq!(fields, expected.fields.iter().map(String::as_str).collect(), "line {}", expected.line);
    }
    assert!(rejected.column("errorCode").iter().all(|code| !code.is_empty()));
    assert!(rejected.column("errorMessage").iter().all(|message| !message.is_empty()));

    // A duplicate row has the id and the link of the row that it repeats.
    let (created, existing) = (results.table("created"), results.table("existing"));
    let created = created.by_email();
    for (expected, row) in repeats.iter().zip(&existing.rows) {
        let first = created[input[&expected.same_as.unwrap()][2].as_str()];
        assert_eq!(row[row.len() - 2..], first[first.len() - 2..], "line {}", expected.line);
    }
    assert_eq!(results.events().len(), 200 - repeats.len());
}

#[test]
fn a_corrected_rejected_file_is_run_again_without_more_columns() {
    let partner = Partner::start(Default::default());
    let dir = TestDir::with_sample("customers-with-problems.csv");
    let run = |file: &str| dir.program(&format!("run {file} --rate 0 --api-url {}", partner.url())).expect_exit(3);
    run("customers-with-problems.csv");
    assert_eq!(partner.stats().model.users, 175);
    let mut rejected = dir.results("customers-with-problems-results").table("rejected");
    let count = rejected.rows.len() as u64;

    // Only the missing email is corrected. The row with the email of another row stays as it is. So do the rows with a
    // wrong number of cells, which are padded in this file.
    assert_eq!(rejected.column("errorField")[0], "email");
    rejected.set(0, "email", "severine.favre@example.com");
    let taken = rejected.column("errorCode").iter().position(|code| *code == "EMAIL_IN_FILE_TWICE").unwrap();
    rejected.write(&dir.path("corrected.csv"));
    run("corrected.csv");

    let results = dir.results("corrected-results");
    assert_eq!(results.tally(), [1, 0, count - 1, 0, 0]);
    assert_eq!(partner.stats().model.users, 176);
    let (created, again) = (results.table("created"), results.table("rejected"));
    assert_eq!(created.column("email"), ["severine.favre@example.com"]);
    assert_eq!(again.rows[taken - 1][..15], rejected.rows[taken][..15]);
    for code in ["EMAIL_IN_FILE_TWICE", "WRONG_COLUMN_COUNT"] {
        let count = |table: &Table| table.column("errorCode").iter().filter(|other| **other == code).count();
        assert_eq!(count(&again), count(&rejected), "{code}");
    }
    assert_eq!(again.titles, rejected.titles, "columns were added again");
    assert_eq!(created.titles.len(), 18);
}

#[test]
fn files_saved_by_spreadsheets_create_the_same_users_as_the_plain_file() {
    // The key is derived from the whole request, so equal keys mean equal requests.
    let keys_by_email = |file: Vec<u8>| -> BTreeMap<String, String> {
        let dir = TestDir::with("people.csv", file);
        dir.program("run people.csv --sandbox --rate 0 --out out").expect_exit(0);
        let pair = |event: &serde_json::Value| (event["email"].to_string(), event["idempotencyKey"].to_string());
        dir.results("out").events().iter().map(pair).collect()
    };
    let all = keys_by_email(fs::read(sample("customers.csv")).unwrap());
    for name in ["utf8-bom", "semicolon-windows-1252", "tab-utf16le", "headers-spaced"] {
        let keys = keys_by_email(fs::read(sample(&format!("encodings/{name}.csv"))).unwrap());
        assert_eq!(keys.len(), 5, "{name}");
        for (email, key) in keys {
            assert_eq!(all[&email], key, "{name}: {email}");
        }
    }
}

#[test]
fn job_ids_and_metadata_of_the_file_are_in_the_events() {
    let dir = TestDir::with_sample("customers.csv");
    let mut table: Table = dir.table("customers.csv");
    table.rows.truncate(2);
    table.titles.extend(["jobId", "metadata.team", "note"].map(str::to_owned));
    for (index, row) in table.rows.iter_mut().enumerate() {
        row.extend([format!("ref-{index}"), "north".to_owned(), "=1+1".to_owned()]);
    }
    table.write(&dir.path("own.csv"));
    let output = dir.program("run own.csv --sandbox --rate 0 --out out").expect_exit(0);
    output.assert_output(&["column 18 \"note\" is not sent"]);
    let results = dir.results("out");
    let mut events = results.events();
    events.sort_by_key(|event| event["jobId"].to_string());
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["jobId"], format!("ref-{index}"));
        assert_eq!(event["metadata"], serde_json::json!({"team": "north"}));
    }
    assert_eq!(results.table("created").column("note"), ["=1+1", "=1+1"]);
}
