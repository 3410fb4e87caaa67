//! Text: normal form, length and control characters.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::domain::validate::FieldRefusal;

/// The normal form of text: without invisible format characters, NFC, runs of white space as one space, trimmed.
///
/// Copies from mail and contacts programs contain invisible characters, but values that look the same must have the
/// same key. Joiners (U+200C, U+200D) are kept, because several scripts need them. A value of only joiners and white
/// space looks empty and becomes empty.
pub(super) fn clean(given: &str) -> Cow<'_, str> {
    if given.is_ascii() {
        return if is_folded(given) { Cow::Borrowed(given) } else { Cow::Owned(fold_white_space(given)) };
    }
    let visible: String = given.chars().filter(|c| !is_invisible(*c)).nfc().collect();
    if visible.chars().all(|c| c.is_whitespace() || is_joiner(c)) {
        return Cow::Borrowed("");
    }
    Cow::Owned(fold_white_space(&visible))
}

/// Returns whether the only white space is single spaces between words, as in nearly every value from a program.
fn is_folded(ascii: &str) -> bool {
    let mut follows_space = true;
    for byte in ascii.bytes() {
        let is_space = char::from(byte).is_whitespace();
        if is_space && (byte != b' ' || follows_space) {
            return false;
        }
        follows_space = is_space;
    }
    !follows_space || ascii.is_empty()
}

fn fold_white_space(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{61C}'
            | '\u{180E}'
            | '\u{200B}'
            | '\u{200E}'
            | '\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'
            | '\u{2066}'..='\u{2069}'
            | '\u{FEFF}'
    )
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

/// Checks the length in characters (Unicode scalar values), not bytes: the API's table says "characters".
pub(super) fn at_most(text: &str, chars_max: usize) -> Result<(), FieldRefusal> {
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(("TOO_LONG", format!("has {chars} characters, the API allows at most {chars_max}: shorten it")));
    }
    Ok(())
}

pub(super) fn without_control(text: &str) -> Result<(), FieldRefusal> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err((
            "CONTROL_CHARACTER",
            format!("contains the invisible control character U+{:04X}: type the value again", u32::from(c)),
        )),
        None => Ok(()),
    }
}
