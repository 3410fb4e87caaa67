//! Finds the header among the first rows: programs write a title, comments or `sep=;` above it.

use csv::StringRecord;

use crate::adapters::csv::record::RecordError;
use crate::adapters::csv::row::CsvRow;
use crate::adapters::csv::row_source::RowSource;
use crate::adapters::csv::workbook::RowRanges;
use crate::adapters::csv::{CsvHeader, Delimiter};

/// Most rows that may be above the header, and the header.
const ROWS_MAX: usize = 20;

/// A row with this many known titles is a header. Any other row may be a customer's, and no message may quote it.
const RECOGNISED_MIN: usize = 3;

/// The first rows of a file.
#[derive(Debug)]
pub(super) enum FoundHeader {
    Header {
        /// Its line.
        line: u64,
        titles: StringRecord,
        /// Number of known titles.
        recognised: usize,
        /// Rows above it that aren't blank.
        skipped: RowRanges,
    },
    /// No row is a header.
    None {
        /// Line of the first row, or the line that the user gave.
        line: u64,
        /// Whether the first row would be a header without the quotation marks around the whole line.
        is_quoted_whole: bool,
    },
    /// There are no rows.
    Empty,
}

/// Looks for the header. `header_row`: its line, if the user gave it.
///
/// # Errors
/// [`RecordError`] if the first row, or the one that the user gave, can't be read.
pub(super) fn find(rows: &mut dyn RowSource, header_row: Option<u64>) -> Result<FoundHeader, RecordError> {
    let (mut row, mut skipped) = (CsvRow::default(), RowRanges::default());
    let (mut first, mut is_quoted_whole, mut few_titles) = (None, false, None);
    for index in 0_usize.. {
        if header_row.is_none() && index == ROWS_MAX {
            break;
        }
        match rows.read(&mut row) {
            Ok(true) => {}
            Ok(false) => break,
            // An error further down is that of a row, which is reported when the rows are read.
            Err(error) if index == 0 || header_row.is_some() => return Err(error),
            Err(_) => break,
        }
        let line = row.line;
        if index == 0 {
            first = Some(line);
            is_quoted_whole = is_header_in_one_cell(&row.cells);
        }
        if header_row.is_some_and(|wanted| line > wanted) {
            break;
        }
        let recognised = CsvHeader::count_recognised(&row.cells);
        if recognised >= RECOGNISED_MIN && header_row.is_none_or(|wanted| wanted == line) {
            if let Some(bytes_max) = row.cut_at {
                return Err(RecordError::TooLong { line, bytes_max });
            }
            return Ok(FoundHeader::Header { line, titles: row.cells, recognised, skipped });
        }
        if index == 0 && recognised > 0 && recognised == row.cells.len() {
            few_titles = Some((row.cells.clone(), recognised));
        }
        skipped.add(line, line);
    }
    Ok(match (first, few_titles) {
        (None, _) => FoundHeader::Empty,
        (Some(line), Some((titles, recognised))) if header_row.is_none_or(|wanted| wanted == line) => {
            FoundHeader::Header { line, titles, recognised, skipped: RowRanges::default() }
        }
        (Some(first), _) => FoundHeader::None { line: header_row.unwrap_or(first), is_quoted_whole },
    })
}

/// Whether a row is a header in one cell: a program has put quotation marks around each line of another file.
fn is_header_in_one_cell(cells: &StringRecord) -> bool {
    let mut texts = cells.iter().filter(|cell| !cell.trim().is_empty());
    let (Some(text), None) = (texts.next(), texts.next()) else { return false };
    let count = |delimiter: Delimiter| {
        CsvHeader::count_recognised(
            text.split(char::from(delimiter.byte())).map(|title| title.trim().trim_matches('"')),
        )
    };
    Delimiter::ALL.into_iter().any(|delimiter| count(delimiter) >= RECOGNISED_MIN)
}
