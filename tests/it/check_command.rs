//! `check` is what a careful person does first: it must find what a run would find, say every line, send nothing and
//! leave nothing behind.

use std::fs;

use serde_json::Value;

use crate::support::{Place, customers, sample};

#[test]
fn a_good_file_has_a_plan_and_no_complaints() {
    let place = Place::with_sample("customers.csv");
    let said = place.program("check customers.csv --rate 20").without_key().ends_with(0);
    said.said(&["customers.csv: 200 rows, UTF-8, separated by commas", "10 seconds at 20 requests a second"]);
    for (what, count) in [("to be created", "200"), ("repeated", "0"), ("rejected", "0")] {
        let line = said.stdout.lines().find(|line| line.trim_start().starts_with(what)).unwrap();
        assert_eq!(line.trim_start()[what.len()..].split_whitespace().next(), Some(count), "{line}");
    }
    said.did_not_say(&["Rows:", "Problems"]);
}

#[test]
fn every_line_that_a_run_would_not_send_is_listed_with_its_fields() {
    let place = Place::with_sample("customers-with-problems.csv");
    let said = place.program("check customers-with-problems.csv").without_key().ends_with(3);
    let text = fs::read(sample("customers-with-problems.expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_slice(&text).unwrap();
    for case in &expected {
        let line = format!("  line {}: ", case["line"]);
        let lines: Vec<&str> = said.stdout.lines().filter_map(|other| other.strip_prefix(&line)).collect();
        assert!(!lines.is_empty(), "line {} is not listed. {said}", case["line"]);
        for field in case["fields"].as_array().unwrap() {
            let begin = format!("{}: ", field.as_str().unwrap());
            assert!(lines.iter().any(|other| other.starts_with(&begin)), "{line}{begin}: {lines:?}");
        }
        if let Some(same_as) = case.get("sameAs") {
            assert!(lines[0].contains(&format!("line {same_as}")), "{line}: {lines:?}");
        }
    }
    let listed = said.stdout.lines().filter(|line| line.starts_with("  line ")).count();
    assert_eq!(listed, 29 + 4, "29 cases, one of them with five fields. {said}");
    said.said(&["2 x WRONG_COLUMN_COUNT", "4 x phoneNumber INVALID_PHONE_NUMBER"]);
}

#[test]
fn a_long_list_is_cut_unless_all_of_it_is_asked_for() {
    let place = Place::with("people.csv", customers(0..70).replace("@example.com", ""));
    let listed = |text: &str| text.lines().filter(|line| line.starts_with("  line ")).count();
    let said = place.program("check people.csv").ends_with(3);
    said.said(&["... and 20 more lines; --all shows every one"]);
    assert_eq!(listed(&said.stdout), 50);
    let said = place.program("check people.csv --all").ends_with(3);
    assert_eq!(listed(&said.stdout), 70);
}

#[test]
fn the_cost_is_what_the_settings_say_times_who_is_new() {
    let place = Place::with("people.csv", customers(0..40));
    let check = || place.program("check people.csv");
    check().ends_with(0).said(&["Cost: unknown: set plan.fee_per_user"]);
    check().set("plan.fee_per_user", "1.5").set("plan.currency", "EUR").ends_with(0).said(&["Cost: 60.00 EUR"]);
}

#[test]
fn a_row_whose_message_no_worker_would_take_is_rejected_before_it_is_on_a_queue() {
    let text = customers(0..2);
    let mut lines = text.lines();
    let title = format!("{},metadata.note", lines.next().unwrap());
    let (short, long) = (lines.next().unwrap(), lines.next().unwrap());
    let place = Place::with("people.csv", format!("{title}\n{short},x\n{long},{}\n", "x".repeat(4_000)));
    let limited = |command: &str| place.program(command).set("queue.message_bytes_max", "4096");
    limited("check people.csv").ends_with(3).said(&["1 x MESSAGE_TOO_LARGE", "line 3: as a message the row has 4"]);
    limited("import people.csv --queue local:q.db").ends_with(3).said(&["rejected"]);
    place.program("check people.csv").ends_with(0);
}

#[test]
fn a_disk_that_is_full_is_not_taken_for_a_short_answer() {
    let place = Place::with("people.csv", customers(0..3));
    for command in ["check people.csv", "topology", "config show"] {
        let said = place.program(command).start_into("/dev/full").ends_with(1);
        said.said(&["a part of the answer is missing", "standard output"]);
    }
}

#[test]
fn nothing_is_left_behind() {
    let place = Place::with_sample("customers-with-problems.csv");
    fs::create_dir(place.path("tmp")).unwrap();
    let temporary = place.path("tmp");
    place.program("check customers-with-problems.csv").env("TMPDIR", temporary.to_str().unwrap()).ends_with(3);
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 2, "only the file and the temporary folder are there");
}
