//! Telling two people with one email apart by their names, without keeping names.

use sha2::{Digest, Sha256};

use crate::domain::private::debug_redacted;

/// A person's name as a hash of its letters.
///
/// Two different marks are two different names. That the partner's list shows a name as it was sent is *assumed*, so
/// a mark is made only of what hardly anybody rewrites: case, blanks and punctuation don't count, and a name with
/// other letters than ASCII's (which may be transliterated), with a star (which may be masked) or with a digit has none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NameMark(u64);

debug_redacted!(NameMark);

impl NameMark {
    /// The mark of a name; `None` where it can't be relied on.
    pub fn of(first_name: &str, last_name: &str) -> Option<Self> {
        let mut letters = String::new();
        for c in first_name.chars().chain(last_name.chars()) {
            match c {
                c if c.is_ascii_alphabetic() => letters.push(c.to_ascii_lowercase()),
                ' ' | '-' | '.' | '\'' => {}
                _ => return None,
            }
        }
        let hash = Sha256::digest(letters.as_bytes());
        let mark = hash.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte));
        (!letters.is_empty()).then_some(Self(mark))
    }

    /// For a record on disk. Zero stands for none.
    pub(crate) fn to_bits(mark: Option<Self>) -> u64 {
        mark.map_or(0, |Self(bits)| bits)
    }

    /// From a record on disk.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_in_another_spelling_has_the_same_mark() {
        let mark = NameMark::of("Mary Ann", "O'Neil-Smith");
        assert!(mark.is_some());
        assert_eq!(mark, NameMark::of("MARY  ANN", "Oneil Smith"));
        assert_ne!(mark, NameMark::of("Mary", "O'Neil-Smith"));
    }

    #[test]
    fn a_name_that_may_be_shown_in_other_letters_has_none() {
        for (first, last) in [("J\u{f6}rg", "Doe"), ("J***", "Doe"), ("Jane", "Doe 2"), ("", ""), ("-", "'")] {
            assert_eq!(NameMark::of(first, last), None, "{first} {last}");
        }
    }
}
