//! `report.html` in a real browser: it has the numbers of the summary, no personal data, and loads nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use plu_onboard::sandbox::{AccountState, SandboxConfig};

use crate::support::{Browser, CustomerFile, Partner, TestDir, nth};

const NAME: &str = "july<b>&\"one\".csv";

/// Every personal value: cells of the input, service ids and links.
fn personal_values(dir: &TestDir, file: &str) -> BTreeSet<String> {
    let cells = file.lines().skip(1).flat_map(|line| line.split(','));
    let common = ["personal use", "custodial"];
    let mut texts: BTreeSet<String> =
        cells.filter(|cell| cell.len() >= 8 && !common.contains(cell)).map(str::to_owned).collect();
    for event in dir.results("out").events() {
        texts.extend(
            ["verificationUrl", "serviceId"].iter().filter_map(|name| event[*name].as_str().map(str::to_owned)),
        );
    }
    texts
}

#[test]
fn the_report_has_the_numbers_of_the_summary_and_no_personal_data() {
    let partner = Partner::start(SandboxConfig { error_every: nth(7), ..SandboxConfig::default() });
    let file = CustomerFile::default().with(0..150).with_invalid(150).with_invalid(151).with(160..170).text;
    let dir = TestDir::with(NAME, &file);
    let run = || {
        let run = dir.program(&format!("run {NAME} --out out --rate 100 --api-url {}", partner.url()));
        run.set("worker.backoff_initial_ms", "10")
    };
    run().expect_exit(3);
    let html = dir.read("out/report.html");
    assert_eq!(fs::metadata(dir.path("out/report.html")).unwrap().permissions().mode() & 0o777, 0o600);
    let leaked: Vec<String> =
        personal_values(&dir, &file).into_iter().filter(|text| html.contains(text.as_str())).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    // It loads nothing, and a file name that looks like markup is escaped.
    for outside in ["<script", "src=", "@import", "url(", "<link", "<b>&"] {
        assert!(!html.contains(outside), "{outside} in {html}");
    }

    let browser = Browser::start();
    browser.emulate("light", 1200, 1400);
    browser.open(&format!("file://{}", dir.path("out/report.html").display()));
    let text = browser.run("return document.body.innerText");
    let text = text.as_str().unwrap();
    for part in [
        NAME,
        "All 162 rows are done",
        "160 + 0 + 2 + 0 + 0 = 162 of 162: every row is accounted for",
        "INVALID_EMAIL",
        "users sent to the API",
        "in a copy of rejected.csv",
        "created.csv",
        "purge the personal data",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 390)] {
        browser.emulate(scheme, width, 1500);
        browser.take_screenshot(&folder.join(format!("{scheme}-{width}.png")));
    }
    let too_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth");
    assert_eq!(too_wide, false, "the report scrolls sideways on a phone");

    // Starting a finished run again leaves it as it is; a purge deletes it.
    run().expect_exit(3).assert_output(&["is finished already"]);
    assert_eq!(dir.read("out/report.html"), html);
    dir.program("purge --out out --yes").expect_exit(0).assert_output(&["deleted out/report.html"]);
    assert!(!dir.path("out/report.html").exists());
}

#[test]
fn the_report_of_a_stopped_run_says_what_waits_and_how_to_resume() {
    let partner = Partner::start(SandboxConfig::default());
    partner.set_account(AccountState::PaymentRequired);
    let dir = TestDir::with("people.csv", CustomerFile::default().with(0..30).text);
    let mut run = dir.program(&format!("run people.csv --out out --api-url {}", partner.url())).start();
    run.wait_for_output("paused");
    run.signal("TERM");
    run.expect_exit(1);
    let html = dir.read("out/report.html");
    for part in ["30 of 30 rows are still waiting", "Start the same command again"] {
        assert!(html.contains(part), "no {part:?} in {html}");
    }
}
