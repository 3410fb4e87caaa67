//! KYC events as lines of a file, for a queue on this machine.
//!
//! `webhooks` writes the file through the port [`KycSink`]. The file may be moved away, for rotation or for reading;
//! the next event creates a new one.
//!
//! **Invariant:** when an event is reported as recorded, it is on the disk as a whole line. A line that a crash tore
//! was never reported as recorded, and is cut off at the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use crate::adapters::files;
use crate::domain::KycEvent;
use crate::ports::{KycSink, QueueError};

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KycFileError {
    /// Another process has it open.
    #[error(
        "{path} is being written by another `webhooks`: stop that one first, or give another --out DIR",
        path = .0.display()
    )]
    Locked(PathBuf),
    /// The system's error.
    #[error(
        "{path} can't be written: {source}: free space or correct its permissions, or give another --out DIR",
        path = .path.display()
    )]
    Io {
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A file of events that only its owner can read. It is locked, so one process at a time writes it.
#[derive(Debug)]
pub(crate) struct KycFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl KycFile {
    /// Opens the file for appending, or creates it.
    ///
    /// # Errors
    /// [`KycFileError`].
    pub(crate) fn open(path: &Path) -> Result<Self, KycFileError> {
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(open(path)?)) })
    }
}

/// Locks a file, so that no process writes it until the result is dropped.
///
/// # Errors
/// [`KycFileError::Locked`] if a process has it open for writing.
pub(crate) fn hold(path: &Path) -> Result<File, KycFileError> {
    let file = File::open(path).map_err(|source| KycFileError::Io { path: path.to_owned(), source })?;
    lock(&file, path)?;
    Ok(file)
}

fn lock(file: &File, path: &Path) -> Result<(), KycFileError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => KycFileError::Locked(path.to_owned()),
        TryLockError::Error(source) => KycFileError::Io { path: path.to_owned(), source },
    })
}

fn open(path: &Path) -> Result<File, KycFileError> {
    let io = |source| KycFileError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(io)?;
    lock(&file, path)?;
    let length = file.metadata().map_err(io)?.len();
    let whole_lines = files::whole_lines_length(&mut file, length).map_err(io)?;
    file.set_len(whole_lines).map_err(io)?;
    files::sync_folder_of(path).map_err(io)?;
    Ok(file)
}

impl KycSink for KycFile {
    async fn publish(&self, event: &KycEvent) -> Result<(), QueueError> {
        let line = event.to_json() + "\n";
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let written = spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if !has_path(&file, &path) {
                *file = open(&path)?;
            }
            append(&mut file, line.as_bytes()).map_err(|source| KycFileError::Io { path, source })
        });
        match written.await {
            Ok(written) => written.map_err(|error| QueueError(error.to_string())),
            Err(error) => Err(QueueError(error.to_string())),
        }
    }
}

/// Whether the open file still has this path.
fn has_path(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => inode(open) == inode(named),
        _ => false,
    }
}

/// Appends the whole line or nothing, and syncs it.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(line).and_then(|()| file.sync_data());
    if written.is_err() {
        let _ = file.set_len(before);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::kyc::{Webhook, read};

    fn event(service_id: &str) -> KycEvent {
        let body =
            format!(r#"{{"event": "user.kyc-event", "data": {{"serviceId": "{service_id}", "status": "approved"}}}}"#);
        match read(body.as_bytes(), Timestamp::from_unix_ms(0)) {
            Ok(Webhook::Kyc(event)) => *event,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_torn_line_is_cut_off_and_a_moved_file_is_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kyc.ndjson");
        let file = KycFile::open(&path).unwrap();
        file.publish(&event("one")).await.unwrap();
        assert!(matches!(KycFile::open(&path), Err(KycFileError::Locked(_))));
        drop(file);
        let complete = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{complete}{{\"half\": \"{}", "x".repeat(10_000))).unwrap();
        let file = KycFile::open(&path).unwrap();
        file.publish(&event("two")).await.unwrap();
        let ids: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["serviceId"].to_string())
            .collect();
        assert_eq!(ids, ["\"one\"", "\"two\""]);
        // Log rotation moves the file away.
        fs::rename(&path, folder.path().join("kyc.ndjson.1")).unwrap();
        file.publish(&event("three")).await.unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("three"));
        drop(file);
        fs::write(&path, "no whole line").unwrap();
        drop(KycFile::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
