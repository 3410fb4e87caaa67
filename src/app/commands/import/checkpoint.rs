//! The checkpoint of an import onto RabbitMQ: a small file that says up to which record everything is confirmed.
//!
//! One JSON object a line, appended and synced: first what is imported and where to, then each confirmed record, at
//! last the counts. A line that a crash tore is cut off when the file is opened. The file's name is derived from its
//! [`ImportIdentity`], and it is locked while in use, so that no other file, broker or process uses it.
//!
//! **Invariant:** it holds no personal data, and only its owner can read it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::adapters::files;
use crate::app::error::AppError;
use crate::app::input::rows::ImportCounts;
use crate::domain::Timestamp;

/// What identifies an import. If any field differs, it is another import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImportIdentity {
    /// The file's name without its folder; it is part of the jobs.
    pub file: String,
    /// SHA-256 of the file, in hex digits.
    pub fingerprint: String,
    pub encoding: String,
    pub delimiter: char,
    /// The flags that say how values are read: they decide which rows are rejected.
    pub reading: String,
    /// Host and port. Not the user, so that an import can be resumed with another one.
    pub broker: String,
    pub vhost: String,
    /// `amqp.prefix`.
    pub prefix: String,
    pub lane: String,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum CheckpointLine {
    Import { version: u32, identity: ImportIdentity, started_at: Timestamp },
    Confirmed { record: u64, is_clean: bool },
    Complete { counts: ImportCounts, at: Timestamp },
}

const VERSION: u32 = 1;

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImportStage {
    /// Not complete.
    Begun {
        /// Everything up to this record is confirmed.
        record: u64,
        /// Rows behind `record` may be on the queue already, since this time at the earliest.
        may_repeat_since: Option<Timestamp>,
    },
    /// Every row is confirmed.
    Complete { counts: ImportCounts, at: Timestamp },
}

/// The open file, locked.
#[derive(Debug)]
pub(super) struct Checkpoint {
    file: File,
    path: PathBuf,
}

impl Checkpoint {
    /// Opens or creates the checkpoint of an import. `stem` is the beginning of its name.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where another process uses it, or it can't be read or written; [`AppError::Usage`]
    /// where its content is that of another import.
    pub(super) fn open(
        folder: &Path,
        stem: &str,
        identity: &ImportIdentity,
        now: Timestamp,
    ) -> Result<(Self, ImportStage), AppError> {
        let json = serde_json::to_vec(identity).unwrap_or_else(|_| unreachable!("an identity is text"));
        let path = folder.join(format!("{stem}-import-{}.ndjson", hex::encode(&Sha256::digest(json)[..4])));
        let io = |error: std::io::Error| AppError::io(&path, &error);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(|error| {
                AppError::CannotContinue(format!(
                    "{}: {error}. An import saves its progress in this file: give another folder with --out DIR",
                    path.display()
                ))
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AppError::CannotContinue(format!(
                    "another process is importing this file onto this broker ({} is in use): wait for it or stop it",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let (stage, length) = read(&file, &path, identity)?;
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        let mut checkpoint = Self { file, path };
        let stage = match stage {
            Some(stage) => stage,
            None => {
                let identity = identity.clone();
                checkpoint.append(&CheckpointLine::Import { version: VERSION, identity, started_at: now })?;
                files::sync_folder_of(&checkpoint.path).map_err(|error| AppError::io(folder, &error))?;
                ImportStage::Begun { record: 0, may_repeat_since: None }
            }
        };
        Ok((checkpoint, stage))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Saves that everything up to a record is confirmed. `is_clean`: no row behind it was sent.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where it can't be written.
    pub(super) fn confirmed(&mut self, record: u64, is_clean: bool) -> Result<(), AppError> {
        self.append(&CheckpointLine::Confirmed { record, is_clean })
    }

    /// Saves that every row is confirmed.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where it can't be written.
    pub(super) fn complete(&mut self, counts: ImportCounts, at: Timestamp) -> Result<(), AppError> {
        self.append(&CheckpointLine::Complete { counts, at })
    }

    fn append(&mut self, line: &CheckpointLine) -> Result<(), AppError> {
        let mut text = serde_json::to_vec(line).unwrap_or_else(|_| unreachable!("a line is text and numbers"));
        text.push(b'\n');
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| AppError::io(&self.path, &error))
    }
}

/// Reads the stage from the last complete line. Also returns the length of the complete lines.
fn read(file: &File, path: &Path, identity: &ImportIdentity) -> Result<(Option<ImportStage>, u64), AppError> {
    let not_this_import = |what: &str| {
        AppError::Usage(format!("{} {what}: move it away to import the file from its beginning", path.display()))
    };
    let mut reader = BufReader::new(file);
    let (mut stage, mut started, mut length) = (None, None, 0);
    let mut json = Vec::new();
    loop {
        json.clear();
        let read = reader.read_until(b'\n', &mut json).map_err(|error| AppError::io(path, &error))?;
        if json.last() != Some(&b'\n') {
            return Ok((stage, length));
        }
        length += read as u64;
        let line = serde_json::from_slice(&json).map_err(|_| not_this_import("isn't the progress of an import"))?;
        stage = Some(match (line, started) {
            (CheckpointLine::Import { version: VERSION, identity: found, started_at }, None) if found == *identity => {
                started = Some(started_at);
                ImportStage::Begun { record: 0, may_repeat_since: Some(started_at) }
            }
            (CheckpointLine::Confirmed { record, is_clean }, Some(started_at)) => {
                ImportStage::Begun { record, may_repeat_since: (!is_clean).then_some(started_at) }
            }
            (CheckpointLine::Complete { counts, at }, Some(_)) => ImportStage::Complete { counts, at },
            _ => return Err(not_this_import("is the progress of another import, or of another version")),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000);

    fn identity() -> ImportIdentity {
        ImportIdentity {
            file: "m.csv".to_owned(),
            fingerprint: "00ff".to_owned(),
            encoding: "UTF-8".to_owned(),
            delimiter: ',',
            broker: "h:5672".to_owned(),
            vhost: "/".to_owned(),
            reading: String::new(),
            prefix: "plu".to_owned(),
            lane: "bulk".to_owned(),
        }
    }

    fn open(folder: &Path) -> Result<(Checkpoint, ImportStage), AppError> {
        Checkpoint::open(folder, "m", &identity(), NOW)
    }

    fn begun(record: u64, may_repeat_since: Option<Timestamp>) -> ImportStage {
        ImportStage::Begun { record, may_repeat_since }
    }

    #[test]
    fn an_import_resumes_behind_the_last_confirmed_record() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, stage) = open(folder.path()).unwrap();
        assert_eq!(stage, begun(0, None));
        drop(checkpoint);
        (checkpoint, _) = open(folder.path()).unwrap();
        checkpoint.confirmed(10, false).unwrap();
        drop(checkpoint);
        let (mut checkpoint, stage) = open(folder.path()).unwrap();
        assert_eq!(stage, begun(10, Some(NOW)));
        checkpoint.confirmed(20, true).unwrap();
        drop(checkpoint);
        let (mut checkpoint, stage) = open(folder.path()).unwrap();
        assert_eq!(stage, begun(20, None));
        let counts = ImportCounts { rows: 30, new: 29, rejected: 1, ..ImportCounts::default() };
        checkpoint.complete(counts, NOW).unwrap();
        drop(checkpoint);
        assert_eq!(open(folder.path()).unwrap().1, ImportStage::Complete { counts, at: NOW });
    }

    #[test]
    fn a_torn_line_is_cut_off_and_a_foreign_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, _) = open(folder.path()).unwrap();
        checkpoint.confirmed(10, false).unwrap();
        let path = checkpoint.path().to_owned();
        drop(checkpoint);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole, b"{\"confirmed\":{\"rec".as_slice()].concat()).unwrap();
        let (checkpoint, stage) = open(folder.path()).unwrap();
        assert_eq!(stage, begun(10, Some(NOW)));
        drop(checkpoint);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        for foreign in ["notes\n".to_owned(), String::from_utf8(whole).unwrap().replace("00ff", "00fe")] {
            std::fs::write(&path, &foreign).unwrap();
            let error = open(folder.path()).unwrap_err();
            assert!(matches!(error, AppError::Usage(_)), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn two_processes_can_not_import_the_same_file_onto_the_same_broker() {
        let folder = tempfile::tempdir().unwrap();
        let (_checkpoint, _) = open(folder.path()).unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("another process is importing this file"));
        let other = ImportIdentity { lane: "signup".to_owned(), ..identity() };
        Checkpoint::open(folder.path(), "m", &other, NOW).unwrap();
    }
}
