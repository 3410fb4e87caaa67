//! Scan coverage: decides whether a scan has read the whole user list. Pure.
//!
//! Nothing is assumed about the order of the list, the order in which its pages are read, or their length. A user
//! created or deleted during the scan moves others to other pages, so that some are read twice and others may be
//! missed. So the whole list was read if
//!
//! - a page for every position was read,
//! - the total never shrank, and
//! - as many different users were read as the list had at the start. Repeated pages, as from a server that ignores
//!   `skip`, don't count.

use super::digest::EmailDigest;

/// Repeats of one page in a row that abort the scan: a whole page of users isn't created between two requests.
const REPEATS_MAX: u32 = 3;

/// How many users may be created during a scan, beyond as many as the list had at the start. A list that grows by more
/// grows as fast as it is read.
const NEWCOMERS_MAX: u64 = 1_000;

/// Most users in a list that can be read whole. Bounds memory, at 8 bytes each.
const USERS_MAX: usize = 4_000_000;

#[derive(Debug, Default)]
pub(super) struct ScanCoverage {
    /// Rows read, with repeats.
    read: u64,
    total_first: Option<u64>,
    total_max: u64,
    /// Entries without an email or an id. They count, although repeats of them can't be recognised.
    unusable: u64,
    /// Digest prefixes of the users read.
    seen: Vec<u64>,
    previous: Vec<u64>,
    repeats: u32,
}

impl ScanCoverage {
    /// Records a page: its users, and its number of entries without an email or an id.
    ///
    /// # Errors
    /// Says why no user may be called missing after this page.
    pub(super) fn record_page(
        &mut self,
        digests: &[EmailDigest],
        unusable: u64,
        total: u64,
    ) -> Result<(), &'static str> {
        let first = *self.total_first.get_or_insert(total);
        if total < self.total_max {
            // Users moved to pages that were read already.
            return Err("the list shrank while it was read");
        }
        self.total_max = total;
        self.read += digests.len() as u64 + unusable;
        self.unusable += unusable;
        if self.read > first.saturating_mul(2).saturating_add(NEWCOMERS_MAX) {
            return Err("the list grows as fast as it is read");
        }
        let page: Vec<u64> = digests.iter().map(EmailDigest::prefix).collect();
        // A page without users isn't compared: its entries can't be distinguished.
        self.repeats = if page == self.previous && !page.is_empty() { self.repeats + 1 } else { 0 };
        if self.repeats == REPEATS_MAX {
            return Err("the list gives the same page again and again");
        }
        if self.seen.len() + page.len() > USERS_MAX {
            return Err("the list is too long to be read whole");
        }
        if self.seen.is_empty() {
            let expected = usize::try_from(total).unwrap_or(USERS_MAX).min(USERS_MAX);
            self.seen.reserve_exact(expected.max(page.len()));
        }
        self.seen.extend(&page);
        self.previous = page;
        Ok(())
    }

    /// Returns the number of rows read, with repeats.
    pub(super) const fn read(&self) -> u64 {
        self.read
    }

    /// Checks that the whole list was read, when a page for every position was.
    ///
    /// # Errors
    /// Says why no user may be called missing.
    pub(super) fn check_whole(&mut self) -> Result<(), &'static str> {
        self.seen.sort_unstable();
        self.seen.dedup();
        if (self.seen.len() as u64) + self.unusable < self.total_first.unwrap_or_default() {
            Err("the list repeated users and left others out")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a list page by page. `list(skip, n)` returns the users of the `n`-th page, and the total.
    fn read(mut list: impl FnMut(u64, u32) -> (Vec<u32>, u64)) -> (Result<(), &'static str>, u32) {
        let mut coverage = ScanCoverage::default();
        for pages in 1..=1_000 {
            let (users, total) = list(coverage.read(), pages);
            let digests: Vec<EmailDigest> = users.iter().map(|user| EmailDigest::of(&user.to_string())).collect();
            if let Err(reason) = coverage.record_page(&digests, 0, total) {
                return (Err(reason), pages);
            }
            if coverage.read() >= total {
                return (coverage.check_whole(), pages);
            }
        }
        unreachable!("the scan never ends")
    }

    fn page(users: &[u32], skip: u64, size: usize) -> Vec<u32> {
        users.iter().skip(usize::try_from(skip).unwrap()).take(size).copied().collect()
    }

    #[test]
    fn pages_may_have_any_length() {
        let users: Vec<u32> = (0..100).collect();
        for size in [1, 7, 50, 100, 1_000] {
            assert_eq!(read(|skip, _| (page(&users, skip, size), 100)).0, Ok(()), "{size}");
        }
        assert_eq!(read(|_, _| (Vec::new(), 0)), (Ok(()), 1));
    }

    #[test]
    fn entries_without_an_email_count_and_hide_no_user() {
        let mut coverage = ScanCoverage::default();
        let digests = |users: std::ops::Range<u32>| -> Vec<EmailDigest> {
            users.map(|user| EmailDigest::of(&user.to_string())).collect()
        };
        assert_eq!(coverage.record_page(&digests(0..8), 2, 25), Ok(()));
        assert_eq!(coverage.record_page(&[], 10, 25), Ok(()));
        assert_eq!(coverage.read(), 20);
        assert_eq!(coverage.record_page(&digests(8..12), 1, 25), Ok(()));
        assert_eq!(coverage.check_whole(), Ok(()));
    }

    #[test]
    fn users_created_during_the_scan_do_no_harm_in_any_order() {
        for newest_first in [true, false] {
            let mut users: Vec<u32> = (0..100).collect();
            let (end, pages) = read(|skip, number| {
                let at = if newest_first { 0 } else { users.len() };
                users.splice(at..at, [1_000 + number, 2_000 + number]);
                (page(&users, skip, 10), users.len() as u64)
            });
            assert_eq!(end, Ok(()));
            assert!(pages < 20, "{pages}");
        }
    }

    #[test]
    fn a_list_that_grows_as_fast_as_it_is_read_is_refused() {
        let users: Vec<u32> = (0..10_000).collect();
        let (end, pages) = read(|skip, number| (page(&users, skip, 3), u64::from(97 + 3 * number)));
        assert_eq!((end, pages), (Err("the list grows as fast as it is read"), (2 * 100 + 1_000) / 3 + 1));
    }

    #[test]
    fn a_list_that_shrinks_is_refused() {
        let (end, _) = read(|skip, number| (page(&[1, 2, 3, 4, 5, 6], skip, 2), u64::from(7 - number)));
        assert_eq!(end, Err("the list shrank while it was read"));
    }

    #[test]
    fn a_list_that_ignores_skip_is_refused_soon() {
        let (end, pages) = read(|_, _| ((0..50).collect(), 100_000));
        assert_eq!((end, pages), (Err("the list gives the same page again and again"), 4));
        // With few pages, the number of different users shows it.
        let (end, pages) = read(|_, _| ((0..50).collect(), 100));
        assert_eq!((end, pages), (Err("the list repeated users and left others out"), 2));
    }

    #[test]
    fn a_list_that_changes_its_order_is_refused() {
        let (end, _) = read(|_, number| (page(&[1, 2, 3, 4, 5, 6], u64::from(number / 2) * 2, 2), 6));
        assert_eq!(end, Err("the list repeated users and left others out"));
    }
}
