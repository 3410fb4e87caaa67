//! What is sent and published fits the schemas in `docs/contract`, as a validator of somebody else's reads them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use plu_onboard::sandbox::{ModelConfig, SandboxConfig};
use serde_json::{Value, json};

use crate::support::{CustomerFile, Partner, Place, customers, jobs, python, root};

/// What the validator says of these lines, and whether all fit.
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
pub(crate) fn fits(schema: &str, lines: &str) {
    let (fit, said) = validated(schema, lines);
    assert!(fit, "{said}");
}

#[test]
fn jobs_and_events_fit_the_schemas_and_what_is_no_job_does_not() {
    // Jobs, as an upstream sends them.
    let example = std::fs::read_to_string(root().join("examples/job.json")).unwrap();
    let example: Value = serde_json::from_str(&example).unwrap();
    fits("job.schema.json", &format!("{example}\n{}\n", jobs(0..20).join("\n")));
    let with = |member: &str, value: Value| {
        let mut job = example.clone();
        *job.pointer_mut(member).unwrap_or_else(|| panic!("{member}")) = value;
        job
    };
    let without_user = json!({"jobId": "1"});
    let unknown = with("/user", json!({"nickname": "x"}));
    let unfit = [
        without_user,
        unknown,
        with("/user/email", json!("nobody")),
        with("/user/firstName", json!("x".repeat(101))),
        with("/user/isTermsOfServiceAccepted", json!(false)),
        with("/user/program", json!("other")),
        with("/jobId", json!("")),
    ];
    for job in unfit {
        let (fit, said) = validated("job.schema.json", &format!("{job}\n"));
        assert!(!fit, "{job}: {said}");
    }

    // Events of every type: rows that are fine, the same among others, one that is refused here, one without an answer.
    // As long after the first run as the partner has forgotten its keys.
    let model = ModelConfig { key_ttl: Duration::from_millis(1), ..ModelConfig::default() };
    let partner = Partner::start(SandboxConfig { model, ..SandboxConfig::default() });
    let place = Place::with("people.csv", customers(0..30));
    let run = |out: &str, url: &str| place.program(&format!("run people.csv --out {out} --rate 0 --yes {url}"));
    let url = format!("--api-url {}", partner.url());
    run("first", &url).ends_with(0);
    place.write("people.csv", CustomerFile::default().with(0..31).with_invalid(31).text);
    run("second", &url).ends_with(3);
    place.write("people.csv", customers(40..41));
    let failing = run("third", "--sandbox --fault error-before=100%").set("worker.attempts_max", "1");
    failing.set("worker.backoff_initial_ms", "1").set("api.key_ttl_s", "1").set("api.clock_skew_s", "0").ends_with(3);
    let events = ["first", "second", "third"].map(|run| place.read(&format!("{run}/results.ndjson"))).concat();
    for kind in ["user.created", "user.existing", "user.rejected", "user.failed"] {
        assert!(events.contains(kind), "no {kind} in {events}");
    }
    fits("event.schema.json", &events);
    let (fit, _) = validated("event.schema.json", "{\"type\": \"user.created\"}\n");
    assert!(!fit);
}
