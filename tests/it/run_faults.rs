//! The whole program against a sandbox that is told to misbehave: whatever goes wrong, every row ends, everybody is
//! created once, and who was created is in the results.

use std::collections::BTreeSet;
use std::time::Duration;

use plu_onboard::sandbox::{Control, FaultPlan, SandboxConfig};

use crate::support::{CustomerFile, Partner, Place, Results, customers};

/// Kinds that come about together in life, with how the partner is.
const FAULTS: [&str; 6] = [
    "lost=10%,key-reuse=409",
    "error-after=10%,html-502=2%,created-at=missing",
    "cut=10%,truncated=5%,list-order=shuffled",
    "401=20..25,402=60..64,404=90..93",
    "429=30..40,429-bare=70..72,drop=5%",
    "lost=10%,list-grows=1,key-used-code=KEY_REUSED,dup-user-code=DUP_USER",
];

const ROWS: u32 = 120;

fn place() -> Place {
    Place::with("people.csv", CustomerFile::default().with(0..ROWS).with_invalid(ROWS).text)
}

fn run(place: &Place, more: &str) -> Results {
    place
        .program(&format!("run people.csv --out out --rate 0 --yes {more}"))
        // A lost answer's key is soon forgotten, and a pause soon over.
        .set("api.key_ttl_s", "1")
        .set("api.clock_skew_s", "1")
        .set("sandbox.key_ttl_s", "1")
        .set("worker.backoff_initial_ms", "20")
        .set("worker.backoff_max_s", "1")
        .set("worker.probe_initial_s", "1")
        .set("worker.probe_max_s", "1")
        .ends_with(3);
    place.results("out")
}

fn service_ids(results: &Results) -> usize {
    let created = results.table("created");
    let ids: BTreeSet<&str> = created.column("serviceId").into_iter().filter(|id| !id.is_empty()).collect();
    ids.len()
}

#[test]
fn the_builtin_sandbox_misbehaves_as_told_and_every_row_ends_well() {
    for faults in FAULTS {
        let place = place();
        let results = run(&place, &format!("--sandbox --fault {faults}"));
        assert_eq!(results.tally(), [ROWS.into(), 0, 1, 0, 0], "{faults}");
        assert_eq!(service_ids(&results), ROWS as usize, "{faults}");
    }
}

#[test]
fn a_partner_that_misbehaves_has_each_user_once() {
    for faults in FAULTS {
        let entries: Vec<&str> = faults.split(',').collect();
        let mut config = SandboxConfig { faults: FaultPlan::parse(&entries).unwrap(), ..SandboxConfig::default() };
        config.model.key_ttl = Duration::from_secs(1);
        let (partner, place) = (Partner::start(config), place());
        let results = run(&place, &format!("--api-url {}", partner.url()));
        assert_eq!(results.tally(), [ROWS.into(), 0, 1, 0, 0], "{faults}");
        let stats = partner.stats();
        assert_eq!(stats.model.created, u64::from(ROWS), "{faults}: {stats:?}");
        assert!(stats.faults_injected > 0, "{faults}: {stats:?}");
    }
}

#[test]
fn a_partner_whose_clock_is_wrong_is_told_of_once_and_takes_nobody_away() {
    for (skew, is_told) in [("clock-skew=-300s", true), ("clock-skew=300s", true), ("clock-skew=-60s", false)] {
        let place = Place::with("people.csv", customers(0..ROWS));
        let run = format!("run people.csv --out out --rate 0 --yes --sandbox --fault lost=20%,{skew}");
        let finished = place.program(&run).set("worker.backoff_initial_ms", "20").ends_with(0);
        assert_eq!(
            finished.times("the partner's clock is further from this machine's"),
            usize::from(is_told),
            "{skew}"
        );
        assert_eq!(place.results("out").tally(), [ROWS.into(), 0, 0, 0, 0], "{skew}");
    }
}

#[test]
fn a_gateway_that_replays_gives_everybody_their_link() {
    let faults = FaultPlan::parse(&["lost=15%", "html-502=10%"]).unwrap();
    let mut config = SandboxConfig { faults, ..SandboxConfig::default() };
    config.model.key_ttl = Duration::ZERO;
    let (partner, place) = (Partner::start(config), Place::with("people.csv", customers(0..ROWS)));
    place
        .program(&format!("run people.csv --out out --rate 0 --api-url {}", partner.url()))
        .set("api.key_ttl_s", "0")
        .set("worker.backoff_initial_ms", "20")
        .ends_with(0);
    let created = place.results("out").table("created");
    let links: BTreeSet<&str> = created.column("verificationUrl").into_iter().filter(|link| !link.is_empty()).collect();
    assert_eq!(links.len(), ROWS as usize);
    let stats = partner.stats();
    assert_eq!((stats.model.created, stats.model.requests.list), (u64::from(ROWS), 0), "{stats:?}");
    assert!(stats.faults_injected > 0, "{stats:?}");
}

#[test]
fn a_key_that_may_create_and_not_list_holds_up_only_those_who_must_be_looked_up_and_is_nobodys_fault() {
    let faults = FaultPlan::parse(&["lost=1/10", "list-refused=403"]).unwrap();
    let partner = Partner::start(SandboxConfig { faults, ..SandboxConfig::default() });
    let place = Place::with("people.csv", customers(0..ROWS));
    // Slow enough that there is somebody to create for as long as it takes to find out.
    let run = format!("run people.csv --out out --rate 30 --yes --api-url {}", partner.url());
    let mut run = place
        .program(&run)
        .set("worker.backoff_initial_ms", "20")
        .set("worker.probe_initial_s", "1")
        .set("worker.probe_max_s", "1")
        // All but one of their attempts are used up at once, should each refusal be one.
        .set("worker.attempts_max", "2")
        .set("worker.window", "64")
        .start();
    run.says("paused, every job is kept: the partner account is suspended or pending (403)");
    run.says("the user list is refused while creations are not");
    let everybody_is_created = || partner.stats().model.created == u64::from(ROWS);
    run.until("everybody is created", everybody_is_created);
    partner.control(&Control { faults: Some(FaultPlan::default()), ..Control::default() });
    run.says("the user list is read again");
    run.ends_with(0);
    assert_eq!(place.results("out").tally(), [ROWS.into(), 0, 0, 0, 0]);
}
