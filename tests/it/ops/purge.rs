//! `purge` removes every byte of personal data that this program wrote, and nothing that is still needed. It keeps the
//! records that prevent a second creation of the same users.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use plu_onboard::sandbox::SandboxConfig;

use crate::support::{CustomerFile, Partner, TestDir, customers, nth};

/// Returns the cells of a file that identify a person: those with at least eight bytes, without common words.
fn personal_values(csv: &str) -> BTreeSet<String> {
    let cells = csv.lines().skip(1).flat_map(|line| line.split(','));
    cells.filter(|cell| cell.len() >= 8 && *cell != "personal use" && *cell != "custodial").map(str::to_owned).collect()
}

fn bytes_of_every_file(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(bytes_of_every_file(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files
}

/// Returns which of these texts are in a file of the folder, each with the file's name.
fn found(texts: &BTreeSet<String>, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bytes) in bytes_of_every_file(folder) {
        // Invalid UTF-8 is replaced. That doesn't change the texts to be found.
        let content = String::from_utf8_lossy(&bytes).to_lowercase();
        found.extend(
            texts.iter().filter(|text| content.contains(&text.to_lowercase())).map(|text| format!("{text} in {name}")),
        );
    }
    found
}

/// Returns the service ids and verification URLs of all events.
fn ids_and_links(dir: &TestDir) -> BTreeSet<String> {
    let events = dir.results("out").events();
    let texts = events.iter().flat_map(|event| ["verificationUrl", "serviceId"].map(|name| event[name].as_str()));
    texts.flatten().map(str::to_owned).collect()
}

#[test]
fn a_purge_leaves_no_personal_data_and_the_same_file_creates_no_user() {
    let partner = Partner::start(SandboxConfig { error_every: nth(9), ..SandboxConfig::default() });
    let file = CustomerFile::default().with(0..400).with_invalid(400).with(401..420).text;
    let dir = TestDir::with("people.csv", &file);
    let program = || {
        let run = dir.program(&format!("run people.csv --out out --rate 0 --api-url {}", partner.url()));
        run.set("worker.backoff_initial_ms", "10")
    };
    program().expect_exit(3);
    let mut secrets = personal_values(&file);
    secrets.extend(ids_and_links(&dir));
    secrets.insert("p400 at example.com".to_owned());
    assert!(secrets.len() > 2_000, "{}", secrets.len());
    let before = found(&secrets, &dir.path("out"));
    assert!(before.len() > 4_000, "there is too little to purge: {}", before.len());
    let created = partner.stats().model.requests.create;

    let output = dir.program("purge --out out --yes").expect_exit(0);
    output.assert_output(&[
        "deleted out/created.csv",
        "deleted out/rejected.csv",
        "deleted out/results.ndjson",
        "emptied out/queue.db",
    ]);
    output.assert_output(&["420 finished jobs", "kept out/summary.json", "Delete yourself: the input (people.csv)"]);
    assert_eq!(found(&secrets, &dir.path("out")), [""; 0]);
    assert_eq!(dir.results("out").tally(), [419, 0, 1, 0, 0]);

    program().expect_exit(0).assert_output(&["is finished, and its results were purged at", "nothing to do"]);
    assert!(!dir.path("out/created.csv").exists());
    assert_eq!(found(&secrets, &dir.path("out")), [""; 0]);
    assert_eq!(partner.stats().model.requests.create, created, "a row was sent again");
    dir.program("purge --out out --yes").expect_exit(0).assert_output(&["held no personal data before"]);
}

#[test]
fn a_purged_queue_of_a_worker_still_recognises_finished_rows() {
    let partner = Partner::start(SandboxConfig::default());
    let file = customers(0..60);
    let dir = TestDir::with("people.csv", &file);
    let import = |name: &str| dir.program(&format!("import {name} --queue local:q.db --out q-results")).expect_exit(0);
    let work_until = |events: usize| {
        let arguments = format!("worker --queue local:q.db --rate 0 --api-url {}", partner.url());
        let mut worker = dir.program(&arguments).start();
        worker.wait_until("all events", || dir.results("q-results").event_lines() == events);
        worker.signal("TERM");
        worker.expect_exit(0);
    };
    import("people.csv");
    work_until(60);
    dir.write("q-results/results.ndjson.1", "p1@example.com, rotated away");
    dir.write("q-results/notes.txt", "mine");
    // Without `--yes` no file changes.
    dir.write("q-results/kyc.ndjson.1.gz", b"\x1f\x8bpacked\n away");
    dir.program("purge --queue local:q.db").expect_exit(0).assert_output(&["would delete q-results/kyc.ndjson.1.gz"]);
    assert_eq!(fs::read(dir.path("q-results/kyc.ndjson.1.gz")).unwrap(), b"\x1f\x8bpacked\n away");
    let receiver = dir.program("webhooks --queue local:q.db --receive 0").env("PLU_WEBHOOK_SECRET", "whsec_1");
    let mut receiver = receiver.start();
    receiver.wait_for_address("webhooks are received");
    let held = dir.program("purge --queue local:q.db --yes").expect_exit(1);
    held.assert_output(&["q-results/kyc.ndjson is being written by another `webhooks`"]);
    assert!(dir.path("q-results/results.ndjson").exists());
    receiver.signal("TERM");
    receiver.expect_exit(0);
    fs::rename(dir.path("people.csv"), dir.path("moved.csv")).unwrap();
    let output = dir.program("purge --queue local:q.db --yes").expect_exit(0);
    output.assert_output(&[
        "deleted q-results/kyc.ndjson",
        "deleted q-results/results.ndjson.1",
        "not touched: q-results/notes.txt",
        "the -rejected.csv file of each import",
    ]);
    let secrets = personal_values(&file);
    fs::remove_file(dir.path("moved.csv")).unwrap();
    assert_eq!(found(&secrets, dir.path("q.db").parent().unwrap()), [""; 0]);

    dir.write("people.csv", &file);
    import("people.csv").assert_output(&["put on q.db: 0", "already on it or finished: 60"]);
    dir.write("more.csv", customers(50..70));
    import("more.csv").assert_output(&["put on q.db: 10", "already on it or finished: 10"]);
    work_until(10);
    let stats = partner.stats().model;
    assert_eq!((stats.users, stats.requests.create), (70, 70), "{stats:?}");
}

#[test]
fn nothing_is_purged_while_jobs_wait_or_a_worker_runs() {
    let partner = Partner::start(SandboxConfig::default());
    let dir = TestDir::with("people.csv", customers(0..5));
    dir.program("import people.csv --queue local:q.db").expect_exit(0);
    let purge = |flags: &str| dir.program(&format!("purge --queue local:q.db {flags}"));
    let before = fs::read(dir.path("q.db")).unwrap();
    purge("--yes --force").expect_exit(1).assert_output(&["5 jobs are still waiting", "Nothing was deleted"]);
    assert_eq!(fs::read(dir.path("q.db")).unwrap(), before);
    let mut worker = dir.program(&format!("worker --queue local:q.db --rate 0 --api-url {}", partner.url())).start();
    worker.wait_until("all events", || dir.results("q-results").event_lines() == 5);
    purge("--yes --force").expect_exit(1).assert_output(&["is in use by", &format!("process {}", worker.pid())]);
    worker.signal("TERM");
    worker.expect_exit(0);
    assert_eq!(dir.results("q-results").events().len(), 5);
}

/// Starts a partner that answers every creation with 500, and lists no users. Returns its base URL.
fn failing_partner() -> String {
    const LIST: &str =
        r#"{"status":"success","message":"success","data":{"users":[],"pagination":{"skip":0,"limit":50,"total":0}}}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
            reader.read_line(&mut request).unwrap();
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let (status, body) = if request.starts_with("GET") { ("200 OK", LIST) } else { ("500 Oops", "") };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = reader.into_inner().write_all((head + body).as_bytes());
        }
    });
    url
}

#[test]
fn the_copy_of_the_input_beside_the_queue_is_purged() {
    let dir = TestDir::with("people.csv", customers(0..3));
    std::fs::create_dir(dir.path("queues")).unwrap();
    dir.program("run people.csv --sandbox --rate 0 --out out --queue local:queues/q.db").expect_exit(0);
    assert!(dir.path("queues/q.db.input").exists());
    let purged = dir.program("purge --queue local:queues/q.db --out out --yes").expect_exit(0);
    purged.assert_output(&["deleted queues/q.db.input", "deleted out/created.csv"]);
    assert!(!dir.path("queues/q.db.input").exists());
}

#[test]
fn dead_letters_are_purged_only_with_force() {
    let file = customers(0..4);
    let dir = TestDir::with("people.csv", &file);
    let run = dir.program(&format!("run people.csv --out out --rate 0 --api-url {}", failing_partner()));
    let run = run.set("worker.attempts_max", "1").set("worker.backoff_initial_ms", "1");
    // The last look-up is made when the last request can't be in flight any more.
    run.set("api.key_ttl_s", "1").set("api.clock_skew_s", "0").expect_exit(3);
    assert_eq!(dir.results("out").tally(), [0, 0, 0, 4, 0]);
    dir.program("purge --out out --yes").expect_exit(1).assert_output(&["4 failed jobs are kept", "--force"]);
    assert_eq!(dir.table("out/failed.csv").rows.len(), 4);
    dir.program("purge --out out --yes --force").expect_exit(0).assert_output(&["deleted out/failed.csv"]);
    assert_eq!(found(&personal_values(&file), &dir.path("out")), [""; 0]);
}

#[test]
fn without_yes_a_purge_lists_what_it_would_delete() {
    let dir = TestDir::with("people.csv", customers(0..3));
    dir.program("run people.csv --sandbox --out out --rate 0").expect_exit(0);
    let before = bytes_of_every_file(&dir.path("out")).into_iter().filter(|(name, _)| !name.ends_with(".lock"));
    let before: Vec<_> = before.collect();
    let output = dir.program("purge --out out").expect_exit(0);
    output.assert_output(&[
        "would delete out/created.csv",
        "would empty out/queue.db",
        "Nothing was deleted: add --yes",
    ]);
    let after = bytes_of_every_file(&dir.path("out")).into_iter().filter(|(name, _)| !name.ends_with(".lock"));
    assert!(after.eq(before), "a file was changed");
}

#[test]
fn a_purge_without_a_queue_or_folder_is_refused_with_a_remedy() {
    let dir = TestDir::new();
    dir.program("purge --yes").expect_exit(2).assert_output(&["nothing to purge is given: give --out DIR"]);
    dir.program("purge --out none --yes").expect_exit(2).assert_output(&["there is no queue at none/queue.db"]);
    assert!(!dir.path("none").exists());
    let output = dir.program("purge --queue amqp://u:secret@h/v --yes").expect_exit(2);
    output.assert_output(&["OPERATIONS.md"]);
    output.assert_no_output(&["secret"]);
}
