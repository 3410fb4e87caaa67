//! The worker's lock: one worker for each queue.
//!
//! The lock is the operating system's, on a file beside the queue's, so it ends when its process ends in any way. The
//! locked file names its holder. It is empty after a worker has ended normally.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::adapters::local_queue::error::LocalQueueError;
use crate::domain::Timestamp;

/// First word in the locked file; the process id follows.
const HOLDER: &str = "process ";

/// The lock of a worker. Released when it is dropped.
#[derive(Debug)]
pub(crate) struct WorkerLock {
    file: File,
}

impl WorkerLock {
    /// Acquires the lock without waiting.
    ///
    /// # Errors
    /// [`LocalQueueError::Locked`] if another process holds it, [`LocalQueueError::Full`] or [`LocalQueueError::Io`].
    pub(crate) fn acquire(queue: &Path, now: Timestamp) -> Result<Self, LocalQueueError> {
        let path = lock_path(queue);
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => LocalQueueError::Full { path: queue.to_owned() },
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
                return Err(LocalQueueError::Locked { path: queue.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let holder = format!("{HOLDER}{} since {now}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes())).map_err(io)?;
        Ok(Self { file })
    }

    /// Whether a worker seems to hold the lock: whether the process that the file names exists. It doesn't acquire the
    /// lock, because a worker that starts at that moment would be refused.
    ///
    /// Wrongly `true` if another process got the same id. May be wrongly `false` for a worker in another container.
    pub(crate) fn seems_held(queue: &Path) -> bool {
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
    fn a_second_worker_is_refused_with_the_name_of_the_first() {
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
        assert!(!WorkerLock::seems_held(&queue), "the process doesn't exist any more");
    }
}
