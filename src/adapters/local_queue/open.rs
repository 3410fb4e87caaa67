//! Opens and creates the queue's file.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::adapters::files::{folder_of, sync_folder_of};
use crate::adapters::local_queue::error::{BUSY_TIMEOUT, LocalQueueError};
use crate::adapters::local_queue::schema::{check_version, create_schema};

/// Time between two attempts to get the lock of another process. It is shorter than the time in which an import leaves
/// the queue unlocked between two transactions, about ten milliseconds. SQLite's own handler waits up to 100 ms between
/// attempts and would miss most of these gaps.
const BUSY_RETRY: Duration = Duration::from_millis(4);

/// SQLite's page size in the file, in bytes.
pub(super) const PAGE_BYTES: u64 = 4_096;

/// What to do if the file doesn't exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Create an empty queue, readable by its owner only.
    Create,
    /// Return [`LocalQueueError::Missing`].
    Fail,
}

/// Use of a connection; decides the size of its page cache, and whether the file's size is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenPurpose {
    /// Import of rows: keys and emails go to random pages of their indexes.
    Import,
    /// Every other use: reads the file in order.
    Work,
    /// A queue for one process only, which deletes it: nothing is synced, and no journal file is written.
    Scratch,
}

impl OpenPurpose {
    /// SQLite's page cache, in KiB. Bounds memory: it doesn't grow with the file.
    const fn cache_kib(self) -> i64 {
        match self {
            Self::Import | Self::Scratch => 8 * 1_024,
            Self::Work => 1_024,
        }
    }
}

/// Opens the queue for reading and writing. Imports don't make the file longer than `size_mib_max` MiB.
///
/// # Errors
/// [`LocalQueueError`]. A file that isn't a queue, or is damaged, is not changed.
pub fn open(
    path: &Path,
    if_missing: IfMissing,
    purpose: OpenPurpose,
    size_mib_max: u64,
) -> Result<Connection, LocalQueueError> {
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    let is_empty = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(LocalQueueError::Foreign { path: path.to_owned(), why: "it is a folder".to_owned() });
        }
        Ok(metadata) => metadata.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if if_missing == IfMissing::Fail {
                return Err(LocalQueueError::Missing { path: path.to_owned() });
            }
            create(path)?;
            false
        }
        Err(error) => return Err(LocalQueueError::from_io(path, &error)),
    };
    if !is_empty {
        check_version(path, wait_for_lock)?;
    }
    let mut connection = open_connection(path).map_err(sqlite)?;
    configure(&mut connection, purpose, size_mib_max).map_err(sqlite)?;
    create_schema(&mut connection).map_err(sqlite)?;
    Ok(connection)
}

fn open_connection(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Creates an empty queue under a temporary name and renames it. If the process dies while SQLite sets the file up,
/// nothing is left that can't be opened. If another process creates the queue first, its file is kept.
fn create(path: &Path) -> Result<(), LocalQueueError> {
    let folder = folder_of(path);
    let io = |error: io::Error| LocalQueueError::Io {
        path: path.to_owned(),
        why: format!(
            "no file can be created in the folder {}: {error}; give this user write access to it, or give another path",
            folder.display()
        ),
    };
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    if !folder.exists() {
        // The system's error would name the temporary file.
        let why = format!("there is no folder {}: create it, or give another path", folder.display());
        return Err(LocalQueueError::Io { path: path.to_owned(), why });
    }
    // Readable by its owner only. SQLite's files beside it get the same mode.
    let file = tempfile::Builder::new().prefix(".queue-").suffix(".new").tempfile_in(folder).map_err(io)?;
    let file = file.into_temp_path();
    let mut connection = open_connection(&file).map_err(sqlite)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(sqlite)?;
    create_schema(&mut connection).map_err(sqlite)?;
    connection.close().map_err(|(_, error)| sqlite(error))?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error.error)),
        _ => {}
    }
    sync_folder_of(path).map_err(io)
}

/// Records which API the jobs are sent to. Refuses a queue whose jobs were sent to another API: its finished jobs would
/// count as finished at this one too.
///
/// # Errors
/// [`LocalQueueError::OtherTarget`]; [`LocalQueueError`] if the file can't be written.
pub fn record_target(connection: &Connection, path: &Path, api: &str) -> Result<(), LocalQueueError> {
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    let was: Option<String> =
        connection.query_row("SELECT api FROM target", [], |row| row.get(0)).optional().map_err(sqlite)?;
    if let Some(was) = was.filter(|was| was != api) {
        let was_sent = connection
            .query_row("SELECT 1 FROM jobs WHERE first_sent_ms IS NOT NULL LIMIT 1", [], |_| Ok(()))
            .optional()
            .map_err(sqlite)?;
        if was_sent.is_some() {
            return Err(LocalQueueError::OtherTarget { path: path.to_owned(), was, is: api.to_owned() });
        }
    }
    connection.execute("INSERT OR REPLACE INTO target (id, api) VALUES (1, ?1)", [api]).map_err(sqlite)?;
    Ok(())
}

fn configure(connection: &mut Connection, purpose: OpenPurpose, size_mib_max: u64) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_lock))?;
    if purpose == OpenPurpose::Scratch {
        connection.pragma_update(None, "journal_mode", "memory")?;
        connection.pragma_update(None, "synchronous", "off")?;
    } else {
        connection.pragma_update(None, "journal_mode", "wal")?;
        // A commit is on the disk when it returns, because an intent must survive a power cut.
        connection.pragma_update(None, "synchronous", "full")?;
    }
    connection.pragma_update(None, "cache_size", -purpose.cache_kib())?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // A worker needs about a quarter more for the outcomes of the jobs, which it must be able to write.
    if purpose != OpenPurpose::Work {
        let pages_max = i64::try_from(size_mib_max.saturating_mul(1024 * 1024 / PAGE_BYTES)).unwrap_or(i64::MAX);
        connection.pragma_update(None, "max_page_count", pages_max)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// SQLite's busy handler: waits, and returns whether to try again after `tries` failed attempts.
fn wait_for_lock(tries: i32) -> bool {
    let has_time = BUSY_RETRY.saturating_mul(tries.unsigned_abs()) < BUSY_TIMEOUT;
    if has_time {
        #[expect(clippy::disallowed_methods, reason = "SQLite doesn't notify when a lock is released")]
        std::thread::sleep(BUSY_RETRY);
    }
    has_time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(path: &Path) -> String {
        open(path, IfMissing::Fail, OpenPurpose::Work, 64).unwrap_err().to_string()
    }

    #[test]
    fn a_new_queue_is_readable_by_its_owner_only_and_opens_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let connection = open(&path, IfMissing::Create, OpenPurpose::Work, 64).unwrap();
        connection
            .execute("INSERT INTO batches (kind, batch_id, fingerprint, file) VALUES (0, 'b', x'00', 'f')", [])
            .unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
        }
        drop(connection);
        open(&path, IfMissing::Fail, OpenPurpose::Work, 64).unwrap();
    }

    #[test]
    fn a_missing_folder_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere/queue.db");
        let message = open(&path, IfMissing::Create, OpenPurpose::Work, 64).unwrap_err().to_string();
        let expected = format!("there is no folder {}: create it", path.parent().unwrap().display());
        assert!(message.contains(&expected) && !message.contains(".new"), "{message}");
    }

    #[test]
    fn a_foreign_newer_or_damaged_file_is_refused_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("notes.txt");
        fs::write(&text, "These are my notes, and they are longer than sixteen bytes.").unwrap();
        let other = folder.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE mine (x); PRAGMA user_version = 7").unwrap();
        let newer = folder.path().join("newer.db");
        open(&newer, IfMissing::Create, OpenPurpose::Work, 64)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let damaged = folder.path().join("damaged.db");
        drop(open(&damaged, IfMissing::Create, OpenPurpose::Work, 64).unwrap());
        let mut bytes = fs::read(&damaged).unwrap();
        bytes[100..200].fill(0xff);
        fs::write(&damaged, bytes).unwrap();

        for (path, expected) in [
            (&text, "is no queue of plu-onboard: it does not begin like an SQLite file"),
            (&other, "it is another program's SQLite file"),
            (&newer, "has schema version 99, this program knows 1"),
            (&damaged, "is damaged"),
        ] {
            let before = fs::read(path).unwrap();
            let message = error_of(path);
            assert!(message.contains(expected), "{message}");
            assert!(message.contains(path.to_str().unwrap()), "{message}");
            assert_eq!(fs::read(path).unwrap(), before, "{path:?} was changed");
        }
        assert!(error_of(folder.path()).contains("it is a folder"));
        assert!(error_of(&folder.path().join("none.db")).contains("there is no queue"));
    }
}
