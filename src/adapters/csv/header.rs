//! What the columns of a file are. Pure.
//!
//! Titles are compared without case, white space, `_` and `-`: `First Name`, `first_name` and `FIRSTNAME` are
//! `firstName`. A title that is *nearly* a name of the API is an error rather than an ignored column: a typing
//! error there would leave a field out of every row without anybody noticing.

use std::fmt;

use thiserror::Error;

use crate::domain::Field;

/// The columns that this program appends to its result files. Ignored when such a file is given again.
pub(crate) const RESULT_COLUMNS: [&str; 5] =
    ["serviceId", "verificationUrl", "errorField", "errorCode", "errorMessage"];

/// Beyond this many single-letter changes two names are different words.
const TYPING_ERRORS_MAX: usize = 2;
/// Longest title in a message, in characters.
const TITLE_CHARS_MAX: usize = 60;
/// Most titles in a message.
const TITLES_SHOWN_MAX: usize = 40;
/// Most problems in a message.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// What one column is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    /// A field of the API.
    Field(Field),
    /// `jobId`: the upstream's own reference.
    JobId,
    /// `idempotencyKey`: the upstream's own key.
    IdempotencyKey,
    /// `metadata.NAME`, with the name as it is written.
    Metadata(String),
    /// One of [`RESULT_COLUMNS`].
    Result,
    /// Anything else: kept in the result files, otherwise ignored.
    Other,
}

/// The columns of a file. Every required field has its column, and none has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    titles: Vec<String>,
    columns: Vec<Column>,
    /// Index of each field's column, so that a row is converted without looking at the others.
    pub(super) fields: Vec<(Field, usize)>,
    pub(super) job_id: Option<usize>,
    pub(super) idempotency_key: Option<usize>,
    pub(super) metadata: Vec<(String, usize)>,
    /// The `errorCode` of an earlier result of this program.
    pub(super) error_code: Option<usize>,
}

/// Everything that is wrong with a header, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderError {
    /// At least one.
    pub problems: Vec<HeaderProblem>,
}

/// One thing that is wrong with a header. Columns are counted from 1, titles are cut.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HeaderProblem {
    /// Nearly a known name.
    #[error("column {column} \"{title}\" is not known: did you mean {meant}?")]
    NearMiss {
        /// Its position.
        column: usize,
        /// As it is written.
        title: String,
        /// The known name.
        meant: &'static str,
    },
    /// Two columns for one thing.
    #[error("columns {first} and {second} are both {name}: remove one of them")]
    Twice {
        /// What they both are.
        name: String,
        /// Position of the first.
        first: usize,
        /// Position of the second.
        second: usize,
    },
    /// Required fields without a column.
    #[error("there is no column for {}: add it (the columns are {})", missing.join(", "), seen.join(", "))]
    Missing {
        /// The fields, in canonical order.
        missing: Vec<&'static str>,
        /// The titles that are there.
        seen: Vec<String>,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(PROBLEMS_SHOWN_MAX).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        match self.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for HeaderError {}

impl Header {
    /// Finds out what the columns are.
    ///
    /// # Errors
    /// Near misses, duplicates and missing required fields, all at once.
    pub(crate) fn parse<'t>(titles: impl IntoIterator<Item = &'t str>) -> Result<Self, HeaderError> {
        let titles: Vec<String> = titles.into_iter().map(str::to_owned).collect();
        let columns: Vec<Column> = titles.iter().map(|title| recognise(title)).collect();
        let near_misses = near_misses(&titles, &columns);
        let mut problems = duplicates(&columns);
        let missing = Field::ALL.into_iter().filter(|field| {
            field.is_required()
                && !columns.contains(&Column::Field(*field))
                // Already complained about.
                && !near_misses.iter().any(|miss| matches!(miss, HeaderProblem::NearMiss { meant, .. } if *meant == field.name()))
        });
        let missing: Vec<&str> = missing.map(Field::name).collect();
        problems.splice(0..0, near_misses);
        if !missing.is_empty() {
            problems.push(HeaderProblem::Missing { missing, seen: seen(&titles) });
        }
        if problems.is_empty() { Ok(Self::new(titles, columns)) } else { Err(HeaderError { problems }) }
    }

    fn new(titles: Vec<String>, columns: Vec<Column>) -> Self {
        let mut header = Self {
            titles,
            fields: vec![],
            job_id: None,
            idempotency_key: None,
            metadata: vec![],
            error_code: None,
            columns,
        };
        for (index, column) in header.columns.iter().enumerate() {
            match column {
                Column::Result if fold(&header.titles[index]) == fold("errorCode") => header.error_code = Some(index),
                Column::Field(field) => header.fields.push((*field, index)),
                Column::JobId => header.job_id = Some(index),
                Column::IdempotencyKey => header.idempotency_key = Some(index),
                Column::Metadata(name) => header.metadata.push((name.clone(), index)),
                Column::Result | Column::Other => {}
            }
        }
        header
    }

    /// How many of `titles` are known. Tells a header from a row, and the right delimiter from a wrong one.
    pub(super) fn count_recognised<'t>(titles: impl IntoIterator<Item = &'t str>) -> usize {
        titles.into_iter().filter(|title| recognise(title) != Column::Other).count()
    }

    /// The titles as they are written, one a column.
    pub(crate) fn titles(&self) -> &[String] {
        &self.titles
    }

    /// Columns that serve nothing, for a warning: position, counted from 1, and title. Columns without a title,
    /// which spreadsheets like to append, are left out.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = (usize, String)> {
        let columns = self.titles.iter().zip(&self.columns).enumerate();
        columns
            .filter(|(_, (title, column))| **column == Column::Other && !fold(title).is_empty())
            .map(|(index, (title, _))| (index + 1, shown(title)))
    }

    /// Whether the column belongs to the customer's file, rather than to an earlier result of this program.
    pub(super) fn is_own(&self, index: usize) -> bool {
        self.columns.get(index) != Some(&Column::Result)
    }
}

/// What a title names.
fn recognise(title: &str) -> Column {
    let title = title.trim();
    if let Some((prefix, name)) = title.split_once('.')
        && fold(prefix) == "metadata"
        && !name.trim().is_empty()
    {
        return Column::Metadata(name.trim().to_owned());
    }
    let folded = fold(title);
    let is = |name: &str| fold(name) == folded;
    match Field::ALL.into_iter().find(|field| is(field.name())) {
        Some(field) => Column::Field(field),
        None if is("jobId") => Column::JobId,
        None if is("idempotencyKey") => Column::IdempotencyKey,
        None if RESULT_COLUMNS.into_iter().any(is) => Column::Result,
        None => Column::Other,
    }
}

/// Unknown titles that are a typing error away from a name that is not there. Where the name itself is there, as
/// with `address` and `address2`, the other column is no typing error.
fn near_misses(titles: &[String], columns: &[Column]) -> Vec<HeaderProblem> {
    let fields = Field::ALL.into_iter().map(|field| (Column::Field(field), field.name()));
    // A key of the upstream that is overlooked would be replaced by a derived one. `jobId` is too short to tell
    // a typing error from a word such as "job".
    let absent: Vec<(String, &str)> = fields
        .chain([(Column::IdempotencyKey, "idempotencyKey")])
        .filter(|(column, _)| !columns.contains(column))
        .map(|(_, name)| (fold(name), name))
        .collect();
    let unknown = titles.iter().zip(columns).enumerate().filter(|(_, (_, column))| **column == Column::Other);
    unknown
        .filter_map(|(index, (title, _))| {
            let folded = fold(title);
            let chars = folded.chars().count();
            let near = absent
                .iter()
                // Each change makes a name at most one longer or shorter, and long titles take long to compare.
                .filter(|(known, _)| known.len().abs_diff(chars) <= TYPING_ERRORS_MAX)
                .map(|(known, name)| (strsim::levenshtein(known, &folded), *name));
            let (_, meant) = near.filter(|(distance, _)| *distance <= TYPING_ERRORS_MAX).min()?;
            Some(HeaderProblem::NearMiss { column: index + 1, title: shown(title), meant })
        })
        .collect()
}

fn duplicates(columns: &[Column]) -> Vec<HeaderProblem> {
    let named = columns.iter().enumerate().filter_map(|(index, column)| Some((index, column, name_of(column)?)));
    named
        .filter_map(|(index, column, name)| {
            let first = columns[..index].iter().position(|earlier| earlier == column)?;
            Some(HeaderProblem::Twice { name, first: first + 1, second: index + 1 })
        })
        .collect()
}

/// What a column is, where only one may be that.
fn name_of(column: &Column) -> Option<String> {
    match column {
        Column::Field(field) => Some(field.name().to_owned()),
        Column::JobId => Some("jobId".to_owned()),
        Column::IdempotencyKey => Some("idempotencyKey".to_owned()),
        Column::Metadata(name) => Some(format!("metadata.{}", shown(name))),
        Column::Result | Column::Other => None,
    }
}

fn fold(title: &str) -> String {
    let significant = title.chars().filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-'));
    significant.flat_map(char::to_lowercase).collect()
}

/// A title as messages show it: cut, without control characters.
fn shown(title: &str) -> String {
    title.chars().filter(|c| !c.is_control()).take(TITLE_CHARS_MAX).collect()
}

fn seen(titles: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = titles.iter().take(TITLES_SHOWN_MAX).map(|title| shown(title)).collect();
    if titles.len() > TITLES_SHOWN_MAX {
        seen.push(format!("and {} more", titles.len() - TITLES_SHOWN_MAX));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API's names, with some replaced.
    fn titles<'t>(replaced: &[(&str, &'t str)], more: &[&'t str]) -> Vec<&'t str> {
        let with = |name: &'static str| replaced.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new);
        Field::ALL.into_iter().map(|field| with(field.name())).chain(more.iter().copied()).collect()
    }

    fn errors(titles: Vec<&str>) -> String {
        Header::parse(titles).map_or_else(|error| error.to_string(), |header| format!("fine: {header:?}"))
    }

    #[test]
    fn titles_are_compared_without_case_spaces_underscores_and_hyphens() {
        for title in ["firstName", "First Name", "first_name", "FIRSTNAME", " first-name ", "First\u{a0}Name"] {
            assert_eq!(recognise(title), Column::Field(Field::FirstName), "{title}");
        }
        for field in Field::ALL {
            assert_eq!(recognise(field.name()), Column::Field(field));
        }
        for (title, column) in [
            ("Job ID", Column::JobId),
            ("idempotency-key", Column::IdempotencyKey),
            ("Metadata.Branch office", Column::Metadata("Branch office".to_owned())),
            ("metadata.", Column::Other),
            ("metadata", Column::Other),
            ("service_id", Column::Result),
            ("Error Message", Column::Result),
            ("birthday", Column::Other),
            ("", Column::Other),
        ] {
            assert_eq!(recognise(title), column, "{title}");
        }
    }

    #[test]
    fn a_title_that_is_nearly_a_name_is_an_error_that_says_which() {
        for (name, title, message) in [
            ("walletAddress", "walletAdress", "column 15 \"walletAdress\" is not known: did you mean walletAddress?"),
            ("email", "e-mial", "column 5 \"e-mial\" is not known: did you mean email?"),
            ("email", "E-Mails", "column 5 \"E-Mails\" is not known: did you mean email?"),
            ("ipAddress", "IP Adresse", "column 7 \"IP Adresse\" is not known: did you mean ipAddress?"),
        ] {
            assert_eq!(errors(titles(&[(name, title)], &[])), message);
        }
        let message = "column 16 \"idempotencyKy\" is not known: did you mean idempotencyKey?";
        assert_eq!(errors(titles(&[], &["idempotencyKy"])), message);
    }

    #[test]
    fn a_title_that_is_near_to_a_name_that_is_there_is_ignored() {
        let header = Header::parse(titles(&[], &["address2", "", "Birthday"])).unwrap();
        assert_eq!(header.ignored().collect::<Vec<_>>(), [(16, "address2".to_owned()), (18, "Birthday".to_owned())]);
    }

    #[test]
    fn two_columns_for_one_field_are_an_error_that_names_both() {
        assert_eq!(errors(titles(&[], &["E-Mail"])), "columns 5 and 16 are both email: remove one of them");
        let twice = errors(titles(&[], &["metadata.a", "Metadata.a"]));
        assert_eq!(twice, "columns 16 and 17 are both metadata.a: remove one of them");
        assert!(Header::parse(titles(&[], &["note", "note", "errorCode", "errorCode"])).is_ok());
    }

    #[test]
    fn missing_columns_are_named_all_at_once_together_with_those_that_are_there() {
        assert_eq!(
            errors(vec!["First Name", "lastName", "emial"]),
            "column 3 \"emial\" is not known: did you mean email?; there is no column for accountPurpose, address, city, \
             countryCode, ipAddress, isTermsOfServiceAccepted, phoneNumber, postalCode, program, region: add it \
             (the columns are First Name, lastName, emial)"
        );
        let optional = titles(&[("redirectUrl", "note"), ("walletAddress", "remark")], &[]);
        assert!(Header::parse(optional).is_ok());
    }

    #[test]
    fn messages_stay_short() {
        let long = "x".repeat(1_000);
        let message = errors(vec![&long; 1_000]);
        assert!(message.len() < 4_000, "{}", message.len());
        assert!(message.contains("and 960 more"));
        let message = errors(vec!["emial"; 1_000]);
        assert!(message.len() < 2_000 && message.ends_with("; and 981 more"), "{message}");
    }
}
