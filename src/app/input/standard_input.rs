//! Standard input as a file, because rows are read twice: first for the encoding and the header, then one by one.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::app::error::AppError;

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// Name of its rows in events and result folders.
const NAME: &str = "stdin";

/// The file that a command reads.
pub(crate) struct InputFile {
    /// Its name, for messages, events and the names of folders.
    pub name: PathBuf,
    /// Where its content is.
    pub path: PathBuf,
    /// What was read from standard input; deleted when this is dropped.
    _stored: Option<StoredInput>,
}

/// Without a name, so that no personal data stays behind after `kill -9`, where the system shows open files under
/// `/proc`; elsewhere with a name.
enum StoredInput {
    Unnamed(#[expect(dead_code, reason = "keeps the content")] File),
    Named(#[expect(dead_code, reason = "deletes the file when it is dropped")] TempPath),
}

impl InputFile {
    /// Whether the argument means standard input.
    pub(crate) fn is_standard_input(argument: &Path) -> bool {
        argument == Path::new(STANDARD_INPUT)
    }

    /// The file's name: its own, or that of standard input.
    pub(crate) fn name_of(argument: &Path) -> PathBuf {
        if Self::is_standard_input(argument) { NAME.into() } else { argument.to_owned() }
    }

    /// Opens the file of an argument. Standard input is stored in a temporary file; if nothing is piped in and `copy`
    /// exists, it is read instead: a run that resumes has it already.
    ///
    /// # Errors
    /// Where standard input is a terminal, or can't be stored.
    pub(crate) fn open(argument: &Path, copy: Option<&Path>) -> Result<Self, AppError> {
        if !Self::is_standard_input(argument) {
            return Ok(Self { name: argument.to_owned(), path: argument.to_owned(), _stored: None });
        }
        let copy = copy.filter(|copy| copy.is_file());
        let of_copy = |copy: &Path| Self { name: NAME.into(), path: copy.to_owned(), _stored: None };
        match (io::stdin().is_terminal(), copy) {
            (true, Some(copy)) => return Ok(of_copy(copy)),
            (true, None) => {
                return Err(AppError::Usage(
                    "nothing is piped into standard input: give a file, or pipe rows into this command".to_owned(),
                ));
            }
            (false, _) => {}
        }
        let (path, stored, bytes) = store().map_err(|error| {
            AppError::CannotContinue(format!(
                "standard input can't be stored in a temporary file: {error}: free some space, or set TMPDIR to a folder \
                 with more"
            ))
        })?;
        match copy {
            Some(copy) if bytes == 0 => Ok(of_copy(copy)),
            _ => Ok(Self { name: NAME.into(), path, _stored: Some(stored) }),
        }
    }
}

fn store() -> io::Result<(PathBuf, StoredInput, u64)> {
    let (mut file, path) = tempfile::Builder::new().prefix("plu-onboard-stdin-").tempfile()?.into_parts();
    let bytes = io::copy(&mut io::stdin().lock(), &mut file)?;
    let open_file = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if fs::metadata(&open_file).is_ok_and(|metadata| metadata.is_file()) {
        path.close()?;
        return Ok((open_file, StoredInput::Unnamed(file), bytes));
    }
    Ok((path.to_path_buf(), StoredInput::Named(path), bytes))
}
