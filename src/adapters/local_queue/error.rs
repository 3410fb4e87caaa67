//! Errors of the embedded queue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;

/// Longest wait of a statement for a transaction of another process. A worker's transaction takes some milliseconds, an
/// import's less than a second.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Error of the queue's file. Each text says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LocalQueueError {
    /// The file is something else.
    #[error("{path} is no queue of plu-onboard: {why}. It was not changed; give another path", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Its content is inconsistent.
    #[error(
        "the queue {path} is damaged ({why}). It was not changed; put a backup in its place, or try `sqlite3 {path} \
         .recover`",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's message.
        why: String,
    },
    /// A newer version of this program created it.
    #[error(
        "the queue {path} has schema version {found}, this program knows {known}: use the newer program that created \
         it",
        path = .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// Version that this program knows.
        known: i32,
    },
    /// The disk or the queue is full.
    #[error(
        "the queue {path} can't grow: the disk is full or queue.size_mib_max is reached. Free space and start again: \
         no job is lost, but users whose answers could not be saved get no link",
        path = .path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file doesn't exist.
    #[error(
        "there is no queue at {path}: check the path, or add jobs with `plu-onboard import FILE --queue local:{path}`",
        path = .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another worker holds the lock.
    #[error(
        "the queue {path} is in use by {holder}: a queue allows one worker at a time; stop that one first",
        path = .path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Process and start time.
        holder: String,
    },
    /// The queue of a run was given to an import, or the other way round.
    #[error(
        "the queue {path} serves another purpose: a run has a queue of its own (leave --queue out), an import shares \
         one with a worker",
        path = .path.display()
    )]
    OtherUse {
        /// The file.
        path: PathBuf,
    },
    /// Its jobs belong to another API.
    #[error(
        "jobs of the queue {path} were sent to {was}, not to {is}: give another queue or --out DIR for {is}",
        path = .path.display()
    )]
    OtherTarget {
        /// The file.
        path: PathBuf,
        /// Where its jobs were sent.
        was: String,
        /// Where they would be sent now.
        is: String,
    },
    /// Any other error of the system.
    #[error("the queue {path} can't be used: {why}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's message.
        why: String,
    },
}

impl LocalQueueError {
    /// Converts an error of SQLite.
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::NotADatabase) => {
                Self::Foreign { path, why: "it is encrypted or not an SQLite file".to_owned() }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why: error.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Io { path, why: format!("another process has locked it for {} s", BUSY_TIMEOUT.as_secs()) }
            }
            _ => Self::Io { path, why: error.to_string() },
        }
    }

    /// Converts an error of the system.
    pub(super) fn from_io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), why: error.to_string() }
    }
}
