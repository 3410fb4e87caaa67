//! A temporary working directory for one test, in which the program runs.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::program::Program;
use super::{Results, Table};

pub(crate) struct TestDir(TempDir);

/// Returns the path of a file in `tests/data`.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

impl TestDir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Creates a directory that holds one file.
    pub(crate) fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let dir = Self::new();
        dir.write(name, content);
        dir
    }

    /// Creates a directory that holds a copy of a file of `tests/data`.
    pub(crate) fn with_sample(name: &str) -> Self {
        Self::with(name, fs::read(sample(name)).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn results(&self, folder: &str) -> Results {
        Results(self.path(folder))
    }

    pub(crate) fn table(&self, name: &str) -> Table {
        Table::read(&self.path(name))
    }

    /// Returns the program in this directory, with arguments that are separated by white space. Its environment holds
    /// only the sandbox's API key.
    pub(crate) fn program(&self, arguments: &str) -> Program {
        Program::new(self.0.path(), arguments)
    }
}
