//! Ids that are computed from a seed and a user's position, so that none is stored and none repeats.
//!
//! The first eleven characters of an id encode a 64-bit number that is a bijection of the position: two users can't
//! share an id. The other characters are filler.

use std::fmt;

use serde::Serialize;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^11 > 2^64: enough characters for any `u64`.
const WORD_CHARS: usize = 11;
/// The length of the last part of a `serviceId`, as in the vendor's examples.
const UID_CHARS: usize = 15;
/// The length of a Persona inquiry id, without its prefix. Assumed.
const INQUIRY_CHARS: usize = 22;

/// Salts make the two ids of one user different.
const UID_SALT: u64 = 0x5573_6572;
const INQUIRY_SALT: u64 = 0x0049_6e71;

/// A `serviceId`: text, or a number after the fault `id-number`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum SandboxId {
    Text(String),
    Number(u64),
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    seed: u64,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// `{slug}-user-{15 alphanumerics}`.
    pub(super) fn service_id(self, slug: &str, position: usize) -> String {
        let mut id = String::with_capacity(slug.len() + "-user-".len() + UID_CHARS);
        id.push_str(slug);
        id.push_str("-user-");
        self.push(&mut id, UID_SALT, position, UID_CHARS);
        id
    }

    /// The URL of the person's Persona inquiry.
    pub(super) fn verification_url(self, position: usize) -> String {
        let mut url = String::from("https://withpersona.com/verify?inquiry-id=inq_");
        self.push(&mut url, INQUIRY_SALT, position, INQUIRY_CHARS);
        url
    }

    /// The position of the user with this id; the user itself may not exist.
    pub(super) fn position(self, slug: &str, service_id: &str) -> Option<usize> {
        let uid = service_id.strip_prefix(slug)?.strip_prefix("-user-")?;
        let word = uid.bytes().take(WORD_CHARS).rev().try_fold(0_u64, |word, byte| {
            let digit = ALPHABET.iter().position(|character| *character == byte)?;
            word.checked_mul(62)?.checked_add(digit as u64)
        });
        let stream = mix(self.seed ^ UID_SALT.rotate_left(32));
        let position = usize::try_from(unmix(word?).wrapping_sub(stream)).ok()?;
        // The characters after the first word follow from the position.
        (self.service_id(slug, position) == service_id).then_some(position)
    }

    /// The id of a user as a number of 15 digits, which every JSON reader holds exactly.
    pub(super) fn number(self, position: usize) -> u64 {
        const FIRST: u64 = 100_000_000_000_000;
        const COUNT: u64 = 9 * FIRST;
        // A prime above 5 has no factor in common with the count, so no number repeats.
        const STEP: u64 = 611_953;
        let offset = mix(self.seed) % COUNT;
        FIRST + (offset + (position as u64 % COUNT) * STEP) % COUNT
    }

    fn push(self, text: &mut String, salt: u64, position: usize, chars: usize) {
        let stream = mix(self.seed ^ salt.rotate_left(32));
        let mut word = mix(stream.wrapping_add(position as u64));
        for nth in 0..chars {
            if nth > 0 && nth % WORD_CHARS == 0 {
                word = mix(stream ^ (position as u64).rotate_left(32) ^ nth as u64);
            }
            text.push(char::from(ALPHABET[(word % 62) as usize]));
            word /= 62;
        }
    }
}

/// The finaliser of SplitMix64 after its increment: a bijection of `u64` with random-looking values.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The inverse of [`mix`]. The factors are the inverses of those of `mix` modulo 2^64.
fn unmix(value: u64) -> u64 {
    let z = (value ^ (value >> 31) ^ (value >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    (z ^ (z >> 30) ^ (z >> 60)).wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_have_the_documented_shape() {
        let id = Ids::new(7).service_id("acme", 0);
        let uid = id.strip_prefix("acme-user-").unwrap();
        assert_eq!(uid.len(), 15);
        assert!(uid.bytes().all(|b| b.is_ascii_alphanumeric()), "{uid}");
    }

    #[test]
    fn an_id_leads_back_to_its_position() {
        let ids = Ids::new(7);
        for position in [0, 1, 61, 62, 199_999, u32::MAX as usize] {
            let id = ids.service_id("acme", position);
            assert_eq!(ids.position("acme", &id), Some(position));
            assert_eq!(ids.position("other", &id), None);
            assert_eq!(ids.position("acme", &id[..id.len() - 1]), None);
        }
        for id in ["", "acme-user-", "acme-user-zzzzzzzzzzzzzzz", "acme-user-äöü", "123456789012345"] {
            assert_eq!(ids.position("acme", id), None, "{id}");
        }
    }

    #[test]
    fn numbers_have_fifteen_digits_and_do_not_repeat() {
        let numbers: HashSet<u64> = (0..10_000).map(|nth| Ids::new(7).number(nth)).collect();
        assert_eq!(numbers.len(), 10_000);
        assert!(numbers.iter().all(|number| number.to_string().len() == 15));
    }

    #[test]
    fn ids_do_not_repeat_and_follow_the_seed() {
        let of = |seed: u64| -> Vec<String> {
            (0..1000)
                .flat_map(|nth| [Ids::new(seed).service_id("acme", nth), Ids::new(seed).verification_url(nth)])
                .collect()
        };
        assert_eq!(of(1).iter().collect::<HashSet<_>>().len(), 2000);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
