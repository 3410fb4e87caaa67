//! Exports the events of finished jobs to a file: one line of JSON for each event, in the order of finishing.
//!
//! The file is a copy; the queue has the truth. A thread reads the events of finished jobs and appends them. From time
//! to time it syncs the file and saves its progress in the queue. After a crash, the file is truncated to the saved
//! length and continued from there, so each event is in it once.
//!
//! **Invariant:** what is truncated is written again. Behind the saved length, a crash leaves only the bytes that the
//! queue exports next. If the file continues in any other way, it may hold events that exist nowhere else: the queue
//! was restored from a backup, or the file belongs to another queue. Then it is renamed, and a new file is started.
//!
//! The file may be rotated at any time. It is opened for appending and only whole lines are written. If it is truncated
//! while it is open (logrotate's `copytruncate`), it starts with the next event, and the saved length is its real one.
//! After a crash between a truncation and the next save, the events since the last save may be in the file and in its
//! rotated copy.
//!
//! While the file can't be written (a full disk), the thread tries again every second, and [`StorageState`] says why.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::adapters::files::whole_lines_length;
use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::report::events_after;
use crate::adapters::local_queue::storage::StorageState;
use crate::adapters::local_queue::store::OnFinished;
use crate::telemetry::EventsFileMoved;

/// Most events that are read from the queue at once.
const EVENTS_PER_READ: usize = 512;

/// Lines are collected up to this size before they are written.
const BYTES_PER_WRITE: usize = 64 * 1024;

/// Number of events after which the progress is saved.
const EVENTS_PER_SAVE: usize = 8_192;

/// Time without a new event after which the progress is saved, and delay before a failed write is repeated.
const SAVE_WHEN_IDLE: Duration = Duration::from_secs(1);

/// Attempts to write the rest at the end. No event is lost if they fail: the next start writes them.
const LAST_ATTEMPTS: u32 = 3;

/// The events file can't be written, or the queue can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Queue(#[from] LocalQueueError),
    /// The events file.
    #[error(
        "the events file {path} can't be written: {source}. Free space or correct its permissions and start again: no \
         event is lost",
        path = .path.display()
    )]
    File {
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl ExportError {
    /// Whether the cause can pass while the program runs. A file that is open can always be written later.
    const fn can_pass(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Queue(LocalQueueError::Full { .. } | LocalQueueError::Io { .. }))
    }

    /// What keeps the file from being written, in a few words.
    fn cause(&self) -> String {
        match self {
            Self::File { path, source } => format!("the events file {} can't be written: {source}", path.display()),
            Self::Queue(error) => error.to_string(),
        }
    }
}

/// The thread that writes the file.
#[derive(Debug)]
pub struct EventsFileExporter {
    wake: SyncSender<()>,
    thread: JoinHandle<Result<(), ExportError>>,
}

impl EventsFileExporter {
    /// Opens the file, writes the missing events and starts the thread. `on_failure` is called once if the thread
    /// fails for a cause that can't pass.
    ///
    /// # Errors
    /// [`ExportError`] if the file can't be opened or written, or the queue can't be read.
    pub fn start(
        connection: Connection,
        queue: &Path,
        file: &Path,
        storage: StorageState,
        on_failure: impl FnOnce() + Send + 'static,
    ) -> Result<Self, ExportError> {
        let mut events_file = EventsFile::open(connection, queue, file)?;
        events_file.catch_up()?;
        // A capacity of one is enough, because one pass exports every finished job.
        let (wake, woken) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("events-file".to_owned())
            .spawn(move || {
                let result = events_file.run(&woken, &storage);
                if result.is_err() {
                    on_failure();
                }
                result
            })
            .map_err(|source| ExportError::File { path: file.to_owned(), source })?;
        Ok(Self { wake, thread })
    }

    /// Returns a function that is to be called after jobs have finished. It never blocks.
    pub fn waker(&self) -> OnFinished {
        let wake = self.wake.clone();
        Box::new(move || {
            // Full: the thread will run anyway. Disconnected: it has failed and reported that.
            let _ = wake.try_send(());
        })
    }

    /// Writes the rest and ends the thread. Waits until every waker is dropped.
    ///
    /// # Errors
    /// The error that ended the thread.
    pub fn finish(self) -> Result<(), ExportError> {
        drop(self.wake);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Deletes the progress of a file that was deleted, so that it starts with the first event again.
///
/// # Errors
/// [`LocalQueueError`] if the queue can't be written.
pub fn forget(connection: &Connection, queue: &Path, file: &Path) -> Result<(), LocalQueueError> {
    connection
        .execute("DELETE FROM exports WHERE file = ?1", [name_of(file)])
        .map(drop)
        .map_err(|error| LocalQueueError::from_sqlite(queue, &error))
}

struct EventsFile {
    connection: Connection,
    queue: PathBuf,
    path: PathBuf,
    file: File,
    /// Whole lines that aren't written yet.
    lines: Vec<u8>,
    /// Length of the file at the last check.
    length: u64,
    /// Number of the last finished job that was exported.
    finished: i64,
    /// Events since the progress was saved.
    unsaved: usize,
    /// Length of the whole lines, if part of a line could not be cut off behind them.
    torn_at: Option<u64>,
}

impl EventsFile {
    fn open(connection: Connection, queue: &Path, path: &Path) -> Result<Self, ExportError> {
        let io = |source| ExportError::File { path: path.to_owned(), source };
        let saved: Option<(i64, u64)> = connection
            .query_row("SELECT finished, bytes FROM exports WHERE file = ?1", [name_of(path)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(|error| LocalQueueError::from_sqlite(queue, &error))?;
        let mut file = open_file(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        // The file is shorter than saved if it was truncated or moved away, to rotate or to read it.
        let (finished, bytes) = saved.map_or((0, length), |(finished, bytes)| (finished, bytes.min(length)));
        let mut keep = whole_lines_length(&mut file, bytes).map_err(io)?;
        file.seek(SeekFrom::Start(keep)).map_err(io)?;
        if !is_continuation(&connection, queue, finished, &mut BufReader::new(&file), path)? {
            let aside = move_aside(path).map_err(io)?;
            EventsFileMoved { file: path, aside: &aside }.emit();
            file = open_file(path).map_err(io)?;
            keep = 0;
        }
        file.set_len(keep).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        let mut events_file = Self {
            connection,
            queue: queue.to_owned(),
            path: path.to_owned(),
            file,
            lines: Vec::new(),
            length: keep,
            finished,
            unsaved: 0,
            torn_at: None,
        };
        // From now on, everything that is in the file behind this length is in the queue too.
        events_file.save()?;
        Ok(events_file)
    }

    fn run(&mut self, woken: &Receiver<()>, storage: &StorageState) -> Result<(), ExportError> {
        let mut is_failing = false;
        loop {
            let result = match woken.recv_timeout(SAVE_WHEN_IDLE) {
                Ok(()) => self.catch_up(),
                Err(RecvTimeoutError::Timeout) if is_failing => self.catch_up().and_then(|()| self.save()),
                Err(RecvTimeoutError::Timeout) if self.unsaved > 0 => self.save(),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            };
            let failure = match result {
                Err(error) if error.can_pass() => Some(error.cause()),
                other => other.map(|()| None)?,
            };
            is_failing = failure.is_some();
            storage.set_events_file_failure(failure);
        }
    }

    /// Writes the rest.
    fn finish(&mut self) -> Result<(), ExportError> {
        let mut attempts = 1;
        loop {
            match self.catch_up().and_then(|()| self.save()) {
                Err(error) if error.can_pass() && attempts < LAST_ATTEMPTS => attempts += 1,
                result => return result,
            }
            #[expect(clippy::disallowed_methods, reason = "a file system doesn't notify when it can be written")]
            thread::sleep(SAVE_WHEN_IDLE);
        }
    }

    fn catch_up(&mut self) -> Result<(), ExportError> {
        // What an earlier attempt could not write.
        self.write()?;
        loop {
            let events = events_after(&self.connection, &self.queue, self.finished, EVENTS_PER_READ)?;
            let count = events.len();
            for (finished, event) in events {
                self.lines.extend_from_slice(event.as_bytes());
                self.lines.push(b'\n');
                self.finished = finished;
                self.unsaved += 1;
                if self.lines.len() >= BYTES_PER_WRITE {
                    self.write()?;
                }
            }
            self.write()?;
            if self.was_truncated()? || self.unsaved >= EVENTS_PER_SAVE {
                self.save()?;
            }
            if count < EVENTS_PER_READ {
                return Ok(());
            }
        }
    }

    /// Writes the collected lines, all or none of them.
    fn write(&mut self) -> Result<(), ExportError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let length = self.file.metadata().map_err(|source| self.io_error(source))?.len();
        // Part of a line that could not be cut off after an earlier attempt, unless the file was rotated since.
        if let Some(whole) = self.torn_at.take_if(|whole| *whole < length) {
            self.cut_off(whole)?;
        }
        if let Err(source) = self.file.write_all(&self.lines) {
            if let Err(error) = self.cut_off(length) {
                tracing::debug!(%error, "part of a line is left in the events file until it can be written");
            }
            return Err(self.io_error(source));
        }
        self.lines.clear();
        Ok(())
    }

    /// Cuts off what is behind the whole lines.
    fn cut_off(&mut self, whole: u64) -> Result<(), ExportError> {
        self.torn_at = Some(whole);
        self.file.set_len(whole).map_err(|source| self.io_error(source))?;
        self.torn_at = None;
        Ok(())
    }

    /// Whether the file was truncated since the last check, so that its saved length is wrong.
    fn was_truncated(&mut self) -> Result<bool, ExportError> {
        let length = self.file.metadata().map_err(|source| self.io_error(source))?.len();
        Ok(length < std::mem::replace(&mut self.length, length))
    }

    /// Syncs the file, then saves the progress.
    fn save(&mut self) -> Result<(), ExportError> {
        // The position after the last write. Because the file is opened for appending, this is its real length then,
        // even if it was truncated before.
        let end = self.file.sync_data().and_then(|()| self.file.stream_position());
        let bytes = end.map_err(|source| self.io_error(source))?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO exports (file, finished, bytes) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![name_of(&self.path), self.finished, bytes]))
            .map_err(|error| LocalQueueError::from_sqlite(&self.queue, &error))?;
        self.unsaved = 0;
        Ok(())
    }

    fn io_error(&self, source: io::Error) -> ExportError {
        ExportError::File { path: self.path.clone(), source }
    }
}

/// The file's absolute path, because the working folder may be another one next time.
fn name_of(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Whether the rest of the file, complete or torn, is what the queue exports after its `finished`-th event.
fn is_continuation(
    connection: &Connection,
    queue: &Path,
    mut finished: i64,
    rest: &mut impl BufRead,
    path: &Path,
) -> Result<bool, ExportError> {
    let io = |source| ExportError::File { path: path.to_owned(), source };
    loop {
        let events = events_after(connection, queue, finished, EVENTS_PER_READ)?;
        let Some((last, _)) = events.last() else { return Ok(rest.fill_buf().map_err(io)?.is_empty()) };
        finished = *last;
        for (_, event) in events {
            let line = event + "\n";
            let mut read = Vec::with_capacity(line.len());
            rest.take(line.len() as u64).read_to_end(&mut read).map_err(io)?;
            // A power cut can leave zero bytes where data should be. No line contains a zero byte.
            let written = read.iter().position(|byte| *byte == 0).unwrap_or(read.len());
            if !line.as_bytes().starts_with(&read[..written]) {
                return Ok(false);
            }
            if written < line.len() {
                return Ok(true);
            }
        }
    }
}

/// Renames the file to an unused name in the same folder. Log rotation uses other names, and `purge` knows these.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".aside-{number}"));
        let aside = PathBuf::from(aside);
        // Renaming replaces an existing file, so an empty file reserves the name first.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside) {
            Ok(_) => return std::fs::rename(path, &aside).map(|()| aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
