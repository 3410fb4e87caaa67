//! The idempotency key: a pure function of what is sent.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::User;

/// Namespace of derived keys: UUIDv5 of the DNS namespace and `idempotency.plu-onboard`. Never changes: the
/// same request must have the same key on every machine and in every version.
pub const NAMESPACE: Uuid = Uuid::from_u128(0xbd0c_8920_beab_5944_af3a_f8ad_5a6a_8042);

/// The value of the `idempotency-key` header: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct IdempotencyKey(Uuid);

impl IdempotencyKey {
    /// `UUIDv5(`[`NAMESPACE`]`, canonical form of the user)`.
    pub fn derive(user: &User<'_>) -> Self {
        Self::of_canonical(user.canonical_json().as_bytes())
    }

    /// The same, from a canonical form that is at hand already.
    pub fn of_canonical(canonical_json: &[u8]) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, canonical_json))
    }

    /// The stand-in for a row that has no canonical form because it is invalid: from its batch and its line,
    /// so that a repeat of its event can be recognised. Never sent to the API.
    pub fn for_invalid_row(batch_id: &str, line: u64) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("row:{batch_id}:{line}").as_bytes()))
    }

    /// An upstream's own key. `None` unless it is a UUID (the API asks for one).
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text.trim()).ok().map(Self)
    }

    /// From 16 stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The UUID.
    pub fn uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_what_its_documentation_says() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"idempotency.plu-onboard"));
    }
}
