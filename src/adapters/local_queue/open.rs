//! Opening the file: what it must be, and what is said where it isn't.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

/// `PRAGMA application_id` of a queue file: "PluO".
const APPLICATION_ID: i32 = 0x506c_754f;

/// `PRAGMA user_version`: the version of the schema below.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = include_str!("schema.sql");

/// Why a file is refused that isn't a database.
const NO_DATABASE: &str = "it does not begin like an SQLite file";

/// How long a statement waits for another process's transaction. A worker's last milliseconds, an import's less than a
/// second.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is tried meanwhile. Less than the time in which an import leaves the queue free between two transactions
/// (some ten milliseconds); SQLite's own handler ends up trying each 100 ms and would miss most of them.
const BUSY_RETRY: Duration = Duration::from_millis(4);

/// SQLite's page size here, in bytes.
const PAGE_BYTES: u64 = 4_096;

/// What went wrong with the queue's file. Every text says what, where and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum LocalQueueError {
    /// It is some other file.
    #[error("{path} is no queue of plu-onboard: {why}. It was left as it is; give another path", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Its content contradicts itself.
    #[error("the queue {path} is damaged ({why}). It was left as it is; put a backup in its place, or try `sqlite3 {path} .recover`", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        why: String,
    },
    /// A newer version of this program made it.
    #[error("the queue {path} has schema version {found}, this program knows {SCHEMA_VERSION}: use the newer program that made it", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// No room.
    #[error("the queue {path} can't grow: the disk is full or queue.size_mib_max is reached. Make room and start again: nobody is lost, but people whose answers could not be written down any more come out without a link", path = .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It isn't there.
    #[error("there is no queue at {path}: check the path, or put jobs in with `plu-onboard import FILE --queue local:{path}`", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else works on it.
    #[error("the queue {path} is being worked on by {holder}: one worker at a time; stop that one first", path = .path.display())]
    BulkHold {
        /// The file.
        path: PathBuf,
        /// Process and start time.
        holder: String,
    },
    /// A run's queue, or one that is shared.
    #[error("the queue {path} is in use otherwise: a run keeps one of its own (leave --queue out), and import and worker share another", path = .path.display())]
    OtherUse {
        /// The file.
        path: PathBuf,
    },
    /// Its jobs belong to another API.
    #[error("jobs of the queue {path} were sent to {was}, not to {is}: give another queue or --out DIR for {is}", path = .path.display())]
    OtherTarget {
        /// The file.
        path: PathBuf,
        /// Where its jobs were sent.
        was: String,
        /// Where they would be sent now.
        is: String,
    },
    /// Anything else the system says.
    #[error("the queue {path} can't be used: {why}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
}

impl LocalQueueError {
    /// Puts SQLite's error into words.
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::NotADatabase) => {
                Self::Foreign { path, why: "it is encrypted or not an SQLite file".to_owned() }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why: error.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Io { path, why: format!("another process has held it for {} s", BUSY_TIMEOUT.as_secs()) }
            }
            _ => Self::Io { path, why: error.to_string() },
        }
    }
}

/// What to do where there is no file yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make an empty queue, readable by its owner only.
    Create,
    /// [`LocalQueueError::Missing`].
    Fail,
}

/// What a connection is for; decides how much memory it may take for pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Putting rows in: keys and emails go to random places of their indexes.
    Import,
    /// Everything else walks through the file in order.
    Work,
    /// A queue that nobody will open again: nothing is synced, and there is no file beside it.
    Scratch,
}

impl Purpose {
    /// SQLite's page cache, in KiB. Bounds the memory: it doesn't grow with the file.
    const fn cache_kib(self) -> i64 {
        match self {
            Self::Import | Self::Scratch => 8 * 1_024,
            Self::Work => 1_024,
        }
    }
}

/// Opens the queue for reading and writing. The file never grows over `size_mib_max` MiB.
///
/// # Errors
/// [`LocalQueueError`]; a file that is no queue, or a damaged one, is not touched.
pub fn open(
    path: &Path,
    if_missing: IfMissing,
    purpose: Purpose,
    size_mib_max: u64,
) -> Result<Connection, LocalQueueError> {
    let io = |error: std::io::Error| LocalQueueError::Io { path: path.to_owned(), why: error.to_string() };
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    let is_new = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(LocalQueueError::Foreign { path: path.to_owned(), why: "it is a folder".to_owned() });
        }
        Ok(metadata) => metadata.len() == 0,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if if_missing == IfMissing::Fail {
                return Err(LocalQueueError::Missing { path: path.to_owned() });
            }
            create(path)?;
            false
        }
        Err(error) => return Err(io(error)),
    };
    if !is_new {
        inspect(path)?;
    }
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(sqlite)?;
    configure(&mut connection, purpose, size_mib_max).map_err(sqlite)?;
    create_schema(&mut connection).map_err(sqlite)?;
    Ok(connection)
}

/// Makes an empty queue whole under another name and then gives it its own: a process that dies while SQLite sets the
/// file up leaves nothing that the next one can't open, and another that has been faster keeps its file.
fn create(path: &Path) -> Result<(), LocalQueueError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |error: std::io::Error| LocalQueueError::Io {
        path: path.to_owned(),
        why: format!(
            "no file can be made in the folder {}: {error}; let this user write there, or give another path",
            folder.display()
        ),
    };
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    if !folder.exists() {
        // The system would name the passing file in it, which nobody asked for.
        let why = format!("there is no folder {}: make it, or give another path", folder.display());
        return Err(LocalQueueError::Io { path: path.to_owned(), why });
    }
    // Readable by its owner only, as is what SQLite puts beside it.
    let file = tempfile::Builder::new().prefix(".queue-").suffix(".new").tempfile_in(folder).map_err(io)?;
    let file = file.into_temp_path();
    let mut connection =
        Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(sqlite)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(sqlite)?;
    create_schema(&mut connection).map_err(sqlite)?;
    connection.close().map_err(|(_, error)| sqlite(error))?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error.error)),
        _ => {}
    }
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// Notes which API the jobs are sent to. A queue whose jobs were sent to another is refused: its finished jobs
/// would be taken for finished here too.
///
/// # Errors
/// [`LocalQueueError::OtherTarget`]; [`LocalQueueError`] where the file can't be written.
pub fn claim_target(connection: &Connection, path: &Path, api: &str) -> Result<(), LocalQueueError> {
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    let was: Option<String> =
        connection.query_row("SELECT api FROM target", [], |row| row.get(0)).optional().map_err(sqlite)?;
    if let Some(was) = was.filter(|was| was != api) {
        let is_used = connection
            .query_row("SELECT 1 FROM jobs WHERE first_sent_ms IS NOT NULL LIMIT 1", [], |_| Ok(()))
            .optional()
            .map_err(sqlite)?;
        if is_used.is_some() {
            return Err(LocalQueueError::OtherTarget { path: path.to_owned(), was, is: api.to_owned() });
        }
    }
    connection.execute("INSERT OR REPLACE INTO target (id, api) VALUES (1, ?1)", [api]).map_err(sqlite)?;
    Ok(())
}

/// Looks without touching: the two version numbers, read-only.
///
/// Only SQLite may open the file: POSIX drops a process's locks on a file when it closes any descriptor of it, and without the
/// locks of a worker that has it open already, the next program that looks at the file deletes its write-ahead log.
fn inspect(path: &Path) -> Result<(), LocalQueueError> {
    let foreign = |why: &str| LocalQueueError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    let metadata =
        fs::metadata(path).map_err(|error| LocalQueueError::Io { path: path.to_owned(), why: error.to_string() })?;
    // SQLite takes an empty file for an empty database.
    if metadata.len() == 0 {
        return Err(foreign(NO_DATABASE));
    }
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(sqlite)?;
    connection.busy_handler(Some(wait_for_turn)).map_err(sqlite)?;
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0));
    let application: i32 = application.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign(NO_DATABASE),
        _ => sqlite(error),
    })?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    match (application, version) {
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (APPLICATION_ID, found) => Err(LocalQueueError::Newer { path: path.to_owned(), found }),
        // Killed between making an empty file into a queue and creating the schema.
        (0, 0) if tables == 0 => Ok(()),
        _ => Err(foreign("it is another program's SQLite file")),
    }
}

fn configure(connection: &mut Connection, purpose: Purpose, size_mib_max: u64) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_turn))?;
    if purpose == Purpose::Scratch {
        connection.pragma_update(None, "journal_mode", "memory")?;
        connection.pragma_update(None, "synchronous", "off")?;
    } else {
        connection.pragma_update(None, "journal_mode", "wal")?;
        // A commit is on the disk when it returns: an intent must survive a power cut.
        connection.pragma_update(None, "synchronous", "full")?;
    }
    connection.pragma_update(None, "cache_size", -purpose.cache_kib())?;
    connection.pragma_update(None, "temp_store", "memory")?;
    let pages_max = i64::try_from(size_mib_max.saturating_mul(1024 * 1024 / PAGE_BYTES)).unwrap_or(i64::MAX);
    connection.pragma_update(None, "max_page_count", pages_max)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// What SQLite calls while another process writes; `tries` were in vain. Whether to try again.
fn wait_for_turn(tries: i32) -> bool {
    let has_time = BUSY_RETRY.saturating_mul(tries.unsigned_abs()) < BUSY_TIMEOUT;
    if has_time {
        #[expect(clippy::disallowed_methods, reason = "SQLite tells nobody when a file becomes free")]
        std::thread::sleep(BUSY_RETRY);
    }
    has_time
}

fn create_schema(connection: &mut Connection) -> rusqlite::Result<()> {
    let version = |connection: &Connection| -> rusqlite::Result<i32> {
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    // Reading waits for nobody.
    if version(connection)? != 0 {
        return Ok(());
    }
    // Two processes may get here at once; the second finds the first one's work.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(path: &Path) -> String {
        open(path, IfMissing::Fail, Purpose::Work, 64).unwrap_err().to_string()
    }

    #[test]
    fn a_new_queue_is_readable_by_its_owner_only_and_opens_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.db");
        let connection = open(&path, IfMissing::Create, Purpose::Work, 64).unwrap();
        connection
            .execute("INSERT INTO batches (kind, batch_id, fingerprint, file) VALUES (0, 'b', x'00', 'f')", [])
            .unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
        }
        drop(connection);
        open(&path, IfMissing::Fail, Purpose::Work, 64).unwrap();
    }

    #[test]
    fn a_queue_in_a_folder_that_is_not_there_is_refused_without_a_word_about_passing_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere/queue.db");
        let message = open(&path, IfMissing::Create, Purpose::Work, 64).unwrap_err().to_string();
        let expected = format!("there is no folder {}: make it", path.parent().unwrap().display());
        assert!(message.contains(&expected) && !message.contains(".new"), "{message}");
    }

    #[test]
    fn a_foreign_or_damaged_file_is_explained_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("notes.txt");
        fs::write(&text, "These are my notes, and they are longer than sixteen bytes.").unwrap();
        let other = folder.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE mine (x); PRAGMA user_version = 7").unwrap();
        let newer = folder.path().join("newer.db");
        open(&newer, IfMissing::Create, Purpose::Work, 64).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let damaged = folder.path().join("damaged.db");
        drop(open(&damaged, IfMissing::Create, Purpose::Work, 64).unwrap());
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
