//! Problems of a header. All of them are reported at once.

use std::fmt;

use thiserror::Error;

/// Most characters of a title in a message.
const TITLE_CHARS_MAX: usize = 60;
/// Most titles in a message.
const TITLES_SHOWN_MAX: usize = 40;
/// Most problems in a message.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// Every problem of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderError {
    /// At least one.
    pub problems: Vec<HeaderProblem>,
}

/// One problem of a header. Columns are counted from 1; titles are shortened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HeaderProblem {
    /// Nearly a known name.
    #[error("column {column} \"{title}\" is not known: did you mean {meant}?")]
    NearMiss {
        /// Position.
        column: usize,
        /// Title in the file.
        title: String,
        /// The known name.
        meant: &'static str,
    },
    /// Two columns for one name.
    #[error("columns {first} and {second} are both {name}: remove one of them")]
    Twice {
        name: String,
        /// Position of the first column.
        first: usize,
        /// Position of the second column.
        second: usize,
    },
    /// Required fields without a column.
    #[error("there is no column for {}: add it (the columns are {})", missing.join(", "), titles.join(", "))]
    Missing {
        /// The fields, in canonical order.
        missing: Vec<&'static str>,
        /// Titles in the file.
        titles: Vec<String>,
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

/// Returns a title for a message: shortened, without control characters.
pub(super) fn shown_title(title: &str) -> String {
    title.chars().filter(|c| !c.is_control()).take(TITLE_CHARS_MAX).collect()
}

/// Returns the titles for a message, at most [`TITLES_SHOWN_MAX`].
pub(super) fn shown_titles(titles: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = titles.iter().take(TITLES_SHOWN_MAX).map(|title| shown_title(title)).collect();
    if titles.len() > TITLES_SHOWN_MAX {
        shown.push(format!("and {} more", titles.len() - TITLES_SHOWN_MAX));
    }
    shown
}
