//! Checks the records of an `.xls` file before calamine reads it: calamine reserves memory for any position that a
//! damaged record claims, and panics on some. Record numbers are those of [MS-XLS].

use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::adapters::csv::workbook::WorkbookError;

/// Most bytes of the workbook, which calamine holds in memory.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Columns and rows of a sheet.
const COLUMNS_MAX: u32 = 256;
const ROWS_MAX: u32 = 65_536;
/// Most cells in the rectangle around the cells of a sheet; calamine holds all of them, the empty ones too.
const CELLS_MAX: u32 = 8 * 1024 * 1024;

/// Checks where the records of a workbook say that their cells and sheets are.
pub(super) fn check<R: Read + Seek>(file: R) -> Result<(), WorkbookError> {
    let mut container = cfb::CompoundFile::open(file).map_err(|_| WorkbookError::Damaged)?;
    if container.is_stream("EncryptedPackage") {
        return Err(WorkbookError::Encrypted);
    }
    let name = ["Workbook", "Book"].into_iter().find(|name| container.is_stream(name)).ok_or(WorkbookError::Damaged)?;
    let mut workbook = Vec::new();
    let stream = container.open_stream(name).map_err(|_| WorkbookError::Damaged)?;
    stream.take(BYTES_MAX + 1).read_to_end(&mut workbook).map_err(|_| WorkbookError::Damaged)?;
    if workbook.len() as u64 > BYTES_MAX {
        return Err(WorkbookError::TooLarge);
    }
    let mut rest = workbook.as_slice();
    let (mut rows, mut columns) = (0, 0);
    let (mut begins, mut sheets) = (Vec::new(), Vec::new());
    while let [kind_low, kind_high, size_low, size_high, after @ ..] = rest {
        let kind = u16::from_le_bytes([*kind_low, *kind_high]);
        let size = usize::from(u16::from_le_bytes([*size_low, *size_high]));
        let Some((data, after)) = after.split_at_checked(size) else { break };
        let extent = extent(kind, data).ok_or(WorkbookError::Damaged)?;
        (rows, columns) = (rows.max(extent.0), columns.max(extent.1));
        match (kind, data.first_chunk()) {
            // BOF: another sheet begins.
            (0x0809, _) => {
                begins.push(workbook.len() - rest.len());
                (rows, columns) = (0, 0);
            }
            // BoundSheet8: where a sheet begins.
            (0x0085, Some(position)) => sheets.push(u32::from_le_bytes(*position) as usize),
            _ => {}
        }
        rest = after;
        if rows * columns > CELLS_MAX {
            return Err(WorkbookError::TooLarge);
        }
    }
    // calamine reads records from there on.
    if sheets.iter().all(|sheet| begins.binary_search(sheet).is_ok()) { Ok(()) } else { Err(WorkbookError::Damaged) }
}

/// Returns how many rows and columns a record needs; `None` if that is impossible.
fn extent(kind: u16, data: &[u8]) -> Option<(u32, u32)> {
    let short = |at: usize| Some(u32::from(u16::from_le_bytes(*data.get(at..at + 2)?.first_chunk()?)));
    let long = |at: usize| Some(u32::from_le_bytes(*data.get(at..at + 4)?.first_chunk()?));
    let (rows, columns) = match kind {
        // Formula, Blank, Number, Label, BoolErr, RK, LabelSst, RString.
        0x0006 | 0x0201 | 0x0203..=0x0205 | 0x027E | 0x00FD | 0x00D6 => (short(0)? + 1, short(2)? + 1),
        // MulRk, MulBlank.
        0x00BD | 0x00BE => {
            let (first, last) = (short(2)?, short(data.len().checked_sub(2)?)?);
            let cell_bytes = if kind == 0x00BD { 6 } else { 2 };
            if data.len() != 6 + (last + 1).checked_sub(first)? as usize * cell_bytes {
                return None;
            }
            (short(0)? + 1, last + 1)
        }
        // Dimensions of BIFF8, and of the formats before.
        0x0200 => {
            let ((first, end), columns) = match data.len() {
                14.. => ((long(0)?, long(4)?), short(10)?),
                _ => ((short(0)?, short(2)?), short(6)?),
            };
            if end > 0 && first >= end {
                return None;
            }
            (end, columns)
        }
        _ => (0, 0),
    };
    (rows <= ROWS_MAX && columns <= COLUMNS_MAX).then_some((rows, columns))
}

/// Calls calamine. A panic of it is an error.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, WorkbookError>) -> Result<T, WorkbookError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(WorkbookError::Damaged))
}

#[cfg(test)]
mod tests {
    use super::extent;

    fn record(numbers: &[u16]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn a_position_outside_of_a_sheet_is_damage() {
        for (kind, numbers, expected) in [
            (0x0203, &[99, 255, 0][..], Some((100, 256))),
            (0x0203, &[99, 256, 0], None),
            (0x0203, &[99], None),
            // MulRk of the columns 2 to 3.
            (0x00BD, &[0, 2, 0, 0, 0, 0, 0, 0, 3], Some((1, 4))),
            (0x00BD, &[0, 2, 0, 0, 0, 0, 0, 0, 200], None),
            // Dimensions: rows 0 to 9, and rows that end before they begin.
            (0x0200, &[0, 0, 10, 0, 0, 15, 0], Some((10, 15))),
            (0x0200, &[20, 0, 10, 0, 0, 15, 0], None),
            (0x0809, &[], Some((0, 0))),
        ] {
            assert_eq!(extent(kind, &record(numbers)), expected, "{kind:x} {numbers:?}");
        }
    }
}
