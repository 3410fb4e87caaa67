//! Runs tools written in other languages. Their packages are installed under `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plu_onboard::domain::IdempotencyKey;

/// Returns the root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command, which must succeed, and returns its standard output.
#[track_caller]
pub(crate) fn run_tool(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what is missing"));
    let text = |pipe: &[u8]| String::from_utf8_lossy(pipe).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Returns a folder under `target` with the packages of `manifest`. Calls `install` to fill it if the manifest has
/// changed. There is no lock: only one test may use a manifest.
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

/// Returns a Python interpreter with the packages of a requirements file.
pub(crate) fn python(requirements: &str) -> PathBuf {
    let cache = installed(requirements, |cache| {
        run_tool(Command::new("python3").args(["-m", "venv"]).arg(cache.join("venv")));
        let pip = cache.join("venv/bin/pip");
        run_tool(Command::new(pip).args(["install", "--quiet", "-r"]).arg(root().join(requirements)));
    });
    cache.join("venv/bin/python")
}
