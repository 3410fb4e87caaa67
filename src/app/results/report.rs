//! `report.html`: the result of a run on one page. It has no script and loads nothing.
//!
//! **Invariant:** it holds numbers, codes and names of files and fields only, so that it can be passed on; the template
//! escapes every text.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use indicatif::HumanDuration;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::app::console::grouped;
use crate::app::error::AppError;
use crate::app::results::summary::{advice, balance};
use crate::app::results::{RunSummary, folders, table_name};
use crate::domain::{EventType, Timestamp};

const STYLE: &str = include_str!("report.css");

/// Replaces `report.html`.
///
/// # Errors
/// Where the file can't be written; the earlier one is left as it was.
pub(super) fn write(folder: &Path, summary: &RunSummary, queue: &Path) -> Result<(), AppError> {
    let html = page(summary, queue).into_string();
    folders::replace_private_file(folder, "report.html", |file| file.write_all(html.as_bytes()))
}

fn page(summary: &RunSummary, queue: &Path) -> Markup {
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
                    (next_steps(summary, queue))
                    @if !summary.problems.is_empty() { (problem_table(summary)) }
                    @if let Some((first, last)) = summary.first_ended_at.zip(summary.last_ended_at) {
                        (time(first, last, summary.sent))
                    }
                    (files(summary))
                }
                footer {
                    p { "This page holds numbers, codes and file names only, no personal data. The files beside it \
                         hold personal data; " code { "plu-onboard purge" } " deletes them and this page." }
                    p {
                        "plu-onboard " (env!("CARGO_PKG_VERSION"))
                        " · written " (to_minute(summary.written_at))
                        " · batch " (summary.batch_id)
                    }
                }
            }
        }
    }
}

fn head(summary: &RunSummary) -> Markup {
    let is_balanced = summary.is_balanced();
    let headline = if !is_balanced {
        "Rows are unaccounted for".to_owned()
    } else if summary.tally.waiting > 0 {
        format!("{} of {} rows are still waiting", grouped(summary.tally.waiting), grouped(summary.rows))
    } else {
        format!("All {} rows are done", grouped(summary.rows))
    };
    html! {
        header.alarm[!is_balanced || summary.tally.waiting > 0] {
            p.file { (summary.file) }
            h1 { (headline) }
            p.file {
                @if summary.target == "sandbox" { "in the sandbox, a simulated API: no real user was created" }
                @else { "at " (summary.target) }
            }
        }
    }
}

fn outcomes(summary: &RunSummary) -> Markup {
    let tally = &summary.tally;
    let is_balanced = summary.is_balanced();
    let share = |count: u64| count as f64 * 100.0 / summary.rows.max(1) as f64;
    html! {
        section aria-labelledby="outcomes" {
            h2 #outcomes { "Outcomes" }
            dl.counts {
                @for event_type in EventType::ALL {
                    div {
                        dt { i class=(event_type.short()) {} (event_type.short()) }
                        dd { (grouped(tally.of(event_type))) }
                    }
                }
                @if tally.waiting > 0 { div { dt { i {} "waiting" } dd { (grouped(tally.waiting)) } } }
            }
            div.bar aria-hidden="true" {
                @for event_type in EventType::ALL {
                    @let width = format!("{:.3}", share(tally.of(event_type)));
                    div class=(event_type.short()) style={ "width:" (width) "%" } {}
                }
            }
            p.balance.alarm[!is_balanced] { (balance(summary)) }
        }
    }
}

fn next_steps(summary: &RunSummary, queue: &Path) -> Markup {
    html! {
        section aria-labelledby="next" {
            h2 #next { "What to do next" }
            ul {
                @if !summary.is_complete {
                    li { "Start the same command again: it resumes where it stopped, and no user is created twice." }
                }
                @if summary.tally.created > summary.without_link {
                    li { "Send the links in created.csv soon: a link expires after 24 hours unless you agreed \
                          otherwise with Plu." }
                }
                @for line in advice(summary, queue) { li { (line) } }
                @if summary.is_complete { li { "When the links are sent: purge the personal data." } }
            }
        }
    }
}

fn problem_table(summary: &RunSummary) -> Markup {
    html! {
        section aria-labelledby="problems" {
            h2 #problems { "Problems of rejected and failed rows" }
            table {
                thead { tr { th scope="col" { "field" } th scope="col" { "code" } th.number scope="col" { "times" } } }
                tbody {
                    @for (kind, count) in summary.problems.iter() {
                        @let (field, code) = kind.rsplit_once(' ').unwrap_or(("", kind));
                        tr { td { (field) } td { code { (code) } } td.number { (grouped(count)) } }
                    }
                }
            }
        }
    }
}

fn time(first: Timestamp, last: Timestamp, sent: u64) -> Markup {
    let took = last.since(first);
    // Under a second, the rate would say nothing.
    let rate = (took >= Duration::from_secs(1)).then(|| (sent.saturating_sub(1)) as f64 / took.as_secs_f64());
    html! {
        section aria-labelledby="time" {
            h2 #time { "Time" }
            table {
                tbody {
                    tr { th scope="row" { "first outcome" } td.number { (to_minute(first)) } }
                    tr { th scope="row" { "last outcome" } td.number { (to_minute(last)) } }
                    tr { th scope="row" { "between them, interruptions included" } td.number { (HumanDuration(took)) } }
                    tr { th scope="row" { "users sent to the API" } td.number { (grouped(sent)) } }
                    @if let Some(rate) = rate {
                        tr { th scope="row" { "users a second, on average" } td.number { (format!("{rate:.1}")) } }
                    }
                }
            }
        }
    }
}

fn files(summary: &RunSummary) -> Markup {
    let row = |name: &str, what: &str, rows: Option<u64>| {
        html! {
            tr { td { a href=(name) { (name) } } td { (what) } td.number { (rows.map_or_else(String::new, grouped)) } }
        }
    };
    html! {
        section aria-labelledby="files" {
            h2 #files { "Files" }
            table {
                thead { tr { th scope="col" { "file" } th scope="col" { "content" } th.number scope="col" { "rows" } } }
                tbody {
                    @for event_type in EventType::ALL {
                        (row(&table_name(event_type), content(event_type), Some(summary.tally.of(event_type))))
                    }
                    (row("results.ndjson", "every event in the order of the outcomes, for programs", None))
                    (row("summary.json", "the numbers of this page, for programs", None))
                }
            }
        }
    }
}

const fn content(event_type: EventType) -> &'static str {
    match event_type {
        EventType::Created => "new users, with the link to send to each",
        EventType::Existing => "users that existed before, and repeats of an earlier row",
        EventType::Rejected => "rows that can't succeed as they are; each says what to change",
        EventType::Failed => "rows without a definite answer after every attempt",
    }
}

/// `2026-01-31 12:00 UTC`.
fn to_minute(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", time.get(..5).unwrap_or(time))
}
