//! `import FILE`: puts the rows of a file on the queue, for a worker to process: [`embedded`] or [`rabbitmq`].
//!
//! Rows that can't be sent are written to `FILE-rejected.csv` (`rejects_file`), never onto the queue.

mod checkpoint;
mod embedded;
mod rabbitmq;
mod rejects_file;
mod row_reader;

use std::path::Path;

use crate::app::commands::CommandOutcome;
use crate::app::error::AppError;
use crate::app::input::rows::ImportCounts;
use crate::cli::ImportArgs;
use crate::config::{QueueUrl, Settings};

/// Runs the command.
///
/// # Errors
/// [`AppError`] where the file can't be read or the queue can't be written.
pub(crate) async fn import(arguments: ImportArgs, settings: Settings) -> Result<CommandOutcome, AppError> {
    match settings.queue.url.clone() {
        QueueUrl::Local(path) => embedded::import(arguments, settings, path).await,
        QueueUrl::Amqp(broker) => rabbitmq::import(&arguments, &settings, &broker).await,
    }
}

/// The beginning of the names of an import's files.
fn file_stem(file: &Path) -> String {
    file.file_stem().map_or_else(|| "import".into(), |stem| stem.to_string_lossy().into_owned())
}

fn outcome(counts: &ImportCounts) -> CommandOutcome {
    if counts.rejected > 0 { CommandOutcome::WithRejectedRows } else { CommandOutcome::Success }
}
