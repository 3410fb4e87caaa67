//! `report.html`: what a run came to, on one page for people. Whole in itself: no script, nothing that is loaded.
//!
//! **Invariant:** numbers, codes and names of files and fields only, so that the page can be shown around; every text is
//! escaped by the template.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use indicatif::HumanDuration;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::app::console::error::AppError;
use crate::app::results::summary::{advice, balance, grouped};
use crate::app::results::tables::Summary;
use crate::domain::{EventType, Timestamp};

const STYLE: &str = include_str!("report.css");

/// Puts the page in the place of the earlier one, whole.
///
/// # Errors
/// Where it can't be written; the earlier one is still there.
pub(crate) fn write(folder: &Path, summary: &Summary, queue: &Path) -> Result<(), AppError> {
    let (path, part) = (folder.join("report.html"), folder.join(".report.html.part"));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(page(summary, queue).into_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &path)
    };
    write().map_err(|error| AppError::io(&path, &error))
}

fn page(summary: &Summary, queue: &Path) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (summary.file) " · plu-onboard" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(summary))
                main {
                    (outcomes(summary))
                    (how_to_go_on(summary, queue))
                    @if !summary.problems.is_empty() { (problems(summary)) }
                    @if let Some((first, last)) = summary.first_ended_at.zip(summary.last_ended_at) {
                        (time(first, last, summary.sent))
                    }
                    (files(summary))
                }
                footer {
                    p { "Numbers, codes and names of files only: nothing about a customer is on this page. The files beside it \
                         hold personal data; " code { "plu-onboard purge" } " deletes them and this page." }
                    p { "plu-onboard " (env!("CARGO_PKG_VERSION")) " · written " (minute(summary.written_at)) " · batch " (summary.batch_id) }
                }
            }
        }
    }
}

fn head(summary: &Summary) -> Markup {
    let is_balanced = summary.tally.total() == summary.rows;
    let verdict = if !is_balanced {
        "Rows are unaccounted for".to_owned()
    } else if summary.tally.waiting > 0 {
        format!("{} of {} rows are still waiting", grouped(summary.tally.waiting), grouped(summary.rows))
    } else {
        format!("All {} rows are done", grouped(summary.rows))
    };
    html! {
        header.alarm[!is_balanced || summary.tally.waiting > 0] {
            p.file { (summary.file) }
            h1 { (verdict) }
            p.file {
                @if summary.target == "sandbox" { "in the sandbox: a rehearsal, nobody was created for real" }
                @else { "at " (summary.target) }
            }
        }
    }
}

fn outcomes(summary: &Summary) -> Markup {
    let tally = &summary.tally;
    let is_balanced = tally.total() == summary.rows;
    let share = |count: u64| count as f64 * 100.0 / summary.rows.max(1) as f64;
    html! {
        section aria-labelledby="outcomes" {
            h2 #outcomes { "Outcomes" }
            dl.counts {
                @for event_type in EventType::ALL {
                    div { dt { i class=(event_type.short()) {} (event_type.short()) } dd { (grouped(tally.of(event_type))) } }
                }
                @if tally.waiting > 0 { div { dt { i {} "waiting" } dd { (grouped(tally.waiting)) } } }
            }
            div.bar aria-hidden="true" {
                @for event_type in EventType::ALL {
                    div class=(event_type.short()) style={ "width:" (format!("{:.3}", share(tally.of(event_type)))) "%" } {}
                }
            }
            p.balance.alarm[!is_balanced] { (balance(summary).trim()) }
        }
    }
}

fn how_to_go_on(summary: &Summary, queue: &Path) -> Markup {
    html! {
        section aria-labelledby="next" {
            h2 #next { "How to go on" }
            ul {
                @if !summary.is_complete {
                    li { "Start the same command again: it goes on where it was, and nobody is created twice." }
                }
                @if summary.tally.created > summary.without_link {
                    li { "Send the links of created.csv soon: a link lives 24 hours unless Plu agreed on something else with you." }
                }
                @for line in advice(summary, queue) { li { (line) } }
                @if summary.is_complete { li { "When the links are sent: purge the personal data." } }
            }
        }
    }
}

fn problems(summary: &Summary) -> Markup {
    html! {
        section aria-labelledby="problems" {
            h2 #problems { "Problems of rejected and failed rows" }
            table {
                thead { tr { th scope="col" { "field" } th scope="col" { "code" } th.number scope="col" { "times" } } }
                tbody {
                    @for (kind, count) in &summary.problems {
                        @let (field, code) = kind.rsplit_once(' ').unwrap_or(("", kind));
                        tr { td { (field) } td { code { (code) } } td.number { (grouped(*count)) } }
                    }
                }
            }
        }
    }
}

fn time(first: Timestamp, last: Timestamp, sent: u64) -> Markup {
    let took = last.since(first);
    // Of one outcome, or of less than a second, there is no rate to speak of.
    let rate = (took >= Duration::from_secs(1)).then(|| (sent.saturating_sub(1)) as f64 / took.as_secs_f64());
    html! {
        section aria-labelledby="time" {
            h2 #time { "Time" }
            table {
                tbody {
                    tr { th scope="row" { "first outcome" } td.number { (minute(first)) } }
                    tr { th scope="row" { "last outcome" } td.number { (minute(last)) } }
                    tr { th scope="row" { "between them, interruptions included" } td.number { (HumanDuration(took)) } }
                    tr { th scope="row" { "people sent to the API" } td.number { (grouped(sent)) } }
                    @if let Some(rate) = rate {
                        tr { th scope="row" { "people a second, on average" } td.number { (format!("{rate:.1}")) } }
                    }
                }
            }
        }
    }
}

fn files(summary: &Summary) -> Markup {
    let row = |name: &str, what: &str, rows: Option<u64>| {
        html! { tr { td { a href=(name) { (name) } } td { (what) } td.number { (rows.map_or_else(String::new, grouped)) } } }
    };
    html! {
        section aria-labelledby="files" {
            h2 #files { "Files" }
            table {
                thead { tr { th scope="col" { "file" } th scope="col" { "what is in it" } th.number scope="col" { "rows" } } }
                tbody {
                    @for event_type in EventType::ALL {
                        (row(&format!("{}.csv", event_type.short()), what(event_type), Some(summary.tally.of(event_type))))
                    }
                    (row("results.ndjson", "every event, in the order of finishing, for programs", None))
                    (row("summary.json", "the numbers of this page, for programs", None))
                }
            }
        }
    }
}

const fn what(event_type: EventType) -> &'static str {
    match event_type {
        EventType::Created => "users now, with the link to send them",
        EventType::Existing => "users before, or repeats of an earlier row",
        EventType::Rejected => "can't succeed as they are; each says what to change",
        EventType::Failed => "no definite answer after every attempt",
    }
}

/// `2026-01-31 12:00 UTC`.
fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", time.get(..5).unwrap_or(time))
}
