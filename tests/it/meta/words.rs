//! The language of the repository: plain technical English with the terms of `docs/glossary.md`.
//!
//! Checks comments, string literals and identifiers of the Rust sources, and every other text file as a whole.

use std::path::Path;

use super::rust_text::{SourceText, TextKind, rust_texts};
use super::{RepositoryFile, repository_files};

/// Phrases of the former dialect, in lower case. There is a plain word for each.
const DIALECT: &[&str] = &[
    "alike",
    "amiss",
    "anybody",
    "as it were",
    "everybody",
    "fare",
    "fares",
    "farewell",
    "gets on",
    "goes on",
    "herald",
    "hurries",
    "in hand",
    "in vain",
    "intake",
    "is so",
    "judge",
    "judged",
    "judges",
    "held up",
    "lies",
    "nobody",
    "of whom",
    "on its way",
    "on their way",
    "outlet",
    "pace",
    "patience",
    "put back",
    "put off",
    "reckoned",
    "rehearsal",
    "seat",
    "singled out",
    "so long",
    "so many",
    "somebody",
    "stand for",
    "stand in",
    "stands",
    "such a",
    "such an",
    "sweep",
    "sweeps",
    "tell",
    "tells",
    "told",
    "verdict",
    "verdicts",
    "went on",
    "whoever",
    "whomever",
];

/// Longest identifier, in characters. Names of tests are the longest ones.
const IDENTIFIER_CHARS_MAX: usize = 80;

/// A run of this many spaces within a message is a broken literal.
const HOLE: &str = "    ";

/// First words of SQL statements.
const SQL_VERBS: [&str; 5] = ["CREATE ", "DELETE ", "INSERT ", "SELECT ", "UPDATE "];

/// Returns whether a file is read by people, and by this test.
fn is_checked(path: &Path) -> bool {
    let name = path.to_string_lossy();
    // This file holds the phrases.
    let is_exempt = name.ends_with("meta/words.rs") || name.starts_with("tests/data");
    let ending = path.extension().unwrap_or(path.as_os_str()).to_string_lossy();
    let endings = [
        "rs",
        "md",
        "toml",
        "yml",
        "yaml",
        "json",
        "html",
        "css",
        "js",
        "py",
        "sh",
        "sql",
        "conf",
        "service",
        "Dockerfile",
        "tests/run",
        ".ci/run",
    ];
    !is_exempt && endings.contains(&ending.as_ref())
}

/// Returns every text of a file.
fn texts(file: &RepositoryFile) -> Vec<SourceText> {
    if file.path.extension().is_some_and(|ending| ending == "rs") { rust_texts(&file.text) } else { blocks(&file.text) }
}

/// Splits a text at empty lines, because a phrase may be broken over lines.
fn blocks(text: &str) -> Vec<SourceText> {
    let mut blocks: Vec<SourceText> = Vec::new();
    let mut is_new = true;
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            is_new = true;
            continue;
        }
        match blocks.last_mut().filter(|_| !is_new) {
            Some(block) => block.text += &format!("\n{line}"),
            None => blocks.push(SourceText { line: index + 1, kind: TextKind::Block, text: line.to_owned() }),
        }
        is_new = false;
    }
    blocks
}

/// Returns the phrases of the dialect in a text, each with the number of line breaks before it.
fn dialect_in(text: &str) -> Vec<(usize, &'static str)> {
    let (words, mut line) = (words(text), 0);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if word == "\n" {
            line += 1;
            continue;
        }
        let following = words[at..].iter().filter(|word| *word != "\n").map(String::as_str);
        found.extend(
            DIALECT
                .iter()
                .filter(|phrase| phrase.split(' ').eq(following.clone().take(phrase.split(' ').count())))
                .map(|phrase| (line, *phrase)),
        );
    }
    found
}

/// Splits a text into lower-case words, line breaks, and punctuation that a phrase can't contain. Identifiers are split
/// into their parts.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for char in text.chars() {
        let is_new_part = char.is_uppercase() && before.is_lowercase();
        if !char.is_alphanumeric() || is_new_part {
            words.push(String::new());
        }
        if char.is_alphanumeric() {
            if let Some(word) = words.last_mut() {
                word.extend(char.to_lowercase());
            }
        } else if matches!(char, '\n' | '.' | ',' | ';' | ':' | '!' | '?' | '(' | ')' | '|' | '"') {
            words.push(char.to_string());
            words.push(String::new());
        }
        before = char;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns a line for each phrase of the dialect in a file.
fn dialect_of(file: &RepositoryFile) -> Vec<String> {
    let mut found = Vec::new();
    for SourceText { line, kind, text } in texts(file) {
        for (after, phrase) in dialect_in(&text) {
            // Lines of a comment are joined, so that only the first one is known.
            let (line, context) = match kind {
                TextKind::Block => (line + after, text.lines().nth(after).unwrap_or_default()),
                _ => (line, text.as_str()),
            };
            found.push(format!("{}:{line}: \"{phrase}\" in: {}", file.name(), context.trim()));
        }
    }
    found
}

/// Returns whether a message has a run of spaces: within a line, or because its literal is broken over lines without a
/// backslash. Lines that begin with a space are rows of a list and may have columns. Line breaks in SQL are fine.
fn has_hole(literal: &str) -> bool {
    let is_sql = SQL_VERBS.iter().any(|verb| literal.starts_with(verb));
    let is_broken = literal.contains(&format!("\n{HOLE}"));
    let has_run = |line: &str| !line.starts_with(' ') && line.trim_end().contains(HOLE);
    !is_sql && (is_broken || literal.split(['\n', '\r']).any(has_run))
}

/// Returns a line for each message of a source file with a run of spaces.
fn holes_of(file: &RepositoryFile) -> Vec<String> {
    let literals = texts(file).into_iter().filter(|text| text.kind == TextKind::Literal && has_hole(&text.text));
    literals.map(|text| format!("{}:{}: {}", file.name(), text.line, text.text)).collect()
}

/// Returns a line for each identifier that is too long.
fn long_identifiers_of(file: &RepositoryFile) -> Vec<String> {
    let names = texts(file).into_iter().filter(|text| text.kind == TextKind::Identifier);
    let long = names.filter(|name| name.text.chars().count() > IDENTIFIER_CHARS_MAX);
    long.map(|name| format!("{}:{}: {}", file.name(), name.line, name.text)).collect()
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{} {what}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn texts_and_identifiers_use_plain_words() {
    let files = repository_files(is_checked);
    assert!(files.len() > 300, "only {} files were found", files.len());
    let found: Vec<String> = files.iter().flat_map(dialect_of).collect();
    assert_none("texts need plainer words", &found);
}

#[test]
fn no_message_has_a_run_of_spaces() {
    let is_source = |path: &Path| path.starts_with("src") && path.extension().is_some_and(|ending| ending == "rs");
    let found: Vec<String> = repository_files(is_source).iter().flat_map(holes_of).collect();
    assert_none("messages have a run of spaces", &found);
}

#[test]
fn test_names_have_at_most_80_characters() {
    let is_source = |path: &Path| path.extension().is_some_and(|ending| ending == "rs");
    let found: Vec<String> = repository_files(is_source).iter().flat_map(long_identifiers_of).collect();
    assert_none("names are too long", &found);
}

fn file(path: &str, text: &str) -> RepositoryFile {
    RepositoryFile { path: path.into(), text: text.to_owned() }
}

#[test]
fn dialect_is_found_in_every_kind_of_text() {
    for (path, text, expected) in [
        ("a.rs", "let a = 1;\n// It is told\n// of it.", "a.rs:2: \"told\""),
        ("a.rs", "/// The work goes\n/// on.", "a.rs:1: \"goes on\""),
        ("a.rs", "f(\"It goes \\\n    on\");", "a.rs:1: \"goes on\""),
        ("a.rs", "fn it_goes_on() {}", "a.rs:1: \"goes on\""),
        ("a.rs", "struct WhatIsTold;", "a.rs:1: \"told\""),
        ("a.md", "# A\n\nA job\ngoes\non.", "a.md:4: \"goes on\""),
        ("a.toml", "# In\n# hand: 1", "a.toml:1: \"in hand\""),
        ("a.json", "{\"a\": \"amiss\"}", "a.json:1: \"amiss\""),
    ] {
        let found = dialect_of(&file(path, text));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}: {found:?}");
    }
}

#[test]
fn plain_words_are_not_taken_for_dialect() {
    for text in ["welfare", "It goes. On Monday", "the hand, in hands", "| goes | on |", "goes \"on\""] {
        for path in ["a.rs", "a.md"] {
            let text = if path == "a.rs" { format!("// {text}") } else { text.to_owned() };
            assert_eq!(dialect_of(&file(path, &text)), [""; 0], "{text}");
        }
    }
    assert_eq!(dialect_of(&file("a.rs", "r#\"nobody\"#; '\"'; // fine")), [""; 0]);
}

#[test]
fn a_run_of_spaces_is_found_within_a_message_only() {
    let has_hole = |source: &str| !holes_of(&file("a.rs", source)).is_empty();
    assert!(has_hole("f(\"a      b\")"));
    assert!(has_hole("f(\"a\n      b\")"));
    assert!(!has_hole("f(\"a \\\n      b\")"));
    assert!(!has_hole("f(\"list:\\n  a      b\\n    c\")"));
    assert!(!has_hole("f(\"SELECT a\n      FROM b\")"));
    assert!(!has_hole("// a      b\nf(r\"a      b\")"));
}

#[test]
fn a_long_name_is_found() {
    let long = |chars: usize| long_identifiers_of(&file("a.rs", &format!("fn {}() {{}}", "a".repeat(chars)))).len();
    assert_eq!((long(80), long(81)), (0, 1));
}
