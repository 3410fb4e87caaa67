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
        path: PathBuf,
        /// Its version.
        found: i32,
        /// Version that this program knows.
        known: i32,
    },
    /// The disk or the queue is full.
    #[error(
        "the queue {path} can't grow: the disk is full, or an import reached queue.size_mib_max. Free space or raise \
         that setting, and start again: no job is lost",
        path = .path.display()
    )]
    Full { path: PathBuf },
    /// The file doesn't exist.
    #[error(
        "there is no queue at {path}: check the path, or add jobs with `plu-onboard import FILE --queue local:{path}`",
        path = .path.display()
    )]
    Missing { path: PathBuf },
    /// Another worker holds the lock.
    #[error(
        "the queue {path} is in use by {holder}: a queue allows one worker at a time; stop that one first",
        path = .path.display()
    )]
    Locked {
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
    OtherUse { path: PathBuf },
    /// Its jobs belong to another API.
    #[error(
        "jobs of the queue {path} were sent to {was}, not to {is}: give another queue or --out DIR for {is}",
        path = .path.display()
    )]
    OtherTarget {
        path: PathBuf,
        /// Where its jobs were sent.
        was: String,
        /// Where they would be sent now.
        is: String,
    },
    /// Any other error of the system.
    #[error("the queue {path} can't be used: {why}. Check the path, its permissions and the disk", path = .path.display())]
    Io {
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

    /// Returns in a few words what keeps the file from being written, for a worker that waits until it can be.
    pub(super) fn cause(path: &Path, error: &rusqlite::Error) -> String {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => format!("the disk of {} is full: free space on it", path.display()),
            _ => Self::from_sqlite(path, error).to_string(),
        }
    }

    /// Converts an error of the system.
    pub(super) fn from_io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), why: error.to_string() }
    }
}

/// Returns whether the cause of an error can pass while the program runs: a full disk, an I/O error, a lock, too little
/// memory. A damaged or foreign file stays as it is.
pub(super) fn can_pass(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
        )
    )
}
