//! A revoked key, an empty wallet, a wrong URL: trouble with the account is nobody's fault on the list. The run must
//! pause, say why, blame no row, and go on by itself when the trouble is over.

use std::net::TcpListener;

use plu_onboard::sandbox::{AccountState, Control, FaultPlan, SandboxConfig};

use crate::support::{Partner, Place, Program, customers};

const ROWS: u64 = 300;

fn run(place: &Place, url: &str) -> Program {
    place
        .program(&format!("run people.csv --out out --rate 300 --api-url {url}"))
        .set("worker.probe_initial_s", "1")
        .set("worker.probe_max_s", "1")
        .set("api.connect_timeout_s", "1")
}

fn partner() -> Partner {
    Partner::start(SandboxConfig { latency: std::time::Duration::from_millis(5), ..SandboxConfig::default() })
}

/// Nobody was blamed: everybody is created, at the first attempt, and the time of the trouble was spent on few probes.
fn assert_nobody_was_blamed(place: &Place, partner: &Partner) {
    let results = place.results("out");
    assert_eq!(results.tally(), [ROWS, 0, 0, 0, 0]);
    for event in results.events() {
        assert_eq!((&event["type"], &event["attempts"]), (&"user.created".into(), &1.into()), "{event}");
    }
    assert_eq!(partner.stats().model.users, ROWS);
}

#[test]
fn a_key_revoked_in_the_middle_pauses_the_run_which_goes_on_by_itself() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..300));
    let mut running = run(&place, &partner.url()).start();
    running.until("some users", || partner.stats().model.created >= 50);
    partner.set_account(AccountState::KeyRevoked);
    running
        .says("paused, every job is kept: the API key is refused (401): stop it and start it again with a valid key");
    let (created, refused) = (partner.stats().model.created, partner.stats().model.unauthorized);
    // Two probes later nothing has changed, and nothing else was sent.
    running.until("two probes", || partner.stats().model.unauthorized >= refused + 2);
    let stats = partner.stats().model;
    assert_eq!(stats.created, created);
    assert!(stats.unauthorized <= 64 + 2, "more than what was on its way and the probes: {stats:?}");
    partner.set_account(AccountState::Ok);
    running.ends_with(0).said(&["every row is accounted for"]);
    assert_nobody_was_blamed(&place, &partner);
}

#[test]
fn a_rehearsal_does_not_advise_to_mend_a_key_that_nobody_gave() {
    let place = Place::with("people.csv", customers(0..20));
    let running = place.program("run people.csv --sandbox --rate 0 --fault 401=1..3").without_key();
    running
        .set("worker.probe_initial_s", "1")
        .ends_with(0)
        .said(&["the API key is refused (401): nothing: the sandbox was told to", "the account answers again"]);
}

#[test]
fn an_empty_wallet_pauses_the_run_until_it_is_topped_up() {
    let partner = partner();
    partner.control(&Control { wallet: Some(Some(120)), ..Control::default() });
    let place = Place::with("people.csv", customers(0..300));
    let mut running = run(&place, &partner.url()).start();
    running.says("paused, every job is kept: the partner wallet is empty (402): top it up");
    assert_eq!(partner.stats().model.created, 120);
    partner.control(&Control { wallet: Some(None), ..Control::default() });
    running.ends_with(0);
    assert_nobody_was_blamed(&place, &partner);
}

#[test]
fn a_suspended_account_pauses_the_run_until_the_account_is_back() {
    let partner = partner();
    partner.set_account(AccountState::Suspended);
    let place = Place::with("people.csv", customers(0..300));
    let mut running = run(&place, &partner.url()).start();
    running.says("the partner account is suspended or pending (403): ask Plu");
    partner.set_account(AccountState::Ok);
    running.ends_with(0);
    assert_nobody_was_blamed(&place, &partner);
}

#[test]
fn a_proxys_page_pauses_the_run_whatever_its_status_and_hides_nobody() {
    for (fault, recovered) in [("html-200=1/1", false), ("html-502=1/1", true)] {
        let partner = partner();
        let faults = |entries: &[&str]| {
            let faults = Some(FaultPlan::parse(entries).unwrap());
            partner.control(&Control { faults, ..Control::default() });
        };
        faults(&[fault]);
        let place = Place::with("people.csv", customers(0..300));
        let mut running = run(&place, &partner.url()).set("worker.concurrency", "4").start();
        running.says("paused, every job is kept: something other than the API answers, such as a proxy");
        faults(&[]);
        running.ends_with(0).said(&["every row is accounted for"]);
        // The page came after the API had done its work: those jobs count as sent, and find their user.
        let found = place.results("out").events().iter().filter(|event| event["recovered"] == true).count();
        assert_eq!(found > 0, recovered, "{fault}: {found}");
        assert_nobody_was_blamed(&place, &partner);
    }
}

#[test]
fn a_wrong_url_pauses_the_run_and_blames_nobody() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..300));
    let mut running = run(&place, &partner.url().replace("/api", "/nothing-here")).start();
    running.says("nothing of the API answers at this base URL (404): check api.url");
    running.signal("INT");
    running.ends_with(1).said(&["300 of 300 rows still waiting"]);
    assert_eq!(place.results("out").tally(), [0, 0, 0, 0, ROWS]);
    assert!(place.results("out").events().is_empty());
}

#[test]
fn an_api_that_cannot_be_reached_pauses_the_run_until_it_is_there() {
    let place = Place::with("people.csv", customers(0..300));
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut running = run(&place, &format!("http://{address}/api")).start();
    running.says("the API can't be reached, the connection is refused: check api.url");
    let mut sandbox = place.program(&format!("sandbox --listen {address} --latency-ms 0")).start();
    sandbox.says(&format!("simulated Plu API on http://{address}/api"));
    running.ends_with(0);
    assert_eq!(place.results("out").tally(), [ROWS, 0, 0, 0, 0]);
    sandbox.signal("TERM");
    sandbox.ends_with(0);
}

#[test]
fn a_key_that_does_not_fit_or_is_missing_is_refused_before_anything_is_sent_or_written() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..3));
    place.write("empty.key", "\n");
    let url = partner.url();
    let missing = ["no API key", "PLU_API_KEY", "--api-key-file"];
    for (arguments, key, said) in [
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
        let program = place.program(arguments);
        let program = if key.is_empty() { program.without_key() } else { program.env("PLU_API_KEY", key) };
        let refused = program.ends_with(2);
        refused.said(said);
        refused.did_not_say(&["secret123", "panicked"]);
    }
    assert_eq!(partner.requests(), 0);
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "something was written: {left:?}");
}

#[test]
fn a_key_file_is_used_like_the_variable() {
    let partner = partner();
    let place = Place::with("people.csv", customers(0..3));
    place.write("plu.key", "sk_staging_sandbox\n");
    place
        .program(&format!("run people.csv --api-key-file plu.key --api-url {}", partner.url()))
        .without_key()
        .ends_with(0);
    assert_eq!(partner.stats().model.created, 3);
}
