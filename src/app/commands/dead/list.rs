//! `dead list`: the first dead letters line by line, and the counts of all by reason.

use std::collections::BTreeMap;

use crate::app::commands::dead::view::{id_text, outline, printable, time_text};
use crate::app::console::grouped;
use crate::domain::{DeadLetter, Lane};

/// Most reasons that are counted separately.
const REASONS_MAX: usize = 100;

/// `1 dead letter`, `1,234 dead letters`.
pub(super) fn count_text(count: u64) -> String {
    format!("{} dead letter{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Dead letters by reason.
#[derive(Debug, Default)]
pub(super) struct ReasonCounts(BTreeMap<String, u64>);

impl ReasonCounts {
    pub(super) fn count(&mut self, dead_letter: &DeadLetter) {
        let reason = printable(&dead_letter.reason);
        let is_separate = self.0.len() < REASONS_MAX || self.0.contains_key(&reason);
        *self.0.entry(if is_separate { reason } else { "(other)".to_owned() }).or_default() += 1;
    }

    /// The message that no dead letter has this reason, with the reasons that exist.
    pub(super) fn missing(&self, reason: &str) -> String {
        let existing: Vec<_> = self.0.iter().map(|(reason, count)| format!("{} x {reason}", grouped(*count))).collect();
        let existing = if existing.is_empty() {
            "there are no dead letters".to_owned()
        } else {
            format!("there are {}", existing.join(", "))
        };
        format!("no dead letter has the reason {}: {existing}", printable(reason))
    }
}

/// The list, printed while the dead letters are read.
#[derive(Debug)]
pub(super) struct DeadLetterList {
    limit: u64,
    is_json: bool,
    /// Lists only dead letters with this reason.
    only: Option<String>,
    count: u64,
    reasons: ReasonCounts,
}

impl DeadLetterList {
    pub(super) fn new(limit: u64, is_json: bool, only: Option<String>) -> Self {
        Self { limit, is_json, only, count: 0, reasons: ReasonCounts::default() }
    }

    /// Counts a dead letter. Returns its lines; `None`: it isn't listed.
    pub(super) fn add(&mut self, dead_letter: &DeadLetter) -> Option<String> {
        self.reasons.count(dead_letter);
        if self.only.as_ref().is_some_and(|only| *only != dead_letter.reason) {
            return None;
        }
        self.count += 1;
        if self.count > self.limit {
            return None;
        }
        if self.is_json {
            return Some(format!("{}\n", outline(dead_letter, false)));
        }
        let titles = if self.count == 1 {
            table_line("id", "dead since", "lane", "attempts", "reason", "jobId")
        } else {
            String::new()
        };
        let job_id = dead_letter.job_id().map_or_else(|| "-".to_owned(), |id| id_text(&id, false));
        Some(
            titles
                + &table_line(
                    &printable(&dead_letter.id),
                    &time_text(dead_letter.dead_at),
                    dead_letter.lane.map_or("-", Lane::name),
                    &dead_letter.history.attempts.to_string(),
                    &printable(&dead_letter.reason),
                    &job_id,
                ),
        )
    }

    /// The text below the list: the counts.
    pub(super) fn end(&self) -> String {
        if self.is_json {
            return String::new();
        }
        match &self.only {
            Some(only) if self.count == 0 => return self.reasons.missing(only) + "\n",
            None if self.count == 0 => return "There are no dead letters.\n".to_owned(),
            _ => {}
        }
        let mut text = String::new();
        if self.count > self.limit {
            text += &format!("... and {} more: give a higher --limit\n", grouped(self.count - self.limit));
        }
        text += &format!("\n{}\n", count_text(self.count));
        for (reason, count) in
            self.reasons.0.iter().filter(|(reason, _)| self.only.as_ref().is_none_or(|only| only == *reason))
        {
            text += &format!("  {:>9} x {reason}\n", grouped(*count));
        }
        text
    }
}

fn table_line(id: &str, dead_at: &str, lane: &str, attempts: &str, reason: &str, job_id: &str) -> String {
    format!("{id:<36}  {dead_at:<24}  {lane:<6}  {attempts:>8}  {reason:<20}  {job_id}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::commands::dead::view::tests::{BODY, dead_letter};
    use crate::domain::dead_letter::EXPIRED;

    #[test]
    fn a_reason_that_no_dead_letter_has_is_answered_with_those_that_exist() {
        let mut list = DeadLetterList::new(9, false, Some("NOSUCH".to_owned()));
        assert!(list.end().contains("NOSUCH: there are no dead letters"));
        assert_eq!((0..2).filter_map(|_| list.add(&dead_letter(BODY))).count(), 0);
        assert_eq!(list.end(), "no dead letter has the reason NOSUCH: there are 2 x MALFORMED_JOB\n");
        let mut list = DeadLetterList::new(9, false, Some("MALFORMED_JOB".to_owned()));
        list.add(&DeadLetter { reason: EXPIRED.to_owned(), ..dead_letter(BODY) });
        assert!(list.add(&dead_letter(BODY)).is_some());
        assert_eq!(list.end(), format!("\n1 dead letter\n  {:>9} x MALFORMED_JOB\n", 1));
    }

    #[test]
    fn a_list_is_bounded_and_counts_all_by_reason() {
        let mut list = DeadLetterList::new(2, false, None);
        let lines = (0..5).filter_map(|_| list.add(&dead_letter(BODY))).count();
        assert_eq!(lines, 2);
        let end = list.end();
        assert!(end.contains("and 3 more") && end.contains("5 x MALFORMED_JOB"), "{end}");
    }

    #[test]
    fn ids_that_may_be_personal_are_hidden() {
        let named = dead_letter(r#"{"jobId":"jane@example.com","batchId":"Jane Doe","user":{}}"#);
        for is_json in [false, true] {
            let line = DeadLetterList::new(9, is_json, None).add(&named).unwrap();
            assert!(line.contains("(hidden)") && !line.contains("jane@"), "{line}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut evil = dead_letter(r#"{"jobId":"\u001b[2J","user":{}}"#);
        evil.reason = "\u{1b}[31mX".to_owned();
        let mut list = DeadLetterList::new(2, false, None);
        let shown = list.add(&evil).unwrap() + &list.end();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
