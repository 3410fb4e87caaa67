//! `check` finds every problem that `run` would find, names each line, sends nothing and leaves no files behind.

use std::fs;

use serde_json::Value;

use crate::support::{TestDir, customers, sample};

#[test]
fn a_valid_file_has_a_plan_and_no_problems() {
    let dir = TestDir::with_sample("customers.csv");
    let output = dir.program("check customers.csv --rate 20").without_key().expect_exit(0);
    output
        .assert_output(&["customers.csv: 200 rows, UTF-8, separated by commas", "10 seconds at 20 requests a second"]);
    for (what, count) in [("to be created", "200"), ("repeated", "0"), ("rejected", "0")] {
        let line = output.stdout.lines().find(|line| line.trim_start().starts_with(what)).unwrap();
        assert_eq!(line.trim_start()[what.len()..].split_whitespace().next(), Some(count), "{line}");
    }
    output.assert_no_output(&["Rows:", "Problems"]);
}

#[test]
fn each_line_that_a_run_would_not_send_is_listed_with_its_fields() {
    let dir = TestDir::with_sample("customers-with-problems.csv");
    let output = dir.program("check customers-with-problems.csv").without_key().expect_exit(3);
    let text = fs::read(sample("customers-with-problems.expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_slice(&text).unwrap();
    for case in &expected {
        let line = format!("  line {}: ", case["line"]);
        let lines: Vec<&str> = output.stdout.lines().filter_map(|other| other.strip_prefix(&line)).collect();
        assert!(!lines.is_empty(), "line {} is not listed. {output}", case["line"]);
        for field in case["fields"].as_array().unwrap() {
            let begin = format!("{}: ", field.as_str().unwrap());
            assert!(lines.iter().any(|other| other.starts_with(&begin)), "{line}{begin}: {lines:?}");
        }
        if let Some(same_as) = case.get("sameAs") {
            assert!(lines[0].contains(&format!("line {same_as}")), "{line}: {lines:?}");
        }
    }
    let listed = output.stdout.lines().filter(|line| line.starts_with("  line ")).count();
    assert_eq!(listed, 29 + 4, "there are 29 cases, one of them with five fields. {output}");
    output.assert_output(&["2 x WRONG_COLUMN_COUNT", "4 x phoneNumber INVALID_PHONE_NUMBER"]);
}

#[test]
fn a_long_list_of_problems_is_cut_without_the_flag_all() {
    let dir = TestDir::with("people.csv", customers(0..70).replace("@example.com", ""));
    let listed = |text: &str| text.lines().filter(|line| line.starts_with("  line ")).count();
    let output = dir.program("check people.csv").expect_exit(3);
    output.assert_output(&["... and 20 more lines; --all shows every one"]);
    assert_eq!(listed(&output.stdout), 50);
    let output = dir.program("check people.csv --all").expect_exit(3);
    assert_eq!(listed(&output.stdout), 70);
}

#[test]
fn the_cost_is_the_fee_of_the_settings_for_each_new_user() {
    let dir = TestDir::with("people.csv", customers(0..40));
    let check = || dir.program("check people.csv");
    check().expect_exit(0).assert_output(&["Cost: unknown: set plan.fee_per_user"]);
    check()
        .set("plan.fee_per_user", "1.5")
        .set("plan.currency", "EUR")
        .expect_exit(0)
        .assert_output(&["Cost: 60.00 EUR"]);
}

#[test]
fn a_row_whose_message_is_too_large_is_rejected_before_it_is_on_a_queue() {
    let text = customers(0..2);
    let mut lines = text.lines();
    let title = format!("{},metadata.note", lines.next().unwrap());
    let (short, long) = (lines.next().unwrap(), lines.next().unwrap());
    let dir = TestDir::with("people.csv", format!("{title}\n{short},x\n{long},{}\n", "x".repeat(4_000)));
    let limited = |command: &str| dir.program(command).set("queue.message_bytes_max", "4096");
    limited("check people.csv")
        .expect_exit(3)
        .assert_output(&["1 x MESSAGE_TOO_LARGE", "line 3: the row's message has 4"]);
    limited("import people.csv --queue local:q.db").expect_exit(3).assert_output(&["rejected"]);
    dir.program("check people.csv").expect_exit(0);
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let dir = TestDir::with("people.csv", customers(0..3));
    for command in ["check people.csv", "topology", "config show"] {
        let output = dir.program(command).start_with_stdout("/dev/full").expect_exit(1);
        output.assert_output(&["a part of the answer is missing", "standard output"]);
    }
}

#[test]
fn a_check_leaves_no_files_behind() {
    let dir = TestDir::with_sample("customers-with-problems.csv");
    fs::create_dir(dir.path("tmp")).unwrap();
    let temporary = dir.path("tmp");
    dir.program("check customers-with-problems.csv").env("TMPDIR", temporary.to_str().unwrap()).expect_exit(3);
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path("")).unwrap().count(), 2, "only the file and the temporary folder are there");
}
