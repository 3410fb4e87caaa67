//! A small disk that a test can fill: a file system in memory, mounted for one test.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. It is unmounted when this is dropped.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of this size at a new folder.
    pub(crate) fn mount(folder: PathBuf, mib: u32) -> Self {
        fs::create_dir(&folder).unwrap();
        let size = format!("size={mib}m");
        let mounted = as_root("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", folder.to_str().unwrap()]);
        assert!(mounted, "this user may not mount a file system: run the tests as root, or with sudo");
        Self { folder }
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Fills the disk to the last byte.
    pub(crate) fn fill(&self) {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for length in [1 << 20, 4_096, 1] {
            while write_all(&mut filler, length) {}
        }
    }

    /// Frees what [`Self::fill`] took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that was killed may not have closed its files yet.
        as_root("umount", &["--lazy", self.folder.to_str().unwrap()]);
    }
}

fn write_all(file: &mut File, length: usize) -> bool {
    file.write_all(&vec![1; length]).is_ok()
}

fn as_root(command: &str, arguments: &[&str]) -> bool {
    let is_root = Path::new("/root").read_dir().is_ok();
    let mut command = if is_root {
        Command::new(command)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", command]);
        sudo
    };
    command.args(arguments).output().is_ok_and(|output| output.status.success())
}
