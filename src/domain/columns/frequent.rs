//! Finds values that many rows share, in constant memory (Misra and Gries, Finding repeated elements, 1982).

/// Values that are counted at a time. A value in more than one of 65 rows is always found.
const COUNTERS: usize = 64;

struct Counter {
    hash: u64,
    rows: u64,
    first_line: u64,
}

/// Counts the most frequent values of a column.
pub(super) struct FrequentValues {
    counters: Vec<Counter>,
}

impl FrequentValues {
    pub(super) fn new() -> Self {
        Self { counters: Vec::with_capacity(COUNTERS) }
    }

    pub(super) fn add(&mut self, hash: u64, line: u64) {
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.hash == hash) {
            counter.rows += 1;
        } else if self.counters.len() < COUNTERS {
            self.counters.push(Counter { hash, rows: 1, first_line: line });
        } else {
            self.counters.retain_mut(|counter| {
                counter.rows -= 1;
                counter.rows > 0
            });
        }
    }

    /// The most frequent value: in how many rows it is at least, and a line that has it.
    pub(super) fn most_frequent(&self) -> Option<(u64, u64)> {
        let most = self.counters.iter().max_by_key(|counter| (counter.rows, std::cmp::Reverse(counter.first_line)))?;
        Some((most.rows, most.first_line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_many_rows_is_found_among_many_others() {
        let mut values = FrequentValues::new();
        for row in 0..100_000_u64 {
            // One row in ten has the value 7; the others are all different.
            values.add(if row % 10 == 3 { 7 } else { 1_000 + row }, row + 2);
        }
        let (rows, _) = values.most_frequent().unwrap();
        assert!((8_000..=10_000).contains(&rows), "{rows}");
        assert!(values.counters.len() <= COUNTERS);
    }

    #[test]
    fn few_values_are_counted_exactly() {
        let mut values = FrequentValues::new();
        assert_eq!(values.most_frequent(), None);
        for row in 0..90 {
            values.add(row % 30, row);
            values.add(5, row);
        }
        assert_eq!(values.most_frequent(), Some((93, 0)));
    }
}
