//! A run's own copy of its input: whatever somebody does to the file while the run goes on for hours, each row's result is written
//! beside that row as it was read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::adapters::csv::{self, CsvError, ReadOptions, Scan};
use crate::app::console::error::AppError;

/// What its name ends with, after the name of the queue's file.
const ENDING: &str = ".input";

/// While it is being made.
const PART: &str = ".part";

/// Its place beside the queue of the run.
pub(crate) fn path(queue: &Path) -> PathBuf {
    with_ending(queue, ENDING)
}

/// Wherever something of the input may lie beside a queue.
pub(crate) fn places(queue: &Path) -> [PathBuf; 2] {
    let copy = path(queue);
    [with_ending(&copy, PART), copy]
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Makes the copy, unless it is there and what was scanned. It is whole or not there at all; nobody can write to it by mistake.
///
/// # Errors
/// Where it can't be written, or the file isn't what was scanned any more.
pub(crate) fn make(file: &Path, scan: &Scan, options: &ReadOptions, copy: &Path) -> Result<(), AppError> {
    let is_it = |path: &Path| csv::scan(path, options).is_ok_and(|found| found.fingerprint == scan.fingerprint);
    let was_there = copy.exists();
    if was_there && is_it(copy) {
        return Ok(());
    }
    let part = with_ending(copy, PART);
    let copied = || -> io::Result<()> {
        // Made anew, so that it is nobody else's and nowhere else.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut written = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&part)?;
        io::copy(&mut File::open(file)?, &mut written)?;
        written.sync_all()
    };
    let made = match copied() {
        Ok(()) if is_it(&part) => {
            fs::rename(&part, copy).and_then(|()| sync_folder_of(copy)).map_err(|error| AppError::io(copy, &error))
        }
        Ok(()) if !was_there => Err(CsvError::Changed { file: file.display().to_string() }.into()),
        Err(error) if file.exists() => Err(AppError::io(&part, &error)),
        _ => Err(AppError::CannotContinue(format!(
            "neither {} nor its copy {} is what was read when the run began: put one of them back as it was and start again. What \
             became of everybody is in results.ndjson",
            file.display(),
            copy.display()
        ))),
    };
    if made.is_err() {
        let _ = fs::remove_file(&part);
    }
    made
}

/// A new name is on the disk once its folder is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}
