//! What is wrong with a job and how to correct it.

use serde::{Deserialize, Serialize};

/// One thing that keeps a job from succeeding as it is.
///
/// Problems are published in events and written to result files. Their messages never quote the value of a field. Only
/// the API's own text (`message` of an API refusal) may, so the log contains only [`Problem::field`] and
/// [`Problem::code`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(description = "One thing that keeps a job from succeeding as it is."))]
pub struct Problem {
    /// API name of the field; `None` where the problem concerns the whole job.
    pub field: Option<String>,
    /// Stable, upper-case, for machines.
    pub code: String,
    /// For people: what is wrong and how to correct it.
    pub message: String,
}

impl Problem {
    /// Creates a problem with one field.
    pub fn of(field: crate::domain::Field, code: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.name().to_owned()), code: code.to_owned(), message: message.into() }
    }

    /// Creates a problem with the whole job.
    pub fn whole(code: &str, message: impl Into<String>) -> Self {
        Self { field: None, code: code.to_owned(), message: message.into() }
    }
}

/// Something that a person should know or check; the job continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The field to check.
    pub field: crate::domain::Field,
    /// Stable, upper-case, for machines.
    pub code: &'static str,
    /// Whether the value is sent as it is.
    pub kind: WarningKind,
    /// For people.
    pub message: &'static str,
}

impl Warning {
    /// Creates a warning of a value that is sent as it is and may be wrong.
    pub const fn doubtful(field: crate::domain::Field, code: &'static str, message: &'static str) -> Self {
        Self { field, code, kind: WarningKind::Doubtful, message }
    }

    /// Creates a report of a value that was converted.
    pub const fn converted(field: crate::domain::Field, code: &'static str, message: &'static str) -> Self {
        Self { field, code, kind: WarningKind::Converted, message }
    }
}

/// What happens to the value of a [`Warning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// It was converted in the only way that it can be meant.
    Converted,
    /// It is sent as it is, and may be wrong.
    Doubtful,
}
