//! Detects a row whose cell contains other rows because a quotation mark isn't closed. Pure; used by the reader.
//!
//! The cell continues up to the next quotation mark. If that one is in another column, the number of cells is wrong. If
//! it is in the same column, the number is right, and only the text shows it: the first line of the cell contains about
//! as many separators as a row has after the column, and the last line as many as a row has before it. A long text with
//! line breaks doesn't.

use csv::StringRecord;

/// Whether a cell contains other rows, in a file with this many columns.
pub(super) fn has_swallowed_rows(cells: &StringRecord, columns: usize, delimiter: u8) -> bool {
    let separators = |line: &str| line.bytes().filter(|byte| *byte == delimiter).count();
    // A row may have some cells too few, or one or two too many.
    let is_about = |found: usize, expected: usize| (expected * 3).div_ceil(4) <= found && found <= expected + 2;
    let contains_rows = |(before, cell): (usize, &str)| {
        let lines = cell.split_once(['\n', '\r']).zip(cell.rsplit_once(['\n', '\r']));
        let after = (columns - 1).saturating_sub(before);
        lines.is_some_and(|((first, _), (_, last))| {
            is_about(separators(first), after) && is_about(separators(last), before)
        })
    };
    // All cells at once first: most rows are on one line.
    cells.as_slice().contains(['\n', '\r']) && cells.iter().enumerate().any(contains_rows)
}
