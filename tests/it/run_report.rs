//! `report.html` is what people open and pass around: it must tell the truth, hold nothing about anybody, and be whole in
//! itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Browser, CustomerFile, Partner, Place, nth};

const NAME: &str = "july<b>&\"one\".csv";

/// Every cell that says something about one person, and what came back for them.
fn personal(place: &Place, file: &str) -> BTreeSet<String> {
    let cells = file.lines().skip(1).flat_map(|line| line.split(','));
    let common = ["personal use", "custodial"];
    let mut texts: BTreeSet<String> =
        cells.filter(|cell| cell.len() >= 8 && !common.contains(cell)).map(str::to_owned).collect();
    for event in place.results("out").events() {
        texts.extend(
            ["verificationUrl", "serviceId"].iter().filter_map(|name| event[*name].as_str().map(str::to_owned)),
        );
    }
    texts
}

#[test]
fn the_report_has_the_numbers_of_the_summary_and_nothing_about_anybody() {
    let partner = Partner::start(SandboxConfig { error_every: nth(7), ..SandboxConfig::default() });
    let file = CustomerFile::default().with(0..150).with_invalid(150).with_invalid(151).with(160..170).text;
    let place = Place::with(NAME, &file);
    let run = || {
        let run = place.program(&format!("run {NAME} --out out --rate 100 --api-url {}", partner.url()));
        run.set("worker.backoff_initial_ms", "10")
    };
    run().ends_with(3);
    let html = place.read("out/report.html");
    assert_eq!(fs::metadata(place.path("out/report.html")).unwrap().permissions().mode() & 0o777, 0o600);
    let told: Vec<String> = personal(&place, &file).into_iter().filter(|text| html.contains(text.as_str())).collect();
    assert!(told.is_empty(), "{told:?}");
    // Whole in itself, and a name that looks like markup is none.
    for outside in ["<script", "src=", "@import", "url(", "<link", "<b>&"] {
        assert!(!html.contains(outside), "{outside} in {html}");
    }

    let browser = Browser::start();
    browser.looks_as("light", 1200, 1400);
    browser.open(&format!("file://{}", place.path("out/report.html").display()));
    let text = browser.run("return document.body.innerText");
    let text = text.as_str().unwrap();
    for part in [
        NAME,
        "All 162 rows are done",
        "160 + 0 + 2 + 0 + 0 = 162 of 162: every row is accounted for",
        "INVALID_EMAIL",
        "people sent to the API",
        "in a copy of rejected.csv",
        "created.csv",
        "purge the personal data",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 390)] {
        browser.looks_as(scheme, width, 1500);
        browser.picture(&folder.join(format!("{scheme}-{width}.png")));
    }
    let too_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(too_wide, false, "the report scrolls sideways on a phone");

    // A finished run leaves it alone; a purge doesn't.
    run().ends_with(3).said(&["is finished already"]);
    assert_eq!(place.read("out/report.html"), html);
    place.program("purge --out out --yes").ends_with(0).said(&["deleted out/report.html"]);
    assert!(!place.path("out/report.html").exists());
}

#[test]
fn the_report_of_a_run_that_was_stopped_says_what_waits_and_how_to_go_on() {
    let partner = Partner::start(SandboxConfig::default());
    partner.set_account(AccountState::WalletEmpty);
    let place = Place::with("people.csv", CustomerFile::default().with(0..30).text);
    let mut run = place.program(&format!("run people.csv --out out --api-url {}", partner.url())).start();
    run.says("paused");
    run.signal("TERM");
    run.ends_with(1);
    let html = place.read("out/report.html");
    for part in ["30 of 30 rows are still waiting", "Start the same command again"] {
        assert!(html.contains(part), "no {part:?} in {html}");
    }
}
