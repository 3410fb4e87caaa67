//! Result files: the customer's own columns and cells, then the outcome of each row.
//!
//! A result file has the delimiter of the input and is UTF-8. It has a byte order mark if the input had one or was in
//! another encoding: the spreadsheet that wrote the input opens this file too, and would misread accents without it.
//! Result columns of an earlier run are left out, so that they don't accumulate when a corrected `rejected.csv` is used
//! as input again.
//!
//! **Invariants:** under its name there is a complete file or none; only its owner can read it from its first moment;
//! it contains every cell of the input.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use encoding_rs::UTF_8;

use crate::adapters::csv::{CsvError, CsvHeader, CsvRow, CsvScan};
use crate::adapters::files::Replacement;

/// Writes one result file. The file appears with [`ResultWriter::finish`]; if the writer is dropped before, nothing is
/// left.
pub(crate) struct ResultWriter {
    csv: csv::Writer<Replacement>,
    header: CsvHeader,
    extra_columns: usize,
}

impl ResultWriter {
    /// Starts `NAME.csv` in `folder`, for rows of the scanned file: its titles, then `extra_titles`.
    ///
    /// # Errors
    /// [`CsvError::Write`].
    pub(crate) fn create(folder: &Path, name: &str, scan: &CsvScan, extra_titles: &[&str]) -> Result<Self, CsvError> {
        let path = folder.join(format!("{name}.csv"));
        let begin = || {
            let mut file = Replacement::create(&path)?;
            if scan.has_bom || scan.encoding != UTF_8 {
                file.write_all("\u{FEFF}".as_bytes())?;
            }
            // Flexible, because a row with surplus cells keeps them.
            let csv = csv::WriterBuilder::new().delimiter(scan.delimiter.byte()).flexible(true).from_writer(file);
            let mut writer = Self { csv, header: scan.header.clone(), extra_columns: extra_titles.len() };
            let titles = scan.header.titles().iter().enumerate();
            let own = titles.filter(|(index, _)| scan.header.is_own(*index)).map(|(_, title)| title.as_str());
            writer.csv.write_record(own.chain(extra_titles.iter().copied()))?;
            Ok(writer)
        };
        begin().map_err(|error: io::Error| CsvError::writing(&path, error))
    }

    /// Writes a row and its outcome: one cell for each extra title.
    ///
    /// A row that is too short is filled with empty cells, so that the extra cells are below their titles. The surplus
    /// cells of a row that is too long follow after the extra cells, where there are no titles.
    ///
    /// # Errors
    /// [`CsvError::Write`].
    pub(crate) fn write(&mut self, row: &CsvRow, extra: &[&str]) -> Result<(), CsvError> {
        debug_assert_eq!(extra.len(), self.extra_columns, "one cell for each extra title");
        let columns = self.header.titles().len();
        let own = (0..columns).filter(|index| self.header.is_own(*index));
        let own = own.map(|index| row.cells.get(index).unwrap_or_default());
        let surplus = row.cells.iter().skip(columns);
        self.csv
            .write_record(own.chain(extra.iter().copied()).chain(surplus))
            .map_err(|error| CsvError::writing(self.csv.get_ref().path(), error.into()))
    }

    /// Syncs the file and gives it its name, which replaces an earlier one. Returns its path.
    ///
    /// # Errors
    /// [`CsvError::Write`]; the earlier file is left as it was.
    pub(crate) fn finish(self) -> Result<PathBuf, CsvError> {
        let path = self.csv.get_ref().path().to_owned();
        let file = self.csv.into_inner().map_err(csv::IntoInnerError::into_error);
        file.and_then(Replacement::publish).map_err(|error| CsvError::writing(&path, error))?;
        Ok(path)
    }
}
