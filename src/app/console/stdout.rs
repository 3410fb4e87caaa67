//! Standard output: what a command answers. A failed write doesn't end the command; it is reported at the end.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Seek as _, Write as _};
use std::sync::OnceLock;

use crate::app::error::AppError;

/// The first write that failed.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output. Not `print!`, which panics where the output is closed, as behind `head`, or the disk
/// full.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout();
    record_failure(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a title and the content of a temporary file; nothing if the file is empty.
pub(crate) fn print_file(title: &str, mut content: BufWriter<File>) {
    let mut copy = || -> io::Result<()> {
        content.flush()?;
        let mut file = content.get_ref();
        if file.stream_position()? > 0 {
            file.rewind()?;
            let mut out = io::stdout();
            out.write_all(title.as_bytes())?;
            io::copy(&mut file, &mut out)?;
            out.flush()?;
        }
        Ok(())
    };
    record_failure(copy());
}

/// A closed pipe is no failure: its reader has seen enough.
fn record_failure(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error);
    }
}

/// Checks that everything printed so far was written.
///
/// # Errors
/// [`AppError::CannotContinue`]: the command did its work, but a part of its answer is missing.
pub(crate) fn check_complete() -> Result<(), AppError> {
    match FAILED.get() {
        None => Ok(()),
        Some(error) => {
            Err(AppError::CannotContinue(format!("a part of the answer is missing: standard output: {error}")))
        }
    }
}
