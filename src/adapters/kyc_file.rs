//! Events about verifications as lines of a file, where the queue is an embedded one.
//!
//! **Invariant:** an event that was said to be recorded is on the disk, as a whole line. A line that a crash left in half was never
//! said to be: it is cut off at the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use crate::domain::KycEvent;
use crate::ports::{KycSink, QueueError};

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KycFileError {
    /// Another process has it open.
    #[error("{path} is being written by another `webhooks`: stop that one first, or give another --out DIR", path = .0.display())]
    BulkHold(PathBuf),
    /// The system refuses it.
    #[error("{path} can't be written: {source}: make room or mend its permissions, or give another --out DIR", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// A file of events, which only its owner can read. One process at a time writes it. It may be moved away, to rotate or to read it: a new
/// one is begun then.
#[derive(Debug)]
pub(crate) struct KycFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl KycFile {
    /// Opens the file for appending, or makes it.
    ///
    /// # Errors
    /// [`KycFileError`].
    pub(crate) fn open(path: &Path) -> Result<Self, KycFileError> {
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(open(path)?)) })
    }
}

/// Keeps a file, as it is, from being written for as long as the result is held.
///
/// # Errors
/// [`KycFileError::BulkHold`] where a process writes it.
pub(crate) fn hold(path: &Path) -> Result<File, KycFileError> {
    let file = File::open(path).map_err(|source| KycFileError::Io { path: path.to_owned(), source })?;
    lock(&file, path)?;
    Ok(file)
}

fn lock(file: &File, path: &Path) -> Result<(), KycFileError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => KycFileError::BulkHold(path.to_owned()),
        TryLockError::Error(source) => KycFileError::Io { path: path.to_owned(), source },
    })
}

fn open(path: &Path) -> Result<File, KycFileError> {
    let unusable = |source| KycFileError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(unusable)?;
    lock(&file, path)?;
    let whole = end_of_last_line(&mut file).map_err(unusable)?;
    file.set_len(whole).map_err(unusable)?;
    // A new name is on the disk once its folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    Ok(file)
}

impl KycSink for KycFile {
    async fn publish(&self, event: &KycEvent) -> Result<(), QueueError> {
        let line = event.to_json() + "\n";
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let written = spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_at(&file, &path) {
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

/// Whether the file still has its name.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => place(open) == place(named),
        _ => false,
    }
}

/// Appends all of it or nothing.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(line).and_then(|()| file.sync_data());
    if written.is_err() {
        let _ = file.set_len(before);
    }
    written
}

/// Where the last whole line ends. Reads backwards, a few kibibytes at a time.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    const STEP: u64 = 4_096;
    let mut end = file.metadata()?.len();
    let mut bytes = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        bytes.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
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
    async fn a_line_that_a_crash_left_in_half_is_cut_off_and_whole_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kyc.ndjson");
        let file = KycFile::open(&path).unwrap();
        file.publish(&event("one")).await.unwrap();
        assert!(matches!(KycFile::open(&path), Err(KycFileError::BulkHold(_))));
        drop(file);
        let whole = fs::read_to_string(&path).unwrap();
        // Longer than what is read at a time.
        fs::write(&path, format!("{whole}{{\"half\": \"{}", "x".repeat(10_000))).unwrap();
        let file = KycFile::open(&path).unwrap();
        file.publish(&event("two")).await.unwrap();
        let ids: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["serviceId"].to_string())
            .collect();
        assert_eq!(ids, ["\"one\"", "\"two\""]);
        // Moved away, as log rotation does, it isn't written any more.
        fs::rename(&path, folder.path().join("kyc.ndjson.1")).unwrap();
        file.publish(&event("three")).await.unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("three"));
        drop(file);
        fs::write(&path, "nothing whole").unwrap();
        drop(KycFile::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
