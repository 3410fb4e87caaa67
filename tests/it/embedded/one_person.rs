//! Many jobs about one person on the embedded queue, and keys that the file gives. Identical rows become one job. Jobs
//! with different data are sent, one after the other. Other jobs don't wait for them.

use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;
use tokio::time::Instant;

use crate::support::{CustomerFile, Partner, TestDir, customers};

const OTHERS: u32 = 50;

/// Rows about one person that are repeated in front of the others.
const IDENTICAL: usize = 6_000;

/// How much later the others may be finished because of the repeated rows in front of them.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// Imports this many identical rows and then those of the others, and returns how long a worker needs for the others.
fn others_behind(identical_rows: usize) -> Duration {
    let config = SandboxConfig { latency: Duration::from_millis(20), ..SandboxConfig::default() };
    let (partner, dir) = (Partner::start(config), TestDir::new());
    let CustomerFile { text } = CustomerFile::default().with(0..1);
    let (header, row) = text.split_once('\n').unwrap();
    let others = CustomerFile::default().with(1..1 + OTHERS).text;
    let others = others.split_once('\n').unwrap().1;
    dir.write("rows.csv", format!("{header}\n{}{others}", row.repeat(identical_rows)));
    dir.program("import --queue local:q.db rows.csv").expect_exit(0);
    let mut worker =
        dir.program(&format!("worker --queue local:q.db --out out --rate 0 --yes --api-url {}", partner.url())).start();
    let jobs = OTHERS as usize + identical_rows.min(1);
    worker.wait_for_output("worker started");
    let start = Instant::now();
    worker.wait_until("all events", || dir.results("out").event_lines() == jobs);
    let elapsed = start.elapsed();
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!(partner.requests(), jobs as u64);
    elapsed
}

#[test]
fn thousands_of_identical_rows_become_one_job_and_do_not_delay_other_jobs() {
    let alone = others_behind(0);
    let elapsed = others_behind(IDENTICAL);
    assert!(elapsed <= alone + DELAY_MAX, "{elapsed:?}, alone {alone:?}");
}

#[test]
fn many_jobs_about_one_person_do_not_delay_the_jobs_of_others() {
    /// More than the window holds.
    const JOBS_OF_ONE: usize = 40;
    const OTHERS: u32 = 20;
    let config = SandboxConfig { latency: Duration::from_millis(20), ..SandboxConfig::default() };
    let (partner, dir) = (Partner::start(config), TestDir::new());
    let import = |file: &str, content: String| {
        dir.write(file, content);
        dir.program(&format!("import --queue local:q.db {file}")).expect_exit(0);
    };
    for n in 0..JOBS_OF_ONE {
        import(&format!("one{n}.csv"), customers(0..1).replace("0 Main Street", &format!("{n} Side Street")));
    }
    import("others.csv", customers(1..1 + OTHERS));
    let mut worker = dir
        .program(&format!("worker --queue local:q.db --out out --rate 0 --yes --api-url {}", partner.url()))
        .set("worker.concurrency", "2")
        .set("worker.window", "4")
        .start();
    let all = JOBS_OF_ONE + OTHERS as usize;
    worker.wait_until("all events", || dir.results("out").event_lines() == all);
    worker.signal("TERM");
    worker.expect_exit(0);
    // Lines are in the order of finishing.
    let events = dir.results("out").events();
    let is_other = |event: &serde_json::Value| event["batchId"].as_str().unwrap().starts_with("others");
    let before = events.iter().rposition(is_other).unwrap() + 1 - OTHERS as usize;
    assert!(before <= JOBS_OF_ONE / 2, "{before} jobs about one person were finished before the last of the others");
    assert_eq!(partner.stats().model.created, u64::from(1 + OTHERS));
}

#[test]
fn keys_of_a_file_are_refused_if_they_are_nil_or_another_person_has_them() {
    const KEYS: [&str; 5] = [
        "7d3f1c7e-7a3e-4d59-9f57-3a4f0c1b2d3e",
        "7D3F1C7E-7A3E-4D59-9F57-3A4F0C1B2D3E",
        "00000000-0000-0000-0000-000000000000",
        "no-uuid",
        "",
    ];
    let text = customers(0..5);
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<String> = rows.lines().zip(KEYS).map(|(row, key)| format!("{row},{key}")).collect();
    let dir = TestDir::with("keys.csv", format!("{header},idempotencyKey\n{}\n", rows.join("\n")));
    let output = dir.program("import --queue local:q.db keys.csv --out rejects").expect_exit(3);
    output.assert_output(&["put on q.db: 2", "rejected, not put on it: 3"]);
    let rejected = dir.table("rejects/keys-rejected.csv");
    assert_eq!(rejected.column("email"), ["p1@example.com", "p2@example.com", "p3@example.com"]);
    assert_eq!(
        rejected.column("errorCode"),
        ["IDEMPOTENCY_KEY_IN_USE", "INVALID_IDEMPOTENCY_KEY", "INVALID_IDEMPOTENCY_KEY"]
    );
}
