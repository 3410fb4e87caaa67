//! Folders and files that only their owner can read.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::adapters::files::Replacement;
use crate::app::error::AppError;

/// Creates a folder that only its owner can read. An existing folder keeps its mode.
///
/// # Errors
/// Where the folder can't be created.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), AppError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        let is_file = folder.is_file();
        let folder = folder.display();
        if is_file {
            return AppError::Usage(format!("{folder} is a file, not a folder for results: give another --out DIR"));
        }
        AppError::CannotContinue(format!(
            "no folder for results can be created at {folder}: {error}: give another --out DIR"
        ))
    })
}

/// Replaces a file as a whole: writes a new one that only its owner can read, syncs it and renames it.
///
/// # Errors
/// Where the file can't be written; an earlier version of it is left as it was.
pub(crate) fn replace_private_file(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut Replacement) -> io::Result<()>,
) -> Result<(), AppError> {
    let path = folder.join(name);
    let replace = || -> io::Result<()> {
        let mut file = Replacement::create(&path)?;
        write(&mut file)?;
        file.publish()
    };
    replace().map_err(|error| AppError::io(&path, &error))
}

/// The folder for results that belongs to a worker's queue: beside it and named after it.
pub(crate) fn folder_of_queue(queue: &Path) -> PathBuf {
    let stem = queue.file_stem().map_or_else(|| "queue".into(), |stem| stem.to_string_lossy().into_owned());
    queue.with_file_name(format!("{stem}-results"))
}

/// The folder for results of a run: in the working folder and named after the file. A sandbox run has a folder of its
/// own, so that its results aren't taken for real ones.
pub(crate) fn folder_of_run(file: &Path, with_sandbox: bool) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "plu-onboard".into(), |stem| stem.to_string_lossy().into_owned());
    PathBuf::from(format!("{stem}-results{}", if with_sandbox { "-sandbox" } else { "" }))
}
