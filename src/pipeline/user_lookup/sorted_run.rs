//! Whether the rows of a list are sorted by the time of creation. Pure.

use super::rows::{ListRow, SortOrder};
use crate::domain::Timestamp;

/// How much newer a row may be than one before it: users that are created at the same moment may be listed in another
/// order, or by times in whole seconds. Assumed.
const DISORDER_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Neighbours of which the second is older that make a run plainly sorted: 16 in a row happen by chance once in 10^14.
const FALLS_MIN: u32 = 16;

/// As many neighbours at most may be in the wrong order, as a share of those in the right one.
const RISES_SHARE_MAX: u32 = 8;

/// The rows that were read without a gap from the newest on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SortedRun {
    last: Option<Timestamp>,
    oldest: Option<Timestamp>,
    falls: u32,
    rises: u32,
    is_broken: bool,
}

impl SortedRun {
    /// Adds the next older row.
    pub(super) fn push(&mut self, created_at: Option<Timestamp>) {
        let Some(at) = created_at else {
            self.is_broken = true;
            return;
        };
        if let Some(last) = self.last.replace(at) {
            self.falls = self.falls.saturating_add(u32::from(at < last));
            self.rises = self.rises.saturating_add(u32::from(at > last));
        }
        self.is_broken |= self.oldest.is_some_and(|oldest| at > oldest.plus(DISORDER_MAX));
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
    }

    /// Records that rows may be missing, or that the list isn't sorted.
    pub(super) const fn break_off(&mut self) {
        self.is_broken = true;
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Returns whether enough rows are sorted to rule out chance.
    pub(super) const fn is_plainly_sorted(&self) -> bool {
        self.falls >= FALLS_MIN && self.is_mostly_falling()
    }

    const fn is_mostly_falling(&self) -> bool {
        !self.is_broken && self.rises <= self.falls / RISES_SHARE_MAX
    }

    /// Returns the time after which every user was created whose row is beyond this run; `None`: nothing is known.
    /// If the list is sorted, each user who was created later is in the run.
    pub(super) fn complete_after(&self) -> Option<Timestamp> {
        self.oldest.filter(|_| self.is_plainly_sorted()).map(|oldest| oldest.plus(DISORDER_MAX))
    }
}

/// Returns the order that the rows of a page seem to have; `None`: none by the time of creation.
pub(super) fn seeming_order(rows: &[ListRow]) -> Option<SortOrder> {
    let seems_sorted = |rows: &mut dyn Iterator<Item = &ListRow>| {
        let mut run = SortedRun::default();
        rows.for_each(|row| run.push(row.created_at));
        run.falls > 0 && run.is_mostly_falling()
    };
    if seems_sorted(&mut rows.iter()) {
        Some(SortOrder::NewestFirst)
    } else if seems_sorted(&mut rows.iter().rev()) {
        Some(SortOrder::OldestFirst)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(times_ms: impl IntoIterator<Item = i64>) -> Vec<ListRow> {
        let row = |ms| ListRow { digest: None, created_at: Some(Timestamp::from_unix_ms(ms)) };
        times_ms.into_iter().map(row).collect()
    }

    fn run(times_ms: impl IntoIterator<Item = i64>) -> SortedRun {
        let mut run = SortedRun::default();
        rows(times_ms).iter().for_each(|row| run.push(row.created_at));
        run
    }

    #[test]
    fn order_of_a_page_is_that_of_its_times() {
        let minutes = |from: i64, to: i64| (from..to).map(|n| n * 60_000);
        assert_eq!(seeming_order(&rows(minutes(0, 50))), Some(SortOrder::OldestFirst));
        assert_eq!(seeming_order(&rows(minutes(0, 50).rev())), Some(SortOrder::NewestFirst));
        assert_eq!(seeming_order(&rows(minutes(0, 50).rev().chain(minutes(3, 4)))), None);
        assert_eq!(seeming_order(&rows([5, 5, 5])), None, "nothing shows the order");
        assert_eq!((seeming_order(&rows([7])), seeming_order(&[])), (None, None));
        let mut without_time = rows(minutes(0, 50));
        without_time[20].created_at = None;
        assert_eq!(seeming_order(&without_time), None);
    }

    #[test]
    fn a_run_is_complete_after_its_oldest_time() {
        let sorted = run((0..30).rev().map(|n| 1_000_000 + n * 5_000));
        assert_eq!(sorted.complete_after(), Some(Timestamp::from_unix_ms(1_001_000)));
        assert_eq!(run((0..10).rev().map(|n| n * 5_000)).complete_after(), None, "perhaps by chance");
        assert_eq!(run((0..30).rev().map(|n| n * 5_000).chain([20_000])).complete_after(), None);
    }

    #[test]
    fn users_created_at_the_same_moment_may_be_in_any_order() {
        let swapped = |n: i64| if n % 20 == 7 { n - 2 } else { n };
        assert!(run((0..100).rev().map(|n| swapped(n) * 50)).is_plainly_sorted());
        // In random order within a second.
        assert!(!run((0..100).map(|n| (n * 37) % 101)).is_plainly_sorted());
    }
}
