//! Where rows come from: lines of separated cells, a sheet, or lines of jobs.

use crate::adapters::csv::record::RecordError;
use crate::adapters::csv::row::CsvRow;

/// Reads the rows of a file one after the other, the header too, without those that are blank.
pub(super) trait RowSource: Send {
    /// Fills `row` with the next row: its line, its cells, and whether it was cut. `false`: there is none.
    fn read(&mut self, row: &mut CsvRow) -> Result<bool, RecordError>;
}
