//! Result files: the customer's own columns and cells, then what became of each row.
//!
//! The file has the delimiter of the input and is UTF-8, with a byte order mark where the input had one or was
//! in another encoding, because the spreadsheet that wrote that will open this and would misread accents without it.
//! Result columns of an earlier run are left out, so they don't pile up when a corrected `rejected.csv` is given again.
//!
//! **Invariants:** under its name there is a whole file or none; whoever else is on the machine can't read it at
//! any moment; every cell of the input is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use encoding_rs::UTF_8;

use crate::adapters::csv::{CsvError, Header, Row, Scan};

/// Writes one result file. Nothing is to be seen of it before [`ResultWriter::finish`]; dropped before that, it
/// leaves nothing behind.
pub(crate) struct ResultWriter {
    csv: csv::Writer<File>,
    header: Header,
    extra_columns: usize,
    file: PartFile,
}

impl ResultWriter {
    /// Starts `NAME.csv` in `folder`, for rows of the scanned file: its titles, then `extra_titles`.
    ///
    /// # Errors
    /// [`CsvError::Write`].
    pub(crate) fn create(folder: &Path, name: &str, scan: &Scan, extra_titles: &[&str]) -> Result<Self, CsvError> {
        let path = folder.join(format!("{name}.csv"));
        let begin = || {
            let (file, mut handle) = PartFile::create(folder, name)?;
            if scan.has_bom || scan.encoding != UTF_8 {
                handle.write_all("\u{FEFF}".as_bytes())?;
            }
            // Flexible: a row with surplus cells keeps them.
            let csv = csv::WriterBuilder::new().delimiter(scan.delimiter.byte()).flexible(true).from_writer(handle);
            let mut writer = Self { csv, header: scan.header.clone(), extra_columns: extra_titles.len(), file };
            let titles = scan.header.titles().iter().enumerate();
            let own = titles.filter(|(index, _)| scan.header.is_own(*index)).map(|(_, title)| title.as_str());
            writer.csv.write_record(own.chain(extra_titles.iter().copied()))?;
            Ok(writer)
        };
        begin().map_err(|error: io::Error| CsvError::writing(&path, error))
    }

    /// Writes a row and what became of it: one cell for each extra title.
    ///
    /// A row that is too short is filled up with empty cells, so that the extra cells stand below their titles.
    /// The surplus cells of a row that is too long come after the extra ones, where there is no title any more.
    ///
    /// # Errors
    /// [`CsvError::Write`].
    pub(crate) fn write(&mut self, row: &Row, extra: &[&str]) -> Result<(), CsvError> {
        debug_assert_eq!(extra.len(), self.extra_columns, "one cell for each extra title");
        let columns = self.header.titles().len();
        let own = (0..columns).filter(|index| self.header.is_own(*index));
        let own = own.map(|index| row.cells.get(index).unwrap_or_default());
        let surplus = row.cells.iter().skip(columns);
        self.csv
            .write_record(own.chain(extra.iter().copied()).chain(surplus))
            .map_err(|error| CsvError::writing(&self.file.part, error.into()))
    }

    /// Makes the file durable, then gives it its name, replacing an earlier one. Returns its path.
    ///
    /// # Errors
    /// [`CsvError::Write`]; the earlier file is still there.
    pub(crate) fn finish(self) -> Result<PathBuf, CsvError> {
        let Self { csv, mut file, .. } = self;
        let finish = || {
            csv.into_inner().map_err(csv::IntoInnerError::into_error)?.sync_all()?;
            file.publish()
        };
        finish().map_err(|error| CsvError::writing(&file.path, error))?;
        Ok(file.path.clone())
    }
}

/// A file that is not there yet. Removed when it is dropped unpublished.
struct PartFile {
    path: PathBuf,
    /// Its name until it is published. In the same folder, so that renaming it is atomic.
    part: PathBuf,
    is_published: bool,
}

impl PartFile {
    fn create(folder: &Path, name: &str) -> io::Result<(Self, File)> {
        let (path, part) = (folder.join(format!("{name}.csv")), folder.join(format!(".{name}.csv.part")));
        // What a killed run left behind. Opening that file instead would keep its mode, or follow a link.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let handle = options.open(&part)?;
        Ok((Self { path, part, is_published: false }, handle))
    }

    fn publish(&mut self) -> io::Result<()> {
        fs::rename(&self.part, &self.path)?;
        self.is_published = true;
        // The rename itself is durable once the folder is.
        #[cfg(unix)]
        if let Some(folder) = self.path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_published {
            // Nobody is left to tell. The next run removes what this can't.
            let _ = fs::remove_file(&self.part);
        }
    }
}
