//! A run's own copy of its input: whatever somebody does to the file while the run goes on for hours, each row's result is written
//! beside that row as it was read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::AppError;
use crate::adapters::csv::{self, CsvError, ReadOptions, Scan};

/// What its name ends with, after the name of the queue's file.
pub const ENDING: &str = ".input";

/// Its place beside the queue of the run.
pub fn path(queue: &Path) -> PathBuf {
    with_ending(queue, ENDING)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Makes the copy, unless it is there. It is whole or not there at all.
///
/// # Errors
/// Where it can't be written, or the file isn't what was scanned any more.
pub fn make(file: &Path, scan: &Scan, options: &ReadOptions, copy: &Path) -> Result<(), AppError> {
    let is_it = |path: &Path| csv::scan(path, options).is_ok_and(|found| found.fingerprint == scan.fingerprint);
    if copy.exists() && is_it(copy) {
        return Ok(());
    }
    let part = with_ending(copy, ".part");
    let copied = || -> io::Result<()> {
        let mut written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        io::copy(&mut File::open(file)?, &mut written)?;
        written.flush()?;
        written.sync_all()
    };
    let made = copied().map_err(|error| AppError::io(&part, &error)).and_then(|()| {
        if is_it(&part) {
            fs::rename(&part, copy).map_err(|error| AppError::io(copy, &error))
        } else {
            Err(CsvError::Changed { file: file.display().to_string() }.into())
        }
    });
    if made.is_err() {
        let _ = fs::remove_file(&part);
    }
    made
}
