//! A run's own copy of its input. The input may be edited while the run takes hours; the copy makes sure that each
//! result is written beside the row it belongs to.
//!
//! **Invariant:** the copy is complete or absent; only its owner can read it, and it is read-only.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::adapters::csv::{self, CsvError, CsvScan};
use crate::adapters::files::{self, Replacement};
use crate::app::error::AppError;

/// Appended to the name of the queue's file.
const COPY_ENDING: &str = ".input";

/// The copy's path, beside the run's queue.
pub(crate) fn path(queue: &Path) -> PathBuf {
    let mut name = queue.as_os_str().to_owned();
    name.push(COPY_ENDING);
    name.into()
}

/// Every path where rows of the input may be left beside a queue.
pub(crate) fn paths(queue: &Path) -> [PathBuf; 2] {
    let copy = path(queue);
    [files::part_of(&copy), copy]
}

/// Makes the copy, unless it exists with the content that was scanned.
///
/// # Errors
/// Where the copy can't be written, or the file has changed since it was scanned.
pub(crate) fn make(file: &Path, scan: &CsvScan, copy: &Path) -> Result<(), AppError> {
    let is_as_scanned = |path: &Path| csv::digest(path).is_ok_and(|digest| digest == scan.digest);
    let existed = copy.exists();
    if existed && is_as_scanned(copy) {
        return Ok(());
    }
    let copied = || -> io::Result<Replacement> {
        let mut part = Replacement::create(copy)?;
        io::copy(&mut File::open(file)?, &mut part)?;
        fs::set_permissions(part.part(), Permissions::from_mode(0o400))?;
        Ok(part)
    };
    match copied() {
        Ok(part) if is_as_scanned(part.part()) => part.publish().map_err(|error| AppError::io(copy, &error)),
        Ok(_) if !existed => Err(CsvError::Changed { file: file.display().to_string() }.into()),
        Err(error) if file.exists() => Err(AppError::io(copy, &error)),
        _ => Err(AppError::CannotContinue(format!(
            "neither {} nor its copy {} has the content that this run began with: restore one of them and start again. \
             Every outcome so far is in results.ndjson",
            file.display(),
            copy.display()
        ))),
    }
}
