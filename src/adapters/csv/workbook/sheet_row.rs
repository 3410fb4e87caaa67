//! One row of a sheet, built cell by cell. Pure.

use csv::StringRecord;

/// A row with at least one cell that isn't blank.
pub(in crate::adapters::csv) struct SheetRow {
    /// Number of the row in the sheet, from 1.
    pub(in crate::adapters::csv) line: u64,
    /// Its cells up to the last one with a text.
    pub(in crate::adapters::csv) cells: StringRecord,
    /// Whether cells are missing, because the row is longer than the limit.
    pub(in crate::adapters::csv) is_cut: bool,
}

/// Receives the rows of a sheet in their order. `false`: no more rows are needed.
pub(in crate::adapters::csv) type RowSink<'s> = dyn FnMut(SheetRow) -> bool + 's;

/// Builds rows from cells that arrive row by row, mostly from left to right.
pub(super) struct RowBuilder {
    /// Index of the row that is being built.
    row: u64,
    cells: StringRecord,
    bytes_max: usize,
    is_cut: bool,
    is_blank: bool,
}

impl RowBuilder {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { row: 0, cells: StringRecord::new(), bytes_max, is_cut: false, is_blank: true }
    }

    /// Adds a cell. Passes the row before on if the cell is in another one. `false`: no more rows are needed.
    pub(super) fn add(&mut self, row: u64, column: usize, text: &str, sink: &mut RowSink<'_>) -> bool {
        if row != self.row && !self.finish(sink) {
            return false;
        }
        self.row = row;
        if text.is_empty() || self.is_cut {
            return true;
        }
        if self.cells.as_slice().len() + text.len() > self.bytes_max {
            self.is_cut = true;
            return true;
        }
        self.is_blank &= text.trim().is_empty();
        if column < self.cells.len() {
            self.insert(column, text);
            return true;
        }
        while self.cells.len() < column {
            self.cells.push_field("");
        }
        self.cells.push_field(text);
        true
    }

    /// Cells are in the order of their columns in every file that a spreadsheet writes; other programs may differ.
    fn insert(&mut self, column: usize, text: &str) {
        let cells = self.cells.iter().enumerate();
        self.cells = cells.map(|(index, cell)| if index == column { text } else { cell }).collect();
    }

    /// Passes the last row on. `false`: no more rows are needed.
    pub(super) fn finish(&mut self, sink: &mut RowSink<'_>) -> bool {
        let cells = std::mem::take(&mut self.cells);
        let is_blank = std::mem::replace(&mut self.is_blank, true);
        let is_cut = std::mem::take(&mut self.is_cut);
        (is_blank && !is_cut) || sink(SheetRow { line: self.row + 1, cells, is_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_built_from_sparse_cells_and_blank_rows_are_left_out() {
        let mut rows = Vec::new();
        let mut sink = |row: SheetRow| {
            rows.push(format!("{}: {}{}", row.line, row.cells.iter().collect::<Vec<_>>().join("|"), row.is_cut));
            true
        };
        let mut builder = RowBuilder::new(10);
        for (row, column, text) in [
            (0, 1, "b"),
            (0, 3, "d"),
            (0, 9, ""),
            (2, 0, " "),
            (4, 2, "c"),
            (4, 0, "a"),
            (5, 0, "12345"),
            (5, 1, "123456"),
            (5, 2, "7"),
        ] {
            assert!(builder.add(row, column, text, &mut sink));
        }
        assert!(builder.finish(&mut sink));
        assert_eq!(rows, ["1: |b||dfalse", "5: a||cfalse", "6: 12345true"]);
    }
}
