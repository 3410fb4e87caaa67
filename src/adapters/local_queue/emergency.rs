//! Emergency file: a copy of the outcomes that can't be committed, in another place than the queue.
//!
//! While commits fail or hang, outcomes with their links are in memory only. So they are copied to a file, which
//! survives the process, and the next worker on the queue reads it. It holds lines like those of the events file, and
//! only its owner can read it.
//!
//! It is written to the first of these folders that works: results, temporary files, queue. Folders on another disk
//! than the queue's come first. The folder for temporary files may vanish with the process (containers, `PrivateTmp=`
//! of systemd), so after it the next ones are written too, until one works.

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
    places: Vec<Place>,
    /// Held by the thread that writes.
    writing: Arc<Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    /// Whether it is on another disk than the queue.
    is_elsewhere: bool,
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
        let mut places: Vec<Place> = Vec::new();
        for folder in [results, &std::env::temp_dir(), folder_of(&queue)] {
            let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).join(&name);
            if places.iter().all(|other| other.path != path) {
                let is_elsewhere = device(folder).is_some_and(|device| Some(device) != disk);
                places.push(Place { path, is_elsewhere });
            }
        }
        places.sort_by_key(|place| !place.is_elsewhere);
        Self { places, writing: Arc::default() }
    }

    /// An emergency file on another disk than the queue.
    #[cfg(test)]
    pub(super) fn at(path: PathBuf) -> Self {
        Self { places: vec![Place { path, is_elsewhere: true }], writing: Arc::default() }
    }

    /// The files that exist, without those of other users in the shared folder for temporary files: with one of them
    /// any user could block each start.
    fn existing(&self) -> Vec<PathBuf> {
        let paths = self.places.iter().map(|place| &place.path);
        paths.filter(|path| fs::symlink_metadata(path).is_ok() && !is_strangers(path)).cloned().collect()
    }

    /// The files that exist, and those that [`Self::restore`] kept because the queue could not take a link.
    pub fn existing_or_kept(&self) -> Vec<PathBuf> {
        let kept = self.places.iter().flat_map(|place| kept_copies(&place.path)).filter(|path| !is_strangers(path));
        self.existing().into_iter().chain(kept).collect()
    }

    /// Writes these outcomes, in place of those that were written before. `queue_hangs`: the queue's disk isn't used.
    ///
    /// # Errors
    /// No folder works; the text says why.
    pub(super) fn write(&self, outcomes: &[Arc<UnwrittenOutcome>], queue_hangs: bool) -> Result<PathBuf, String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut errors, mut temporary) = (Vec::new(), None);
        for Place { path, is_elsewhere } in &self.places {
            if queue_hangs && !is_elsewhere {
                continue;
            }
            match write(path, outcomes) {
                Ok(()) if is_temporary(path) => temporary = Some(path.clone()),
                Ok(()) => return Ok(path.clone()),
                Err(error) => errors.push(format!("{}: {error}", path.display())),
            }
        }
        if let Some(path) = temporary {
            return Ok(path);
        }
        Err(if errors.is_empty() { "no other disk is known".to_owned() } else { errors.join("; ") })
    }

    /// Reads the outcomes of an earlier process into the queue, and deletes the files. The caller holds the worker's
    /// lock. A file with a link that the queue can't take any more is renamed, and a warning is logged.
    ///
    /// # Errors
    /// [`LocalQueueError`] if the queue can't be written or a file can't be read.
    pub fn restore(&self, connection: &mut Connection, queue: &Path) -> Result<(), LocalQueueError> {
        for Place { path, .. } in self.places.iter().filter(|place| is_strangers(&place.path)) {
            tracing::warn!(
                file = %path.display(),
                "this file isn't read: it has the name of a copy of outcomes, and belongs to another user"
            );
        }
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

/// Whether the file is in the folder for temporary files.
pub(super) fn is_temporary(path: &Path) -> bool {
    std::path::absolute(std::env::temp_dir()).is_ok_and(|folder| folder_of(path) == folder)
}

/// Whether the file is in the folder for temporary files and belongs to another user.
fn is_strangers(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    is_temporary(path) && own_user().is_some_and(|user| user != metadata.uid())
}

/// Id of the user of this process.
fn own_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|process| process.uid())
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
    if is_private && own_user() == Some(metadata.uid()) {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};

    fn places(paths: &[&Path]) -> EmergencyFile {
        let places = paths.iter().map(|path| Place { path: path.to_path_buf(), is_elsewhere: true });
        EmergencyFile { places: places.collect(), writing: Arc::default() }
    }

    #[test]
    fn a_copy_in_the_temporary_folder_is_not_the_only_one() {
        let (temporary, folder) = (NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
        let permanent = folder.path().join("outcomes");
        fs::write(temporary.path(), "earlier").unwrap();
        assert_eq!(places(&[temporary.path(), &permanent]).write(&[], false), Ok(permanent.clone()));
        assert!([temporary.path(), &permanent].iter().all(|path| fs::read(path).unwrap().is_empty()));
        let missing = folder.path().join("missing/outcomes");
        assert_eq!(places(&[temporary.path(), &missing]).write(&[], false), Ok(temporary.path().to_owned()));
        places(&[&missing]).write(&[], false).unwrap_err();
    }

    #[test]
    fn a_strangers_file_in_the_temporary_folder_blocks_no_start() {
        let (temporary, folder) = (NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
        chown(temporary.path(), Some(12_345), None).expect("only root can give a file away: run the tests as root");
        let queue = folder.path().join("q.db");
        let mut connection = open(&queue, IfMissing::Create, OpenPurpose::Work, 64).unwrap();
        let emergency = places(&[temporary.path()]);
        emergency.restore(&mut connection, &queue).unwrap();
        emergency.delete();
        assert!(temporary.path().exists());
        assert!(emergency.existing_or_kept().is_empty(), "nor a purge");
        // No other user can write to the other folders, so this is a mistake to report.
        let elsewhere = folder.path().join("outcomes");
        fs::write(&elsewhere, "").unwrap();
        chown(&elsewhere, Some(12_345), None).unwrap();
        places(&[&elsewhere]).restore(&mut connection, &queue).unwrap_err();
    }
}
