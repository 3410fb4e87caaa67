//! Rows and pages of the user list, as far as their order matters. Pure.

use super::digest::EmailDigest;
use crate::domain::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListRow {
    /// `None`: the row has no readable email or id.
    pub(super) digest: Option<EmailDigest>,
    pub(super) created_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ReadPage<'p> {
    /// Position of the first row in the list.
    pub(super) skip: u64,
    pub(super) rows: &'p [ListRow],
    /// Number of users in the list.
    pub(super) total: u64,
}

impl ReadPage<'_> {
    pub(super) const fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Returns the position after the last row.
    pub(super) const fn end(&self) -> u64 {
        self.skip.saturating_add(self.len())
    }

    /// Returns the position of a row, if the page has it.
    pub(super) fn position(&self, digest: &EmailDigest) -> Option<u64> {
        let index = self.rows.iter().position(|row| row.digest.as_ref() == Some(digest))?;
        Some(self.skip + index as u64)
    }
}

/// The end of the list at which new users appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SortOrder {
    NewestFirst,
    OldestFirst,
}

impl SortOrder {
    /// Returns how many rows are newer than the one at this position; `None`: the list is shorter.
    pub(super) fn newer_rows(self, position: u64, total: u64) -> Option<u64> {
        match self {
            Self::NewestFirst => Some(position),
            Self::OldestFirst => total.checked_sub(position + 1),
        }
    }
}
