//! A map that keeps the newest entries: what a worker remembers must not grow with the number of its jobs.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// See the module.
///
/// **Invariant:** holds at most as many entries as it was made for. The oldest entry is dropped first.
#[derive(Debug)]
pub(super) struct BoundedMap<K, V> {
    entries: HashMap<K, V>,
    /// The same keys, the oldest first.
    order: VecDeque<K>,
    entries_max: usize,
}

impl<K: Copy + Eq + Hash, V> BoundedMap<K, V> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), entries_max }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Adds an entry. Returns the one that it replaces, whose age it keeps, or else the one that is dropped for it.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(replaced) = self.entries.insert(key, value) {
            return Some((key, replaced));
        }
        self.order.push_back(key);
        if self.order.len() > self.entries_max { self.pop_oldest() } else { None }
    }

    /// Removes an entry. Takes time in proportion to the number of entries if there is one.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.entries.remove(key)?;
        self.order.retain(|other| other != key);
        Some(removed)
    }

    /// Returns the oldest value.
    pub(super) fn oldest(&self) -> Option<&V> {
        self.entries.get(self.order.front()?)
    }

    /// Removes the oldest entry.
    pub(super) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let oldest = self.order.pop_front()?;
        self.entries.remove_entry(&oldest)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.entries.len(), self.order.len(), "each entry has one place in the order");
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_drops_its_oldest_entry() {
        let mut map = BoundedMap::new(2);
        assert_eq!((map.insert(1, 'a'), map.insert(2, 'b')), (None, None));
        assert_eq!(map.insert(1, 'c'), Some((1, 'a')), "it is replaced and keeps its age");
        assert_eq!(map.insert(3, 'd'), Some((1, 'c')));
        assert_eq!((map.get(&1), map.get(&2), map.get(&3), map.len()), (None, Some(&'b'), Some(&'d'), 2));
        assert_eq!(map.oldest(), Some(&'b'));
        assert_eq!((map.pop_oldest(), map.len()), (Some((2, 'b')), 1));
        assert_eq!((map.remove(&2), map.remove(&3), map.len()), (None, Some('d'), 0));
    }
}
