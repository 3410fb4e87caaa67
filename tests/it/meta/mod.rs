//! Tests of the repository itself: its language and its documents.

mod architecture;
mod configuration_doc;
pub(crate) mod contract;
mod documents;
mod keys;
mod rust_text;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Folders that hold no files of the repository.
const FOREIGN_FOLDERS: [&str; 3] = ["target", ".git", "node_modules"];

/// A text file of the repository.
struct RepositoryFile {
    /// Path from the root of the repository.
    path: PathBuf,
    text: String,
}

impl RepositoryFile {
    /// Returns the path as text, with `/` between its parts.
    fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}

/// Reads every file of the repository whose path is wanted.
fn repository_files(is_wanted: impl Fn(&Path) -> bool) -> Vec<RepositoryFile> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let relative = paths.into_iter().map(|path| path.strip_prefix(root()).unwrap().to_owned());
    let wanted = relative.filter(|path| is_wanted(path));
    wanted.map(|path| RepositoryFile { text: fs::read_to_string(root().join(&path)).unwrap(), path }).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            paths.push(path);
        } else if !FOREIGN_FOLDERS.iter().any(|name| path.ends_with(name)) {
            collect(&path, paths);
        }
    }
}
