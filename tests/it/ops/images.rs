//! The screenshots that README.md shows, of a sandbox run of the sample file.
//!
//! `UPDATE_DOCS=1 cargo test --all-features --test it images` writes them; otherwise they are only taken.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::support::{Browser, TestDir, root};

/// Returns the folder for the screenshots.
fn images() -> PathBuf {
    let is_update = env::var_os("UPDATE_DOCS").is_some();
    let folder = if is_update { root().join("docs") } else { Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned() };
    let folder = folder.join("images");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_screenshots_of_the_readme_show_a_run_of_the_sample_file() {
    let dir = TestDir::with_sample("customers.csv");
    let mut run = dir.program("run customers.csv --sandbox --listen 0").start();
    let address = run.status_page_address();
    let browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    browser.wait_until("message", "Working");
    browser.wait_until("doing", "jobs a second");
    browser.wait_until("chart-title", "jobs finished");
    browser.take_whole_page(&images().join("status-page.png"));
    run.expect_exit(0);

    let report = dir.path("customers-results-sandbox/report.html");
    browser.open(&format!("file://{}", report.display()));
    browser.take_whole_page(&images().join("report.png"));
}
