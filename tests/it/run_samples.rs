//! `run` on the sample files, as a first user would try it: what comes out is what they take further, so every file
//! and every cell of it is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde::Deserialize;

use crate::support::{CustomerFile, Partner, Place, Table, sample};

/// A line of `customers-with-problems.expected.json`.
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

/// The sample's rows by the line on which they start.
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
fn valid_customers_are_all_created_each_with_a_link_and_every_cell_kept() {
    let place = Place::with_sample("customers.csv");
    let said = place.program("run customers.csv --sandbox --rate 0").ends_with(0);
    said.said(&["200 + 0 + 0 + 0 + 0 = 200 of 200: every row is accounted for", "created.csv", "results.ndjson"]);

    let results = place.results("customers-results-sandbox");
    let (input, created) = (place.table("customers.csv"), results.table("created"));
    let columns = input.titles.len();
    assert_eq!(created.titles[..columns], input.titles);
    assert_eq!(created.titles[columns..], ["serviceId", "verificationUrl"]);
    let own: Vec<&[String]> = created.rows.iter().map(|row| &row[..columns]).collect();
    assert_eq!(own, input.rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), "cells or their order have changed");
    for (title, begin) in [("serviceId", "sandbox-user-"), ("verificationUrl", "https://withpersona.com/verify?")] {
        let cells: BTreeSet<&str> = created.column(title).into_iter().collect();
        assert_eq!(cells.len(), 200, "people share a {title}");
        assert!(cells.iter().all(|cell| cell.starts_with(begin)), "{cells:?}");
    }
    for name in ["existing", "rejected", "failed"] {
        assert!(results.table(name).rows.is_empty(), "{name}.csv");
    }
}

#[test]
fn every_event_has_the_fields_of_the_contract_and_agrees_with_the_result_file() {
    let place = Place::with_sample("customers.csv");
    place.program("run customers.csv --sandbox --rate 0 --out out").ends_with(0);
    let results = place.results("out");
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
        assert_eq!(event["verificationUrl"], *row.last().unwrap());
        assert_eq!(event["email"], row[2].trim().to_lowercase());
    }
}

#[test]
fn nobody_else_on_the_machine_can_read_the_results() {
    let place = Place::with("few.csv", CustomerFile::default().with(0..2).with_invalid(2).text);
    place.program("run few.csv --sandbox --rate 0 --out a/b").ends_with(3);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path("a/b")), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(place.path("a/b")).unwrap() {
        let path = entry.unwrap().path();
        // Nor can anybody write to the run's copy of the file by mistake.
        let expected = if path.ends_with("queue.db.input") { 0o400 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{path:?}");
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in
        ["created.csv", "existing.csv", "rejected.csv", "failed.csv", "results.ndjson", "summary.json", "report.html"]
    {
        assert!(names.iter().any(|other| other == name), "{name} is missing among {names:?}");
    }
    assert!(!names.iter().any(|name| name.ends_with(".part")), "a half-written file is left: {names:?}");
}

#[test]
fn a_file_with_problems_creates_the_good_rows_and_says_what_is_wrong_with_the_others() {
    let place = Place::with_sample("customers-with-problems.csv");
    let said = place.program("run customers-with-problems.csv --sandbox --rate 0 --out out").ends_with(3);
    let results = place.results("out");
    let (refused, repeats) = (expected(&["invalid", "conflict"]), expected(&["duplicate"]));
    let (rejected_count, existing_count) = (refused.len() as u64, repeats.len() as u64);
    let created_count = 200 - rejected_count - existing_count;
    assert_eq!(results.tally(), [created_count, existing_count, rejected_count, 0, 0]);
    assert_eq!(results.summary()["isComplete"], true);
    said.said(&[
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

    // A repeat has the id and the link of the row that it repeats.
    let (created, existing) = (results.table("created"), results.table("existing"));
    let created = created.by_email();
    for (expected, row) in repeats.iter().zip(&existing.rows) {
        let first = created[input[&expected.same_as.unwrap()][2].as_str()];
        assert_eq!(row[row.len() - 2..], first[first.len() - 2..], "line {}", expected.line);
    }
    assert_eq!(results.events().len(), 200 - repeats.len());
}

#[test]
fn a_corrected_rejected_file_is_run_again_and_its_columns_do_not_pile_up() {
    let partner = Partner::start(Default::default());
    let place = Place::with_sample("customers-with-problems.csv");
    let run = |file: &str| place.program(&format!("run {file} --rate 0 --api-url {}", partner.url())).ends_with(3);
    run("customers-with-problems.csv");
    assert_eq!(partner.stats().model.users, 172);
    let mut rejected = place.results("customers-with-problems-results").table("rejected");
    let count = rejected.rows.len() as u64;

    // The email that was missing. The row whose email somebody else has is left as it is, and so are the ones with a
    // wrong number of cells, which were filled up in this file.
    assert_eq!(rejected.column("errorField")[0], "email");
    rejected.set(0, "email", "severine.favre@example.com");
    let taken = rejected.column("errorCode").iter().position(|code| *code == "EMAIL_IN_FILE_TWICE").unwrap();
    rejected.write(&place.path("mended.csv"));
    run("mended.csv");

    let results = place.results("mended-results");
    assert_eq!(results.tally(), [1, 0, count - 1, 0, 0]);
    assert_eq!(partner.stats().model.users, 173);
    let (created, again) = (results.table("created"), results.table("rejected"));
    assert_eq!(created.column("email"), ["severine.favre@example.com"]);
    assert_eq!(again.rows[taken - 1][..15], rejected.rows[taken][..15]);
    for code in ["EMAIL_IN_FILE_TWICE", "WRONG_COLUMN_COUNT"] {
        let count = |table: &Table| table.column("errorCode").iter().filter(|other| **other == code).count();
        assert_eq!(count(&again), count(&rejected), "{code}");
    }
    assert_eq!(again.titles, rejected.titles, "the added columns have piled up");
    assert_eq!(created.titles.len(), 17);
}

#[test]
fn files_as_spreadsheets_save_them_create_the_same_people_as_the_plain_file() {
    // The key stands for everything that is sent.
    let keys_by_email = |file: Vec<u8>| -> BTreeMap<String, String> {
        let place = Place::with("people.csv", file);
        place.program("run people.csv --sandbox --rate 0 --out out").ends_with(0);
        let pair = |event: &serde_json::Value| (event["email"].to_string(), event["idempotencyKey"].to_string());
        place.results("out").events().iter().map(pair).collect()
    };
    let all = keys_by_email(fs::read(sample("customers.csv")).unwrap());
    for name in ["utf8-bom", "semicolon-windows-1252", "tab-utf16le", "headers-spaced"] {
        let people = keys_by_email(fs::read(sample(&format!("encodings/{name}.csv"))).unwrap());
        assert_eq!(people.len(), 5, "{name}");
        for (email, key) in people {
            assert_eq!(all[&email], key, "{name}: {email}");
        }
    }
}

#[test]
fn own_references_and_metadata_come_back_in_the_events() {
    let place = Place::with_sample("customers.csv");
    let mut table: Table = place.table("customers.csv");
    table.rows.truncate(2);
    table.titles.extend(["jobId", "metadata.team", "note"].map(str::to_owned));
    for (index, row) in table.rows.iter_mut().enumerate() {
        row.extend([format!("ref-{index}"), "north".to_owned(), "=1+1".to_owned()]);
    }
    table.write(&place.path("own.csv"));
    let said = place.program("run own.csv --sandbox --rate 0 --out out").ends_with(0);
    said.said(&["column 18 \"note\" is not sent"]);
    let results = place.results("out");
    let mut events = results.events();
    events.sort_by_key(|event| event["jobId"].to_string());
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["jobId"], format!("ref-{index}"));
        assert_eq!(event["metadata"], serde_json::json!({"team": "north"}));
    }
    assert_eq!(results.table("created").column("note"), ["=1+1", "=1+1"]);
}
