//! The language of the project: plain technical English with the field's terms (CONTRIBUTING.md says why).
//!
//! Reads what people read: comments and string literals of the sources, comments of the settings and manifests, and
//! the documents. Raw strings are fixtures and exempt.

use std::fs;
use std::path::{Path, PathBuf};

/// Phrases of the project's former dialect, in lower case. Each has a plain word: see docs/glossary.md.
const DIALECT: &[&str] = &[
    "told",
    "tell",
    "tells",
    "whoever",
    "whomever",
    "nobody",
    "somebody",
    "everybody",
    "anybody",
    "goes on",
    "went on",
    "on its way",
    "on their way",
    "in hand",
    "amiss",
    "fare",
    "fares",
    "reckoned",
    "of whom",
    "stands still",
    "as it were",
];

/// One sentence or string of a file, with the line on which it begins.
#[derive(Debug)]
struct Prose {
    line: usize,
    text: String,
    is_literal: bool,
}

/// What people read in a Rust source: comments, and string literals that aren't raw.
fn rust_prose(source: &str) -> Vec<Prose> {
    let mut prose = Vec::new();
    let (mut rest, mut line) = (source, 1);
    let mut comment: Option<Prose> = None;
    while let Some(first) = rest.chars().next() {
        let (end, found) = match first {
            '/' if rest.starts_with("//") => {
                let end = rest.find('\n').unwrap_or(rest.len());
                let text = rest[..end].trim_start_matches(['/', '!']);
                // Lines of one comment are one text: a phrase may be broken over them.
                let block = comment.get_or_insert_with(|| Prose { line, text: String::new(), is_literal: false });
                block.text.push(' ');
                block.text.push_str(text);
                (end, None)
            }
            'r' if raw_string(rest).is_some() => (raw_string(rest).unwrap_or(1), None),
            '"' => {
                let end = string_end(rest);
                let text = unescape(&rest[1..end - 1]);
                (end, Some(Prose { line, text, is_literal: true }))
            }
            '\'' => (char_end(rest), None),
            _ if first.is_alphanumeric() || first == '_' => {
                let is_word = |char: char| char.is_alphanumeric() || char == '_';
                // The `r` of a raw string isn't the end of a word.
                (rest.find(|char| !is_word(char)).unwrap_or(rest.len()), None)
            }
            _ => (first.len_utf8(), None),
        };
        if !first.is_whitespace() && !rest.starts_with("//") {
            prose.extend(comment.take());
        }
        prose.extend(found);
        line += rest[..end].matches('\n').count();
        rest = &rest[end..];
    }
    prose.extend(comment);
    prose
}

/// The length of a raw string at the start of this text.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|char| *char == '#').count();
    let open = 1 + hashes;
    if !text[open..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map(|at| open + 1 + at + close.len())
}

fn string_end(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal, or the quote of a lifetime.
fn char_end(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => text[2..].find('\'').map_or(1, |at| 2 + at + 1).max(4).min(text.len()),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// A literal as it is printed: a line continuation and the spaces after it vanish.
fn unescape(literal: &str) -> String {
    let mut text = String::new();
    let mut parts = literal.split("\\\n");
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        text.push_str(part.trim_start());
    }
    text.replace("\\n", "\n").replace("\\\"", "\"")
}

/// What people read in a file of settings or manifests: its comments.
fn hash_comments(source: &str) -> Vec<Prose> {
    let lines = source.lines().enumerate();
    let comments = lines.filter_map(|(index, line)| {
        let text = line.trim_start().strip_prefix('#')?;
        Some(Prose { line: index + 1, text: text.to_owned(), is_literal: false })
    });
    comments.collect()
}

/// A document, paragraph by paragraph, without its blocks of code.
fn paragraphs(source: &str) -> Vec<Prose> {
    let mut prose: Vec<Prose> = Vec::new();
    let (mut is_code, mut starts) = (false, true);
    for (index, line) in source.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            starts = true;
            continue;
        }
        if is_code || line.trim().is_empty() {
            starts = true;
            continue;
        }
        match prose.last_mut().filter(|_| !starts) {
            Some(last) => last.text.push_str(&format!(" {line}")),
            None => prose.push(Prose { line: index + 1, text: line.to_owned(), is_literal: false }),
        }
        starts = false;
    }
    prose
}

/// The phrases of the dialect that stand in a text, as whole words.
fn dialect_in(text: &str) -> Vec<&'static str> {
    let words: Vec<String> = text
        .split(|char: char| !(char.is_alphanumeric() || char == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let text = format!(" {} ", words.join(" "));
    DIALECT.iter().filter(|phrase| text.contains(&format!(" {phrase} "))).copied().collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "node_modules") {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// Every text that people read, with its file.
fn all_prose() -> Vec<(String, Prose)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(root, &mut paths);
    let mut all = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        // This file names the phrases.
        let is_exempt = name.ends_with("meta/words.rs") || name.starts_with("tests/data/");
        let Some(ending) = path.extension().and_then(|ending| ending.to_str()).filter(|_| !is_exempt) else { continue };
        let read: fn(&str) -> Vec<Prose> = match ending {
            "rs" => rust_prose,
            "toml" | "yml" | "yaml" | "service" | "py" | "sh" => hash_comments,
            "md" => paragraphs,
            _ => continue,
        };
        let source = fs::read_to_string(&path).unwrap();
        all.extend(read(&source).into_iter().map(|prose| (name.clone(), prose)));
    }
    assert!(all.len() > 5_000, "only {} texts were found", all.len());
    all
}

#[test]
fn comments_messages_and_documents_use_plain_words() {
    let mut found = Vec::new();
    for (file, prose) in all_prose() {
        for phrase in dialect_in(&prose.text) {
            found.push(format!("{file}:{}: \"{phrase}\" in: {}", prose.line, prose.text.trim()));
        }
    }
    assert!(found.is_empty(), "{} texts need plainer words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_message_holds_a_run_of_spaces() {
    let mut found = Vec::new();
    for (file, prose) in all_prose() {
        let is_message = prose.is_literal && file.starts_with("src/") && !file.contains("/tests");
        // Indentation of a list is wanted; a hole in a sentence is a broken literal.
        let has_hole = |line: &str| line.trim().contains("    ");
        if is_message && prose.text.lines().any(has_hole) {
            found.push(format!("{file}:{}: {}", prose.line, prose.text));
        }
    }
    assert!(found.is_empty(), "messages with a hole:\n{}", found.join("\n"));
}

#[test]
fn dialect_is_found_in_comments_literals_and_documents_and_not_in_code() {
    let found = |source: &str| -> Vec<(usize, &str)> {
        let prose = rust_prose(source);
        prose.iter().flat_map(|prose| dialect_in(&prose.text).into_iter().map(|word| (prose.line, word))).collect()
    };
    assert_eq!(found("let a = 1;\n// It is told\n// of it."), [(2, "told")]);
    assert_eq!(found("/// The work goes\n/// on."), [(1, "goes on")]);
    assert_eq!(found("f(\"Nobody\\\n    was\");"), [(1, "nobody")]);
    assert_eq!(found("let told = '\"'; // fine\nlet x: &'a str = told;"), []);
    assert_eq!(found("let raw = r#\"nobody\"#; \"in hand\""), [(1, "in hand")]);
    assert_eq!(found("r(1); \"welfare\"; '\\''; \"told\""), [(1, "told")]);
    let document = paragraphs("A job\ngoes\non.\n\n```\nnobody\n```\nDone");
    assert_eq!(document.iter().map(|prose| dialect_in(&prose.text)).collect::<Vec<_>>(), [vec!["goes on"], vec![]]);
    assert_eq!(rust_prose("f(\"a\\\n      b\")")[0].text, "ab");
}
