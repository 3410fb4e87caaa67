//! Compares the names of two people with one email, without storing the names.

use sha2::{Digest, Sha256};

use crate::domain::private::debug_redacted;

/// A person's name as a hash of its letters. Different marks mean different names.
///
/// *Assumed*: the partner's list shows a name as it was sent, except for case, spaces and punctuation. These don't
/// count. A name with letters beyond ASCII (perhaps transliterated), a star (perhaps masked) or a digit has no mark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NameMark(u64);

debug_redacted!(NameMark);

impl NameMark {
    /// Returns the mark of a name; `None` where the name can't be compared.
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
    fn a_name_that_the_list_may_show_in_other_letters_has_no_mark() {
        for (first, last) in [("J\u{f6}rg", "Doe"), ("J***", "Doe"), ("Jane", "Doe 2"), ("", ""), ("-", "'")] {
            assert_eq!(NameMark::of(first, last), None, "{first} {last}");
        }
    }
}
