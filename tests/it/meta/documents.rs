//! The documents: relative links and anchors exist, prose fits into a terminal, and the entry documents stay short.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{RepositoryFile, repository_files};
use crate::support::root;

/// Longest line of prose, in characters. Tables, code, and the targets of links don't count.
const COLUMNS_MAX: usize = 100;

/// Longest documents that a newcomer reads first, in lines.
const LINES_MAX: [(&str, usize); 2] = [("README.md", 150), ("ARCHITECTURE.md", 200)];

/// Returns every document of the repository.
fn documents() -> Vec<RepositoryFile> {
    let documents = repository_files(|path| path.extension().is_some_and(|ending| ending == "md"));
    assert!(documents.len() > 15, "only {} documents were found", documents.len());
    documents
}

/// Returns the lines of a document that aren't in a code block, each with its number.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fence = None;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let marker = ["```", "~~~"].into_iter().find(|marker| line.trim_start().starts_with(marker));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            (None, None) => return true,
            (Some(_), _) => {}
        }
        false
    });
    lines.map(|(index, line)| (index + 1, line)).collect()
}

/// Returns the anchors that GitHub makes of a document's headings.
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

/// Returns the targets of a line's links and images, also of `[name]: target` and HTML.
fn targets(line: &str) -> Vec<&str> {
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let marks = [("](", &[')', ' '][..]), ("src=\"", &['"']), ("href=\"", &['"'])];
    let inline = marks.into_iter().flat_map(|(mark, ends)| {
        line.match_indices(mark).filter_map(move |(at, _)| line[at + mark.len()..].split(ends).next())
    });
    inline.chain(definition).collect()
}

/// Returns the relative links of a document whose file or anchor doesn't exist.
fn dead_links(document: &RepositoryFile) -> Vec<String> {
    let mut dead = Vec::new();
    for (number, line) in prose(&document.text) {
        for target in targets(line).into_iter().filter(|target| !is_external(target)) {
            if !exists(document, target) {
                dead.push(format!("{}:{number}: {target}", document.name()));
            }
        }
    }
    dead
}

fn is_external(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

fn exists(document: &RepositoryFile, target: &str) -> bool {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    if path.is_empty() {
        return anchors(&document.text).contains(anchor);
    }
    let file = root().join(&document.path).parent().unwrap_or(root()).join(path);
    file.exists() && (anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor))
}

/// Returns the width of a line as it is rendered: without the targets of links, and without URLs.
fn columns(line: &str) -> usize {
    let hidden: usize = targets(line).into_iter().map(|target| target.chars().count()).sum();
    let is_bare_url = |word: &&str| is_external(word) && !word.contains("](");
    let urls: usize = line.split(' ').filter(is_bare_url).map(|url| url.chars().count()).sum();
    line.chars().count().saturating_sub(hidden + urls)
}

/// Returns the lines of prose that are too long.
fn long_lines(document: &RepositoryFile) -> Vec<String> {
    let is_table = |line: &str| line.trim_start().starts_with('|');
    let long = prose(&document.text).into_iter().filter(|(_, line)| !is_table(line) && columns(line) > COLUMNS_MAX);
    long.map(|(number, _)| format!("{}:{number}", document.name())).collect()
}

/// Returns the number of lines if the document has too many.
fn excess_lines(document: &RepositoryFile) -> Option<usize> {
    let (_, lines_max) = LINES_MAX.into_iter().find(|(name, _)| document.path == Path::new(name))?;
    Some(document.text.lines().count()).filter(|lines| *lines > lines_max)
}

#[test]
fn every_relative_link_and_anchor_exists() {
    let dead: Vec<String> = documents().iter().flat_map(dead_links).collect();
    assert!(dead.is_empty(), "{} dead links:\n{}", dead.len(), dead.join("\n"));
}

#[test]
fn prose_fits_into_a_hundred_columns() {
    let long: Vec<String> = documents().iter().flat_map(long_lines).collect();
    assert!(long.is_empty(), "{} lines over {COLUMNS_MAX} columns:\n{}", long.len(), long.join("\n"));
}

#[test]
fn readme_and_architecture_stay_short() {
    for document in documents() {
        if let Some(lines) = excess_lines(&document) {
            panic!("{} has {lines} lines; see {LINES_MAX:?}", document.name());
        }
    }
}

fn readme(text: &str) -> RepositoryFile {
    RepositoryFile { path: "README.md".into(), text: text.to_owned() }
}

#[test]
fn dead_links_are_found() {
    for (text, dead) in [
        ("[a](src/lib.rs) [b](#c-d)\n# C d", 0),
        ("[a](docs/../README.md#none)", 1),
        ("[a](src/none.rs)", 1),
        ("[b](#d)\n# C", 1),
        ("[b](#c-1)\n# C\n## C", 0),
        ("```\n[a](none)\n```\n~~~\n# D\n~~~\n[web](https://example.com/x)", 0),
        ("```\n# D\n```\n[a](#d)", 1),
        ("![picture](none.png \"title\")", 1),
        ("<img src=\"none.png\"> <a href=\"none.md\">a</a>", 2),
        ("[a]: none.md", 1),
    ] {
        assert_eq!(dead_links(&readme(text)).len(), dead, "{text}");
    }
}

#[test]
fn long_lines_are_found_in_prose_only() {
    let long = "a".repeat(COLUMNS_MAX + 1);
    for (text, count) in [
        (long.clone(), 1),
        (long[1..].to_owned(), 0),
        (format!("| {long} |"), 0),
        (format!("```\n{long}\n```"), 0),
        (format!("[a]({long}) https://{long}"), 0),
        (format!("[{long}](a)"), 1),
    ] {
        assert_eq!(long_lines(&readme(&text)).len(), count, "{text}");
    }
}

#[test]
fn a_long_readme_is_found() {
    assert_eq!(excess_lines(&readme(&"a\n".repeat(150))), None);
    assert_eq!(excess_lines(&readme(&"a\n".repeat(151))), Some(151));
}
