//! The command line's answer.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Seek as _, Write as _};
use std::sync::OnceLock;

use crate::app::console::error::AppError;

/// The first part that couldn't be written.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output. Not `print!`, which panics where nobody reads any more, as behind `head`, and on a full disk.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout();
    note_failure(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes what was kept in a file, under a title; nothing where there is nothing.
pub(crate) fn print_file(title: &str, mut kept: BufWriter<File>) {
    let mut copy = || -> io::Result<()> {
        kept.flush()?;
        let mut file = kept.get_ref();
        if file.stream_position()? > 0 {
            file.rewind()?;
            let mut out = io::stdout();
            out.write_all(title.as_bytes())?;
            io::copy(&mut file, &mut out)?;
            out.flush()?;
        }
        Ok(())
    };
    note_failure(copy());
}

/// Nobody reading any more is no failure.
fn note_failure(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error);
    }
}

/// Whether the whole answer was written.
///
/// # Errors
/// [`AppError::CannotContinue`]: what was asked is done, and a part of the answer is missing.
pub(crate) fn is_whole() -> Result<(), AppError> {
    match FAILED.get() {
        None => Ok(()),
        Some(error) => {
            Err(AppError::CannotContinue(format!("a part of the answer is missing: standard output: {error}")))
        }
    }
}
