//! `purge`: deletes the personal data of a finished run, or of a worker's queue. The idempotency keys are kept, so that
//! the same rows are recognised later.
//!
//! **Invariant:** nothing is deleted that exists nowhere else, unless `--force` is given.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adapters::kyc_file;
use crate::adapters::local_queue::emergency::EmergencyFile;
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use crate::adapters::local_queue::purge::{LocalQueueContents, contents, delete_personal_data};
use crate::app::commands::CommandOutcome;
use crate::app::commands::webhooks::KYC_FILE;
use crate::app::console::grouped;
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::input::input_copy;
use crate::app::results::folders::folder_of_queue;
use crate::app::results::summary;
use crate::app::service::logging::start_logging;
use crate::cli::PurgeArgs;
use crate::clock::Clock;
use crate::config::{Origin, QueueUrl, Settings};
use crate::domain::EventType;

/// What is deleted and what is kept.
struct PurgePlan {
    queue: PathBuf,
    folder: PathBuf,
    contents: LocalQueueContents,
    /// Files to delete.
    files: Vec<PathBuf>,
    /// Names of other files in the folder, which are kept.
    others: Vec<String>,
}

/// Runs the command. Without `--yes` it only prints what it would delete.
///
/// # Errors
/// [`AppError::CannotContinue`] where work is unfinished, the queue is in use or a file can't be deleted;
/// [`AppError::Usage`] where there is no queue.
pub(crate) fn purge(arguments: &PurgeArgs, settings: &Settings) -> Result<CommandOutcome, AppError> {
    start_logging(settings, "warn", std::io::stderr)?;
    let (queue, folder) = queue_and_folder(arguments, settings)?;
    if !queue.is_file() {
        let events = folder.join(KYC_FILE);
        let hint = if events.is_file() {
            format!(". Delete {}, which `webhooks` wrote, yourself", events.display())
        } else {
            String::new()
        };
        return Err(AppError::Usage(format!(
            "there is no queue at {}: give --out DIR with the folder of a run, or --queue local:PATH with the queue of \
             a worker{hint}",
            queue.display()
        )));
    }
    let lock = WorkerLock::acquire(&queue, Clock::System.now())?;
    let mut connection = open(&queue, IfMissing::Fail, OpenPurpose::Work, settings.queue.size_mib_max)?;
    let contents = contents(&connection, &queue)?;
    refuse_unfinished(&queue, &folder, &contents, arguments.force)?;
    let emergency_files = EmergencyFile::of(&queue, &folder).existing_or_kept();
    refuse_unread(&queue, &emergency_files, arguments.force)?;
    let (files, mut others) = list_folder(&folder, &queue, &contents)?;
    others.retain(|name| !emergency_files.contains(&folder.join(name)));
    // Locked until they are deleted, rotated ones too, so that `webhooks` can't write to a deleted file.
    let _locks = files
        .iter()
        .filter(|name| name.starts_with(KYC_FILE))
        .map(|name| kyc_file::hold(&folder.join(name)).map_err(|error| AppError::CannotContinue(error.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = files.into_iter().map(|name| folder.join(name)).collect();
    files.extend(emergency_files);
    files.extend(input_copy::paths(&queue).into_iter().filter(|path| path.is_file()));
    let plan = PurgePlan { queue, folder, contents, files, others };
    if !arguments.yes {
        print(&plan.text(false));
        print("Nothing was deleted: add --yes to do it.\n");
        return Ok(CommandOutcome::Success);
    }
    delete_personal_data(&mut connection, &plan.queue)?;
    // Closing merges SQLite's write-ahead log into the file and deletes it.
    connection.close().map_err(|(_, error)| AppError::CannotContinue(format!("{}: {error}", plan.queue.display())))?;
    for path in &plan.files {
        fs::remove_file(path).map_err(|error| AppError::io(path, &error))?;
    }
    if let Some(mut summary) = summary::read_any(&plan.folder)?.filter(|_| plan.contents.is_run) {
        summary.purged_at.get_or_insert(Clock::System.now());
        summary::write(&plan.folder, &summary)?;
    }
    drop(lock);
    print(&plan.text(true));
    Ok(CommandOutcome::Success)
}

fn queue_and_folder(arguments: &PurgeArgs, settings: &Settings) -> Result<(PathBuf, PathBuf), AppError> {
    let out = arguments.out.out.clone();
    match (settings.origin("queue.url"), &settings.queue.url, out) {
        (Origin::Flag(_), QueueUrl::Local(queue), out) => {
            Ok((queue.clone(), out.unwrap_or_else(|| folder_of_queue(queue))))
        }
        (Origin::Flag(_), QueueUrl::Amqp(_), _) => Err(AppError::Usage(
            "purge works on an embedded queue and its results; to delete personal data on RabbitMQ, purge its queues: \
             OPERATIONS.md says which"
                .to_owned(),
        )),
        // A queue in a settings file is that of a worker; a run has its own, in its folder.
        (_, _, Some(folder)) => Ok((folder.join("queue.db"), folder)),
        _ => Err(AppError::Usage(
            "nothing to purge is given: give --out DIR for the folder of a run, or --queue local:PATH for the queue of \
             a worker".to_owned(),
        )),
    }
}

/// Refuses to delete what exists nowhere else.
fn refuse_unfinished(queue: &Path, folder: &Path, contents: &LocalQueueContents, force: bool) -> Result<(), AppError> {
    let refuse = |why: String| Err(refusal(queue, &why));
    if contents.waiting > 0 {
        return refuse(format!(
            "{} jobs are still waiting: finish the run or the worker first. To abandon a migration for good, delete \
             its queue and folder yourself; its rows are not recognised then",
            grouped(contents.waiting)
        ));
    }
    if contents.is_run && summary::read_any(folder)?.is_none() {
        return refuse(format!(
            "{} holds no summary of a finished run: start `run` once more, which writes the result files and sends no \
             row again",
            folder.display()
        ));
    }
    if force {
        return Ok(());
    }
    if contents.dead > 0 {
        return refuse(format!(
            "{} failed jobs are kept for a retry, and their users may have been created: retry or drop them first, or \
             add --force to lose them",
            grouped(contents.dead)
        ));
    }
    if contents.unwritten > 0 {
        return refuse(format!(
            "{} outcomes, with their links, are in no results.ndjson yet: start the worker once, or add --force to \
             lose them",
            grouped(contents.unwritten)
        ));
    }
    if !contents.incomplete.is_empty() {
        return refuse(format!(
            "the import of {} is incomplete: import it again, or add --force",
            contents.incomplete.join(", ")
        ));
    }
    Ok(())
}

/// Refuses to delete outcomes that could not be written to the queue.
fn refuse_unread(queue: &Path, emergency_files: &[PathBuf], force: bool) -> Result<(), AppError> {
    match emergency_files {
        [file, ..] if !force => Err(refusal(
            queue,
            &format!(
                "{} has outcomes, with their links, that could not be written to the queue: start the worker once, which \
                 reads the file. If one is left that ends with .aside-1, take what you need from it, and add --force \
                 to delete it",
                file.display()
            ),
        )),
        _ => Ok(()),
    }
}

fn refusal(queue: &Path, why: &str) -> AppError {
    AppError::CannotContinue(format!("{}: {why}. Nothing was deleted", queue.display()))
}

/// The names of the files in the folder: those to delete, and others. Only regular files are deleted, because deleting
/// a symbolic link would leave the data behind. The queue, its companion files and the summary are in neither list.
fn list_folder(
    folder: &Path,
    queue: &Path,
    contents: &LocalQueueContents,
) -> Result<(Vec<String>, Vec<String>), AppError> {
    let (mut deletable, mut others) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((deletable, others)),
        Err(error) => return Err(AppError::io(folder, &error)),
    };
    let queue_name = queue.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let copies = input_copy::paths(queue).map(|path| folder.join(path.file_name().unwrap_or_default()));
    for entry in entries {
        let entry = entry.map_err(|error| AppError::io(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_handled_elsewhere = name == "summary.json"
            || ["", "-wal", "-shm", ".lock"].iter().any(|ending| name == format!("{queue_name}{ending}"))
            || copies.contains(&entry.path());
        if is_file && is_deletable(&name, contents) {
            deletable.push(name);
        } else if !(is_file && is_handled_elsewhere) {
            others.push(name);
        }
    }
    deletable.sort();
    others.sort();
    Ok((deletable, others))
}

/// Whether a file of this name was written by this program and holds personal data.
fn is_deletable(name: &str, contents: &LocalQueueContents) -> bool {
    // Rotated files too: `results.ndjson.1`.
    let is_events = ["results.ndjson", KYC_FILE]
        .iter()
        .any(|events| name.strip_prefix(events).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    let stem = |file: &str| Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let is_table = |table: &str| {
        if contents.is_run {
            EventType::ALL.iter().any(|event_type| event_type.short() == table)
        } else {
            contents.files.iter().filter_map(|file| stem(file)).any(|stem| table == format!("{stem}-rejected"))
        }
    };
    // The part of a table that a killed run left behind.
    let part = name.strip_prefix('.').and_then(|name| name.strip_suffix(".csv.part"));
    let table = name.strip_suffix(".csv").or(part);
    is_events
        || table.is_some_and(is_table)
        || (contents.is_run && [".report.html.part", "report.html"].contains(&name))
}

impl PurgePlan {
    /// What was done, or what would be done.
    fn text(&self, is_done: bool) -> String {
        let Self { queue, folder, contents, files, others } = self;
        let (deleted, emptied) = if is_done { ("deleted", "emptied") } else { ("would delete", "would empty") };
        let mut lines: Vec<String> = files.iter().map(|path| format!("{deleted} {}", path.display())).collect();
        let state = if contents.has_personal_data { "" } else { " (held no personal data before)" };
        lines.push(format!(
            "{emptied} {}{state}: {} finished jobs keep their idempotency key (a hash), outcome, attempts and times, \
             so that the same rows are recognised; their data, links and ids are deleted",
            queue.display(),
            grouped(contents.finished)
        ));
        if contents.is_run {
            lines.push(format!("kept {}: it holds numbers only", folder.join("summary.json").display()));
        }
        for name in others {
            lines.push(format!("not touched: {} (not written by plu-onboard)", folder.join(name).display()));
        }
        let own = std::path::absolute(folder.join("results.ndjson")).unwrap_or_default();
        for file in contents.events_files.iter().map(Path::new).filter(|file| **file != own && file.exists()) {
            lines.push(format!("not touched: {}, which this queue's events were written to too", file.display()));
        }
        lines.push(format!(
            "Delete yourself: {}copies, backups and snapshots of these files, and data taken from them. Plu keeps its \
             users. Blocks of deleted files may stay readable on the disk itself.",
            match contents.files.as_slice() {
                [] => String::new(),
                names if contents.is_run => format!("the input ({}), ", names.join(", ")),
                names => format!("the input ({}) and the -rejected.csv file of each import, ", names.join(", ")),
            }
        ));
        lines.join("\n") + "\n"
    }
}
