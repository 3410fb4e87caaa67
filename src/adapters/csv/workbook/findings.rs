//! Rows and cells of a sheet that a person may not see as the program reads them: hidden rows, merged cells. Pure.

use std::fmt;

/// Most ranges that are named in a message.
const RANGES_SHOWN_MAX: usize = 10;

/// Ranges of rows: all are counted, the first are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowRanges {
    /// Number of rows.
    pub rows: u64,
    ranges: Vec<(u64, u64)>,
    has_more: bool,
}

impl RowRanges {
    /// Adds rows after those that were added before. Lines are counted from 1.
    pub(in crate::adapters::csv) fn add(&mut self, first: u64, last: u64) {
        self.rows += last - first + 1;
        let is_full = self.ranges.len() == RANGES_SHOWN_MAX;
        match self.ranges.last_mut() {
            Some((_, end)) if *end + 1 == first && !self.has_more => *end = last,
            _ if is_full => self.has_more = true,
            _ => self.ranges.push((first, last)),
        }
    }
}

impl fmt::Display for RowRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            if first == last { write!(f, "{separator}{first}")? } else { write!(f, "{separator}{first}-{last}")? }
        }
        if self.has_more { f.write_str(", ...") } else { Ok(()) }
    }
}

/// Merged cells: all are counted, the first are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MergedCells {
    /// Number of merged ranges.
    pub count: u64,
    ranges: Vec<String>,
}

impl MergedCells {
    /// Adds a range, such as `A5:A9`.
    pub(super) fn add(&mut self, range: String) {
        self.count += 1;
        if self.ranges.len() < RANGES_SHOWN_MAX {
            self.ranges.push(range);
        }
    }
}

impl fmt::Display for MergedCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ranges.join(", "))?;
        if self.count > self.ranges.len() as u64 { f.write_str(", ...") } else { Ok(()) }
    }
}

/// Returns the name of a cell, such as `AB12`, from its row and column, both from 0.
pub(super) fn cell_name(row: u64, column: u64) -> String {
    let (mut letters, mut rest) = (Vec::new(), column + 1);
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'A' + (rest % 26) as u8));
        rest /= 26;
    }
    letters.iter().rev().collect::<String>() + &(row + 1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_rows_are_one_range() {
        let mut ranges = RowRanges::default();
        for line in [3, 4, 5, 9] {
            ranges.add(line, line);
        }
        ranges.add(10, 1_000);
        assert_eq!((ranges.rows, ranges.to_string().as_str()), (995, "3-5, 9-1000"));
        for line in 0..20 {
            ranges.add(2_000 + 2 * line, 2_000 + 2 * line);
        }
        assert!(ranges.rows == 1_015 && ranges.to_string().ends_with("2014, ..."), "{ranges}");
    }

    #[test]
    fn cells_are_named_as_in_a_spreadsheet() {
        for (row, column, name) in [(0, 0, "A1"), (8, 25, "Z9"), (0, 26, "AA1"), (11, 701, "ZZ12"), (0, 702, "AAA1")] {
            assert_eq!(cell_name(row, column), name);
        }
    }
}
