//! The command line's answer.

use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;

use super::error::AppError;

/// The first part that couldn't be written.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output. Not `print!`, which panics where nobody reads any more, as behind `head`, and on a full disk.
pub(super) fn print(text: &str) {
    let mut out = io::stdout();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error);
    }
}

/// Whether the whole answer was written.
///
/// # Errors
/// [`AppError::CannotGoOn`]: what was asked is done, and a part of the answer is missing.
pub(super) fn is_whole() -> Result<(), AppError> {
    match FAILED.get() {
        None => Ok(()),
        Some(error) => Err(AppError::CannotGoOn(format!("a part of the answer is missing: standard output: {error}"))),
    }
}
