//! The order of the user list, and which users are on a page.
//!
//! Users are numbered by position, in the order of their creation. A deleted user keeps its position and leaves the
//! list. Each user of a page takes logarithmic time in any order, so a list of 200,000 users is read as fast as one of
//! 100. The exception is a scattered list with a lag, which is read from its start.

use crate::sandbox::ids::mix;
use crate::sandbox::model_config::ListOrder;

/// The positions of the users in the list.
#[derive(Debug, Default)]
pub(super) struct ListIndex {
    listed: ListedCounts,
    /// The listed positions in [`ListOrder::Scattered`], once a page of it was read.
    scattered: Option<Scattered>,
}

/// What a page is read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListView {
    pub(super) order: ListOrder,
    /// Only positions below this are in the list; users at the others are too new.
    pub(super) positions_end: usize,
    /// Decides the scattered order.
    pub(super) seed: u64,
    /// Decides the shuffled order.
    pub(super) shuffle: u64,
}

impl ListIndex {
    /// The number of users in the list.
    pub(super) fn len(&self) -> usize {
        self.listed.before(self.listed.positions())
    }

    /// The number of listed users whose position is below `positions_end`.
    pub(super) fn len_below(&self, positions_end: usize) -> usize {
        self.listed.before(positions_end)
    }

    /// Adds the user at the next position.
    pub(super) fn push(&mut self) {
        if let Some(scattered) = &mut self.scattered {
            scattered.insert(self.listed.positions());
        }
        self.listed.push();
    }

    /// Removes a listed user.
    pub(super) fn remove(&mut self, position: usize) {
        if let Some(scattered) = &mut self.scattered {
            scattered.remove(position);
        }
        self.listed.remove(position);
    }

    /// The position of the listed user that was created as the `rank`-th, from 0.
    pub(super) fn nth(&self, rank: usize) -> usize {
        self.listed.nth(rank)
    }

    /// The positions of the users on the page from `skip` on.
    pub(super) fn page(&mut self, view: ListView, skip: u64, limit: u32) -> Vec<usize> {
        let total = self.len_below(view.positions_end);
        let start = usize::try_from(skip).unwrap_or(usize::MAX).min(total);
        let end = start.saturating_add(limit as usize).min(total);
        match view.order {
            ListOrder::OldestFirst => (start..end).map(|rank| self.nth(rank)).collect(),
            ListOrder::NewestFirst => (start..end).map(|rank| self.nth(total - 1 - rank)).collect(),
            ListOrder::Shuffled => {
                (start..end).map(|rank| self.nth(shuffled(rank as u64, total as u64, view.shuffle) as usize)).collect()
            }
            ListOrder::Scattered => {
                let Self { listed, scattered } = self;
                let scattered = scattered.get_or_insert_with(|| Scattered::new(listed, view.seed));
                scattered.page(view.positions_end.min(listed.positions()), start, end)
            }
        }
    }
}

/// Counts listed positions in a Fenwick tree: node `i` holds the number of listed positions among the last
/// `i & i.wrapping_neg()` ones before `i`.
#[derive(Debug, Default)]
struct ListedCounts(Vec<u32>);

impl ListedCounts {
    fn positions(&self) -> usize {
        self.0.len()
    }

    fn push(&mut self) {
        let node = self.0.len() + 1;
        let children =
            std::iter::successors(Some(1), |step| Some(step << 1)).take_while(|step| *step < lowest_bit(node));
        let count = 1 + children.map(|step| self.0[node - step - 1]).sum::<u32>();
        self.0.push(count);
    }

    fn remove(&mut self, position: usize) {
        let mut node = position + 1;
        while let Some(count) = self.0.get_mut(node - 1) {
            *count -= 1;
            node += lowest_bit(node);
        }
    }

    fn before(&self, positions_end: usize) -> usize {
        let (mut node, mut count) = (positions_end.min(self.0.len()), 0);
        while node > 0 {
            count += self.0[node - 1] as usize;
            node -= lowest_bit(node);
        }
        count
    }

    fn nth(&self, rank: usize) -> usize {
        let (mut node, mut rest) = (0, rank);
        let mut step = self.0.len().checked_ilog2().map_or(0, |log| 1_usize << log);
        while step > 0 {
            if let Some(count) = self.0.get(node + step - 1).filter(|count| **count as usize <= rest) {
                rest -= *count as usize;
                node += step;
            }
            step >>= 1;
        }
        node
    }
}

fn lowest_bit(node: usize) -> usize {
    node & node.wrapping_neg()
}

/// The listed positions in an order that looks random and doesn't change, with the key that sorts each.
#[derive(Debug)]
struct Scattered {
    seed: u64,
    sorted: Vec<(u64, usize)>,
    /// The highest position that was ever listed.
    newest: usize,
}

impl Scattered {
    fn new(listed: &ListedCounts, seed: u64) -> Self {
        let total = listed.before(listed.positions());
        let mut sorted: Vec<_> = (0..total).map(|rank| sort_key(seed, listed.nth(rank))).collect();
        sorted.sort_unstable();
        Self { seed, sorted, newest: listed.positions().saturating_sub(1) }
    }

    fn insert(&mut self, position: usize) {
        let key = sort_key(self.seed, position);
        self.newest = position;
        if let Err(place) = self.sorted.binary_search(&key) {
            self.sorted.insert(place, key);
        }
    }

    fn remove(&mut self, position: usize) {
        if let Ok(place) = self.sorted.binary_search(&sort_key(self.seed, position)) {
            self.sorted.remove(place);
        }
    }

    /// `end` is at most the number of listed positions below `positions_end`.
    fn page(&self, positions_end: usize, start: usize, end: usize) -> Vec<usize> {
        if self.newest < positions_end {
            return self.sorted[start..end].iter().map(|(_, position)| *position).collect();
        }
        let positions = self.sorted.iter().map(|(_, position)| *position);
        positions.filter(|position| *position < positions_end).skip(start).take(end - start).collect()
    }
}

fn sort_key(seed: u64, position: usize) -> (u64, usize) {
    (mix(seed.wrapping_add(mix(position as u64))), position)
}

/// The place of `rank` in a permutation of the numbers below `total`, which must be more than `rank`.
///
/// A Feistel network permutes a range of a power of four; numbers that land outside the range are permuted again.
fn shuffled(rank: u64, total: u64, seed: u64) -> u64 {
    let half_bits = (u64::BITS - total.leading_zeros()).div_ceil(2);
    let mask = (1_u64 << half_bits) - 1;
    let mut number = rank;
    loop {
        let (mut left, mut right) = (number >> half_bits, number & mask);
        for round in 0..4 {
            let hash = mix(seed.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ right);
            (left, right) = (right, left ^ (hash & mask));
        }
        number = left << half_bits | right;
        if number < total {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(positions: usize, deleted: &[usize]) -> ListIndex {
        let mut index = ListIndex::default();
        (0..positions).for_each(|_| index.push());
        deleted.iter().for_each(|position| index.remove(*position));
        index
    }

    fn view(order: ListOrder, positions_end: usize) -> ListView {
        ListView { order, positions_end, seed: 7, shuffle: 8 }
    }

    #[test]
    fn every_order_lists_each_user_once_and_no_deleted_one() {
        let deleted: Vec<usize> =
            (0..100).filter(|position| position % 3 == 0 || (40..60).contains(position)).collect();
        let kept: Vec<usize> = (0..100).filter(|position| !deleted.contains(position)).collect();
        for order in [ListOrder::OldestFirst, ListOrder::NewestFirst, ListOrder::Shuffled, ListOrder::Scattered] {
            for end in [0, 1, 50, 99, 100] {
                let mut index = index_of(100, &deleted);
                let mut pages: Vec<usize> =
                    (0..20).flat_map(|page| index.page(view(order, end), page * 7, 7)).collect();
                assert_eq!(pages.len(), index.len_below(end), "{order:?} {end}");
                if order == ListOrder::NewestFirst {
                    pages.reverse();
                } else if order != ListOrder::OldestFirst {
                    pages.sort_unstable();
                }
                let expected: Vec<usize> = kept.iter().copied().filter(|position| *position < end).collect();
                assert_eq!(pages, expected, "{order:?} {end}");
            }
        }
    }

    /// Reading each page from its start would take hours.
    #[test]
    fn a_list_of_200_000_users_is_read_completely_in_every_order() {
        let mut index = index_of(200_001, &[7]);
        for order in [ListOrder::OldestFirst, ListOrder::NewestFirst, ListOrder::Shuffled, ListOrder::Scattered] {
            let mut is_read = vec![false; 200_001];
            for page in 0..2_000 {
                for position in index.page(view(order, 200_001), page * 100, 100) {
                    assert!(!is_read[position], "{order:?} {position}");
                    is_read[position] = true;
                }
            }
            assert_eq!(is_read.iter().filter(|read| **read).count(), 200_000, "{order:?}");
            assert!(!is_read[7], "{order:?}");
        }
    }

    #[test]
    fn the_scattered_order_stays_the_same_when_users_come_and_leave() {
        let mut index = index_of(50, &[]);
        let before = index.page(view(ListOrder::Scattered, 50), 0, 50);
        assert_ne!(before, (0..50).collect::<Vec<_>>());
        index.push();
        index.remove(20);
        let after = index.page(view(ListOrder::Scattered, 51), 0, 51);
        let rest =
            |positions: &[usize]| positions.iter().copied().filter(|p| ![20, 50].contains(p)).collect::<Vec<_>>();
        assert_eq!(rest(&after), rest(&before));
        assert_eq!(after, index_of(51, &[20]).page(view(ListOrder::Scattered, 51), 0, 51));
    }

    #[test]
    fn the_shuffled_order_follows_its_seed() {
        let order = |shuffle| index_of(50, &[]).page(ListView { shuffle, ..view(ListOrder::Shuffled, 50) }, 0, 50);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
