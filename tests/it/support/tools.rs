//! Tools in other languages, with packages of their own under `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plu_onboard::domain::IdempotencyKey;

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command that must succeed, and returns what it says.
#[track_caller]
pub(crate) fn run_tool(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what is missing"));
    let said = |pipe: &[u8]| String::from_utf8_lossy(pipe).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

/// A folder under `target` in which `install` has put the packages of `manifest`; made anew when that changes. One test
/// a manifest: nobody waits for another who is at it.
pub(crate) fn installed(manifest: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let version = IdempotencyKey::of_canonical(&fs::read(root().join(manifest)).unwrap()).to_string();
    let name = Path::new(manifest).parent().unwrap().to_string_lossy().replace('/', "-");
    let cache = root().join("target/tools").join(format!("{name}-{version}"));
    if !cache.join("complete").exists() {
        let _ = fs::remove_dir_all(&cache);
        fs::create_dir_all(&cache).unwrap();
        install(&cache);
        fs::write(cache.join("complete"), "").unwrap();
    }
    cache
}

/// A Python with the packages of a file of requirements.
pub(crate) fn python(requirements: &str) -> PathBuf {
    let cache = installed(requirements, |cache| {
        run_tool(Command::new("python3").args(["-m", "venv"]).arg(cache.join("venv")));
        let pip = cache.join("venv/bin/pip");
        run_tool(Command::new(pip).args(["install", "--quiet", "-r"]).arg(root().join(requirements)));
    });
    cache.join("venv/bin/python")
}
