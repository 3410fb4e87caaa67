//! `import FILE` onto an embedded queue. A stopped or killed import is started again: rows whose key is on the queue,
//! or finished, are recognised.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::adapters::csv;
use crate::adapters::local_queue::import::{BatchKind, Importer};
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use crate::app::commands::CommandOutcome;
use crate::app::commands::import::outcome;
use crate::app::commands::import::rejects_file::RejectsFile;
use crate::app::console::grouped;
use crate::app::console::next_command::worker_command;
use crate::app::console::progress::{ConsoleProgress, READ_STYLE};
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::input::questions::confirm_encoding;
use crate::app::input::row_parser::{RowParser, batch_of};
use crate::app::input::rows::{self, ImportCounts, RowsJob};
use crate::app::input::standard_input::InputFile;
use crate::app::input::{file_notes, read_options, reading_options};
use crate::app::service::logging::start_logging;
use crate::app::service::signals;
use crate::cli::ImportArgs;
use crate::config::Settings;

pub(super) async fn import(
    arguments: ImportArgs,
    settings: Settings,
    queue: PathBuf,
) -> Result<CommandOutcome, AppError> {
    start_logging(&settings, "warn", std::io::stderr)?;
    let stop = signals::stop_on_signal(|| {})?;
    let thread = tokio::task::spawn_blocking(move || import_rows(&arguments, &settings, &queue, &stop));
    thread.await.map_err(|error| AppError::panicked("reading", &error))?
}

fn import_rows(
    arguments: &ImportArgs,
    settings: &Settings,
    queue: &Path,
    stop: &CancellationToken,
) -> Result<CommandOutcome, AppError> {
    let input = InputFile::open(&arguments.file, None)?;
    let file = &input.name;
    let options = read_options(&arguments.csv);
    let scan = csv::scan(&input.path, &options)?;
    confirm_encoding(&scan, arguments.yes)?;
    let connection = open(queue, IfMissing::Create, OpenPurpose::Import, settings.queue.size_mib_max)?;
    let batch = batch_of(file, &scan);
    let mut importer = Importer::begin(connection, queue, &batch, BatchKind::Import, None)?;
    let progress = ConsoleProgress::new(settings.log.format);
    let job = RowsJob {
        file,
        read_from: &input.path,
        scan: &scan,
        options: &options,
        row_parser: &RowParser::new(
            &batch,
            &scan.header,
            settings.queue.message_bytes_max,
            reading_options(&arguments.csv),
        ),
        lane: settings.import.lane,
        after_record: 0,
        progress: &progress,
        stop,
    };
    let mut rejects = RejectsFile::new(&scan, file, arguments.out.out.as_deref());
    file_notes::notes(file, &scan).iter().for_each(|note| progress.print_line(&format!("note: {note}")));
    progress.start(scan.rows_about(), READ_STYLE);
    let counts = rows::enqueue(&job, &mut importer, &mut rejects);
    progress.clear();
    let counts = counts?;
    importer.finish(counts.is_some())?;
    let rejects = rejects.finish()?;
    let Some(counts) = counts else {
        return Err(AppError::CannotContinue(
            "stopped before the end of the file; start the import again: rows that are on the queue are recognised"
                .to_owned(),
        ));
    };
    print(&summary(&batch.file, queue, &counts, rejects.as_deref(), &worker_command(settings, queue)));
    Ok(outcome(&counts))
}

fn summary(file: &str, queue: &Path, counts: &ImportCounts, rejects: Option<&Path>, next_command: &str) -> String {
    let ImportCounts { rows, new, known, repeated, rejected, .. } = *counts;
    let rejects = rejects.map_or_else(String::new, |path| format!(": see {}", path.display()));
    format!(
        "{file}: {} rows\n  put on {}: {}\n  already on it or finished: {}\n  repeat an earlier row: {}\n  rejected, \
         not put on it: {}{rejects}\nStart a worker on it with: {next_command}\n",
        grouped(rows),
        queue.display(),
        grouped(new),
        grouped(known),
        grouped(repeated),
        grouped(rejected),
    )
}
