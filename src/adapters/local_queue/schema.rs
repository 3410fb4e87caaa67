//! Schema of the queue's file, and the version numbers by which the file is recognised.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::adapters::local_queue::error::LocalQueueError;

/// `PRAGMA application_id` of a queue file: "PluO".
const APPLICATION_ID: i32 = 0x506c_754f;

/// `PRAGMA user_version`: the version of `schema.sql`.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = include_str!("schema.sql");

/// Why a file that isn't a database is refused.
const NO_DATABASE: &str = "it does not begin like an SQLite file";

/// Creates the schema in an empty database.
///
/// # Errors
/// SQLite's error.
pub(super) fn create_schema(connection: &mut Connection) -> rusqlite::Result<()> {
    let version = |connection: &Connection| -> rusqlite::Result<i32> {
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    // Checked first without a write lock, so that opening an existing queue never waits.
    if version(connection)? != 0 {
        return Ok(());
    }
    // Two processes may get here at once; the second one finds the schema of the first.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

/// Checks, on a read-only connection, that the file is a queue of this version.
///
/// Only SQLite may open the file. POSIX releases all locks of a process on a file when the process closes any
/// descriptor of it, and without the locks of a worker, the next program that opens the file deletes its write-ahead
/// log.
///
/// # Errors
/// [`LocalQueueError`] if the file is anything else. It is not changed.
pub(super) fn check_version(path: &Path, busy_handler: fn(i32) -> bool) -> Result<(), LocalQueueError> {
    let foreign = |why: &str| LocalQueueError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let sqlite = |error: rusqlite::Error| LocalQueueError::from_sqlite(path, &error);
    let metadata = std::fs::metadata(path).map_err(|error| LocalQueueError::from_io(path, &error))?;
    // SQLite would open an empty file as an empty database.
    if metadata.len() == 0 {
        return Err(foreign(NO_DATABASE));
    }
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(sqlite)?;
    connection.busy_handler(Some(busy_handler)).map_err(sqlite)?;
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
        (APPLICATION_ID, found) => Err(LocalQueueError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION }),
        // A process was killed before it created the schema.
        (0, 0) if tables == 0 => Ok(()),
        _ => Err(foreign("it is another program's SQLite file")),
    }
}
