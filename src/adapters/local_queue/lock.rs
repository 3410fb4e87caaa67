//! One worker a queue: an operating-system lock beside the queue's file, which ends with its holder however
//! that dies. The locked file names the holder, and is empty when one has ended well.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::adapters::local_queue::open::LocalQueueError;
use crate::domain::Timestamp;

/// How the text in the locked file begins; the process's number follows.
const HOLDER: &str = "process ";

/// The right to work on a queue. Dropping it gives it back.
#[derive(Debug)]
pub struct WorkerLock {
    file: File,
}

impl WorkerLock {
    /// Takes the right, or says who has it.
    ///
    /// # Errors
    /// [`LocalQueueError::BulkHold`] where another process works on the queue; [`LocalQueueError::Io`].
    pub fn acquire(queue: &Path, now: Timestamp) -> Result<Self, LocalQueueError> {
        let path = lock_path(queue);
        let io = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => LocalQueueError::Full { path: queue.to_owned() },
            _ => LocalQueueError::Io { path: queue.to_owned(), why: format!("{}: {error}", path.display()) },
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "another process" } else { holder }.to_owned();
                return Err(LocalQueueError::BulkHold { path: queue.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let holder = format!("{HOLDER}{} since {now}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes())).map_err(io)?;
        Ok(Self { file })
    }

    /// Whether somebody seems to work on the queue: whether the process that the lock names lives. Asked without taking the
    /// lock for as long as an instant, in which a worker would be turned away. A number that another process was given
    /// meanwhile makes it say yes, too; a worker that sees other processes' numbers, in a container of its own, may make it say no.
    pub fn seems_held(queue: &Path) -> bool {
        let holder = std::fs::read_to_string(lock_path(queue)).unwrap_or_default();
        let Some(id) = holder.strip_prefix(HOLDER).and_then(|rest| rest.split(' ').next()) else { return false };
        let processes = Path::new("/proc");
        !processes.join("self").exists() || processes.join(id).exists()
    }
}

impl Drop for WorkerLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

fn lock_path(queue: &Path) -> PathBuf {
    let mut name = queue.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worker_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("q.db");
        let now = Timestamp::from_unix_ms(0);
        let first = WorkerLock::acquire(&queue, now).unwrap();
        let message = WorkerLock::acquire(&queue, now).unwrap_err().to_string();
        let holder = format!("process {} since 1970-01-01T00:00:00.000Z", std::process::id());
        assert!(message.contains(&holder), "{message}");
        assert!(WorkerLock::seems_held(&queue));
        drop(first);
        assert!(!WorkerLock::seems_held(&queue));
        WorkerLock::acquire(&queue, now).unwrap();
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        killed.wait().unwrap();
        std::fs::write(lock_path(&queue), format!("process {} since 1970-01-01T00:00:00.000Z", killed.id())).unwrap();
        assert!(!WorkerLock::seems_held(&queue), "its holder is gone");
    }
}
