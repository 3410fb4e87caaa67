//! Jobs and events match the schemas in `docs/contract`, checked with an independent validator.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};
use serde_json::{Value, json};

use crate::support::{CustomerFile, Partner, TestDir, customers, jobs, python, root};

/// Returns whether all lines match the schema, and the output of the validator.
fn validated(schema: &str, lines: &str) -> (bool, String) {
    let folder = root().join("tests/contract");
    let mut child = Command::new(python("tests/contract/requirements.txt"))
        .arg(folder.join("validate.py"))
        .arg(root().join("docs/contract").join(schema))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
pub(crate) fn assert_valid(schema: &str, lines: &str) {
    let (is_valid, output) = validated(schema, lines);
    assert!(is_valid, "{output}");
}

#[test]
fn jobs_and_events_match_the_schemas_and_malformed_jobs_do_not() {
    let example = std::fs::read_to_string(root().join("examples/job.json")).unwrap();
    let example: Value = serde_json::from_str(&example).unwrap();
    assert_valid("job.schema.json", &format!("{example}\n{}\n", jobs(0..20).join("\n")));
    let with = |member: &str, value: Value| {
        let mut job = example.clone();
        *job.pointer_mut(member).unwrap_or_else(|| panic!("{member}")) = value;
        job
    };
    let without_user = json!({"jobId": "1"});
    let unknown = with("/user", json!({"nickname": "x"}));
    let malformed = [
        without_user,
        unknown,
        with("/user/email", json!("no address")),
        with("/user/firstName", json!("x".repeat(101))),
        with("/user/isTermsOfServiceAccepted", json!(false)),
        with("/user/program", json!("other")),
        with("/jobId", json!("")),
    ];
    for job in malformed {
        let (is_valid, output) = validated("job.schema.json", &format!("{job}\n"));
        assert!(!is_valid, "{job}: {output}");
    }

    // Events of every type: valid rows, the same rows again with an invalid one, and a row without an answer. The keys
    // of the first run have expired before the second.
    let model = ModelConfig { key_ttl: Duration::from_millis(1), ..ModelConfig::default() };
    let partner = Partner::start(SandboxConfig { model, ..SandboxConfig::default() });
    let dir = TestDir::with("people.csv", customers(0..30));
    let run = |out: &str, url: &str| dir.program(&format!("run people.csv --out {out} --rate 0 --yes {url}"));
    let url = format!("--api-url {}", partner.url());
    run("first", &url).expect_exit(0);
    dir.write("people.csv", CustomerFile::default().with(0..31).with_invalid(31).text);
    run("second", &url).expect_exit(3);
    dir.write("people.csv", customers(40..41));
    let failing = run("third", "--sandbox --fault error-before=100%").set("worker.attempts_max", "1");
    failing.set("worker.backoff_initial_ms", "1").set("api.key_ttl_s", "1").set("api.clock_skew_s", "0").expect_exit(3);
    let events = ["first", "second", "third"].map(|run| dir.read(&format!("{run}/results.ndjson"))).concat();
    for kind in ["user.created", "user.existing", "user.rejected", "user.failed"] {
        assert!(events.contains(kind), "no {kind} in {events}");
    }
    assert_valid("event.schema.json", &events);
    let (is_valid, _) = validated("event.schema.json", "{\"type\": \"user.created\"}\n");
    assert!(!is_valid);
}
