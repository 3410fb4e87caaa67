//! A run's input, folder and queue, and the checks that they belong together.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::adapters::csv::{self, CsvScan, ReadOptions};
use crate::adapters::local_queue::import::{self, Batch, KnownBatch};
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use crate::app::console::next_command::command_with_out;
use crate::app::error::AppError;
use crate::app::input::questions::confirm_encoding;
use crate::app::input::row_parser::{batch_of, short_fingerprint};
use crate::app::input::standard_input::InputFile;
use crate::app::input::{input_copy, read_options, reading_options};
use crate::app::results::folders::{create_private_folder, folder_of_run};
use crate::app::results::{self, ResultSource, RunSummary, table_name};
use crate::app::service::partner;
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::config::{Origin, QueueUrl, Settings};
use crate::domain::{EventType, ReadingOptions};

pub(super) struct RunJob {
    /// Its name.
    pub file: PathBuf,
    /// Its content.
    source: InputFile,
    /// The folder for results.
    pub folder: PathBuf,
    pub queue: PathBuf,
    /// The run's own copy of the file.
    pub input: PathBuf,
    pub scan: CsvScan,
    pub options: ReadOptions,
    pub reading: ReadingOptions,
    /// Whether questions about the file are answered: by `--yes`, or because nothing leaves this machine.
    pub is_answered: bool,
    pub batch: Batch,
    /// The API it is for: its base URL, or `sandbox`.
    pub target: String,
    pub settings: Settings,
}

impl RunJob {
    /// Scans the file and creates the folder for results. Writes nothing else.
    pub(super) fn prepare(arguments: &RunArgs, settings: Settings) -> Result<Self, AppError> {
        let options = read_options(&arguments.csv);
        let file = InputFile::name_of(&arguments.file);
        let with_sandbox = arguments.service.sandbox;
        let target = partner::target(&settings, with_sandbox);
        let folder = arguments.out.out.clone().unwrap_or_else(|| folder_of_run(&file, with_sandbox));
        let queue = match (settings.origin("queue.url"), &settings.queue.url) {
            (Origin::Flag(_), QueueUrl::Local(path)) => path.clone(),
            (Origin::Flag(_), QueueUrl::Amqp(_)) => {
                return Err(AppError::Usage(
                    "run uses an embedded queue: leave --queue out, or give local:PATH; for RabbitMQ use import and \
                     worker"
                        .to_owned(),
                ));
            }
            // A queue in a settings file is that of a worker; a run has its own.
            _ => folder.join("queue.db"),
        };
        let input = input_copy::path(&queue);
        let source = InputFile::open(&arguments.file, Some(&input))?;
        let scan =
            csv::scan(&source.path, &options).map_err(|error| match (source.path.exists(), copy_hint(&input)) {
                (false, hint) if !hint.is_empty() => AppError::Usage(format!("{error}{hint}")),
                _ => error.into(),
            })?;
        let is_answered = arguments.service.yes || with_sandbox;
        confirm_encoding(&scan, is_answered)?;
        refuse_result_file(&file, &folder)?;
        create_private_folder(&folder)?;
        let batch = batch_of(&file, &scan);
        let reading = reading_options(&arguments.csv);
        Ok(Self { file, source, folder, queue, input, scan, options, reading, is_answered, batch, target, settings })
    }

    /// Opens the run's queue, which is created if it doesn't exist.
    pub(super) fn open(&self, purpose: OpenPurpose) -> Result<Connection, AppError> {
        Ok(open(&self.queue, IfMissing::Create, purpose, self.settings.queue.size_mib_max)?)
    }

    /// Makes sure that the run's copy of the input exists and has the content that the run began with.
    pub(super) fn keep_input(&self) -> Result<(), AppError> {
        input_copy::make(&self.source.path, &self.scan, &self.input)
    }

    pub(super) fn write_results(
        &self,
        connection: &Connection,
        batch: i64,
        has_all_events: bool,
    ) -> Result<RunSummary, AppError> {
        // If the copy was edited meanwhile, links would be written beside the wrong rows.
        self.keep_input()?;
        let source = ResultSource {
            file: &self.file,
            read_from: &self.input,
            scan: &self.scan,
            options: &self.options,
            queue: &self.queue,
            batch,
            batch_id: &self.batch.batch_id,
            target: &self.target,
            has_all_events,
        };
        results::write(&source, connection, &self.folder, Clock::System.now())
    }

    /// Finds this run's batch in the queue, if the run was started before.
    ///
    /// # Errors
    /// [`AppError::Usage`] where the queue belongs to another file, or to an earlier content of this one.
    pub(super) fn find_batch(&self, connection: &mut Connection) -> Result<Option<KnownBatch>, AppError> {
        for known in import::batches(connection, &self.queue)? {
            if known.batch.fingerprint == self.batch.fingerprint {
                return Ok(Some(known));
            }
            if known.batch.file != self.batch.file {
                return Err(AppError::Usage(format!(
                    "{} holds the run of {}, not of {}: give another --out DIR or leave --queue out",
                    self.queue.display(),
                    known.batch.file,
                    self.batch.file
                )));
            }
            if !known.is_complete {
                // Nothing was sent yet: the file was corrected before its import was complete.
                import::discard(connection, &self.queue, known.id)?;
                continue;
            }
            return Err(AppError::Usage(format!(
                "{file} has changed since the run in {folder} began (it was {was}, it is {is}), or another sheet of it is \
                 read. To resume that run, restore the file{hint} and its flags. To onboard the changed file, start another run, which creates no user twice \
                 either:\n  {command}",
                hint = copy_hint(&self.input),
                file = self.file.display(),
                folder = self.folder.display(),
                command = command_with_out(&format!("{}-2", self.folder.display())),
                was = short_fingerprint(&known.batch.fingerprint),
                is = short_fingerprint(&self.batch.fingerprint),
            )));
        }
        Ok(None)
    }
}

/// Refuses an input that this run's results would overwrite.
fn refuse_result_file(file: &Path, folder: &Path) -> Result<(), AppError> {
    let device_and_inode = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let input = device_and_inode(file);
    let is_input = |event_type| input.is_some() && device_and_inode(&folder.join(table_name(event_type))) == input;
    if !EventType::ALL.into_iter().any(is_input) {
        return Ok(());
    }
    Err(AppError::Usage(format!(
        "{} is a result file of {}, and this run would overwrite it: copy it to another folder first, or give another \
         --out",
        file.display(),
        folder.display()
    )))
}

/// Where the run's copy of the input is; empty if there is none.
fn copy_hint(input: &Path) -> String {
    if input.is_file() { format!(" ({} is a copy of it)", input.display()) } else { String::new() }
}
