//! An embedded queue in a temporary file, for commands that only need to recognise repeated keys and emails.

use crate::adapters::local_queue::import::{Batch, BatchKind, Importer};
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use crate::app::error::AppError;

/// Opens an empty queue in a file that has no name any more, so that no personal data stays behind, even after `kill
/// -9`.
///
/// # Errors
/// Where the temporary folder or the file can't be created.
pub(crate) fn importer(command: &str, batch: &Batch, kind: BatchKind) -> Result<Importer, AppError> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("plu-onboard-{command}-"))
        .tempdir()
        .map_err(|error| AppError::CannotContinue(format!("no temporary folder can be created: {error}")))?;
    let path = folder.path().join("queue.db");
    let connection = open(&path, IfMissing::Create, OpenPurpose::Scratch, u64::from(u32::MAX))?;
    // Deletes the file; the connection keeps using it.
    folder
        .close()
        .map_err(|error| AppError::CannotContinue(format!("the temporary folder can't be removed: {error}")))?;
    Ok(Importer::begin(connection, &path, batch, kind, None)?)
}
