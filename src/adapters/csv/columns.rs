//! Recognises column titles, and finds typing errors and duplicates among them. Pure; used by the header.
//!
//! Titles are compared without case, white space, `_` and `-`: `First Name`, `first_name` and `FIRSTNAME` are all
//! `firstName`.

use crate::adapters::csv::header_error::{HeaderProblem, shown_title};
use crate::domain::Field;

/// Columns that this program appends to the rows of created and existing users. Ignored in an input file.
pub(crate) const LINK_TITLES: [&str; 3] = ["serviceId", "verificationUrl", "linkExpiresAt"];

/// Columns that this program appends to the rows that were rejected or failed. Ignored in an input file.
pub(crate) const ERROR_TITLES: [&str; 3] = ["errorField", "errorCode", "errorMessage"];

/// A title with more single-letter changes than this is another word.
const TYPING_ERRORS_MAX: usize = 2;

/// Meaning of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CsvColumn {
    /// A field of the API.
    Field(Field),
    /// `jobId`: the upstream's own reference.
    JobId,
    /// `idempotencyKey`: the upstream's own key.
    IdempotencyKey,
    /// `metadata.NAME`, with the name as in the file.
    Metadata(String),
    /// `errorCode` of an earlier result file.
    ErrorCode,
    /// Another one of [`LINK_TITLES`] and [`ERROR_TITLES`].
    Result,
    /// Any other column: copied to the result files, otherwise ignored.
    Other,
}

impl CsvColumn {
    /// Recognises a title.
    pub(super) fn of_title(title: &str) -> Self {
        let title = title.trim();
        if let Some((prefix, name)) = title.split_once('.')
            && fold(prefix) == "metadata"
            && !name.trim().is_empty()
        {
            return Self::Metadata(name.trim().to_owned());
        }
        let folded = fold(title);
        let is = |name: &str| fold(name) == folded;
        match Field::ALL.into_iter().find(|field| is(field.name())) {
            Some(field) => Self::Field(field),
            None if is("jobId") => Self::JobId,
            None if is("idempotencyKey") => Self::IdempotencyKey,
            None if is("errorCode") => Self::ErrorCode,
            None if LINK_TITLES.into_iter().chain(ERROR_TITLES).any(is) => Self::Result,
            None => Self::Other,
        }
    }

    /// Whether this program appended the column to a result file.
    pub(super) const fn is_result(&self) -> bool {
        matches!(self, Self::Result | Self::ErrorCode)
    }

    /// Name for messages, if a file may have only one column of this meaning.
    fn unique_name(&self) -> Option<String> {
        match self {
            Self::Field(field) => Some(field.name().to_owned()),
            Self::JobId => Some("jobId".to_owned()),
            Self::IdempotencyKey => Some("idempotencyKey".to_owned()),
            Self::Metadata(name) => Some(format!("metadata.{}", shown_title(name))),
            Self::ErrorCode | Self::Result | Self::Other => None,
        }
    }
}

/// Finds unknown titles that are a typing error away from a missing name. If the name itself is present, as with
/// `address` and `address2`, the unknown title is no typing error.
pub(super) fn near_misses(titles: &[String], columns: &[CsvColumn]) -> Vec<HeaderProblem> {
    let fields = Field::ALL.into_iter().map(|field| (CsvColumn::Field(field), field.name()));
    // A misspelt key column would be ignored, and the upstream's keys replaced by derived ones. `jobId` is too short to
    // distinguish a typing error from a word such as "job".
    let absent: Vec<(String, &str)> = fields
        .chain([(CsvColumn::IdempotencyKey, "idempotencyKey")])
        .filter(|(column, _)| !columns.contains(column))
        .map(|(_, name)| (fold(name), name))
        .collect();
    let unknown = titles.iter().zip(columns).enumerate().filter(|(_, (_, column))| **column == CsvColumn::Other);
    unknown
        .filter_map(|(index, (title, _))| {
            let folded = fold(title);
            let chars = folded.chars().count();
            let near = absent
                .iter()
                // A change alters the length by one at most, and long titles take long to compare.
                .filter(|(known, _)| known.len().abs_diff(chars) <= TYPING_ERRORS_MAX)
                .map(|(known, name)| (strsim::levenshtein(known, &folded), *name));
            let (_, meant) = near.filter(|(distance, _)| *distance <= TYPING_ERRORS_MAX).min()?;
            Some(HeaderProblem::NearMiss { column: index + 1, title: shown_title(title), meant })
        })
        .collect()
}

/// Finds columns that have the meaning of an earlier column.
pub(super) fn duplicates(columns: &[CsvColumn]) -> Vec<HeaderProblem> {
    let unique = columns.iter().enumerate().filter_map(|(index, column)| Some((index, column, column.unique_name()?)));
    unique
        .filter_map(|(index, column, name)| {
            let first = columns[..index].iter().position(|earlier| earlier == column)?;
            Some(HeaderProblem::Twice { name, first: first + 1, second: index + 1 })
        })
        .collect()
}

/// Returns a title without case, white space, `_` and `-`.
pub(super) fn fold(title: &str) -> String {
    let significant = title.chars().filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-'));
    significant.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_compared_without_case_spaces_underscores_and_hyphens() {
        for title in ["firstName", "First Name", "first_name", "FIRSTNAME", " first-name ", "First\u{a0}Name"] {
            assert_eq!(CsvColumn::of_title(title), CsvColumn::Field(Field::FirstName), "{title}");
        }
        for field in Field::ALL {
            assert_eq!(CsvColumn::of_title(field.name()), CsvColumn::Field(field));
        }
        for (title, column) in [
            ("Job ID", CsvColumn::JobId),
            ("idempotency-key", CsvColumn::IdempotencyKey),
            ("Metadata.Branch office", CsvColumn::Metadata("Branch office".to_owned())),
            ("metadata.", CsvColumn::Other),
            ("metadata", CsvColumn::Other),
            ("service_id", CsvColumn::Result),
            ("linkExpiresAt", CsvColumn::Result),
            ("Error Message", CsvColumn::Result),
            ("error_code", CsvColumn::ErrorCode),
            ("birthday", CsvColumn::Other),
            ("", CsvColumn::Other),
        ] {
            assert_eq!(CsvColumn::of_title(title), column, "{title}");
        }
    }
}
