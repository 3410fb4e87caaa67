//! Invalid files, flags, settings and paths. Each is refused with the documented exit status and a message that says
//! what is wrong, where, and what to do. The program never panics.

use std::fs;

use rusqlite::Connection;

use crate::support::{ProgramOutput, TestDir, customers};

/// Checks that the output has these texts, no panic, and no debug output of an error type.
#[track_caller]
fn assert_refused(finished: &ProgramOutput, texts: &[&str]) {
    finished.assert_output(texts);
    finished.assert_no_output(&["panicked", "RUST_BACKTRACE", "stack backtrace", "Error {", "Os {"]);
    assert_eq!(finished.stdout, "", "an error belongs on stderr");
}

/// Returns a file with a changed header and one valid row.
fn with_header(from: &str, to: &str) -> String {
    let good = customers(0..1);
    let (header, rows) = good.split_once('\n').unwrap();
    assert!(header.contains(from));
    format!("{}\n{rows}", header.replacen(from, to, 1))
}

#[test]
fn an_unusable_file_is_refused_with_its_line_and_a_remedy() {
    let dir = TestDir::new();
    fs::create_dir(dir.path("folder.csv")).unwrap();
    let good = customers(0..3);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty.csv", Vec::new(), &["empty.csv: is empty", "the first line must name the columns"]),
        ("white.csv", b"\n  \n".to_vec(), &["white.csv: is empty"]),
        (
            "book.xlsx",
            b"PK\x03\x04\x14\0\x06\0".to_vec(),
            &["book.xlsx: is a damaged or incomplete ZIP file or workbook", "save it again"],
        ),
        ("zeros.csv", vec![b'a', 0, b',', 0, 0, 0, 0, b'b'], &["zeros.csv", "save it as CSV UTF-8"]),
        ("rows.csv", good.lines().nth(1).unwrap().into(), &["rows.csv line 1: is not a header", "firstName, lastName"]),
        (
            "missing.csv",
            with_header("city,region,", "notes,more,").into(),
            &["missing.csv line 1: there is no column for city, region: add it (the columns are firstName"],
        ),
        (
            "misspelt.csv",
            with_header("email", "emial").into(),
            &["misspelt.csv line 1: column 3 \"emial\" is not known: did you mean email?"],
        ),
        (
            "twice.csv",
            with_header("redirectUrl", "First Name").into(),
            &["twice.csv line 1: columns 1 and 10 are both firstName: remove one of them"],
        ),
        (
            "quote.csv",
            good.replace("1 Main Street", "\"1 Main Street").into(),
            &["quote.csv line 3: a quotation mark in this record is not closed", "close it or remove it"],
        ),
    ];
    for (name, content, texts) in cases {
        dir.write(name, content);
        for command in ["run --sandbox", "check", "import --queue local:q.db"] {
            assert_refused(&dir.program(&format!("{command} {name}")).expect_exit(2), texts);
        }
    }
    for command in ["run --sandbox", "check", "import --queue local:q.db"] {
        let refused = |file: &str| dir.program(&format!("{command} {file}")).expect_exit(2);
        assert_refused(&refused("none.csv"), &["none.csv: no such file: check the path"]);
        assert_refused(&refused("folder.csv"), &["folder.csv: is a directory: give a CSV file or a workbook"]);
    }
}

#[test]
fn a_damaged_queue_or_another_file_is_refused_and_not_changed() {
    let dir = TestDir::with("people.csv", customers(0..50));
    dir.write("notes.db", "These are my notes, and they are longer than sixteen bytes.");
    let other = Connection::open(dir.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)").unwrap();
    drop(other);
    dir.program("import people.csv --queue local:damaged.db").expect_exit(0);
    let mut bytes = fs::read(dir.path("damaged.db")).unwrap();
    bytes[100..4_000].fill(0xa5);
    dir.write("damaged.db", bytes);
    for (name, texts) in [
        (
            "notes.db",
            ["notes.db is no queue of plu-onboard: it does not begin like an SQLite file", "give another path"],
        ),
        ("other.db", ["other.db is no queue of plu-onboard: it is another program's SQLite file", "give another path"]),
        ("damaged.db", ["the queue damaged.db is damaged", "put a backup in its place"]),
    ] {
        let before = fs::read(dir.path(name)).unwrap();
        for command in ["worker --sandbox", "import people.csv", "run people.csv --sandbox --out out"] {
            assert_refused(&dir.program(&format!("{command} --queue local:{name}")).expect_exit(2), &texts);
            assert!(fs::read(dir.path(name)).unwrap() == before, "{command} has changed {name}");
        }
    }
}

#[test]
fn a_wrong_setting_is_refused_with_its_origin_and_the_allowed_values() {
    let dir = TestDir::with("people.csv", customers(0..3));
    dir.write("key.toml", "[rate_limit]\nrat = 3\n");
    dir.write("section.toml", "[speed]\nrate = 3\n");
    dir.write("value.toml", "[worker]\nconcurrency = \"many\"\n");
    dir.write("syntax.toml", "[rate_limit]\nrate = = 3\n");
    dir.write("clash.toml", "[api]\nconnect_timeout_s = 60\ntimeout_s = 10\n");
    let run = |flags: &str| dir.program(&format!("run people.csv --sandbox {flags}"));
    for (program, texts) in [
        (
            run("--config key.toml"),
            &["file key.toml: rate_limit.rat is not a setting", "did you mean rate_limit.rate?"][..],
        ),
        (run("--config section.toml"), &["file section.toml: speed is not a setting", "[rate_limit]"]),
        (run("--config value.toml"), &["file value.toml: worker.concurrency is", "a whole number from 1 to 4096"]),
        (run("--config syntax.toml"), &["syntax.toml", "line 2"]),
        (run("--config clash.toml"), &["api.connect_timeout_s is 60, which is more than api.timeout_s"]),
        (run("--config none.toml"), &["the settings file none.toml can't be read"]),
        (
            run("").set("rate_limit.rate", "fast"),
            &["environment PLU_ONBOARD__RATE_LIMIT__RATE: rate_limit.rate is", "a whole number from 0"],
        ),
        (
            run("").set("rate_limit.rat", "1"),
            &["environment PLU_ONBOARD__RATE_LIMIT__RAT", "did you mean rate_limit.rate?"],
        ),
        (run("--rate fast"), &["flag --rate: rate_limit.rate is", "a whole number from 0 to 100000"]),
        (run("--concurrency 0"), &["flag --concurrency: worker.concurrency is 0", "from 1 to 4096"]),
        (run("--api-url ftp://x"), &["--sandbox", "cannot be used with", "--api-url"]),
        (dir.program("run people.csv --api-url ftp://x"), &["flag --api-url: api.url", "such as https://"]),
        (dir.program("import people.csv --queue redis:x"), &["flag --queue: queue.url", "local:PATH"]),
        (run("--rat 3"), &["unexpected argument '--rat'", "'--rate'"]),
        (run("--lane urgent"), &["invalid value 'urgent' for '--lane", "signup, bulk"]),
        (run("--encoding klingon"), &["--encoding", "windows-1252"]),
        (run("--delimiter ab"), &["--delimiter", "comma, semicolon"]),
        (dir.program("run"), &["<FILE>", "--help"]),
        (run("").env("RUST_LOG", "plu=what="), &["the log filter", "plu_onboard=debug"]),
        (
            dir.program("worker --sandbox --queue amqp://plu:s3cret@rabbit.example"),
            &["take the jobs of plu.onboarding", "PLU_ONBOARD__AMQP__PREFIX=plu.onboarding.sandbox"],
        ),
        (
            dir.program("worker --queue amqp://plu:s3cret@rabbit.example --out results"),
            &["nothing is written into results", "published to the exchange plu.onboarding.events; leave --out out"],
        ),
        (dir.program("sandbox --listen 0.0.0.0:0"), &["--listen 0.0.0.0:0", "--allow-remote"]),
    ] {
        assert_refused(&program.expect_exit(2), texts);
    }
    let left = fs::read_dir(dir.path("")).unwrap().count();
    assert_eq!(left, 6, "a file was written before the settings were checked");
}

#[test]
fn a_path_that_cannot_be_written_to_is_named() {
    let dir = TestDir::with("people.csv", customers(0..3));
    for (arguments, status, texts) in [
        ("run people.csv --sandbox --out people.csv/x", 1, ["people.csv/x", "give another --out DIR"]),
        ("run people.csv --sandbox --out people.csv", 2, ["people.csv is a file", "give another --out DIR"]),
        (
            "worker --sandbox --queue local:none/q.db",
            1,
            ["none/q.db", "there is no folder none: create it, or give another path"],
        ),
        (
            "import people.csv --queue local:none/q.db",
            1,
            ["none/q.db", "there is no folder none: create it, or give another path"],
        ),
        ("worker --sandbox --queue local:q.db --out people.csv", 2, ["people.csv is a file", "give another --out DIR"]),
    ] {
        assert_refused(&dir.program(arguments).expect_exit(status), &texts);
    }
    assert_eq!(dir.read("people.csv"), customers(0..3));
}

#[test]
fn a_file_without_rows_finishes_at_once_with_a_question() {
    let dir = TestDir::with("people.csv", customers(0..0));
    let output = dir.program("run people.csv --sandbox --out out").expect_exit(0);
    output.assert_output(&["people.csv: 0 rows", "is this the right file?"]);
    assert_eq!(dir.results("out").tally(), [0; 5]);
}

#[test]
fn the_error_that_ends_the_program_has_the_log_format() {
    let dir = TestDir::with("broken.toml", "[rate_limit]\nrate = \"fast\"\n");
    for (arguments, text) in [
        ("worker --log-format json", "no API key"),
        ("worker --log-format json --config broken.toml", "rate_limit.rate"),
        ("worker --sandbox --log-format json --listen 192.0.2.1:9", "--listen 192.0.2.1:9"),
    ] {
        let finished = dir.program(arguments).without_key().expect_exit(2);
        let line = finished.stderr.lines().last().unwrap();
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{arguments}: {finished:?}"));
        assert_eq!(line["level"], "ERROR", "{arguments}");
        assert!(line["message"].as_str().unwrap().contains(text), "{arguments}: {line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{arguments}: {line}");
    }
}

#[test]
fn with_the_log_format_json_every_line_is_json() {
    let dir = TestDir::with("people.csv", customers(0..5) + "Jane,Doe\n");
    let run = "run people.csv --sandbox --out out --log-format json --listen 127.0.0.1:0";
    let finished = dir.program(run).expect_exit(3);
    for line in finished.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    finished.assert_output(&["status page: http://127.0.0.1:", "of 6 done"]);
}

#[test]
fn a_sandbox_worker_and_a_real_worker_do_not_share_a_prefix() {
    let dir = TestDir::new();
    let worker = |more: &str| dir.program(&format!("worker --queue amqp://127.0.0.1:1 {more}"));
    worker("--sandbox")
        .expect_exit(2)
        .assert_output(&["publish outcomes of users that don't exist", "ends with sandbox"]);
    let real = worker("--api-url https://services.getplu.com/api").set("amqp.prefix", "plu.sandbox");
    real.env("PLU_API_KEY", "sk_live_x")
        .expect_exit(2)
        .assert_output(&["would send them to services.getplu.com", "give --sandbox"]);
}
