//! The idempotency key: a pure function of the request body.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{ServiceId, User};

/// Namespace of derived keys: UUIDv5 of the DNS namespace and `idempotency.plu-onboard`. It never changes: a request
/// must have the same key on every machine and in every version.
pub const NAMESPACE: Uuid = Uuid::from_u128(0xbd0c_8920_beab_5944_af3a_f8ad_5a6a_8042);

/// The value of the `idempotency-key` header: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct IdempotencyKey(Uuid);

impl IdempotencyKey {
    /// Derives `UUIDv5(`[`NAMESPACE`]`, canonical form of the user)`.
    pub fn derive(user: &User<'_>) -> Self {
        Self::of_canonical(user.canonical_json().as_bytes())
    }

    /// Derives the key from a canonical form, see [`User::canonical_json`].
    pub fn of_canonical(canonical_json: &[u8]) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, canonical_json))
    }

    /// Derives the key of a re-creation: `UUIDv5(`[`NAMESPACE`]`, canonical form + LF + replaced id)`. So it differs from
    /// the key of the first creation, and is the same for every delivery of the job.
    pub fn of_recreation(canonical_json: &[u8], replaced: &ServiceId) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, &[canonical_json, b"\n", replaced.as_str().as_bytes()].concat()))
    }

    /// Makes a key from random bytes (version 4), for a request whose repeat must be a new request.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Derives the surrogate key of an invalid row, which has no canonical form. It comes from the batch and the line,
    /// so that a repeated event of the row has the same id. It is never sent to the API.
    pub fn surrogate(batch_id: &str, line: u64) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("row:{batch_id}:{line}").as_bytes()))
    }

    /// Parses an upstream's own key. `None` unless it is a UUID, which the API asks for. The nil UUID is none: programs
    /// send it where a value is missing, so it would be the key of many persons.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text.trim()).ok().filter(|uuid| !uuid.is_nil()).map(Self)
    }

    /// Takes a key as the embedded queue stores it.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the key as a UUID.
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
    fn the_namespace_is_derived_as_documented() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"idempotency.plu-onboard"));
    }

    #[test]
    fn a_recreation_has_a_key_of_its_own_for_each_replaced_user() {
        let id = |text| ServiceId::parse(text).unwrap();
        let key = IdempotencyKey::of_recreation(b"{}", &id("acme-user-1"));
        assert_eq!(key, IdempotencyKey::of_canonical(b"{}\nacme-user-1"));
        assert_ne!(key, IdempotencyKey::of_canonical(b"{}"));
        assert_ne!(key, IdempotencyKey::of_recreation(b"{}", &id("acme-user-2")));
        // UUIDv5 of the namespace and the bytes `{}`, LF, `acme-user-1`: it must never change.
        assert_eq!(key.to_string(), "d2ce549f-5617-54ad-a839-47d9596f5964");
        assert_eq!(IdempotencyKey::from_random([7; 16]).uuid().get_version_num(), 4);
    }

    #[test]
    fn the_nil_uuid_is_no_key() {
        let nil = Uuid::nil();
        for text in [nil.to_string(), nil.simple().to_string(), format!(" {} ", nil.braced()), nil.urn().to_string()] {
            assert_eq!(IdempotencyKey::parse(&text), None, "{text}");
        }
        assert!(IdempotencyKey::parse("00000000-0000-0000-0000-000000000001").is_some());
    }
}
