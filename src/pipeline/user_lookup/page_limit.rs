//! How many users of the list to request at once: as many as the API serves.

/// Most users that are requested at once. The API may send fewer. A page of this size is half of the longest answer
/// that is read.
const LARGE_LIMIT: u32 = 500;

/// The only limit in the vendor's documentation.
pub(crate) const DOCUMENTED_LIMIT: u32 = 50;

/// Large pages in a row that failed while a page of [`DOCUMENTED_LIMIT`] users could be read. No large one is requested
/// after them.
const LARGE_FAILURES_MAX: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct PageLimit {
    large_failures: u32,
    /// Whether the last page failed or was refused.
    is_retry: bool,
}

impl PageLimit {
    /// Returns the limit of the next request. A retry requests a small page: the API may refuse a large one, or be too
    /// slow for it.
    pub(super) const fn get(&self) -> u32 {
        if self.is_retry || self.large_failures >= LARGE_FAILURES_MAX { DOCUMENTED_LIMIT } else { LARGE_LIMIT }
    }

    /// Records that a page with this limit was read.
    pub(super) const fn page_read(&mut self, limit: u32) {
        if limit > DOCUMENTED_LIMIT {
            self.large_failures = 0;
        } else if self.is_retry {
            self.large_failures += 1;
        }
        self.is_retry = false;
    }

    /// Records that a page could not be read, or was refused.
    pub(super) const fn page_failed(&mut self) {
        self.is_retry = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_that_always_fail_are_not_asked_for_again() {
        let mut limit = PageLimit::default();
        for _ in 0..LARGE_FAILURES_MAX {
            assert_eq!(limit.get(), LARGE_LIMIT);
            limit.page_failed();
            limit.page_failed();
            assert_eq!(limit.get(), DOCUMENTED_LIMIT);
            limit.page_read(DOCUMENTED_LIMIT);
        }
        assert_eq!(limit.get(), DOCUMENTED_LIMIT);
    }

    #[test]
    fn one_failure_costs_one_small_page() {
        let mut limit = PageLimit::default();
        for _ in 0..9 {
            limit.page_failed();
            limit.page_read(DOCUMENTED_LIMIT);
            assert_eq!(limit.get(), LARGE_LIMIT);
            limit.page_read(LARGE_LIMIT);
        }
    }
}
