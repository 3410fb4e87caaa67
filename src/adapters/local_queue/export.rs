//! Events of finished jobs, appended to a file as lines of JSON, in the order of finishing.
//!
//! The queue is the truth and the file a copy of it: a thread of its own reads what has finished and appends
//! it, and notes from time to time, once the file is on the disk, how far it got. After a crash the file is cut
//! back to what was noted and goes on from there, so that each event stands in it once.
//!
//! **Invariant:** what is cut off is written again. A crash leaves behind the note only what the queue exports next, to
//! the byte. A file that goes on in any other way holds events that nobody else may have: the queue was restored from a
//! copy, or the file is another one. It is set aside whole, and a new one is begun.
//!
//! The file may be rotated at any time. It is opened for appending and only whole lines are written, so that one
//! which is cut to nothing while it is open (logrotate's `copytruncate`) begins with the next event, and what is
//! noted of it is its real length. After a crash between such a cut and the next note, at most the events since
//! the last note stand twice: in the file and in what was copied from it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::adapters::local_queue::open::LocalQueueError;
use crate::adapters::local_queue::report::events_after;
use crate::telemetry::EventsFileSetAside;

/// Events read from the queue at once.
const EVENTS_PER_READ: usize = 512;

/// Lines are gathered to this many bytes before they are written.
const BYTES_PER_WRITE: usize = 64 * 1024;

/// Events after which progress is noted.
const EVENTS_PER_NOTE: usize = 8_192;

/// Time without a new event after which progress is noted.
const NOTE_WHEN_IDLE: Duration = Duration::from_secs(1);

/// The events file can't be written, or the queue not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] LocalQueueError),
    /// The events file.
    #[error("the events file {path} can't be written: {source}. Make room or mend its permissions and start again: no event is lost", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// The thread that writes the file.
#[derive(Debug)]
pub struct Exporter {
    wake: SyncSender<()>,
    thread: JoinHandle<Result<(), ExportError>>,
}

impl Exporter {
    /// Opens the file, catches up with the queue and starts the thread. `on_failure` is called once if the
    /// thread can't go on.
    ///
    /// # Errors
    /// [`ExportError`] where the file can't be opened, or not be brought up to date.
    pub fn start(
        connection: Connection,
        queue: &Path,
        file: &Path,
        on_failure: impl FnOnce() + Send + 'static,
    ) -> Result<Self, ExportError> {
        let mut export = Export::open(connection, queue, file)?;
        export.catch_up()?;
        // One token is enough: a round exports everything that has finished.
        let (wake, woken) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("events-file".to_owned())
            .spawn(move || {
                let result = export.run(&woken);
                if result.is_err() {
                    on_failure();
                }
                result
            })
            .map_err(|source| ExportError::File { path: file.to_owned(), source })?;
        Ok(Self { wake, thread })
    }

    /// To be called after jobs have finished. Never blocks.
    pub fn waker(&self) -> crate::adapters::local_queue::store::OnFinished {
        let wake = self.wake.clone();
        Box::new(move || {
            // Full: it is awake already. Closed: it has failed, and said so.
            let _ = wake.try_send(());
        })
    }

    /// Writes what is left and ends the thread. Every waker must have been dropped, or this waits for them.
    ///
    /// # Errors
    /// What stopped the thread.
    pub fn finish(self) -> Result<(), ExportError> {
        drop(self.wake);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Has a file that is gone begin with the first event again.
///
/// # Errors
/// Where the queue can't be written.
pub fn forget(connection: &Connection, queue: &Path, file: &Path) -> Result<(), LocalQueueError> {
    connection
        .execute("DELETE FROM exports WHERE file = ?1", [name(file)])
        .map(drop)
        .map_err(|error| LocalQueueError::from_sqlite(queue, &error))
}

struct Export {
    connection: Connection,
    queue: PathBuf,
    path: PathBuf,
    file: File,
    /// Whole lines that are yet to be written.
    lines: Vec<u8>,
    /// Length of the file when it was last looked at.
    length: u64,
    finished: i64,
    unnoted: usize,
}

impl Export {
    fn open(connection: Connection, queue: &Path, path: &Path) -> Result<Self, ExportError> {
        let io = |source| ExportError::File { path: path.to_owned(), source };
        let noted: Option<(i64, u64)> = connection
            .query_row("SELECT finished, bytes FROM exports WHERE file = ?1", [name(path)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(|error| LocalQueueError::from_sqlite(queue, &error))?;
        let mut file = open_file(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        // Shorter than noted: somebody cut it or moved it away, to rotate or to read it.
        let (finished, bytes) = noted.map_or((0, length), |(finished, bytes)| (finished, bytes.min(length)));
        let mut keep = whole_lines(&mut file, bytes).map_err(io)?;
        file.seek(SeekFrom::Start(keep)).map_err(io)?;
        if !goes_on_like(&connection, queue, finished, &mut BufReader::new(&file), path)? {
            let aside = set_aside(path).map_err(io)?;
            EventsFileSetAside { file: path, aside: &aside }.emit();
            file = open_file(path).map_err(io)?;
            keep = 0;
        }
        file.set_len(keep).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        let mut export = Self {
            connection,
            queue: queue.to_owned(),
            path: path.to_owned(),
            file,
            lines: Vec::new(),
            length: keep,
            finished,
            unnoted: 0,
        };
        // From here on everything in the file beyond this point is known to be in the queue too.
        export.note()?;
        Ok(export)
    }

    fn run(&mut self, woken: &Receiver<()>) -> Result<(), ExportError> {
        loop {
            match woken.recv_timeout(NOTE_WHEN_IDLE) {
                Ok(()) => self.catch_up()?,
                Err(RecvTimeoutError::Timeout) if self.unnoted > 0 => self.note()?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.catch_up()?;
                    return self.note();
                }
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), ExportError> {
        loop {
            let events = events_after(&self.connection, &self.queue, self.finished, EVENTS_PER_READ)?;
            let count = events.len();
            for (finished, event) in events {
                self.lines.extend_from_slice(event.as_bytes());
                self.lines.push(b'\n');
                if self.lines.len() >= BYTES_PER_WRITE {
                    self.write()?;
                }
                self.finished = finished;
            }
            self.write()?;
            self.unnoted += count;
            if self.has_shrunk()? || self.unnoted >= EVENTS_PER_NOTE {
                self.note()?;
            }
            if count < EVENTS_PER_READ {
                return Ok(());
            }
        }
    }

    fn write(&mut self) -> Result<(), ExportError> {
        self.file.write_all(&self.lines).map_err(|source| self.failed(source))?;
        self.lines.clear();
        Ok(())
    }

    /// Whether somebody has cut the file since this was last asked: what is noted of it isn't true any more.
    fn has_shrunk(&mut self) -> Result<bool, ExportError> {
        let length = self.file.metadata().map_err(|source| self.failed(source))?.len();
        Ok(length < std::mem::replace(&mut self.length, length))
    }

    /// Notes how far the file has got, once that much of it is on the disk.
    fn note(&mut self) -> Result<(), ExportError> {
        self.unnoted = 0;
        // Where the last write ended: as the file is appended to, its real end then, whatever became of it before.
        let end = self.file.sync_data().and_then(|()| self.file.stream_position());
        let bytes = end.map_err(|source| self.failed(source))?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO exports (file, finished, bytes) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![name(&self.path), self.finished, bytes]))
            .map_err(|error| LocalQueueError::from_sqlite(&self.queue, &error))?;
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> ExportError {
        ExportError::File { path: self.path.clone(), source }
    }
}

/// The file's absolute name: the working folder may be another one next time.
fn name(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Whether all that is left of the file, torn or not, is what the queue exports after its `finished`-th event.
fn goes_on_like(
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
            // A power cut can leave zeros where something was to be written; no line holds any.
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

/// Gives the file a name that nothing has yet, beside its old one. Log rotation counts in other names, and `purge` knows
/// these.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    for number in 1_u32.. {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".aside-{number}"));
        let aside = PathBuf::from(aside);
        // Renaming replaces whatever has the name, so the name is taken first.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside) {
            Ok(_) => return std::fs::rename(path, &aside).map(|()| aside),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// The length of the file up to the end of its last whole line: a line that a crash tore is written again.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    const CHUNK: u64 = 4_096;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::take(&mut *file, end - start).read_to_end(&mut chunk)?;
        if let Some(newline) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
