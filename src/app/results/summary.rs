//! `summary.json`, and the text that a run prints at its end.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::app::console::grouped;
use crate::app::console::next_command::retry_command;
use crate::app::error::AppError;
use crate::app::results::{RunSummary, folders, table_name};
use crate::domain::{EventType, LinkLoss};

const FILE_NAME: &str = "summary.json";

/// Reads the summary of this run if it is finished. `None`: there is none yet, or it belongs to another run.
///
/// # Errors
/// Where the file exists and can't be read.
pub(crate) fn read(folder: &Path, batch_id: &str, target: &str) -> Result<Option<RunSummary>, AppError> {
    Ok(read_any(folder)?.filter(|summary| summary.batch_id == batch_id && summary.target == target))
}

/// Reads the summary in a folder if it is that of a finished run.
///
/// # Errors
/// Where the file exists and can't be read.
pub(crate) fn read_any(folder: &Path) -> Result<Option<RunSummary>, AppError> {
    let path = folder.join(FILE_NAME);
    match fs::read(&path) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok().filter(|summary: &RunSummary| summary.is_complete)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AppError::io(&path, &error)),
    }
}

/// Replaces `summary.json`.
///
/// # Errors
/// Where the file can't be written; the earlier one is left as it was.
pub(crate) fn write(folder: &Path, summary: &RunSummary) -> Result<(), AppError> {
    folders::replace_private_file(folder, FILE_NAME, |file| {
        serde_json::to_writer_pretty(&mut *file, summary)?;
        file.write_all(b"\n")
    })
}

/// The text at the end of a run: counts by outcome, the check that every row is accounted for, problems and advice.
pub(crate) fn text(summary: &RunSummary, folder: &Path, queue: &Path) -> String {
    let RunSummary { tally, rows, .. } = summary;
    let mut lines = vec![format!("{}: {} rows", summary.file, grouped(*rows))];
    for event_type in EventType::ALL {
        let count = tally.of(event_type);
        let file = if count > 0 { folder.join(table_name(event_type)).display().to_string() } else { String::new() };
        lines.push(format!("  {:<9}{:>11}   {file}", event_type.short(), grouped(count)).trim_end().to_owned());
    }
    lines.push(format!("  {:<9}{:>11}", "waiting", grouped(tally.waiting)));
    lines.push(format!("  {}", balance(summary)));
    for (problem, count) in summary.problems.iter() {
        lines.push(format!("  {count} x {problem}"));
    }
    lines.extend(advice(summary, queue).into_iter().map(|line| format!("  {line}")));
    if *rows == 0 {
        lines.push("There are no rows below the header: is this the right file?".to_owned());
    }
    lines.push(format!("All events: {}", folder.join("results.ndjson").display()));
    lines.join("\n") + "\n"
}

/// What the user should know or do about repeated, rejected and failed rows, and about missing links.
pub(crate) fn advice(summary: &RunSummary, queue: &Path) -> Vec<String> {
    let tally = &summary.tally;
    let mut lines = Vec::new();
    if summary.repeated > 0 {
        lines.push(format!(
            "{} rows repeat an earlier row; they were not sent again and are in existing.csv with its link.",
            summary.repeated
        ));
    }
    lines.extend(links_lost(summary));
    if summary.may_have_been_created > 0 {
        lines.push(format!(
            "{} failed rows may have created a user. A retry finds these users: no user is created twice.",
            summary.may_have_been_created
        ));
    }
    if tally.rejected > 0 {
        lines.push(
            "To correct rejected rows, edit them in a copy of rejected.csv and give that to run. Where a row's \
             errorCode is WRONG_COLUMN_COUNT, RECORD_TOO_LONG, EMAIL_IN_FILE_TWICE or IDEMPOTENCY_KEY_IN_USE, empty \
             that cell too."
                .to_owned(),
        );
    }
    if tally.failed > 0 {
        lines.push(format!(
            "To retry failed rows: {} and then this run once more. (A copy of failed.csv can be given to run as well; \
             users that were created are in existing.csv then.)",
            retry_command(queue)
        ));
    }
    lines
}

/// Why created users have no link: one line for each reason that occurred.
pub(crate) fn links_lost(summary: &RunSummary) -> Vec<String> {
    let occurred = LinkLoss::ALL.into_iter().filter(|reason| summary.links_lost.get(*reason) > 0);
    let line = |reason: LinkLoss| {
        let why = match reason {
            LinkLoss::LostAnswer => {
                "the answer to an earlier request, or its end, was lost, or they were sent from another folder minutes \
                 before."
            }
            LinkLoss::NotSent => "the API created them and sent no link. Ask Plu before you create more.",
            LinkLoss::Unusable => {
                "the API sent something else in its place, for example no https:// address. Ask Plu before you create \
                 more."
            }
        };
        format!("{} created users have no link: {why}", grouped(summary.links_lost.get(reason)))
    };
    occurred.map(line).collect()
}

/// The sum of all outcomes, compared with the rows of the file.
pub(crate) fn balance(summary: &RunSummary) -> String {
    let tally = &summary.tally;
    let balance = if summary.is_balanced() { "every row is accounted for" } else { "ROWS ARE UNACCOUNTED FOR" };
    let parts = [tally.created, tally.existing, tally.rejected, tally.failed, tally.waiting].map(grouped).join(" + ");
    format!("{parts} = {} of {}: {balance}", grouped(tally.total()), grouped(summary.rows))
}
