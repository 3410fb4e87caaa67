//! A lexer for Rust sources that separates comments, string literals and identifiers.

/// Kind of a text in a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    /// Adjacent comment lines form one text, because a sentence may be broken over them.
    Comment,
    /// A string literal, except raw strings, which hold test data, SQL and scripts.
    Literal,
    Identifier,
    /// A block of lines of a file that isn't Rust.
    Block,
}

/// A text with the line on which it begins.
#[derive(Debug)]
pub(super) struct SourceText {
    pub(super) line: usize,
    pub(super) kind: TextKind,
    pub(super) text: String,
}

/// A token. White space and punctuation are needed to find the end of a comment.
enum Token {
    Space,
    Text(TextKind),
    Other,
}

/// Returns the comments, literals and identifiers of a Rust source, in their order.
pub(super) fn rust_texts(source: &str) -> Vec<SourceText> {
    let mut texts: Vec<SourceText> = Vec::new();
    let (mut rest, mut line, mut is_in_comment) = (source, 1, false);
    while !rest.is_empty() {
        let (token, length) = next_token(rest);
        let (text, after) = rest.split_at(length);
        let newlines = text.matches('\n').count();
        match token {
            Token::Text(TextKind::Comment) if is_in_comment => {
                let comment = texts.last_mut().expect("a comment precedes");
                comment.text.push(' ');
                comment.text.push_str(comment_text(text));
            }
            Token::Text(kind) => {
                let text = match kind {
                    TextKind::Comment => comment_text(text).to_owned(),
                    TextKind::Literal => unescape(text),
                    TextKind::Identifier | TextKind::Block => text.to_owned(),
                };
                is_in_comment = kind == TextKind::Comment;
                texts.push(SourceText { line, kind, text });
            }
            // An empty line ends a comment.
            Token::Space => is_in_comment &= newlines < 2,
            Token::Other => is_in_comment = false,
        }
        line += newlines;
        rest = after;
    }
    texts
}

/// Returns the first token of a text, which isn't empty, and its length.
fn next_token(text: &str) -> (Token, usize) {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let end_of = |is_inside: &dyn Fn(char) -> bool| text.find(|char| !is_inside(char)).unwrap_or(text.len());
    // Strings of bytes and of C have a letter before the quote.
    let prefix = usize::from(text.starts_with(['b', 'c']));
    if text.starts_with(char::is_whitespace) {
        (Token::Space, end_of(&char::is_whitespace))
    } else if text.starts_with("//") {
        (Token::Text(TextKind::Comment), end_of(&|char| char != '\n'))
    } else if text.starts_with("/*") {
        (Token::Text(TextKind::Comment), text.find("*/").map_or(text.len(), |at| at + 2))
    } else if let Some(length) = raw_string_length(&text[prefix..]) {
        (Token::Other, prefix + length)
    } else if text[prefix..].starts_with('"') {
        (Token::Text(TextKind::Literal), prefix + string_length(&text[prefix..]))
    } else if text.starts_with('\'') {
        (Token::Other, char_length(text))
    } else if text.starts_with(is_word) {
        (Token::Text(TextKind::Identifier), end_of(&is_word))
    } else {
        (Token::Other, text.chars().next().map_or(0, char::len_utf8))
    }
}

/// Returns the length of the raw string at the start of a text.
fn raw_string_length(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix('r')?;
    let content = after_r.trim_start_matches('#');
    let hashes = after_r.len() - content.len();
    let close = format!("\"{}", "#".repeat(hashes));
    let end = content.strip_prefix('"')?.find(&close)?;
    Some("r".len() + hashes + "\"".len() + end + close.len())
}

/// Returns the length of the string literal at the start of a text.
fn string_length(text: &str) -> usize {
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

/// Returns the length of the character literal at the start of a text, or 1 for the quote of a lifetime.
fn char_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        // The escaped character may be a quote itself.
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            text[after..].find('\'').map_or(1, |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

fn comment_text(comment: &str) -> &str {
    comment.trim_start_matches(['/', '!', '*']).trim_end_matches("*/").trim()
}

/// Returns the content of a literal. A backslash at the end of a line removes the line break and the white space after
/// it. `\n` becomes a carriage return, so that it differs from a line break of the source.
fn unescape(literal: &str) -> String {
    let literal = literal.trim_start_matches(['b', 'c']);
    let content = literal.strip_prefix('"').unwrap_or(literal);
    let content = content.strip_suffix('"').unwrap_or(content);
    let mut lines = content.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let text = lines.fold(first, |text, line| text + line.trim_start());
    text.replace("\\n", "\r").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str, kind: TextKind) -> Vec<(usize, String)> {
        let texts = rust_texts(source).into_iter().filter(|text| text.kind == kind);
        texts.map(|text| (text.line, text.text)).collect()
    }

    fn owned(texts: &[(usize, &str)]) -> Vec<(usize, String)> {
        texts.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn adjacent_comment_lines_are_one_text() {
        let source = "/// One\n/// two.\nfn a() {} // three\n\n// four\n\n//! five /* six */\nb /* seven */ c";
        let expected = [(1, "One two."), (3, "three"), (5, "four"), (7, "five /* six"), (8, "seven")];
        assert_eq!(texts(source, TextKind::Comment), owned(&expected));
    }

    #[test]
    fn literals_are_found_with_their_line_breaks_removed() {
        let source = "f(\"a\\\n      b\", '\"', '\\'', '\\u{41}', b\"c\");\nlet x: &'a str = \"d \\\"e\\\"\";";
        assert_eq!(texts(source, TextKind::Literal), owned(&[(1, "ab"), (2, "c"), (3, "d \"e\"")]));
    }

    #[test]
    fn raw_strings_are_skipped() {
        for raw in ["r\"a\"", "r#\"a \" b\"#", "br#\"{\"a\": 1}\"#", "br\"a\""] {
            assert_eq!(texts(&format!("f({raw}); \"plain\""), TextKind::Literal), owned(&[(1, "plain")]), "{raw}");
        }
    }

    #[test]
    fn identifiers_are_found_outside_of_comments_and_literals() {
        let source = "fn r#type(bar: Br) { /* no */ let _x = \"no\"; } // no";
        let names = ["fn", "r", "type", "bar", "Br", "let", "_x"].map(|name| (1, name));
        assert_eq!(texts(source, TextKind::Identifier), owned(&names));
    }
}
