//! One row of a customer file, interpreted by the header. Pure.

use std::borrow::Cow;
use std::fmt;

use csv::StringRecord;
use serde::Serializer;

use crate::adapters::csv::CsvHeader;
use crate::domain::{Field, Problem, RawUser, RawValue};

/// One record of the file below the header. Filled by [`crate::adapters::csv::RowReader::read`], and reused.
#[derive(Default, Clone)]
pub(crate) struct CsvRow {
    /// Number of the record, from 1; the header and blank lines don't count.
    pub record: u64,
    /// Line on which it starts; the first line of the file is 1.
    pub line: u64,
    /// Cells as in the file, without the quotation marks around them. A row that is too long has only its first cells,
    /// and the last of them may be cut: enough to find the row.
    pub cells: StringRecord,
    /// The job, in a file of jobs.
    pub job: Option<Box<[u8]>>,
    /// The limit in bytes, if the row is longer.
    pub(super) cut_at: Option<usize>,
    /// Whether a quotation mark has no meaning in CSV, so that the cells are a guess.
    pub(super) has_guessed_quotes: bool,
    /// Whether a cell contains text that looks like other rows.
    pub(super) has_swallowed_rows: bool,
}

impl CsvRow {
    /// Returns the problem of a row that is too long or has another number of cells than the header. No cell of the row
    /// can be attributed to a column, so it gets no other problem.
    pub(crate) fn column_problem(&self, header: &CsvHeader) -> Option<Problem> {
        if let Some(bytes_max) = self.cut_at {
            let message = format!(
                "is longer than {bytes_max} bytes and was not read to its end: shorten its \
                 longest cell in the original file"
            );
            return Some(Problem::whole("RECORD_TOO_LONG", message));
        }
        let (cells, columns) = (self.cells.len(), header.titles().len());
        // Spreadsheets leave out empty cells at the end of a row, and add some.
        let is_complete = match cells.cmp(&columns) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Less => (cells..columns).all(|index| !header.is_required(index)),
            std::cmp::Ordering::Greater => self.cells.iter().skip(columns).all(|cell| cell.trim().is_empty()),
        };
        // A mark that isn't closed has its own advice.
        let spans_lines = || self.cells.iter().any(|cell| cell.contains(['\n', '\r']));
        let is_not_closed = || if is_complete { self.has_swallowed_rows } else { spans_lines() };
        if self.has_guessed_quotes && !is_not_closed() {
            let message = "has a quotation mark whose meaning has to be guessed, such as \"Haus\" Nr 5, \\\" or a space \
                           before a mark: in the original file, put marks around the whole cell and double those in it";
            return Some(Problem::whole("UNCLEAR_QUOTING", message));
        }
        let advice = match cells.cmp(&columns) {
            _ if is_complete && self.has_swallowed_rows => {
                let message = "has a cell that spans several lines and contains what looks like other rows, which would \
                               be lost: close the quotation mark in the original file, or, if the cell is meant to be \
                               like this, write it on one line";
                return Some(Problem::whole("QUOTE_NOT_CLOSED", message));
            }
            _ if is_complete => return None,
            _ if spans_lines() => "one of its cells spans several lines: is a quotation mark not closed?",
            std::cmp::Ordering::Greater => {
                "does a cell contain the separator, without quotation marks around the cell?"
            }
            std::cmp::Ordering::Less | std::cmp::Ordering::Equal => "is an empty cell missing?",
        };
        let message = format!("has {cells} cells, the header has {columns}: {advice}");
        Some(Problem::whole("WRONG_COLUMN_COUNT", message))
    }

    /// Returns the problem of a row from an earlier `rejected.csv`, if the row itself doesn't show the problem any
    /// more: a missing cell was filled, or a contradicting row is in another file. An empty `errorCode` cell means
    /// corrected.
    pub(crate) fn uncorrected_problem(&self, header: &CsvHeader) -> Option<Problem> {
        let codes = self.not_empty(header.error_code?)?;
        let code = codes.split(" | ").find(|code| INVISIBLE_CODES.contains(code))?;
        let message = "was rejected for this before, and the row doesn't show whether it was corrected: correct it in \
                       the original file, or correct it here and empty its errorCode cell";
        Some(Problem::whole(code, message))
    }

    /// Returns one problem for each field that contains U+FFFD, the replacement for bytes that aren't text in the
    /// file's encoding. A name or address with it must not be sent.
    pub(crate) fn encoding_problems(&self, header: &CsvHeader) -> Vec<Problem> {
        // All cells at once first: the character is rare.
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

    /// Returns the user of this row, which borrows the cells. A missing cell is absent.
    pub(crate) fn to_raw_user(&self, header: &CsvHeader) -> RawUser<'_> {
        let mut user = RawUser::default();
        for &(field, index) in &header.fields {
            let Some(cell) = self.cells.get(index) else { continue };
            let boolean = if field == Field::IsTermsOfServiceAccepted { parse_bool(cell) } else { None };
            user.set(field, boolean.map_or(RawValue::Text(Cow::Borrowed(cell)), RawValue::Bool));
        }
        user
    }

    /// The upstream's own reference, trimmed; `None` if it is empty.
    pub(crate) fn job_id(&self, header: &CsvHeader) -> Option<&str> {
        self.not_empty(header.job_id?)
    }

    /// The upstream's own idempotency key, trimmed; `None` if it is empty.
    pub(crate) fn idempotency_key(&self, header: &CsvHeader) -> Option<&str> {
        self.not_empty(header.idempotency_key?)
    }

    /// The `metadata.NAME` cells as a JSON object of strings, in the order of the columns. `None` if the file has no
    /// metadata column or the row was cut.
    pub(crate) fn metadata(&self, header: &CsvHeader) -> Option<String> {
        if header.metadata.is_empty() || self.cut_at.is_some() {
            return None;
        }
        let cells =
            header.metadata.iter().map(|(name, index)| (name.as_str(), self.cells.get(*index).unwrap_or_default()));
        let mut json = Vec::new();
        // A map would sort the names. Writing strings to a buffer can't fail.
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
const INVISIBLE_CODES: [&str; 5] =
    ["WRONG_COLUMN_COUNT", "UNCLEAR_QUOTING", "RECORD_TOO_LONG", "EMAIL_IN_FILE_TWICE", "IDEMPOTENCY_KEY_IN_USE"];

/// Prints no value of a cell.
impl fmt::Debug for CsvRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, line, cells, .. } = self;
        write!(f, "Row(record {record}, line {line}, {} cells [redacted])", cells.len())
    }
}

/// Reads the words that people and spreadsheets write for a boolean. Validation refuses other words: consent is never
/// guessed.
fn parse_bool(cell: &str) -> Option<bool> {
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
        message:
            "contains characters that could not be read: correct them and save the file as CSV UTF-8, or give its \
                  encoding with --encoding"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_with(more: &[&'static str]) -> CsvHeader {
        CsvHeader::parse(Field::ALL.map(Field::name).into_iter().chain(more.iter().copied())).unwrap()
    }

    /// A row of `cell_count` cells, all empty but the given ones.
    fn row(given: &[(usize, &str)], cell_count: usize) -> CsvRow {
        let cell = |index| given.iter().find(|(at, _)| *at == index).map_or("", |(_, cell)| *cell);
        CsvRow { record: 1, line: 2, cells: (0..cell_count).map(cell).collect(), ..CsvRow::default() }
    }

    #[test]
    fn words_for_true_and_false_become_booleans_and_others_stay_text() {
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
            assert!(*user.get(Field::City) == text, "only the terms are a boolean: {cell}");
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
                "has 16 cells, the header has 15: does a cell contain the separator, without quotation marks around the \
                 cell?",
            ),
            (12, "", "has 12 cells, the header has 15: is an empty cell missing?"),
            (
                16,
                "a\nb",
                "has 16 cells, the header has 15: one of its cells spans several lines: is a quotation mark not \
                 closed?",
            ),
        ] {
            let problem = row(&[(3, given), (15, "x")], cells).column_problem(&header).unwrap();
            assert_eq!(problem, Problem::whole("WRONG_COLUMN_COUNT", message));
        }
        assert_eq!(row(&[(3, "a\nb")], 15).column_problem(&header), None);
    }

    #[test]
    fn surplus_empty_cells_and_missing_optional_cells_are_no_problem() {
        let header = header_with(&["note"]);
        // The last required field is before walletAddress, which is optional.
        for cells in [14, 15, 16, 17, 20] {
            assert_eq!(row(&[], cells).column_problem(&header), None, "{cells}");
        }
        assert!(row(&[], 13).column_problem(&header).is_some());
        assert!(row(&[(17, "x")], 18).column_problem(&header).is_some());
    }

    #[test]
    fn a_row_stays_rejected_for_an_invisible_problem_until_its_code_is_emptied() {
        let header = header_with(&["errorField", "errorCode", "errorMessage"]);
        for (code, expected) in [
            ("WRONG_COLUMN_COUNT", Some("WRONG_COLUMN_COUNT")),
            ("REQUIRED | EMAIL_IN_FILE_TWICE", Some("EMAIL_IN_FILE_TWICE")),
            ("INVALID_EMAIL", None),
            (" ", None),
        ] {
            let problem = row(&[(16, code)], 18).uncorrected_problem(&header);
            assert_eq!(problem.map(|problem| problem.code).as_deref(), expected, "{code}");
        }
        assert_eq!(row(&[], 15).uncorrected_problem(&header_with(&[])), None);
    }

    #[test]
    fn unreadable_text_is_a_problem_of_each_field_that_contains_it() {
        let header = header_with(&["jobId", "note"]);
        let bad = "J\u{FFFD}rgen";
        let row = row(&[(Field::LastName as usize, bad), (Field::City as usize, bad), (15, bad), (16, bad)], 17);
        let fields: Vec<_> = row.encoding_problems(&header).into_iter().filter_map(|problem| problem.field).collect();
        assert_eq!(fields, ["city", "jobId", "lastName"]);
    }

    #[test]
    fn unreadable_text_in_an_unused_column_is_ignored() {
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
    fn debug_output_contains_no_cell() {
        assert_eq!(format!("{:?}", row(&[(0, "secret")], 2)), "Row(record 1, line 2, 2 cells [redacted])");
    }
}
