//! Runs against a sandbox that injects faults: every row gets an outcome, each user is created once, and the results
//! name every created user.

use std::collections::BTreeSet;
use std::time::Duration;

use plu_onboard::sandbox::{FaultPlan, SandboxConfig, SandboxControl};

use crate::support::{CustomerFile, Partner, Results, TestDir, customers};

/// Combinations of faults and of properties of the partner, each of which is tested in one run.
const FAULTS: [&str; 9] = [
    "lost=10%,key-reuse=409",
    "error-after=10%,html-502=2%,created-at=missing",
    "cut=10%,truncated=5%,list-order=shuffled",
    "401=20..25,402=60..64,404=90..93",
    "429=30..40,429-bare=70..72,drop=5%",
    "lost=10%,list-grows=1,key-used-code=KEY_REUSED,dup-user-code=DUP_USER",
    "gateway-407=3%,gateway-411=2%,gateway-413=3%,gateway-415=2%,gateway-417=2%,gateway-426=2%,gateway-431=2%",
    "gateway-406=2%,gateway-409=4%,gateway-410=2%,gateway-422=4%,gateway-421=3%,gateway-425=3%,503-after=2%",
    "id-none=10%,id-long=3%,id-nul=3%,twice-differs=5%,deflate=10%,deflate-raw=10%,type-none=10%,type-text=5%",
];

const ROWS: u32 = 120;

fn dir() -> TestDir {
    TestDir::with("people.csv", CustomerFile::default().with(0..ROWS).with_invalid(ROWS).text)
}

fn run(dir: &TestDir, more: &str) -> Results {
    dir.program(&format!("run people.csv --out out --rate 0 --yes {more}"))
        // Keys expire after a second, and a pause ends after a second.
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("sandbox.key_ttl_s", "1")
        .set("worker.backoff_initial_ms", "20")
        .set("worker.backoff_max_s", "1")
        .set("worker.probe_initial_s", "1")
        .set("worker.probe_max_s", "1")
        .expect_exit(3);
    dir.results("out")
}

fn service_ids(results: &Results) -> usize {
    let created = results.table("created");
    let ids: BTreeSet<&str> = created.column("serviceId").into_iter().filter(|id| !id.is_empty()).collect();
    ids.len()
}

#[test]
fn every_row_has_an_outcome_with_each_fault_of_the_built_in_sandbox() {
    for faults in FAULTS {
        let dir = dir();
        let results = run(&dir, &format!("--sandbox --fault {faults}"));
        assert_eq!(results.tally(), [ROWS.into(), 0, 1, 0, 0], "{faults}");
        assert_eq!(service_ids(&results), ROWS as usize, "{faults}");
    }
}

#[test]
fn each_user_is_created_once_with_each_fault_of_the_partner() {
    for faults in FAULTS {
        let entries: Vec<&str> = faults.split(',').collect();
        let mut config = SandboxConfig { faults: FaultPlan::parse(&entries).unwrap(), ..SandboxConfig::default() };
        config.model.key_ttl = Duration::from_secs(1);
        let (partner, dir) = (Partner::start(config), dir());
        let results = run(&dir, &format!("--api-url {}", partner.url()));
        assert_eq!(results.tally(), [ROWS.into(), 0, 1, 0, 0], "{faults}");
        let stats = partner.stats();
        assert_eq!(stats.model.created, u64::from(ROWS), "{faults}: {stats:?}");
        assert!(stats.faults_injected > 0, "{faults}: {stats:?}");
    }
}

#[test]
fn a_wrong_partner_clock_is_logged_once_and_changes_no_outcome() {
    for (skew, is_logged) in [("clock-skew=-300s", true), ("clock-skew=300s", true), ("clock-skew=-60s", false)] {
        let dir = TestDir::with("people.csv", customers(0..ROWS));
        let run = format!("run people.csv --out out --rate 0 --yes --sandbox --fault lost=20%,{skew}");
        let finished = dir.program(&run).set("worker.backoff_initial_ms", "20").expect_exit(0);
        assert_eq!(finished.times("partner clock differs from this machine's"), usize::from(is_logged), "{skew}");
        assert_eq!(dir.results("out").tally(), [ROWS.into(), 0, 0, 0, 0], "{skew}");
    }
}

#[test]
fn a_gateway_that_replays_answers_gives_each_row_its_link() {
    let faults = FaultPlan::parse(&["lost=15%", "html-502=10%"]).unwrap();
    let mut config = SandboxConfig { faults, ..SandboxConfig::default() };
    config.model.key_ttl = Duration::ZERO;
    let (partner, dir) = (Partner::start(config), TestDir::with("people.csv", customers(0..ROWS)));
    dir.program(&format!("run people.csv --out out --rate 0 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "0")
        .set("worker.backoff_initial_ms", "20")
        .expect_exit(0);
    let created = dir.results("out").table("created");
    let links: BTreeSet<&str> = created.column("verificationUrl").into_iter().filter(|link| !link.is_empty()).collect();
    assert_eq!(links.len(), ROWS as usize);
    let stats = partner.stats();
    assert_eq!(stats.model.created, u64::from(ROWS), "{stats:?}");
    // No user is looked up: a page is read only after a gateway's page, to find out whether the API answers again.
    assert!(stats.model.requests.list <= u64::from(ROWS) / 3, "{stats:?}");
    assert!(stats.faults_injected > 0, "{stats:?}");
}

#[test]
fn a_refused_user_list_delays_only_the_jobs_that_need_a_look_up() {
    let faults = FaultPlan::parse(&["lost=1/10", "list-refused=403"]).unwrap();
    let partner = Partner::start(SandboxConfig { faults, ..SandboxConfig::default() });
    let dir = TestDir::with("people.csv", customers(0..ROWS));
    // Slow enough that users are still being created when the list is refused.
    let run = format!("run people.csv --out out --rate 30 --yes --api-url {}", partner.url());
    let mut run = dir
        .program(&run)
        .set("worker.backoff_initial_ms", "20")
        .set("worker.probe_initial_s", "1")
        .set("worker.probe_max_s", "1")
        // Only two attempts, so that a job fails if refusals of the list count as attempts.
        .set("worker.attempts_max", "2")
        .set("worker.window", "64")
        .start();
    run.wait_for_output("paused: the partner account is suspended or pending (403)");
    run.wait_for_output("user list refused, though users can be created");
    let all_are_created = || partner.stats().model.created == u64::from(ROWS);
    run.wait_until("all users are created", all_are_created);
    partner.control(&SandboxControl { faults: Some(FaultPlan::default()), ..SandboxControl::default() });
    run.wait_for_output("user list can be read again");
    run.expect_exit(0);
    assert_eq!(dir.results("out").tally(), [ROWS.into(), 0, 0, 0, 0]);
}
