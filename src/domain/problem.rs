//! What is wrong with a job, in words that say how to mend it.

use serde::{Deserialize, Serialize};

/// One thing that keeps a job from succeeding as it is.
///
/// Problems go into events and result files. They never quote the value of a field, so that a problem can be
/// read aloud without giving personal data away; the API's own text (`message` of an API refusal) may, and
/// therefore no problem is ever logged whole: only [`Problem::field`] and [`Problem::code`] are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(description = "One thing that keeps a job from succeeding as it is."))]
pub struct Problem {
    /// API name of the field; none where the problem concerns the whole job.
    pub field: Option<String>,
    /// Stable, upper-case, for machines.
    pub code: String,
    /// For people: what is wrong and how to mend it.
    pub message: String,
}

impl Problem {
    /// A problem with one field.
    pub fn of(field: crate::domain::Field, code: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.name().to_owned()), code: code.to_owned(), message: message.into() }
    }

    /// A problem with the job as a whole.
    pub fn whole(code: &str, message: impl Into<String>) -> Self {
        Self { field: None, code: code.to_owned(), message: message.into() }
    }
}

/// Something that a person should look at, although the job can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The field it concerns.
    pub field: crate::domain::Field,
    /// Stable, upper-case, for machines.
    pub code: &'static str,
    /// For people.
    pub message: &'static str,
}
