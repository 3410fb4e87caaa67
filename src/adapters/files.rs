//! Files that survive a crash whole: atomic replacement, sync of a folder, end of the last whole line.
//!
//! Used by the adapters and commands that write files beside the queue or for people.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A new version of a file, written under a temporary name in the same folder.
///
/// [`Replacement::publish`] gives it its name. Until then an earlier version stays as it is, and a dropped replacement
/// is deleted.
///
/// **Invariants:** under its name there is a complete file or the earlier one, also after a power cut; only its owner
/// can read it from its first moment.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    part: PathBuf,
    file: File,
    is_published: bool,
}

impl Replacement {
    /// Creates the temporary file. Deletes one that a killed process left.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let part = part_of(path);
        // Opening the old file instead would keep its mode, or follow a link.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        Ok(Self { path: path.to_owned(), part, file, is_published: false })
    }

    /// Path that the file gets.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the temporary file.
    pub(crate) fn part(&self) -> &Path {
        &self.part
    }

    /// Syncs the file and renames it, which replaces an earlier one.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.is_published = true;
        sync_folder_of(&self.path)
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_published {
            // If this fails, the next replacement of the same file deletes it.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Path of the temporary file of a replacement: `.NAME.part`.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

/// Syncs the folder of a file. A new name is on the disk only after that.
///
/// # Errors
/// The system's error.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the length of the whole lines within the first `length` bytes. Reads backwards, a few kibibytes at a time.
///
/// # Errors
/// The system's error.
pub(crate) fn whole_lines_length(file: &mut File, length: u64) -> io::Result<u64> {
    const CHUNK: u64 = 4_096;
    let (mut end, mut chunk) = (length, Vec::new());
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        chunk.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut chunk)?;
        if let Some(newline) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_complete_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let names = || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        fs::write(&path, "earlier").unwrap();
        fs::write(part_of(&path), "left by a killed process").unwrap();
        fs::set_permissions(part_of(&path), fs::Permissions::from_mode(0o644)).unwrap();

        let mut dropped = Replacement::create(&path).unwrap();
        dropped.write_all(b"half").unwrap();
        assert_eq!(dropped.part().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(dropped);
        assert_eq!(fs::read_to_string(&path).unwrap(), "earlier");
        assert_eq!(names(), ["report.html"]);

        let mut published = Replacement::create(&path).unwrap();
        published.write_all(b"new").unwrap();
        published.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(), ["report.html"]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn whole_lines_end_at_the_last_line_feed() {
        let mut file = tempfile::tempfile().unwrap();
        let text = format!("one\ntwo\n{}", "x".repeat(10_000));
        file.write_all(text.as_bytes()).unwrap();
        for (length, expected) in [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8), (text.len() as u64, 8)] {
            assert_eq!(whole_lines_length(&mut file, length).unwrap(), expected, "{length}");
        }
    }
}
