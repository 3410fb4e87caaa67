//! A file that was run before, or an account that refuses everybody: the run must notice after a few rows, say what it
//! sees and how to go on, and burn no more of them.

use std::time::Duration;

use plu_onboard::sandbox::SandboxConfig;

use crate::support::{Partner, Place, customers};

/// Keys live for a day, so that the second run is told "key already used" however slow the machine is.
fn partner() -> Partner {
    let mut config = SandboxConfig { latency: Duration::from_millis(2), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(86_400);
    Partner::start(config)
}

fn run(place: &Place, partner: &Partner, out: &str, more: &str) -> crate::support::Program {
    place
        .program(&format!("run people.csv --out {out} --rate 0 --api-url {} {more}", partner.url()))
        .set("api.key_ttl_s", "86400")
}

#[test]
fn a_file_that_was_run_before_halts_a_second_run_which_goes_on_with_yes() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..400)));
    run(&place, &partner, "first", "").set("halt.window", "50").ends_with(0);
    let halted = run(&place, &partner, "second", "").set("halt.window", "50").ends_with(1);
    halted.said(&[
        "halted, because this is not what was planned: the last rows that were sent are 50 existing",
        "sent minutes ago by another run, and told as created",
        "of 0.5 existing; see [halt]",
    ]);
    halted.said(&["--out second", "--yes"]);
    let [found, .., waiting] = place.results("second").tally();
    assert_eq!(found + waiting, 400);
    assert!((50..=50 + 64).contains(&found), "{found} rows were burnt");

    run(&place, &partner, "second", "--yes").set("halt.window", "50").ends_with(0);
    assert_eq!(place.results("second").tally(), [400, 0, 0, 0, 0]);
    assert_eq!(partner.stats().model.created, 400);
}

#[test]
fn a_canary_that_goes_well_is_told_and_the_rest_follows() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..100)));
    let finished = run(&place, &partner, "out", "--canary 7").ends_with(0);
    finished.said(&["canary: 7 created: going on with the rest"]);
    assert_eq!(place.results("out").tally(), [100, 0, 0, 0, 0]);
}

#[test]
fn a_canary_that_does_not_go_well_burns_no_other_row() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..100)));
    run(&place, &partner, "first", "").ends_with(0);
    let halted = run(&place, &partner, "second", "--canary 7").ends_with(1);
    halted.said(&[
        "the last rows that were sent are 7 existing",
        "93 of 100 rows are still waiting",
        "--canary 7 --yes",
    ]);
    assert_eq!(place.results("second").tally(), [7, 0, 0, 0, 93]);
}

#[test]
fn a_run_that_halts_with_its_last_row_has_nothing_to_hold_back_and_says_so() {
    let (partner, place) = (partner(), Place::with("people.csv", customers(0..40)));
    run(&place, &partner, "first", "").ends_with(0);
    let finished = run(&place, &partner, "second", "").set("halt.window", "40").ends_with(0);
    finished.said(&["note: it halted with the last row, and nothing was left to hold back: 40 existing"]);
    assert_eq!(place.results("second").tally(), [40, 0, 0, 0, 0]);
}
