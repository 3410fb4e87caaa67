//! `purge`: takes the personal data away once a migration is over, and keeps what recognises its rows.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adapters::kyc_file;
use crate::adapters::local_queue::lock::WorkerLock;
use crate::adapters::local_queue::open::{IfMissing, Purpose, open};
use crate::adapters::local_queue::purge::{Contents, contents, empty};
use crate::app::commands::webhooks::KYC_FILE;
use crate::app::commands::worker;
use crate::app::console::error::AppError;
use crate::app::console::stdout::print;
use crate::app::input::input_copy;
use crate::app::results::summary::grouped;
use crate::app::results::tables;
use crate::app::{Finished, start_logging};
use crate::cli::PurgeArgs;
use crate::clock::Clock;
use crate::config::{Origin, QueueUrl, Settings};

/// What is purged, and what was found there.
struct Plan {
    queue: PathBuf,
    folder: PathBuf,
    contents: Contents,
    /// What goes.
    files: Vec<PathBuf>,
    /// What lies there too and stays.
    others: Vec<String>,
}

/// Purges; without `--yes` says what it would do.
///
/// # Errors
/// [`AppError::CannotContinue`] where work is left, somebody works on the queue or a file can't be removed;
/// [`AppError::Usage`] where there is nothing to purge.
pub(crate) fn purge(arguments: &PurgeArgs, settings: &Settings) -> Result<Finished, AppError> {
    start_logging(settings, "warn", std::io::stderr)?;
    let (queue, folder) = places(arguments, settings)?;
    if !queue.is_file() {
        let events = folder.join(KYC_FILE);
        let yours = if events.is_file() {
            format!(". {}, which `webhooks` wrote, is yours to delete", events.display())
        } else {
            String::new()
        };
        return Err(AppError::Usage(format!(
            "there is no queue at {}: give --out DIR with the folder of a run, or --queue local:PATH with that of a worker{yours}",
            queue.display()
        )));
    }
    let lock = WorkerLock::acquire(&queue, Clock::System.now())?;
    let mut connection = open(&queue, IfMissing::Fail, Purpose::Work, settings.queue.size_mib_max)?;
    let contents = contents(&connection, &queue)?;
    refuse_unfinished(&queue, &folder, &contents, arguments.force)?;
    let (files, others) = in_folder(&folder, &queue, &contents)?;
    // Held until they are deleted, a rotated one too: what `webhooks` still writes would be gone with it.
    let _verifications = files
        .iter()
        .filter(|name| name.starts_with(KYC_FILE))
        .map(|name| kyc_file::hold(&folder.join(name)).map_err(|error| AppError::CannotContinue(error.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = files.into_iter().map(|name| folder.join(name)).collect();
    files.extend(input_copy::places(&queue).into_iter().filter(|path| path.is_file()));
    let plan = Plan { queue, folder, contents, files, others };
    if !arguments.yes {
        print(&plan.text(false));
        print("Nothing was deleted: add --yes to do it.\n");
        return Ok(Finished::Well);
    }
    empty(&mut connection, &plan.queue)?;
    // Closing folds the log into the file and removes it.
    connection.close().map_err(|(_, error)| AppError::CannotContinue(format!("{}: {error}", plan.queue.display())))?;
    for path in &plan.files {
        fs::remove_file(path).map_err(|error| AppError::io(path, &error))?;
    }
    if let Some(mut summary) = tables::complete_summary(&plan.folder)?.filter(|_| plan.contents.is_run) {
        summary.purged_at.get_or_insert(Clock::System.now());
        tables::write_summary(&plan.folder, &summary)?;
    }
    drop(lock);
    print(&plan.text(true));
    Ok(Finished::Well)
}

/// The queue and the folder of results.
fn places(arguments: &PurgeArgs, settings: &Settings) -> Result<(PathBuf, PathBuf), AppError> {
    let out = arguments.out.out.clone();
    match (settings.origin("queue.url"), &settings.queue.url, out) {
        (Origin::Flag(_), QueueUrl::Local(queue), out) => {
            Ok((queue.clone(), out.unwrap_or_else(|| worker::default_folder(queue))))
        }
        (Origin::Flag(_), QueueUrl::Amqp(_), _) => Err(AppError::Usage(
            "purge empties an embedded queue and its results; what is on RabbitMQ goes by reading or purging its queues: \
             OPERATIONS.md says which"
                .to_owned(),
        )),
        // The queue of a settings file is the worker's; a run has one of its own, in its folder.
        (_, _, Some(folder)) => Ok((folder.join("queue.db"), folder)),
        _ => Err(AppError::Usage(
            "say what to purge: --out DIR for the folder of a run, --queue local:PATH for the queue of a worker".to_owned(),
        )),
    }
}

/// Refuses while something would be lost that isn't anywhere else.
fn refuse_unfinished(queue: &Path, folder: &Path, contents: &Contents, force: bool) -> Result<(), AppError> {
    let refuse =
        |why: String| Err(AppError::CannotContinue(format!("{}: {why}. Nothing was deleted", queue.display())));
    if contents.waiting > 0 {
        return refuse(format!(
            "{} jobs are still waiting: finish the run or the worker first. To give a migration up for good, delete its \
             queue and folder as a whole; nothing recognises its rows then",
            grouped(contents.waiting)
        ));
    }
    if contents.is_run && tables::complete_summary(folder)?.is_none() {
        return refuse(format!(
            "{} holds no summary of a finished run: start `run` once more, which writes the result files and sends nobody \
             again",
            folder.display()
        ));
    }
    if force {
        return Ok(());
    }
    if contents.dead > 0 {
        return refuse(format!(
            "{} failed jobs are kept for another attempt, and their users may have been created: look after them first, \
             or add --force to lose them",
            grouped(contents.dead)
        ));
    }
    if contents.unwritten > 0 {
        return refuse(format!(
            "{} outcomes, with their links, are in no results.ndjson yet: start the worker once, or add --force to lose \
             them",
            grouped(contents.unwritten)
        ));
    }
    if !contents.incomplete.is_empty() {
        return refuse(format!(
            "not every row of {} was put in: import it again, or add --force",
            contents.incomplete.join(", ")
        ));
    }
    Ok(())
}

/// What this program wrote into the folder, and what else lies there. Only regular files are ours: what a link leads
/// to would stay behind.
fn in_folder(folder: &Path, queue: &Path, contents: &Contents) -> Result<(Vec<String>, Vec<String>), AppError> {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((ours, others)),
        Err(error) => return Err(AppError::io(folder, &error)),
    };
    let queue_name = queue.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for entry in entries {
        let entry = entry.map_err(|error| AppError::io(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        // The copy of the input is told of with the queue.
        let stays = name == "summary.json"
            || ["", "-wal", "-shm", ".lock", ".input", ".input.part"]
                .iter()
                .any(|end| name == format!("{queue_name}{end}"));
        if is_file && is_ours(&name, contents) {
            ours.push(name);
        } else if !(is_file && stays) {
            others.push(name);
        }
    }
    ours.sort();
    others.sort();
    Ok((ours, others))
}

fn is_ours(name: &str, contents: &Contents) -> bool {
    // With what log rotation made of it.
    let is_events = ["results.ndjson", KYC_FILE]
        .iter()
        .any(|events| name.strip_prefix(events).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    let stem = |file: &str| Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let is_table = |table: &str| {
        if contents.is_run {
            ["created", "existing", "rejected", "failed"].contains(&table)
        } else {
            contents.files.iter().filter_map(|file| stem(file)).any(|stem| table == format!("{stem}-rejected"))
        }
    };
    // A killed run leaves such a part.
    let part = name.strip_prefix('.').and_then(|name| name.strip_suffix(".csv.part"));
    let table = name.strip_suffix(".csv").or(part);
    is_events
        || table.is_some_and(is_table)
        || (contents.is_run && [".report.html.part", "report.html"].contains(&name))
}

impl Plan {
    fn text(&self, is_done: bool) -> String {
        let Self { queue, folder, contents, files, others } = self;
        let (deleted, emptied) = if is_done { ("deleted", "emptied") } else { ("would delete", "would empty") };
        let mut lines: Vec<String> = files.iter().map(|path| format!("{deleted} {}", path.display())).collect();
        let state = if contents.has_personal_data { "" } else { " (was empty of personal data before)" };
        lines.push(format!(
            "{emptied} {}{state}: {} finished jobs keep their idempotency key (a hash), outcome, attempts and times, so \
             that the same rows are recognised; their data, links and ids go",
            queue.display(),
            grouped(contents.finished)
        ));
        if contents.is_run {
            lines.push(format!("kept {}: numbers only", folder.join("summary.json").display()));
        }
        for name in others {
            lines.push(format!("not touched: {} (not written by plu-onboard)", folder.join(name).display()));
        }
        let own = std::path::absolute(folder.join("results.ndjson")).unwrap_or_default();
        for file in contents.events_files.iter().map(Path::new).filter(|file| **file != own && file.exists()) {
            lines.push(format!("not touched: {}, which this queue's events were written to as well", file.display()));
        }
        lines.push(format!(
            "Yours to delete: {}copies, backups and snapshots of these files, and what was read out of them. Plu keeps its \
             users. Blocks of deleted files may stay readable on the disk itself.",
            match contents.files.as_slice() {
                [] => String::new(),
                names if contents.is_run => format!("the input ({}), ", names.join(", ")),
                names => format!("the input ({}) and the -rejected.csv beside each import, ", names.join(", ")),
            }
        ));
        lines.join("\n") + "\n"
    }
}
