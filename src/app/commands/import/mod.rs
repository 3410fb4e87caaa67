//! `import FILE`: puts the rows of a file on the embedded queue, for a worker to take. [`crate::app::commands::import::rabbitmq`] does it for a
//! broker's.
//!
//! The rows that can't be sent go into `rejected.csv`, never onto the queue. An import that was killed is simply
//! started again: the keys of the rows that are on the queue, or were finished, are recognised.

mod checkpoint;
pub(crate) mod rabbitmq;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::adapters::csv::{self, ResultWriter, Row, Scan};
use crate::adapters::local_queue::import::{Batch, Importer, Kind};
use crate::adapters::local_queue::open::{IfMissing, Purpose, open};
use crate::app::console::error::AppError;
use crate::app::console::next_command::worker_command;
use crate::app::console::progress::{Progress, READ_STYLE};
use crate::app::console::stdout::print;
use crate::app::input::row_parser::{self, RowParser};
use crate::app::input::rows::{self, Counts, RowsJob, Visitor};
use crate::app::results::summary::grouped;
use crate::app::results::tables;
use crate::app::service::signals;
use crate::app::{Finished, read_options, start_logging};
use crate::cli::ImportArgs;
use crate::config::{QueueUrl, Settings};
use crate::domain::job::InvalidJob;

/// Imports.
///
/// # Errors
/// [`AppError`] where the file can't be read or the queue not be written.
pub(crate) async fn import(arguments: ImportArgs, settings: Settings) -> Result<Finished, AppError> {
    let queue = match &settings.queue.url {
        QueueUrl::Local(path) => path.clone(),
        QueueUrl::Amqp(broker) => return rabbitmq::import(&arguments, &settings, broker).await,
    };
    start_logging(&settings, "warn", std::io::stderr)?;
    let stop = signals::stop_on_signal(|| {})?;
    let thread = tokio::task::spawn_blocking(move || rows_of(&arguments, &settings, &queue, &stop));
    thread.await.map_err(|error| AppError::CannotContinue(format!("reading ended abnormally: {error}")))?
}

fn rows_of(
    arguments: &ImportArgs,
    settings: &Settings,
    queue: &Path,
    stop: &CancellationToken,
) -> Result<Finished, AppError> {
    let file = &arguments.file;
    let options = read_options(&arguments.csv, settings);
    let scan = csv::scan(file, &options)?;
    let connection = open(queue, IfMissing::Create, Purpose::Import, settings.queue.size_mib_max)?;
    let batch = Batch {
        batch_id: row_parser::batch_id(file, &scan.fingerprint),
        fingerprint: scan.fingerprint,
        file: row_parser::file_name(file),
    };
    let mut importer = Importer::begin(connection, queue, &batch, Kind::Import, None)?;
    let row_parser = RowParser {
        file: batch.file.clone(),
        batch_id: batch.batch_id.clone(),
        header: &scan.header,
        message_bytes_max: settings.queue.message_bytes_max,
    };
    let progress = Progress::new(settings.log.format);
    let job = RowsJob {
        file,
        read_from: file,
        scan: &scan,
        options: &options,
        row_parser: &row_parser,
        lane: settings.import.lane,
        after_record: 0,
        progress: &progress,
        stop,
    };
    let mut rejects = RejectsFile::new(&scan, file, arguments.out.out.as_deref());
    progress.start(scan.rows_about(), READ_STYLE);
    let counts = rows::enqueue(&job, &mut importer, &mut rejects);
    progress.clear();
    let counts = counts?;
    importer.finish(counts.is_some())?;
    let rejects = rejects.finish()?;
    match counts {
        None => Err(AppError::CannotContinue(
            "stopped before the end of the file; start the import again: rows that are on the queue are recognised"
                .to_owned(),
        )),
        Some(counts) => {
            print(&text(&batch.file, queue, &counts, rejects.as_deref(), &worker_command(settings, queue)));
            Ok(if counts.rejected > 0 { Finished::WithRejects } else { Finished::Well })
        }
    }
}

/// What files begin with that belong to an import.
pub(crate) fn stem(file: &Path) -> String {
    file.file_stem().map_or_else(|| "import".into(), |stem| stem.to_string_lossy().into_owned())
}

fn text(file: &str, queue: &Path, counts: &Counts, rejects: Option<&Path>, next: &str) -> String {
    let Counts { rows, new, known, repeated, rejected, .. } = *counts;
    let rejects = rejects.map_or_else(String::new, |path| format!(": see {}", path.display()));
    format!(
        "{file}: {} rows\n  put on {}: {}\n  on it from before: {}\n  repeat an earlier row: {}\n  rejected, not put on it: {}{rejects}\nWork on it with: {next}\n",
        grouped(rows),
        queue.display(),
        grouped(new),
        grouped(known),
        grouped(repeated),
        grouped(rejected),
    )
}

/// The rows that can't be sent, as a file that can be corrected and imported again. Made with the first one.
pub(crate) struct RejectsFile<'r> {
    scan: &'r Scan,
    folder: &'r Path,
    name: String,
    writer: Option<ResultWriter>,
}

impl<'r> RejectsFile<'r> {
    /// For the rows of a file; without `folder`, in the working folder.
    pub(crate) fn new(scan: &'r Scan, file: &Path, folder: Option<&'r Path>) -> Self {
        let folder = folder.unwrap_or_else(|| Path::new("."));
        Self { scan, folder, name: format!("{}-rejected", stem(file)), writer: None }
    }

    /// Gives the file its name; `None`: there is nothing in it.
    pub(crate) fn finish(self) -> Result<Option<PathBuf>, AppError> {
        Ok(self.writer.map(ResultWriter::finish).transpose()?)
    }
}

impl Visitor for RejectsFile<'_> {
    fn rejected(&mut self, _importer: &mut Importer, row: &Row, invalid: &InvalidJob) -> Result<(), AppError> {
        if self.writer.is_none() {
            tables::create_private_folder(self.folder)?;
            self.writer = Some(ResultWriter::create(self.folder, &self.name, self.scan, &tables::ERROR_TITLES)?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(row, &tables::errors(&invalid.problems).each_ref().map(String::as_str))?;
        }
        Ok(())
    }
}
