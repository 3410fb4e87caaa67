//! A run halts when too many rows are rejected, fail or exist already, for example because the file was run before. It
//! reports the outcomes and how to resume, and sends no more rows.

use std::time::Duration;

use plu_onboard::sandbox::{FaultPlan, SandboxConfig};

use crate::support::{Partner, Program, TestDir, customers};

/// Starts a partner whose keys expire after a day: the second run gets "key already used", however slow the machine is.
fn partner() -> Partner {
    let mut config = SandboxConfig { latency: Duration::from_millis(2), ..SandboxConfig::default() };
    config.model.key_ttl = Duration::from_secs(86_400);
    Partner::start(config)
}

fn run(dir: &TestDir, partner: &Partner, out: &str, more: &str) -> Program {
    dir.program(&format!("run people.csv --out {out} --rate 0 --api-url {} {more}", partner.url()))
        .set("api.key_ttl_s", "86400")
}

#[test]
fn a_second_run_of_a_file_halts_and_resumes_with_yes() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..400)));
    run(&dir, &partner, "first", "").set("halt.window", "50").expect_exit(0);
    let halted = run(&dir, &partner, "second", "").set("halt.window", "50").expect_exit(1);
    halted.assert_output(&[
        "halted: too many rows were rejected, failed, existed before or have no link. The last rows sent are 50 existing",
        "sent minutes ago by another run and reported as created",
        "of 0.5 existing, of 0.5 created without a link; see [halt]",
    ]);
    halted.assert_output(&["--out second", "--yes"]);
    let [found, .., waiting] = dir.results("second").tally();
    assert_eq!(found + waiting, 400);
    assert!((50..=50 + 64).contains(&found), "{found} rows were sent before the halt");

    run(&dir, &partner, "second", "--yes").set("halt.window", "50").expect_exit(0);
    assert_eq!(dir.results("second").tally(), [400, 0, 0, 0, 0]);
    assert_eq!(partner.stats().model.created, 400);
}

#[test]
fn a_canary_that_passes_is_reported_and_the_remaining_rows_are_sent() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..100)));
    let finished = run(&dir, &partner, "out", "--canary 7").expect_exit(0);
    finished.assert_output(&["canary passed: 7 created; sending the remaining rows"]);
    assert_eq!(dir.results("out").tally(), [100, 0, 0, 0, 0]);
}

#[test]
fn a_canary_that_fails_sends_no_other_row() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..100)));
    run(&dir, &partner, "first", "").expect_exit(0);
    let halted = run(&dir, &partner, "second", "--canary 7").expect_exit(1);
    halted.assert_output(&[
        "The last rows sent are 7 existing",
        "93 of 100 rows are still waiting",
        "--canary 7 --yes",
    ]);
    assert_eq!(dir.results("second").tally(), [7, 0, 0, 0, 93]);
}

#[test]
fn a_run_that_halts_with_its_last_row_finishes_and_reports_it() {
    let (partner, dir) = (partner(), TestDir::with("people.csv", customers(0..40)));
    run(&dir, &partner, "first", "").expect_exit(0);
    let finished = run(&dir, &partner, "second", "").set("halt.window", "40").expect_exit(0);
    finished.assert_output(&["note: it halted with the last row, when no row was left to hold back: 40 existing"]);
    assert_eq!(dir.results("second").tally(), [40, 0, 0, 0, 0]);
}

/// Starts a partner with this fault in the answer to each creation.
fn partner_with(fault: &str) -> Partner {
    let faults = FaultPlan::parse(&[&format!("{fault}=1/1")]).unwrap();
    Partner::start(SandboxConfig { latency: Duration::from_millis(2), faults, ..SandboxConfig::default() })
}

#[test]
fn a_run_whose_created_users_get_no_link_stops_early_and_says_why() {
    for (fault, reason, member, why) in [
        ("link-none", "not_sent", "notSent", "the API created them and sent no link"),
        ("link-null", "not_sent", "notSent", "the API created them and sent no link"),
        ("link-script", "unusable", "unusable", "the API sent something else in its place"),
        ("link-long", "unusable", "unusable", "the API sent something else in its place"),
    ] {
        let (partner, dir) = (partner_with(fault), TestDir::with("people.csv", customers(0..300)));
        let halted = run(&dir, &partner, "out", "--canary 20").expect_exit(1);
        halted.assert_output(&[
            "20 created users have no link: ",
            why,
            "The last rows sent are 20 created (20 x without a link: ",
            "of 0.5 created without a link; see [halt]",
            "280 of 300 rows are still waiting",
        ]);
        let results = dir.results("out");
        assert_eq!(results.tally(), [20, 0, 0, 0, 280], "{fault}");
        let summary = results.summary();
        assert_eq!((&summary["withoutLink"], &summary["linksLost"][member]), (&20.into(), &20.into()), "{fault}");
        assert!(dir.read("out/report.html").contains(why), "{fault}");
        for event in results.events() {
            assert_eq!((&event["linkMissing"], &event["verificationUrl"]), (&reason.into(), &().into()), "{event}");
        }

        // Without a canary, it is noticed long before the window of 200 is full.
        let partner = partner_with(fault);
        run(&dir, &partner, "all", "").set("worker.concurrency", "8").expect_exit(1).assert_output(&[why]);
        let [created, .., waiting] = dir.results("all").tally();
        assert_eq!(created + waiting, 300);
        assert!((20..=20 + 2 * 8).contains(&created), "{fault}: {created}");
    }
}

#[test]
fn a_link_under_another_name_or_in_an_object_is_used() {
    for fault in ["link-renamed", "link-object", "flat", "nested", "twice", "id-number", "open-end", "gzip", "bom"] {
        let (partner, dir) = (partner_with(fault), TestDir::with("people.csv", customers(0..60)));
        run(&dir, &partner, "out", "--canary 20").expect_exit(0);
        let results = dir.results("out");
        assert_eq!((results.tally(), &results.summary()["withoutLink"]), ([60, 0, 0, 0, 0], &0.into()), "{fault}");
        assert!(results.table("created").column("verificationUrl").iter().all(|link| link.starts_with("https://")));
        assert_eq!(partner.stats().model.requests.list, 0, "{fault}: no look-up is needed");
    }
}
