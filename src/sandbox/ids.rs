//! Ids that are computed from a seed and a user's position, so that none is stored and none repeats.
//!
//! The first eleven characters of an id encode a 64-bit number that is a bijection of the position: two users can't
//! share an id. The other characters are filler.

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
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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
