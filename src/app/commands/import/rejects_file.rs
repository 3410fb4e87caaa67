//! `FILE-rejected.csv`: the rows of an import that can't be sent, with what is wrong. It can be corrected and imported.

use std::path::{Path, PathBuf};

use crate::adapters::csv::{CsvRow, CsvScan, ERROR_TITLES, ResultWriter};
use crate::adapters::local_queue::import::Importer;
use crate::app::commands::import::file_stem;
use crate::app::error::AppError;
use crate::app::input::rows::RowVisitor;
use crate::app::results::folders::create_private_folder;
use crate::app::results::tables::error_cells;
use crate::domain::job::InvalidJob;

/// Creates its file with the first rejected row.
pub(super) struct RejectsFile<'r> {
    scan: &'r CsvScan,
    folder: &'r Path,
    /// Without the ending `.csv`.
    name: String,
    writer: Option<ResultWriter>,
}

impl<'r> RejectsFile<'r> {
    /// For the rows of `file`, in `folder` or the working folder.
    pub(super) fn new(scan: &'r CsvScan, file: &Path, folder: Option<&'r Path>) -> Self {
        let folder = folder.unwrap_or_else(|| Path::new("."));
        Self { scan, folder, name: format!("{}-rejected", file_stem(file)), writer: None }
    }

    /// Renames the file to its final name and returns its path. `None`: no row was rejected.
    pub(super) fn finish(self) -> Result<Option<PathBuf>, AppError> {
        Ok(self.writer.map(ResultWriter::finish).transpose()?)
    }
}

impl RowVisitor for RejectsFile<'_> {
    fn rejected(&mut self, _importer: &mut Importer, row: &CsvRow, invalid: &InvalidJob) -> Result<(), AppError> {
        if self.writer.is_none() {
            create_private_folder(self.folder)?;
            self.writer = Some(ResultWriter::create(self.folder, &self.name, self.scan, &ERROR_TITLES)?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(row, &error_cells(&invalid.problems).each_ref().map(String::as_str))?;
        }
        Ok(())
    }
}
