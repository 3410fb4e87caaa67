//! The end of a run, for a person.

use std::path::Path;

use crate::app::console::next_command::retry_command;
use crate::app::results::tables::Summary;
use crate::domain::EventType;

/// The summary and the check that no row is unaccounted for.
pub(crate) fn text(summary: &Summary, folder: &Path, queue: &Path) -> String {
    let Summary { tally, rows, .. } = summary;
    let mut lines = vec![format!("{}: {} rows", summary.file, grouped(*rows))];
    for event_type in EventType::ALL {
        let count = tally.of(event_type);
        let file = folder.join(format!("{}.csv", event_type.short()));
        let file = if count > 0 { file.display().to_string() } else { String::new() };
        lines.push(format!("  {:<9}{:>11}   {file}", event_type.short(), grouped(count)).trim_end().to_owned());
    }
    lines.push(format!("  {:<9}{:>11}", "waiting", grouped(tally.waiting)));
    lines.push(balance(summary));
    for (cluster, count) in &summary.problems {
        lines.push(format!("  {count} x {cluster}"));
    }
    lines.extend(advice(summary, queue).into_iter().map(|line| format!("  {line}")));
    if *rows == 0 {
        lines.push("There are no rows below the header: is this the right file?".to_owned());
    }
    lines.push(format!("All events: {}", folder.join("results.ndjson").display()));
    lines.join("\n") + "\n"
}

/// What there is to know and to do about some of the rows.
pub(crate) fn advice(summary: &Summary, queue: &Path) -> Vec<String> {
    let tally = &summary.tally;
    let mut lines = Vec::new();
    if summary.repeated > 0 {
        lines.push(format!(
            "{} rows repeat an earlier row; they were not sent again and stand in existing.csv with its link.",
            summary.repeated
        ));
    }
    if summary.without_link > 0 {
        lines.push(format!(
            "{} created users have no link: an earlier request created them and its answer was lost, or they were sent \
             from another folder minutes before; they were found by looking them up.",
            summary.without_link
        ));
    }
    if summary.may_have_been_created > 0 {
        lines.push(format!(
            "{} failed rows may have been created. Trying them again finds those who were: nobody is created twice.",
            summary.may_have_been_created
        ));
    }
    if tally.rejected > 0 {
        lines.push(
            "To mend rejected rows, correct them in a copy of rejected.csv and give that to run. Where a row's errorCode is \
             WRONG_COLUMN_COUNT, RECORD_TOO_LONG, EMAIL_IN_FILE_TWICE or IDEMPOTENCY_KEY_IN_USE, empty that cell too."
                .to_owned(),
        );
    }
    if tally.failed > 0 {
        lines.push(format!(
            "To try failed rows again: {} and then this run once more. (A copy of failed.csv can be given to run as well; whoever \
             was created comes out as existing there.)",
            retry_command(queue)
        ));
    }
    lines
}

/// The sum of all outcomes, compared with the rows of the file.
pub(crate) fn balance(summary: &Summary) -> String {
    let tally = &summary.tally;
    let sum = tally.total();
    let verdict = if sum == summary.rows { "every row is accounted for" } else { "ROWS ARE UNACCOUNTED FOR" };
    let parts = [tally.created, tally.existing, tally.rejected, tally.failed, tally.waiting].map(grouped).join(" + ");
    format!("  {parts} = {} of {}: {verdict}", grouped(sum), grouped(summary.rows))
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
