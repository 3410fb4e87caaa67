//! What earlier scans have found about the order of the list. Pure.
//!
//! A user is reported missing after a part of the list only if the order is proven:
//!
//! - a scan read the whole list, and it was sorted by the time of creation, or
//! - the list has grown since an earlier scan, and each new user is at the end where the newest ones are.
//!
//! The second is visible at one row, the anchor: as many rows as the total has grown by are now between the row and
//! that end. If the list grows anywhere else, the order isn't proven any more.

use super::digest::EmailDigest;
use super::rows::{ReadPage, SortOrder};

/// A row near the newest end, and how far from it the row was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    row: EmailDigest,
    /// Rows that are nearer to the newest end.
    newer: u64,
    total: u64,
}

impl Anchor {
    /// Returns an anchor on the page with the newest users. It isn't one of the newest rows: users who are created at
    /// the same moment may appear in another order.
    pub(super) fn on(page: ReadPage<'_>, order: SortOrder) -> Option<Self> {
        let (len, depth) = (page.rows.len(), page.rows.len() / 4);
        let index = match order {
            SortOrder::NewestFirst => depth,
            SortOrder::OldestFirst => len.checked_sub(1 + depth)?,
        };
        let row = page.rows.get(index)?.digest?;
        Some(Self { row, newer: order.newer_rows(page.skip + index as u64, page.total)?, total: page.total })
    }
}

/// What one scan has found about a list that seems to be sorted.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundOrder {
    pub(super) order: SortOrder,
    /// Whether the whole list was read and is sorted.
    pub(super) is_proven: bool,
    pub(super) anchor: Option<Anchor>,
    /// Rows on a full page.
    pub(super) page_rows: u64,
}

#[derive(Debug, Default)]
pub(super) struct KnownOrder {
    order: Option<SortOrder>,
    is_proven: bool,
    anchor: Option<Anchor>,
    page_rows: u64,
}

impl KnownOrder {
    /// Returns a position on the last page, if that page has the newest users.
    pub(super) fn last_page(&self) -> Option<u64> {
        let anchor = self.anchor.filter(|_| self.order == Some(SortOrder::OldestFirst))?;
        Some(anchor.total - 1 - anchor.newer)
    }

    /// Compares a page with the anchor.
    pub(super) fn compare(&mut self, page: ReadPage<'_>) {
        let Some((order, anchor)) = self.order.zip(self.anchor) else { return };
        let Some(position) = page.position(&anchor.row) else { return };
        // Users were deleted: perhaps newer ones, perhaps older ones.
        let Some(growth) = page.total.checked_sub(anchor.total) else {
            self.anchor = None;
            return;
        };
        if order.newer_rows(position, page.total) == Some(anchor.newer + growth) {
            self.is_proven |= growth > 0;
        } else {
            (self.is_proven, self.anchor) = (false, None);
        }
    }

    /// Returns whether this order is proven.
    pub(super) fn is_proven(&self, order: SortOrder) -> bool {
        self.is_proven && self.order == Some(order)
    }

    /// Returns how many rows a full page had in the last scan.
    pub(super) const fn page_rows(&self) -> u64 {
        self.page_rows
    }

    /// Learns from a scan that ended. `None`: it found that the list isn't sorted, or could not read it.
    pub(super) fn learn(&mut self, found: Option<FoundOrder>) {
        *self = match found {
            None => Self::default(),
            Some(FoundOrder { order, is_proven, anchor, page_rows }) => {
                Self { order: Some(order), is_proven: is_proven || self.is_proven(order), anchor, page_rows }
            }
        };
    }
}
