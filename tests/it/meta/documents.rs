//! The documents: links lead somewhere, and lines fit a terminal.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest line of prose in a document, in characters. Tables, links and code are exempt.
const COLUMNS_MAX: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    assert!(found.len() > 15, "only {} documents were found", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git" | "node_modules") {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

/// The lines of a document that aren't in a block of code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(|(index, line)| (index + 1, line)).collect()
}

/// The anchors that GitHub makes of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'))
            .map(|char| if char == ' ' { '-' } else { char })
            .collect();
        let repeated = (1..).map(|n| format!("{slug}-{n}"));
        let anchor = std::iter::once(slug.clone()).chain(repeated).find(|slug| !anchors.contains(slug));
        anchors.extend(anchor);
    }
    anchors
}

/// The targets of a line's links and images.
fn targets(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](").map(|(at, mark)| &line[at + mark.len()..]);
    starts.filter_map(|rest| rest.split([')', ' ']).next()).collect()
}

fn dead_links(document: &Path, text: &str) -> Vec<String> {
    let mut dead = Vec::new();
    for (number, line) in prose(text) {
        for target in targets(line) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if path.is_empty() { document.to_owned() } else { document.parent().unwrap_or(root()).join(path) };
            let is_there = file.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor));
            if !is_there {
                dead.push(format!("{}:{number}: {target}", document.strip_prefix(root()).unwrap_or(document).display()));
            }
        }
    }
    dead
}

#[test]
fn every_relative_link_and_anchor_leads_somewhere() {
    let mut dead = Vec::new();
    for document in documents() {
        dead.extend(dead_links(&document, &fs::read_to_string(&document).unwrap()));
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn prose_fits_into_a_hundred_columns() {
    let mut long = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in prose(&text) {
            let is_exempt = line.trim_start().starts_with('|') || line.contains("](") || line.contains("://");
            if line.chars().count() > COLUMNS_MAX && !is_exempt {
                long.push(format!("{}:{number}", document.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(long.is_empty(), "lines over {COLUMNS_MAX} columns:\n{}", long.join("\n"));
}

#[test]
fn readme_and_architecture_stay_short() {
    for (document, lines_max) in [("README.md", 150), ("ARCHITECTURE.md", 200)] {
        let lines = fs::read_to_string(root().join(document)).unwrap().lines().count();
        assert!(lines <= lines_max, "{document} has {lines} lines, at most {lines_max} are wanted");
    }
}

#[test]
fn dead_links_are_found() {
    let readme = root().join("README.md");
    let of = |text: &str| dead_links(&readme, text).len();
    assert_eq!(of("[a](src/lib.rs) [b](#c)\n# C"), 0);
    assert_eq!(of("[a](src/none.rs)"), 1);
    assert_eq!(of("[b](#d)\n# C"), 1);
    assert_eq!(of("```\n[a](none)\n```\n[web](https://example.com/x)"), 0);
    assert_eq!(of("![picture](none.png)"), 1);
}
