//! How far the import of a file onto a broker has got: a small file that only its owner can read and that holds nothing
//! of any row.
//!
//! One JSON object a line, appended and synced: first what is imported and where to, then again and again the record up
//! to which everything is confirmed, at last the counts. A line that a crash tore is cut off. The file is locked while an
//! import uses it, and named after what it belongs to, so that neither another file nor another broker can take it for
//! its own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::app::console::error::AppError;
use crate::app::input::row_parser::hex;
use crate::app::input::rows::Counts;
use crate::domain::Timestamp;

/// What a checkpoint belongs to. Where anything of it differs, it is another import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Identity {
    /// The file without its folder: it is part of the jobs.
    pub file: String,
    /// SHA-256 of the file, in hex digits.
    pub fingerprint: String,
    /// How its bytes are read.
    pub encoding: String,
    /// What separates its cells.
    pub delimiter: char,
    /// Host and port. Not the user: an import goes on under another one.
    pub broker: String,
    /// The virtual host.
    pub vhost: String,
    /// `amqp.prefix`.
    pub prefix: String,
    /// The lane's name.
    pub lane: String,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line {
    Import { version: u32, identity: Identity, started_at: Timestamp },
    Confirmed { record: u64, is_clean: bool },
    Complete { counts: Counts, at: Timestamp },
}

const VERSION: u32 = 1;

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// At the beginning, or on its way.
    Begun {
        /// Everything up to here is confirmed.
        record: u64,
        /// Rows behind `record` may be on the queue already, since this time at the earliest.
        may_repeat_since: Option<Timestamp>,
    },
    /// Over.
    Complete {
        /// What became of the rows.
        counts: Counts,
        /// When.
        at: Timestamp,
    },
}

/// The file, locked.
#[derive(Debug)]
pub(super) struct Checkpoint {
    file: File,
    path: PathBuf,
}

impl Checkpoint {
    /// Opens or makes the checkpoint of an import. `stem` begins its name.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where another process uses it, or it can't be read or written; [`AppError::Usage`] where it
    /// isn't this import's.
    pub(super) fn open(
        folder: &Path,
        stem: &str,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<(Self, Progress), AppError> {
        let json = serde_json::to_vec(identity).unwrap_or_else(|_| unreachable!("an identity is text"));
        let path = folder.join(format!("{stem}-import-{}.ndjson", hex(&Sha256::digest(json)[..4])));
        let io = |error: std::io::Error| AppError::io(&path, &error);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(|error| {
                AppError::CannotContinue(format!(
                    "{}: {error}. An import notes its progress there: give another folder with --out DIR",
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
        let (progress, length) = read(&file, &path, identity)?;
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        let mut checkpoint = Self { file, path };
        let progress = match progress {
            Some(progress) => progress,
            None => {
                let identity = identity.clone();
                checkpoint.append(&Line::Import { version: VERSION, identity, started_at: now })?;
                // Its name is durable once the folder is.
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(|error| AppError::io(folder, &error))?;
                Progress::Begun { record: 0, may_repeat_since: None }
            }
        };
        Ok((checkpoint, progress))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that everything up to a record is confirmed. `is_clean`: nothing behind it has been sent.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where it can't be written.
    pub(super) fn confirmed(&mut self, record: u64, is_clean: bool) -> Result<(), AppError> {
        self.append(&Line::Confirmed { record, is_clean })
    }

    /// Notes that every row is confirmed.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where it can't be written.
    pub(super) fn complete(&mut self, counts: Counts, at: Timestamp) -> Result<(), AppError> {
        self.append(&Line::Complete { counts, at })
    }

    fn append(&mut self, line: &Line) -> Result<(), AppError> {
        let mut text = serde_json::to_vec(line).unwrap_or_else(|_| unreachable!("a line is text and numbers"));
        text.push(b'\n');
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| AppError::io(&self.path, &error))
    }
}

/// The last line says how far it is. Also the length of the whole lines.
fn read(file: &File, path: &Path, identity: &Identity) -> Result<(Option<Progress>, u64), AppError> {
    let not_ours = |what: &str| {
        AppError::Usage(format!("{} {what}: move it away to import the file from its beginning", path.display()))
    };
    let mut reader = BufReader::new(file);
    let (mut progress, mut started, mut length) = (None, None, 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(|error| AppError::io(path, &error))?;
        if text.last() != Some(&b'\n') {
            return Ok((progress, length));
        }
        length += read as u64;
        let line = serde_json::from_slice(&text).map_err(|_| not_ours("can't be read as the progress of an import"))?;
        progress = Some(match (line, started) {
            (Line::Import { version: VERSION, identity: theirs, started_at }, None) if theirs == *identity => {
                started = Some(started_at);
                Progress::Begun { record: 0, may_repeat_since: Some(started_at) }
            }
            (Line::Confirmed { record, is_clean }, Some(started_at)) => {
                Progress::Begun { record, may_repeat_since: (!is_clean).then_some(started_at) }
            }
            (Line::Complete { counts, at }, Some(_)) => Progress::Complete { counts, at },
            _ => return Err(not_ours("is the progress of another import, or of another version")),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000);

    fn identity() -> Identity {
        Identity {
            file: "m.csv".to_owned(),
            fingerprint: "00ff".to_owned(),
            encoding: "UTF-8".to_owned(),
            delimiter: ',',
            broker: "h:5672".to_owned(),
            vhost: "/".to_owned(),
            prefix: "plu".to_owned(),
            lane: "bulk".to_owned(),
        }
    }

    fn open(folder: &Path) -> Result<(Checkpoint, Progress), AppError> {
        Checkpoint::open(folder, "m", &identity(), NOW)
    }

    fn begun(record: u64, may_repeat_since: Option<Timestamp>) -> Progress {
        Progress::Begun { record, may_repeat_since }
    }

    #[test]
    fn an_import_goes_on_behind_the_last_confirmed_record_and_knows_what_may_come_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, progress) = open(folder.path()).unwrap();
        assert_eq!(progress, begun(0, None));
        drop(checkpoint);
        (checkpoint, _) = open(folder.path()).unwrap();
        checkpoint.confirmed(10, false).unwrap();
        drop(checkpoint);
        let (mut checkpoint, progress) = open(folder.path()).unwrap();
        assert_eq!(progress, begun(10, Some(NOW)));
        checkpoint.confirmed(20, true).unwrap();
        drop(checkpoint);
        let (mut checkpoint, progress) = open(folder.path()).unwrap();
        assert_eq!(progress, begun(20, None));
        let counts = Counts { rows: 30, new: 29, rejected: 1, ..Counts::default() };
        checkpoint.complete(counts, NOW).unwrap();
        drop(checkpoint);
        assert_eq!(open(folder.path()).unwrap().1, Progress::Complete { counts, at: NOW });
    }

    #[test]
    fn a_torn_line_is_cut_off_and_a_foreign_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mut checkpoint, _) = open(folder.path()).unwrap();
        checkpoint.confirmed(10, false).unwrap();
        let path = checkpoint.path().to_owned();
        drop(checkpoint);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole, b"{\"confirmed\":{\"rec".as_slice()].concat()).unwrap();
        let (checkpoint, progress) = open(folder.path()).unwrap();
        assert_eq!(progress, begun(10, Some(NOW)));
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
    fn two_imports_of_a_file_onto_a_broker_do_not_run_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let (_checkpoint, _) = open(folder.path()).unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("another process is importing this file"));
        let other = Identity { lane: "signup".to_owned(), ..identity() };
        Checkpoint::open(folder.path(), "m", &other, NOW).unwrap();
    }
}
