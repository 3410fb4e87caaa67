//! How much of the user list a sweep has seen. Pure.
//!
//! Nothing is assumed about the order of the list or the length of its pages. Users who are created meanwhile only move
//! others towards later pages, so that some are seen twice; users who vanish move others towards earlier pages, where
//! they are missed. The list was read whole if its end was reached, its total never shrank, and as many different users
//! were seen as it held at the beginning: pages that repeat, as when `skip` is ignored, don't make up the number.

use crate::pipeline::user_lookup::Digest;

/// The same page this often in a row isn't chance: so many users are not created between two requests.
const REPEATS_MAX: u32 = 3;

/// How many users may be created while the list is read, beside as many as it had at the beginning. Where there are
/// more, it grows as fast as it is read, and has no end.
const NEWCOMERS_MAX: u64 = 1_000;

/// Most users whose list can be read whole; bounds memory, at 8 bytes each.
const USERS_MAX: usize = 4_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ScanCoverage {
    /// Where the next page begins.
    pub(super) skip: u64,
    total_first: Option<u64>,
    total_max: u64,
    /// Entries that show nobody: they make up the number, and who repeats them can't be told.
    unusable: u64,
    seen: Vec<u64>,
    previous: Vec<u64>,
    repeats: u32,
}

impl ScanCoverage {
    /// Notes a page, with the entries that show nobody. Whether it was the last.
    ///
    /// # Errors
    /// In words: the list can't be relied on, so that nobody may be called missing.
    pub(super) fn page(&mut self, digests: &[Digest], unusable: u64, total: u64) -> Result<bool, &'static str> {
        let first = *self.total_first.get_or_insert(total);
        if total < self.total_max {
            // Users moved to pages that were read already; what was not seen may still be there.
            return Err("the list shrank while it was read");
        }
        self.total_max = total;
        self.skip += digests.len() as u64 + unusable;
        self.unusable += unusable;
        if digests.is_empty() && unusable == 0 {
            return if self.skip >= total { self.whole(first) } else { Err("the list ended before its total") };
        }
        if self.skip > first.saturating_mul(2).saturating_add(NEWCOMERS_MAX) {
            return Err("the list grows as fast as it is read");
        }
        let page: Vec<u64> = digests.iter().map(Digest::prefix).collect();
        // Entries that can't be told apart may well look the same again.
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
        if self.skip >= total { self.whole(first) } else { Ok(false) }
    }

    fn whole(&mut self, total_first: u64) -> Result<bool, &'static str> {
        self.seen.sort_unstable();
        self.seen.dedup();
        if (self.seen.len() as u64) + self.unusable < total_first {
            Err("the list repeated users and left others out")
        } else {
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a list that is asked for pages as a partner is: `list(skip)` gives the users from there on.
    fn read(mut list: impl FnMut(u64, u32) -> (Vec<u32>, u64)) -> (Result<bool, &'static str>, u32) {
        let mut coverage = ScanCoverage::default();
        for pages in 1..=1_000 {
            let (users, total) = list(coverage.skip, pages);
            let digests: Vec<Digest> = users.iter().map(|user| Digest::of(&user.to_string())).collect();
            match coverage.page(&digests, 0, total) {
                Ok(false) => {}
                end => return (end, pages),
            }
        }
        unreachable!("it never ends")
    }

    fn page(users: &[u32], skip: u64, size: usize) -> Vec<u32> {
        users.iter().skip(usize::try_from(skip).unwrap()).take(size).copied().collect()
    }

    #[test]
    fn pages_may_be_of_any_length_and_it_goes_on_by_what_came() {
        let users: Vec<u32> = (0..100).collect();
        for size in [1, 7, 50, 100, 1_000] {
            assert_eq!(read(|skip, _| (page(&users, skip, size), 100)).0, Ok(true), "{size}");
        }
        assert_eq!(read(|_, _| (Vec::new(), 0)), (Ok(true), 1));
    }

    #[test]
    fn entries_that_show_nobody_make_up_the_number_and_hide_nobody_else() {
        let mut coverage = ScanCoverage::default();
        let digests =
            |users: std::ops::Range<u32>| -> Vec<Digest> { users.map(|user| Digest::of(&user.to_string())).collect() };
        assert_eq!(coverage.page(&digests(0..8), 2, 25), Ok(false));
        assert_eq!(coverage.page(&[], 10, 25), Ok(false));
        assert_eq!(coverage.skip, 20);
        assert_eq!(coverage.page(&digests(8..12), 1, 25), Ok(true));
    }

    #[test]
    fn users_who_are_created_meanwhile_are_no_trouble_in_any_order() {
        for newest_first in [true, false] {
            let mut users: Vec<u32> = (0..100).collect();
            let (end, pages) = read(|skip, number| {
                let at = if newest_first { 0 } else { users.len() };
                users.splice(at..at, [1_000 + number, 2_000 + number]);
                (page(&users, skip, 10), users.len() as u64)
            });
            assert_eq!(end, Ok(true));
            assert!(pages < 20, "{pages}");
        }
    }

    #[test]
    fn a_list_that_grows_as_fast_as_it_is_read_is_noticed() {
        let users: Vec<u32> = (0..10_000).collect();
        let (end, pages) = read(|skip, number| (page(&users, skip, 3), u64::from(97 + 3 * number)));
        assert_eq!((end, pages), (Err("the list grows as fast as it is read"), (2 * 100 + 1_000) / 3 + 1));
    }

    #[test]
    fn a_list_that_shrinks_or_ends_early_is_noticed() {
        let (end, _) = read(|skip, number| (page(&[1, 2, 3, 4, 5, 6], skip, 2), u64::from(7 - number)));
        assert_eq!(end, Err("the list shrank while it was read"));
        let (end, _) = read(|skip, _| (page(&[1, 2, 3], skip, 2), 9));
        assert_eq!(end, Err("the list ended before its total"));
    }

    #[test]
    fn a_list_that_ignores_skip_is_noticed_soon() {
        let (end, pages) = read(|_, _| ((0..50).collect(), 100_000));
        assert_eq!((end, pages), (Err("the list gives the same page again and again"), 4));
        // With few pages the number of different users tells.
        let (end, pages) = read(|_, _| ((0..50).collect(), 100));
        assert_eq!((end, pages), (Err("the list repeated users and left others out"), 2));
    }

    #[test]
    fn a_list_that_shuffles_itself_is_noticed() {
        let (end, _) = read(|_, number| (page(&[1, 2, 3, 4, 5, 6], u64::from(number / 2) * 2, 2), 6));
        assert_eq!(end, Err("the list repeated users and left others out"));
    }
}
