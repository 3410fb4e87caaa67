//! Account problems (a revoked key, an empty wallet, a wrong URL) never fail a row. The run pauses, reports the reason,
//! counts no attempt, and resumes by itself when the problem is solved.

use std::net::TcpListener;

use plu_onboard::sandbox::{AccountState, FaultPlan, SandboxConfig, SandboxControl};

use crate::support::{Partner, Program, TestDir, customers};

const ROWS: u64 = 300;

fn run(dir: &TestDir, url: &str) -> Program {
    dir.program(&format!("run people.csv --out out --rate 300 --api-url {url}"))
        .set("worker.probe_initial_s", "1")
        .set("worker.probe_max_s", "1")
        .set("api.connect_timeout_s", "1")
}

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: std::time::Duration::from_millis(5), ..SandboxConfig::default() })
}

/// Checks that each user was created at the first attempt, so that the pause cost no row an attempt.
fn assert_all_created_at_first_attempt(dir: &TestDir, partner: &Partner) {
    let results = dir.results("out");
    assert_eq!(results.tally(), [ROWS, 0, 0, 0, 0]);
    for event in results.events() {
        assert_eq!((&event["type"], &event["attempts"]), (&"user.created".into(), &1.into()), "{event}");
    }
    assert_eq!(partner.stats().model.users, ROWS);
}

#[test]
fn a_key_revoked_during_a_run_pauses_it_until_the_key_works() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..300));
    let mut running = run(&dir, &partner.url()).start();
    running.wait_until("some users", || partner.stats().model.created >= 50);
    partner.set_account(AccountState::KeyRevoked);
    running.wait_for_output("paused: the API key is refused (401): stop it and start it again with a valid key");
    let (created, refused) = (partner.stats().model.created, partner.stats().model.unauthorized);
    // After two more probes the run is still paused, and it sent nothing else.
    running.wait_until("two probes", || partner.stats().model.unauthorized >= refused + 2);
    let stats = partner.stats().model;
    assert_eq!(stats.created, created);
    assert!(stats.unauthorized <= 64 + 2, "more than the requests in flight and the probes: {stats:?}");
    partner.set_account(AccountState::Ok);
    running.expect_exit(0).assert_output(&["every row is accounted for"]);
    assert_all_created_at_first_attempt(&dir, &partner);
}

#[test]
fn a_sandbox_run_does_not_advise_to_replace_an_api_key() {
    let dir = TestDir::with("people.csv", customers(0..20));
    let running = dir.program("run people.csv --sandbox --rate 0 --fault 401=1..3").without_key();
    running.set("worker.probe_initial_s", "1").expect_exit(0).assert_output(&[
        "the API key is refused (401): nothing to do, the sandbox was set to refuse it",
        "the account works again",
    ]);
}

#[test]
fn an_empty_wallet_pauses_the_run_until_it_is_topped_up() {
    let partner = partner();
    partner.control(&SandboxControl { wallet: Some(Some(120)), ..SandboxControl::default() });
    let dir = TestDir::with("people.csv", customers(0..300));
    let mut running = run(&dir, &partner.url()).start();
    running.wait_for_output("paused: the partner wallet is empty (402): top it up");
    assert_eq!(partner.stats().model.created, 120);
    partner.control(&SandboxControl { wallet: Some(None), ..SandboxControl::default() });
    running.expect_exit(0);
    assert_all_created_at_first_attempt(&dir, &partner);
}

#[test]
fn a_suspended_account_pauses_the_run_until_it_is_active() {
    let partner = partner();
    partner.set_account(AccountState::Suspended);
    let dir = TestDir::with("people.csv", customers(0..300));
    let mut running = run(&dir, &partner.url()).start();
    running.wait_for_output("the partner account is suspended or pending (403): ask Plu");
    partner.set_account(AccountState::Ok);
    running.expect_exit(0);
    assert_all_created_at_first_attempt(&dir, &partner);
}

#[test]
fn a_page_of_a_proxy_pauses_the_run_whatever_its_status() {
    for (fault, recovered) in [("html-200=1/1", false), ("html-502=1/1", true)] {
        let partner = partner();
        let faults = |entries: &[&str]| {
            let faults = Some(FaultPlan::parse(entries).unwrap());
            partner.control(&SandboxControl { faults, ..SandboxControl::default() });
        };
        faults(&[fault]);
        let dir = TestDir::with("people.csv", customers(0..300));
        let mut running = run(&dir, &partner.url()).set("worker.concurrency", "4").start();
        running.wait_for_output("paused: something other than the API answers, perhaps a proxy");
        faults(&[]);
        running.expect_exit(0).assert_output(&["every row is accounted for"]);
        // With 502 the API had created the user before the page was sent: the user is found by a look-up.
        let found = dir.results("out").events().iter().filter(|event| event["recovered"] == true).count();
        assert_eq!(found > 0, recovered, "{fault}: {found}");
        assert_all_created_at_first_attempt(&dir, &partner);
    }
}

#[test]
fn a_wrong_url_pauses_the_run_and_fails_no_row() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..300));
    let mut running = run(&dir, &partner.url().replace("/api", "/nothing-here")).start();
    running.wait_for_output("the API isn't at this base URL (404): check api.url");
    running.signal("INT");
    running.expect_exit(1).assert_output(&["300 of 300 rows still waiting"]);
    assert_eq!(dir.results("out").tally(), [0, 0, 0, 0, ROWS]);
    assert!(dir.results("out").events().is_empty());
}

#[test]
fn an_unreachable_api_pauses_the_run_until_it_can_be_reached() {
    let dir = TestDir::with("people.csv", customers(0..300));
    // A free port: the listener is closed at once.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut running = run(&dir, &format!("http://{address}/api")).start();
    running.wait_for_output("the API can't be reached, the connection is refused: check api.url");
    let mut sandbox = dir.program(&format!("sandbox --listen {address} --latency-ms 0")).start();
    sandbox.wait_for_output(&format!("simulated Plu API on http://{address}/api"));
    running.expect_exit(0);
    assert_eq!(dir.results("out").tally(), [ROWS, 0, 0, 0, 0]);
    sandbox.signal("TERM");
    sandbox.expect_exit(0);
}

#[test]
fn a_missing_or_wrong_key_is_refused_before_anything_is_sent_or_written() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..3));
    dir.write("empty.key", "\n");
    let url = partner.url();
    let missing = ["no API key", "PLU_API_KEY", "--api-key-file"];
    for (arguments, key, texts) in [
        ("run people.csv", "sk_live_secret123", &["live key", "api.url is staging", "use a key for staging"][..]),
        ("worker", "sk_live_secret123", &["live key", "api.url is staging"]),
        (
            "run people.csv --api-url https://services.getplu.com/api",
            "sk_staging_secret123",
            &["staging key", "api.url is production", "use a key for production"],
        ),
        (&format!("run people.csv --api-url {url}"), "", &missing),
        (&format!("worker --api-url {url}"), "", &missing),
        (&format!("run people.csv --api-url {url} --api-key-file none.key"), "", &["none.key", "can't be read"]),
        (&format!("run people.csv --api-url {url} --api-key-file empty.key"), "", &["empty.key", "no API key in it"]),
        ("run people.csv --api-url http://192.0.2.1/api", "sk_staging_secret123", &["unencrypted", "use https://"]),
        (&format!("run people.csv --api-url {url} --api-key sk_live_secret123"), "", &["PLU_API_KEY"]),
    ] {
        let program = dir.program(arguments);
        let program = if key.is_empty() { program.without_key() } else { program.env("PLU_API_KEY", key) };
        let refused = program.expect_exit(2);
        refused.assert_output(texts);
        refused.assert_no_output(&["secret123", "panicked"]);
    }
    assert_eq!(partner.requests(), 0);
    let left: Vec<_> = std::fs::read_dir(dir.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "something was written: {left:?}");
}

#[test]
fn a_key_file_works_like_the_environment_variable() {
    let partner = partner();
    let dir = TestDir::with("people.csv", customers(0..3));
    dir.write("plu.key", "sk_staging_sandbox\n");
    dir.program(&format!("run people.csv --api-key-file plu.key --api-url {}", partner.url()))
        .without_key()
        .expect_exit(0);
    assert_eq!(partner.stats().model.created, 3);
}
