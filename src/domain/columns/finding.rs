//! What a survey found, and from which share of the rows on a person is asked.

use std::fmt;

use crate::domain::Field;
use crate::domain::columns::LineCount;

/// Fewest rows of which a share means something.
const ROWS_MIN: u64 = 20;

/// Something about a column that a person should know. Its text contains no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnFinding {
    /// Stable, upper-case, for machines.
    pub code: &'static str,
    /// Whether a run asks before it sends anything.
    pub weight: FindingWeight,
    /// For people.
    pub text: String,
}

/// Whether a finding is a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingWeight {
    /// Shown.
    Note,
    /// Probably wrong: a run asks.
    Question,
}

impl fmt::Display for ColumnFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn finding(code: &'static str, is_question: bool, text: String) -> ColumnFinding {
    let weight = if is_question { FindingWeight::Question } else { FindingWeight::Note };
    ColumnFinding { code, weight, text }
}

/// Returns whether `part` is at least `percent` percent of `rows`, and there are enough rows for a share.
const fn is_share(part: u64, rows: u64, percent: u64) -> bool {
    rows >= ROWS_MIN && part * 100 >= rows * percent
}

/// One value in many rows. `count` is a lower bound.
pub(super) fn shared(field: Field, count: u64, first_line: u64, rows: u64) -> Option<ColumnFinding> {
    /// People of one household or company share an address, and often an IP address.
    const ASKED_PERCENT: u64 = 20;
    /// A phone number is a person's own.
    const ASKED_PERCENT_OF_PHONE: u64 = 5;
    const SHOWN_PERCENT: u64 = 5;
    let asked = if field == Field::PhoneNumber { ASKED_PERCENT_OF_PHONE } else { ASKED_PERCENT };
    if count < 2 || !is_share(count, rows, SHOWN_PERCENT) {
        return None;
    }
    let name = field.name();
    let question = match field {
        Field::IpAddress => "it must be the address of the person at registration, not that of your server or office",
        Field::PhoneNumber => "the verification needs each person's own number",
        _ => "is it where these people live, or your company's address?",
    };
    let text = format!("{name}: one value is in {count} of {rows} rows (for example line {first_line}): {question}");
    Some(finding("SHARED_VALUE", is_share(count, rows, asked), text))
}

/// A column that was filled down: the values of successive rows count up by one. A list by streets has such addresses.
pub(super) fn series(field: Field, LineCount { rows, first_line }: LineCount) -> Option<ColumnFinding> {
    const SHOWN_ROWS: u64 = 5;
    const ASKED_ROWS: u64 = 10;
    if rows < SHOWN_ROWS {
        return None;
    }
    let text = format!(
        "{}: {rows} rows from line {first_line} on count up by one: was the cell dragged down in a spreadsheet?",
        field.name()
    );
    Some(finding("FILLED_DOWN", rows >= ASKED_ROWS && field != Field::Address, text))
}

pub(super) fn job_ids_with_decimal(LineCount { rows, first_line }: LineCount) -> Option<ColumnFinding> {
    let text = format!(
        "jobId: {rows} references end with .0, which programs add to numbers (first on line {first_line}); they are \
         kept as they are"
    );
    (rows > 0).then(|| finding("DECIMAL_JOB_ID", false, text))
}

pub(super) fn vendor_examples(LineCount { rows, first_line }: LineCount) -> Option<ColumnFinding> {
    let text = format!("{rows} rows have the phone number of Plu's documentation (first on line {first_line})");
    (rows > 0).then(|| finding("VENDOR_EXAMPLE", true, text))
}

pub(super) fn reserved_examples(LineCount { rows, first_line }: LineCount, of: u64) -> Option<ColumnFinding> {
    let text = format!(
        "{rows} of {of} rows have a phone number, IP address or email domain that is reserved for documentation (first \
         on line {first_line}): these aren't real people"
    );
    (rows > 0).then(|| finding("RESERVED_EXAMPLE", false, text))
}

/// Near-duplicates from which share on a run asks, in percent.
const DUPLICATES_ASKED_PERCENT: u64 = 5;

pub(super) fn same_person(LineCount { rows, first_line }: LineCount, of: u64) -> Option<ColumnFinding> {
    let text = format!(
        "{rows} rows have the name and phone number of an earlier row with another email (first on line {first_line}): \
         the same person would get two cards"
    );
    (rows > 0).then(|| finding("SAME_PERSON", is_share(rows, of, DUPLICATES_ASKED_PERCENT), text))
}

pub(super) fn same_mailbox(LineCount { rows, first_line }: LineCount, of: u64) -> Option<ColumnFinding> {
    let text = format!(
        "{rows} rows have the Gmail mailbox of an earlier row, spelt with other dots or a plus sign (first on line \
         {first_line})"
    );
    (rows > 0).then(|| finding("SAME_MAILBOX", is_share(rows, of, DUPLICATES_ASKED_PERCENT), text))
}

pub(super) fn without_plus(count: u64, rows: u64) -> Option<ColumnFinding> {
    let text = format!("phoneNumber: {count} of {rows} numbers have no + and are read with the row's countryCode");
    (count > 0).then(|| finding("WITHOUT_PLUS", false, text))
}

pub(super) fn countries(counts: Vec<(String, u64)>, rows: u64) -> Option<ColumnFinding> {
    const SHOWN_MAX: usize = 5;
    if rows < 2 {
        return None;
    }
    let mut shown: Vec<String> =
        counts.iter().take(SHOWN_MAX).map(|(code, count)| format!("{code} {}", percent(*count, rows))).collect();
    if counts.len() > SHOWN_MAX {
        let others: u64 = counts[SHOWN_MAX..].iter().map(|(_, count)| count).sum();
        shown.push(format!("{} others {}", counts.len() - SHOWN_MAX, percent(others, rows)));
    }
    Some(finding("COUNTRIES", false, format!("countries: {}", shown.join(", "))))
}

fn percent(part: u64, rows: u64) -> String {
    match part * 100 / rows {
        0 => "<1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}
