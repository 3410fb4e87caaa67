//! Columns of a file. Pure; built by the scan, used for every row.
//!
//! A title that is *nearly* a name of the API is an error. If it were ignored, a typing error would drop a field from
//! every row.

use crate::adapters::csv::columns::{CsvColumn, duplicates, fold, near_misses};
use crate::adapters::csv::header_error::{HeaderError, HeaderProblem, shown_title, shown_titles};
use crate::domain::Field;

/// The columns of a file. Every required field has a column, and no field has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CsvHeader {
    titles: Vec<String>,
    columns: Vec<CsvColumn>,
    /// Column of each field, so that a row is converted without a look at the others.
    pub(super) fields: Vec<(Field, usize)>,
    pub(super) job_id: Option<usize>,
    pub(super) idempotency_key: Option<usize>,
    pub(super) metadata: Vec<(String, usize)>,
    /// `errorCode` of an earlier result file.
    pub(super) error_code: Option<usize>,
}

impl CsvHeader {
    /// Recognises the columns.
    ///
    /// # Errors
    /// Near misses, duplicates and missing required fields, all at once.
    pub(crate) fn parse<'t>(titles: impl IntoIterator<Item = &'t str>) -> Result<Self, HeaderError> {
        let titles: Vec<String> = titles.into_iter().map(str::to_owned).collect();
        let columns: Vec<CsvColumn> = titles.iter().map(|title| CsvColumn::of_title(title)).collect();
        let mut problems = near_misses(&titles, &columns);
        let is_misspelt = |field: &Field| {
            let name = field.name();
            problems.iter().any(|miss| matches!(miss, HeaderProblem::NearMiss { meant, .. } if *meant == name))
        };
        let missing: Vec<&str> = Field::ALL
            .into_iter()
            .filter(|field| field.is_required() && !columns.contains(&CsvColumn::Field(*field)) && !is_misspelt(field))
            .map(Field::name)
            .collect();
        problems.extend(duplicates(&columns));
        if !missing.is_empty() {
            problems.push(HeaderProblem::Missing { missing, titles: shown_titles(&titles) });
        }
        if problems.is_empty() { Ok(Self::new(titles, columns)) } else { Err(HeaderError { problems }) }
    }

    fn new(titles: Vec<String>, columns: Vec<CsvColumn>) -> Self {
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
                CsvColumn::Field(field) => header.fields.push((*field, index)),
                CsvColumn::JobId => header.job_id = Some(index),
                CsvColumn::IdempotencyKey => header.idempotency_key = Some(index),
                CsvColumn::Metadata(name) => header.metadata.push((name.clone(), index)),
                CsvColumn::ErrorCode => header.error_code = Some(index),
                CsvColumn::Result | CsvColumn::Other => {}
            }
        }
        header
    }

    /// Counts the known titles. Distinguishes a header from a row, and the right delimiter from a wrong one.
    pub(super) fn count_recognised<'t>(titles: impl IntoIterator<Item = &'t str>) -> usize {
        titles.into_iter().filter(|title| CsvColumn::of_title(title) != CsvColumn::Other).count()
    }

    /// Titles as in the file, one for each column.
    pub(crate) fn titles(&self) -> &[String] {
        &self.titles
    }

    /// Position, counted from 1, and title of each unused column, for a warning. Columns without a title, which
    /// spreadsheets often append, are left out.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = (usize, String)> {
        let columns = self.titles.iter().zip(&self.columns).enumerate();
        columns
            .filter(|(_, (title, column))| **column == CsvColumn::Other && !fold(title).is_empty())
            .map(|(index, (title, _))| (index + 1, shown_title(title)))
    }

    /// Whether every row needs a value in the column.
    pub(super) fn is_required(&self, index: usize) -> bool {
        matches!(self.columns.get(index), Some(CsvColumn::Field(field)) if field.is_required())
    }

    /// Whether the column belongs to the customer's file. A column of an earlier result file doesn't.
    pub(super) fn is_own(&self, index: usize) -> bool {
        !self.columns.get(index).is_some_and(CsvColumn::is_result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the API, some replaced, and more titles.
    fn titles<'t>(replaced: &[(&str, &'t str)], more: &[&'t str]) -> Vec<&'t str> {
        let with = |name: &'static str| replaced.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new);
        Field::ALL.into_iter().map(|field| with(field.name())).chain(more.iter().copied()).collect()
    }

    fn errors(titles: Vec<&str>) -> String {
        CsvHeader::parse(titles).map_or_else(|error| error.to_string(), |header| format!("fine: {header:?}"))
    }

    #[test]
    fn a_misspelt_title_is_an_error_that_suggests_the_name() {
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
    fn a_title_similar_to_a_present_name_is_ignored() {
        let header = CsvHeader::parse(titles(&[], &["address2", "", "Birthday"])).unwrap();
        assert_eq!(header.ignored().collect::<Vec<_>>(), [(16, "address2".to_owned()), (18, "Birthday".to_owned())]);
    }

    #[test]
    fn two_columns_for_one_field_are_an_error_that_names_both() {
        assert_eq!(errors(titles(&[], &["E-Mail"])), "columns 5 and 16 are both email: remove one of them");
        let twice = errors(titles(&[], &["metadata.a", "Metadata.a"]));
        assert_eq!(twice, "columns 16 and 17 are both metadata.a: remove one of them");
        assert!(CsvHeader::parse(titles(&[], &["note", "note", "errorCode", "errorCode"])).is_ok());
    }

    #[test]
    fn an_error_names_all_missing_columns_and_the_present_ones() {
        assert_eq!(
            errors(vec!["First Name", "lastName", "emial"]),
            "column 3 \"emial\" is not known: did you mean email?; there is no column for accountPurpose, address, \
             city, countryCode, ipAddress, isTermsOfServiceAccepted, phoneNumber, postalCode, program, region: add it \
             (the columns are First Name, lastName, emial)"
        );
        let optional = titles(&[("redirectUrl", "note"), ("walletAddress", "remark")], &[]);
        assert!(CsvHeader::parse(optional).is_ok());
    }

    #[test]
    fn messages_have_a_limit() {
        let long = "x".repeat(1_000);
        let message = errors(vec![&long; 1_000]);
        assert!(message.len() < 4_000, "{}", message.len());
        assert!(message.contains("and 960 more"));
        let message = errors(vec!["emial"; 1_000]);
        assert!(message.len() < 2_000 && message.ends_with("; and 981 more"), "{message}");
    }
}
