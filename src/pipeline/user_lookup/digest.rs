//! Identifies an email without keeping it.

use std::fmt;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// First half of the SHA-256 of an email in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EmailDigest([u8; 16]);

impl fmt::Debug for EmailDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailDigest")
    }
}

impl EmailDigest {
    pub(super) fn of(email: &str) -> Self {
        // Character by character: the lower case of a whole string depends on the position of a letter in Greek only,
        // where sigma has two lower cases.
        let lower = email.trim().chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c });
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(lower.nfc().collect::<String>().as_bytes())[..16]);
        Self(digest)
    }

    /// A digest for tests that need many.
    #[cfg(test)]
    pub(super) const fn numbered(n: u128) -> Self {
        Self(n.to_le_bytes())
    }

    /// Returns the first eight bytes.
    pub(super) fn prefix(&self) -> u64 {
        self.0.iter().take(8).fold(0, |prefix, byte| prefix << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharp_s_and_double_s_are_two_mailboxes() {
        assert_ne!(EmailDigest::of("strasse@example.de"), EmailDigest::of("straße@example.de"));
    }
}
