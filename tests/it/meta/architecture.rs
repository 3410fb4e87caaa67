//! Dependency rules of `src/lib.rs`: decisions must not depend on how things are stored, sent or shown.
//!
//! Reads the paths of every source file, without its tests and comments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that a module may use beside itself. An adapter may use its own folder and `adapters::files`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("ports", &["domain"]),
    ("clock", &["domain"]),
    ("telemetry", &["domain"]),
    ("pipeline", &["domain", "ports", "telemetry", "clock"]),
    ("sandbox", &["domain", "clock"]),
    ("adapters", &["domain", "ports", "telemetry", "clock", "failpoint"]),
    ("failpoint", &[]),
    ("testing", &["domain", "ports", "telemetry", "clock", "pipeline", "sandbox", "adapters", "config"]),
    ("config", &["domain", "pipeline", "telemetry", "sandbox"]),
    ("cli", &["config", "domain"]),
    ("app", &["domain", "ports", "telemetry", "clock", "pipeline", "sandbox", "adapters", "config", "cli"]),
    // Compiled for the tests only.
    ("contract", &["domain", "adapters", "config"]),
    ("lib", &[]),
    ("main", &["app", "cli"]),
];

/// A source file without its tests and comments.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let sources = paths.iter().map(|path| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        code: without_tests_and_comments(&fs::read_to_string(path).unwrap()),
    });
    sources.collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            paths.push(path);
        }
    }
}

/// Removes comments and the test module, which is at the end of a file.
fn without_tests_and_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

impl Source {
    /// Returns the top-level module: the first folder, or the file's name.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Returns the first two segments of every path from the crate's root. Expands the braces of `use crate::{a, b}`.
    /// The binary uses the crate's name instead of `crate`.
    fn uses(&self) -> BTreeSet<(String, String)> {
        let mut uses = BTreeSet::new();
        for root in ["crate::", "plu_onboard::"] {
            for (at, _) in self.code.match_indices(root) {
                let rest = &self.code[at + root.len()..];
                for path in path_segments(rest) {
                    let mut parts = path.split("::").map(|part| part.trim().to_owned());
                    uses.insert((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()));
                }
            }
        }
        uses
    }
}

/// Returns the path at the beginning of a text, or the paths between its braces.
fn path_segments(text: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|char| char.is_alphanumeric() || matches!(char, '_' | ':')).collect()
    };
    match text.strip_prefix('{') {
        None => {
            let path = word(text);
            // Expands nested braces, as in `crate::adapters::{a, b}`.
            match path.strip_suffix("::").filter(|_| text[path.len()..].starts_with('{')) {
                Some(head) => path_segments(&text[path.len()..]).iter().map(|tail| format!("{head}::{tail}")).collect(),
                None => vec![path],
            }
        }
        Some(inside) => {
            let mut depth = 1;
            let mut paths = vec![String::new()];
            for char in inside.chars() {
                match char {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => paths.push(String::new()),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if let Some(path) = paths.last_mut().filter(|_| char != ',' || depth > 1) {
                    path.push(char);
                }
            }
            paths.iter().map(|path| word(path.trim())).filter(|path| !path.is_empty()).collect()
        }
    }
}

/// Returns a line for each use that the rules forbid.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let module = source.module();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            violations.push(format!("{}: no rule for the module {module}", source.path));
            continue;
        };
        for (used, part) in source.uses() {
            let is_other_adapter = (module, used.as_str()) == ("adapters", "adapters")
                && part != "files"
                && !source.path.starts_with(&format!("adapters/{part}"));
            let is_module = ALLOWED.iter().any(|(name, _)| *name == used);
            if is_module && (used != module && !allowed.contains(&used.as_str()) || is_other_adapter) {
                violations.push(format!("{} uses {used}::{part}", source.path));
            }
        }
    }
    violations
}

#[test]
fn modules_use_only_what_the_rules_allow() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    assert_eq!(violations(&sources), Vec::<String>::new());
}

#[test]
fn forbidden_dependencies_are_found() {
    let breaks = |path: &str, code: &str| {
        let code = without_tests_and_comments(code);
        !violations(&[Source { path: path.to_owned(), code }]).is_empty()
    };
    for (path, code) in [
        ("domain/job.rs", "use crate::ports::Settle;"),
        ("pipeline/gate.rs", "use crate::{clock::Clock, config::Settings};"),
        ("pipeline/gate.rs", "fn f() { crate::adapters::csv::x() }"),
        ("adapters/plu_http/mod.rs", "use crate::adapters::csv::Header;"),
        ("adapters/plu_http/mod.rs", "use crate::adapters::{\n    csv::Header,\n};"),
        ("adapters/kyc_file.rs", "use crate::pipeline::Context;"),
        ("sandbox/model.rs", "use crate::telemetry::Metrics;"),
        ("novelty.rs", "use crate::domain::Job;"),
    ] {
        assert!(breaks(path, code), "{path}: {code}");
    }
    for (path, code) in [
        ("pipeline/gate.rs", "use crate::{clock::Clock, domain::Job};"),
        ("adapters/csv/row.rs", "use crate::adapters::csv::Header;\n// use crate::app"),
        ("domain/job.rs", "use super::Key;\n#[cfg(test)]\nmod tests {\n    use crate::app::x;\n}"),
    ] {
        assert!(!breaks(path, code), "{path}: {code}");
    }
}

#[test]
fn a_release_has_no_fail_points_and_no_simulation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("\nfailpoints = []\n") && !manifest.contains("\ndefault = "), "on by default");
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains("ARG FEATURES=\"\"\n") && !dockerfile.contains("failpoints"));
    for source in sources().iter().filter(|source| !["testing", "lib"].contains(&source.module())) {
        assert!(!source.code.contains("testing::"), "{} uses the simulation", source.path);
    }
}

#[test]
fn the_crates_backoff_and_governor_are_used_in_one_file_each() {
    let sources = sources();
    for (name, file) in [("backoff", "pipeline/rate/backoff.rs"), ("governor", "pipeline/rate/limiter/spacing.rs")] {
        let uses = [format!("use {name}::"), format!(" {name}::"), format!("({name}::"), format!("<{name}::")];
        let uses = |source: &&Source| uses.iter().any(|text| source.code.contains(text));
        let users: Vec<&str> = sources.iter().filter(uses).map(|source| source.path.as_str()).collect();
        assert_eq!(users, [file]);
    }
}
