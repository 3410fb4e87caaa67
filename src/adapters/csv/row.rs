//! One row, and what it says according to the header.

use std::borrow::Cow;
use std::fmt;

use csv::StringRecord;
use serde::Serializer;

use crate::adapters::csv::Header;
use crate::domain::{Field, Problem, RawUser, RawValue};

/// One record of the file below the header. Reused from read to read; [`crate::adapters::csv::RowReader::read`] fills it.
#[derive(Default, Clone)]
pub(crate) struct Row {
    /// Which record it is, from 1; the header and blank lines don't count.
    pub record: u64,
    /// The line on which it starts; the first line of the file is 1.
    pub line: u64,
    /// Its cells as they stand in the file, without the quotation marks around them. Of a row that is too long,
    /// only the beginning is here, and the last of these cells may be cut: enough to find the row by.
    pub cells: StringRecord,
    /// The limit in bytes, where the row is longer.
    pub(super) cut_at: Option<usize>,
    /// Whether a cell holds what look like other rows.
    pub(super) has_swallowed_rows: bool,
}

impl Row {
    /// A row that is too long, or has more or fewer cells than the header: which cell is which can't be said, so
    /// nothing else about it should be.
    pub(crate) fn column_problem(&self, header: &Header) -> Option<Problem> {
        if let Some(bytes_max) = self.cut_at {
            let message = format!(
                "is longer than {bytes_max} bytes (import.record_bytes_max) and was not read to its end: shorten its \
                 longest cell in the original file"
            );
            return Some(Problem::whole("RECORD_TOO_LONG", message));
        }
        let (cells, columns) = (self.cells.len(), header.titles().len());
        let advice = match cells.cmp(&columns) {
            std::cmp::Ordering::Equal if self.has_swallowed_rows => {
                let message = "a cell of it goes on over several lines and holds what look like other rows, of which nobody is \
                               created: close the quotation mark in the original file, or, where the cell is meant to be so, write it on one line";
                return Some(Problem::whole("QUOTE_NOT_CLOSED", message));
            }
            std::cmp::Ordering::Equal => return None,
            _ if self.cells.iter().any(|cell| cell.contains(['\n', '\r'])) => {
                "a cell of it goes on over several lines: is a quotation mark not closed?"
            }
            std::cmp::Ordering::Greater => "is a comma, or whatever separates cells here, missing its quotation marks?",
            std::cmp::Ordering::Less => "is an empty cell left out?",
        };
        let message = format!("has {cells} cells, the header has {columns}: {advice}");
        Some(Problem::whole("WRONG_COLUMN_COUNT", message))
    }

    /// A row of an earlier `rejected.csv` that was rejected for something that can't be seen in the row any more, and
    /// that nobody says was mended: a missing cell was filled up, a contradicting row is in another file.
    pub(crate) fn unmended_problem(&self, header: &Header) -> Option<Problem> {
        let codes = self.not_empty(header.error_code?)?;
        let code = codes.split(" | ").find(|code| NOT_SEEN_AGAIN.contains(code))?;
        let message = "was rejected for this before, and whether it was mended can't be seen: mend the row in the file \
                       it came from, or mend it here and empty its errorCode cell";
        Some(Problem::whole(code, message))
    }

    /// One problem for each field that contains U+FFFD, the stand-in for bytes that are not text in the file's
    /// encoding. Such a name or address must not be sent.
    pub(crate) fn encoding_problems(&self, header: &Header) -> Vec<Problem> {
        // All cells at once: there is nearly never one.
        if !self.cells.as_slice().contains(char::REPLACEMENT_CHARACTER) {
            return Vec::new();
        }
        let fields = header.fields.iter().map(|(field, index)| (field.name(), *index));
        let job_id = header.job_id.map(|index| ("jobId", index));
        let key = header.idempotency_key.map(|index| ("idempotencyKey", index));
        let mut unreadable: Vec<_> = fields
            .chain(job_id)
            .chain(key)
            .filter(|(_, index)| self.cells.get(*index).is_some_and(|cell| cell.contains(char::REPLACEMENT_CHARACTER)))
            .collect();
        unreadable.sort_unstable();
        unreadable.into_iter().map(|(name, _)| unreadable_text(name)).collect()
    }

    /// The user of this row, borrowing its cells. A cell that the row doesn't have is absent.
    pub(crate) fn to_raw_user(&self, header: &Header) -> RawUser<'_> {
        let mut user = RawUser::default();
        for &(field, index) in &header.fields {
            let Some(cell) = self.cells.get(index) else { continue };
            let truth = if field == Field::IsTermsOfServiceAccepted { truth_of(cell) } else { None };
            user.set(field, truth.map_or(RawValue::Text(Cow::Borrowed(cell)), RawValue::Bool));
        }
        user
    }

    /// The upstream's own reference, trimmed; `None` where it is empty.
    pub(crate) fn job_id(&self, header: &Header) -> Option<&str> {
        self.not_empty(header.job_id?)
    }

    /// The upstream's own idempotency key, trimmed; `None` where it is empty.
    pub(crate) fn idempotency_key(&self, header: &Header) -> Option<&str> {
        self.not_empty(header.idempotency_key?)
    }

    /// The `metadata.NAME` cells as a JSON object of strings, in the order of the columns; `None` where the
    /// file has no such column, or the row was cut.
    pub(crate) fn metadata(&self, header: &Header) -> Option<String> {
        if header.metadata.is_empty() || self.cut_at.is_some() {
            return None;
        }
        let cells =
            header.metadata.iter().map(|(name, index)| (name.as_str(), self.cells.get(*index).unwrap_or_default()));
        let mut json = Vec::new();
        // Not through a map: that would sort the names. Writing strings into a buffer has no way to fail.
        serde_json::Serializer::new(&mut json).collect_map(cells).ok()?;
        String::from_utf8(json).ok()
    }

    fn not_empty(&self, index: usize) -> Option<&str> {
        if self.cut_at.is_some() && index + 1 >= self.cells.len() {
            return None;
        }
        self.cells.get(index).map(str::trim).filter(|cell| !cell.is_empty())
    }
}

/// Codes of problems that a row of a result file doesn't show any more.
const NOT_SEEN_AGAIN: [&str; 4] =
    ["WRONG_COLUMN_COUNT", "RECORD_TOO_LONG", "EMAIL_IN_FILE_TWICE", "IDEMPOTENCY_KEY_IN_USE"];

/// Prints no cell.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, line, cells, .. } = self;
        write!(f, "Row(record {record}, line {line}, {} cells [redacted])", cells.len())
    }
}

/// What people and spreadsheets write for a truth value. Other words are left for validation to refuse: consent
/// is never guessed.
fn truth_of(cell: &str) -> Option<bool> {
    let cell = cell.trim();
    let is_one_of = |words: [&str; 4]| words.into_iter().any(|word| word.eq_ignore_ascii_case(cell));
    if is_one_of(["true", "yes", "y", "1"]) {
        Some(true)
    } else if is_one_of(["false", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

fn unreadable_text(name: &str) -> Problem {
    Problem {
        field: Some(name.to_owned()),
        code: "UNREADABLE_TEXT".to_owned(),
        message: "contains characters that could not be read: type them anew and save the file as CSV UTF-8, or name \
                  its encoding"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_with(more: &[&'static str]) -> Header {
        Header::parse(Field::ALL.map(Field::name).into_iter().chain(more.iter().copied())).unwrap()
    }

    /// A row with one cell a field, all empty but the given ones.
    fn row(given: &[(usize, &str)], cell_count: usize) -> Row {
        let cell = |index| given.iter().find(|(at, _)| *at == index).map_or("", |(_, cell)| *cell);
        Row { record: 1, line: 2, cells: (0..cell_count).map(cell).collect(), ..Row::default() }
    }

    #[test]
    fn words_for_true_and_false_become_truth_values_and_others_stay_text() {
        let header = header_with(&[]);
        let terms = Field::IsTermsOfServiceAccepted;
        for (cell, expected) in [
            ("true", Some(true)),
            (" TRUE\t", Some(true)),
            ("Yes", Some(true)),
            ("y", Some(true)),
            ("1", Some(true)),
            ("False", Some(false)),
            ("NO", Some(false)),
            ("n", Some(false)),
            ("0", Some(false)),
            ("", None),
            ("ja", None),
            ("truee", None),
        ] {
            let row = row(&[(terms as usize, cell), (Field::City as usize, cell)], Field::COUNT);
            let user = row.to_raw_user(&header);
            let text = RawValue::Text(Cow::Borrowed(cell));
            assert!(*user.get(terms) == expected.map_or(text.clone(), RawValue::Bool), "{cell}");
            assert!(*user.get(Field::City) == text, "only the terms are a truth value: {cell}");
        }
    }

    #[test]
    fn cells_are_borrowed() {
        let (header, row) = (header_with(&[]), row(&[(Field::City as usize, "Nairobi")], Field::COUNT));
        let user = row.to_raw_user(&header);
        assert!(matches!(user.get(Field::City), RawValue::Text(Cow::Borrowed("Nairobi"))));
    }

    #[test]
    fn a_wrong_number_of_cells_is_a_problem_of_the_row() {
        let header = header_with(&[]);
        for (cells, given, message) in [
            (
                16,
                "",
                "has 16 cells, the header has 15: is a comma, or whatever separates cells here, missing its quotation marks?",
            ),
            (14, "", "has 14 cells, the header has 15: is an empty cell left out?"),
            (
                16,
                "a\nb",
                "has 16 cells, the header has 15: a cell of it goes on over several lines: is a quotation mark not closed?",
            ),
        ] {
            let problem = row(&[(3, given)], cells).column_problem(&header).unwrap();
            assert_eq!(problem, Problem::whole("WRONG_COLUMN_COUNT", message));
        }
        assert_eq!(row(&[(3, "a\nb")], 15).column_problem(&header), None);
    }

    #[test]
    fn a_row_rejected_for_what_can_not_be_seen_stays_rejected_until_its_code_is_emptied() {
        let header = header_with(&["errorField", "errorCode", "errorMessage"]);
        for (code, expected) in [
            ("WRONG_COLUMN_COUNT", Some("WRONG_COLUMN_COUNT")),
            ("REQUIRED | EMAIL_IN_FILE_TWICE", Some("EMAIL_IN_FILE_TWICE")),
            ("INVALID_EMAIL", None),
            (" ", None),
        ] {
            let problem = row(&[(16, code)], 18).unmended_problem(&header);
            assert_eq!(problem.map(|problem| problem.code).as_deref(), expected, "{code}");
        }
        assert_eq!(row(&[], 15).unmended_problem(&header_with(&[])), None);
    }

    #[test]
    fn unreadable_text_is_a_problem_of_each_field_it_is_in() {
        let header = header_with(&["jobId", "note"]);
        let bad = "J\u{FFFD}rgen";
        let row = row(&[(Field::LastName as usize, bad), (Field::City as usize, bad), (15, bad), (16, bad)], 17);
        let fields: Vec<_> = row.encoding_problems(&header).into_iter().filter_map(|problem| problem.field).collect();
        assert_eq!(fields, ["city", "jobId", "lastName"]);
    }

    #[test]
    fn a_note_that_nobody_sends_may_be_unreadable() {
        let header = header_with(&["note"]);
        assert_eq!(row(&[(15, "\u{FFFD}")], 16).encoding_problems(&header), []);
    }

    #[test]
    fn metadata_keeps_the_order_of_the_columns() {
        let header = header_with(&["metadata.zone", "jobId", "METADATA.Branch \"A\"", "idempotencyKey"]);
        let row = row(&[(15, "north"), (16, " crm-1 "), (17, "x\n\"y\"")], 19);
        assert_eq!(row.metadata(&header).unwrap(), r#"{"zone":"north","Branch \"A\"":"x\n\"y\""}"#);
        assert_eq!(row.job_id(&header), Some("crm-1"));
        assert_eq!(row.idempotency_key(&header), None);
        assert_eq!(row.metadata(&header_with(&[])), None);
    }

    #[test]
    fn debug_output_shows_no_cell() {
        assert_eq!(format!("{:?}", row(&[(0, "secret")], 2)), "Row(record 1, line 2, 2 cells [redacted])");
    }
}
