//! A folder of its own for each test, in which the program runs.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::program::Program;
use super::{Results, Table};

pub(crate) struct Place(TempDir);

/// A file of `tests/data`.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with one file in it.
    pub(crate) fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        place.write(name, content);
        place
    }

    /// A folder with a file of `tests/data` in it.
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

    /// The program with these arguments, separated by white space, in this folder, with an environment that holds
    /// nothing but the sandbox's key.
    pub(crate) fn program(&self, arguments: &str) -> Program {
        Program::new(self.0.path(), arguments)
    }
}
