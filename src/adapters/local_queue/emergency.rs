//! Emergency file: a copy of the outcomes that can't be committed, in another place than the queue.
//!
//! While commits fail or hang, outcomes with their links are in memory only. So they are copied to a file, which
//! survives the process, and the next worker on the queue reads it. It holds lines like those of the events file, and
//! only its owner can read it.
//!
//! It is written to the first of these folders that works: results, temporary files, queue. Folders on another disk
//! than the queue's come first.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::adapters::files::{Replacement, folder_of};
use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::export::move_aside;
use crate::adapters::local_queue::storage::UnwrittenOutcome;
use crate::adapters::local_queue::store::write_outcome;
use crate::adapters::local_queue::{LAST_FINISHED, WAITING};
use crate::domain::Event;
use crate::telemetry::EmergencyFileRead;

/// Longest file that is read, in bytes: more than the outcomes of every job in progress.
const BYTES_MAX: u64 = 1 << 30;

/// Where the emergency file of a queue is written.
#[derive(Debug, Clone)]
pub struct EmergencyFile {
    /// Each path, and whether it is on another disk than the queue.
    paths: Vec<(PathBuf, bool)>,
    /// Held by the thread that writes.
    writing: Arc<Mutex<()>>,
}

impl EmergencyFile {
    /// Returns the emergency file of a queue that exists. `results`: the folder with the events file.
    pub fn of(queue: &Path, results: &Path) -> Self {
        let queue = fs::canonicalize(queue).unwrap_or_else(|_| queue.to_owned());
        // The name says which queue it is for: several queues may share the folder for temporary files.
        let hash = hex::encode(&Sha256::digest(queue.as_os_str().as_encoded_bytes())[..8]);
        let name = format!("plu-onboard-outcomes-{hash}.ndjson");
        let device = |folder: &Path| fs::metadata(folder).map(|metadata| metadata.dev()).ok();
        let disk = device(folder_of(&queue));
        let mut paths: Vec<(PathBuf, bool)> = Vec::new();
        for folder in [results, &std::env::temp_dir(), folder_of(&queue)] {
            let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).join(&name);
            if paths.iter().all(|(other, _)| *other != path) {
                paths.push((path, device(folder).is_some_and(|device| Some(device) != disk)));
            }
        }
        paths.sort_by_key(|(_, is_elsewhere)| !is_elsewhere);
        Self { paths, writing: Arc::default() }
    }

    /// The files that exist.
    fn existing(&self) -> Vec<PathBuf> {
        self.paths.iter().map(|(path, _)| path).filter(|path| fs::symlink_metadata(path).is_ok()).cloned().collect()
    }

    /// The files that exist, and those that [`Self::restore`] kept because the queue could not take a link.
    pub fn existing_or_kept(&self) -> Vec<PathBuf> {
        let kept = self.paths.iter().flat_map(|(path, _)| kept_copies(path));
        self.existing().into_iter().chain(kept).collect()
    }

    /// Writes these outcomes, in place of those that were written before. `queue_hangs`: the queue's disk isn't used.
    ///
    /// # Errors
    /// No folder works; the text says why.
    pub(super) fn write(&self, outcomes: &[Arc<UnwrittenOutcome>], queue_hangs: bool) -> Result<PathBuf, String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut errors = Vec::new();
        for (path, is_elsewhere) in &self.paths {
            if queue_hangs && !is_elsewhere {
                continue;
            }
            match write(path, outcomes) {
                Ok(()) => return Ok(path.clone()),
                Err(error) => errors.push(format!("{}: {error}", path.display())),
            }
        }
        Err(if errors.is_empty() { "no other disk is known".to_owned() } else { errors.join("; ") })
    }

    /// Reads the outcomes of an earlier process into the queue, and deletes the files. The caller holds the worker's
    /// lock. A file with a link that the queue can't take any more is renamed, and a warning is logged.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the queue can't be written or a file can't be read.
    pub fn restore(&self, connection: &mut Connection, queue: &Path) -> Result<(), LocalQueueError> {
        for path in self.existing() {
            let io = |error: io::Error| LocalQueueError::Io {
                path: queue.to_owned(),
                why: format!("{}, which holds outcomes that could not be written to it: {error}", path.display()),
            };
            let lines = read(&path).map_err(io)?;
            let counts = apply(connection, &lines).map_err(|error| LocalQueueError::from_sqlite(queue, &error))?;
            let kept = if counts.too_late == 0 {
                fs::remove_file(&path).map_err(io)?;
                None
            } else {
                Some(move_aside(&path).map_err(io)?)
            };
            let RestoreCounts { restored, too_late } = counts;
            EmergencyFileRead { file: &path, restored, too_late, kept: kept.as_deref() }.emit();
        }
        Ok(())
    }

    /// Deletes the files.
    pub(super) fn delete(&self) {
        for path in self.existing() {
            // If this fails, the next worker finds that the queue has its outcomes already.
            let _ = fs::remove_file(path);
        }
    }
}

/// The files beside a path to which it was moved aside.
fn kept_copies(path: &Path) -> Vec<PathBuf> {
    let start = format!("{}.aside-", path.file_name().unwrap_or_default().to_string_lossy());
    let entries = fs::read_dir(folder_of(path)).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&start)).map(|entry| entry.path()).collect()
}

fn write(path: &Path, outcomes: &[Arc<UnwrittenOutcome>]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        check_owner(path)?;
    }
    let mut file = Replacement::create(path)?;
    for outcome in outcomes.iter().filter(|outcome| outcome.key.is_some()) {
        file.write_all(outcome.event_json.as_bytes())?;
        file.write_all(b"\n")?;
    }
    file.publish()
}

/// Refuses a file that another user may have put there: the folder for temporary files is shared.
fn check_owner(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_private = metadata.is_file() && metadata.mode() & 0o077 == 0;
    let is_own = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == metadata.uid());
    if is_private && is_own {
        return Ok(());
    }
    Err(io::Error::other("it isn't a file that only this user can read and write: look at it, and delete it"))
}

fn read(path: &Path) -> io::Result<Vec<Event>> {
    check_owner(path)?;
    let file = File::open(path)?;
    if file.metadata()?.len() > BYTES_MAX {
        return Err(io::Error::other("it is too long"));
    }
    let parse = |line: io::Result<String>| {
        line.and_then(|line| {
            serde_json::from_str(&line).map_err(|_| io::Error::other("a line isn't an event of this program"))
        })
    };
    BufReader::new(file).lines().map(parse).collect()
}

#[derive(Default)]
struct RestoreCounts {
    restored: usize,
    /// Outcomes with a link whose job ended in another way meanwhile.
    too_late: usize,
}

fn apply(connection: &mut Connection, events: &[Event]) -> rusqlite::Result<RestoreCounts> {
    let mut counts = RestoreCounts::default();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut finished: i64 = transaction.query_row(LAST_FINISHED, [], |row| row.get(0))?;
    for event in events {
        let Some(key) = event.idempotency_key else { continue };
        let job: Option<(i64, i64, Option<String>)> = transaction
            .prepare_cached("SELECT seq, state, event FROM jobs WHERE key = ?1")?
            .query_row(params![key.uuid().as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        match job {
            Some((seq, WAITING, _)) => {
                finished += 1;
                write_outcome(&transaction, &UnwrittenOutcome::new(seq, event), finished)?;
                counts.restored += 1;
            }
            Some((_, _, known)) if has_link_of(known.as_deref(), event) => {}
            _ => counts.too_late += 1,
        }
    }
    transaction.commit()?;
    Ok(counts)
}

/// Whether the event that the queue has holds the link of this one.
fn has_link_of(known: Option<&str>, event: &Event) -> bool {
    let known: Option<Event> = known.and_then(|json| serde_json::from_str(json).ok());
    event.verification_url.is_none() || known.is_some_and(|known| known.verification_url == event.verification_url)
}
