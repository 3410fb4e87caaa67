//! Detects the encoding of a file, chunk by chunk. Pure; used by the scan.
//!
//! In this order: the user's option, a byte order mark, UTF-8 if all of the file is valid, UTF-8 if most of it is, the
//! guess of chardetng, which browsers use for pages that don't name their encoding, or MacRoman if that fits better
//! ([`super::encoding_score`]).
//!
//! A guess that yields control characters is proven wrong, and no file is read with it. Any other guess is shown with
//! the letters that it yields, for a person to confirm.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, MACINTOSH, UTF_8};

use crate::adapters::csv::encoding_score::{self, ByteContexts, OldEncoding};

/// Most bytes that are kept to show the letters of an encoding of several bytes a character.
const SAMPLE_BYTES_MAX: usize = 4 * 1024;

/// Most letters that are shown.
const LETTERS_MAX: usize = 40;

/// Why an encoding was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodingOrigin {
    /// The user gave it.
    Option,
    /// The file begins with a byte order mark.
    ByteOrderMark,
    /// All of the file is valid UTF-8.
    Valid,
    /// UTF-8 with some malformed bytes; the cells that hold them are refused.
    Damaged,
    /// Guessed from the bytes: a person should check the accents before users are created.
    Guessed,
}

/// The encoding of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncodingDecision {
    pub(super) encoding: &'static Encoding,
    pub(super) origin: EncodingOrigin,
    /// Letters beyond ASCII that a guess yields, the most frequent first. Empty for any other origin.
    pub(super) letters: String,
}

impl EncodingDecision {
    pub(super) const fn known(encoding: &'static Encoding, origin: EncodingOrigin) -> Self {
        Self { encoding, origin, letters: String::new() }
    }
}

/// Why no encoding was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EncodingFailure {
    /// A code page of DOS, which can't be read.
    Dos,
    /// The best guess yields control characters.
    ProvenWrong {
        /// The guess.
        encoding: &'static Encoding,
        /// Number of control characters.
        controls: u64,
    },
}

/// Counts and detector state of the bytes so far.
pub(super) struct EncodingEvidence {
    /// Characters beyond ASCII that are valid UTF-8.
    valid: u64,
    /// Byte sequences that aren't valid UTF-8.
    malformed: u64,
    /// Fed from the first chunk that isn't UTF-8. The chunks before are ASCII, or the file counts as UTF-8.
    detector: EncodingDetector,
    /// Fed like the detector.
    contexts: ByteContexts,
    /// The first bytes that the detector was fed with, from the first one beyond ASCII.
    sample: Vec<u8>,
}

impl EncodingEvidence {
    pub(super) fn new() -> Self {
        // A file in ISO-2022-JP has ASCII bytes only, so it counts as valid UTF-8 anyway.
        let detector = EncodingDetector::new(Iso2022JpDetection::Deny);
        Self { valid: 0, malformed: 0, detector, contexts: ByteContexts::new(), sample: Vec::new() }
    }

    /// Takes the next bytes. Returns how many bytes at the end are an incomplete character: they were not counted and
    /// must be passed again at the start of the next chunk.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> usize {
        let unfinished = self.count(chunk);
        if self.malformed > 0 {
            self.detect(&chunk[..chunk.len() - unfinished], false);
        }
        unfinished
    }

    fn detect(&mut self, bytes: &[u8], is_last: bool) {
        self.detector.feed(bytes, is_last);
        self.contexts.feed(bytes);
        let from = if self.sample.is_empty() { bytes.iter().position(|byte| *byte >= 0x80) } else { Some(0) };
        if let Some(from) = from {
            let room = SAMPLE_BYTES_MAX - self.sample.len();
            self.sample.extend(bytes[from..].iter().take(room));
        }
    }

    fn count(&mut self, chunk: &[u8]) -> usize {
        let mut rest = chunk;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.valid += beyond_ascii(text.as_bytes());
                    return 0;
                }
                Err(error) => {
                    let (text, bytes) = rest.split_at(error.valid_up_to());
                    self.valid += beyond_ascii(text);
                    let Some(malformed) = error.error_len() else { return bytes.len() };
                    self.malformed += 1;
                    rest = &bytes[malformed..];
                }
            }
        }
    }

    /// Chooses the encoding. `unfinished` are the bytes that were not counted when the file ended.
    pub(super) fn decide(mut self, unfinished: &[u8]) -> Result<EncodingDecision, EncodingFailure> {
        self.malformed += u64::from(!unfinished.is_empty());
        if self.malformed == 0 {
            return Ok(EncodingDecision::known(UTF_8, EncodingOrigin::Valid));
        }
        // In another encoding, hardly any sequence is valid UTF-8 by chance. If at least half are valid, a bad byte
        // must not turn every accent of the file into two wrong characters: a refused row can be corrected, a user who
        // was created with a garbled name can't.
        if self.valid >= self.malformed {
            return Ok(EncodingDecision::known(UTF_8, EncodingOrigin::Damaged));
        }
        self.detect(unfinished, true);
        let contexts = self.contexts.finish();
        let detected = self.detector.guess(None, Utf8Detection::Deny);
        let encoding = match encoding_score::better_old_encoding(&contexts, detected) {
            Some(OldEncoding::Dos) => return Err(EncodingFailure::Dos),
            Some(OldEncoding::MacRoman) => MACINTOSH,
            None => detected,
        };
        let mut letters = match encoding_score::high_half(encoding) {
            Some(half) => {
                let controls = contexts.controls(&half);
                if controls > 0 {
                    return Err(EncodingFailure::ProvenWrong { encoding, controls });
                }
                contexts.characters(&half)
            }
            None => letters_of_sample(&self.sample, encoding),
        };
        letters.truncate(LETTERS_MAX);
        Ok(EncodingDecision { encoding, origin: EncodingOrigin::Guessed, letters: letters.into_iter().collect() })
    }
}

/// Returns the letters beyond ASCII of a text in an encoding of several bytes a character, in their order.
fn letters_of_sample(sample: &[u8], encoding: &'static Encoding) -> Vec<char> {
    let (text, _) = encoding.decode_without_bom_handling(sample);
    let mut letters = Vec::new();
    for c in text.chars().filter(|c| !c.is_ascii() && c.is_alphanumeric()) {
        if letters.len() < LETTERS_MAX && !letters.contains(&c) {
            letters.push(c);
        }
    }
    letters
}

/// Counts the characters beyond ASCII in valid UTF-8, by their first bytes.
fn beyond_ascii(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte >= 0xC0)).sum()
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GBK, SHIFT_JIS, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252};

    use super::*;

    fn decide(bytes: &[u8], chunk_bytes: usize) -> Result<EncodingDecision, EncodingFailure> {
        let mut evidence = EncodingEvidence::new();
        let mut carried = Vec::new();
        for chunk in bytes.chunks(chunk_bytes) {
            carried.extend_from_slice(chunk);
            let unfinished = evidence.feed(&carried);
            carried.drain(..carried.len() - unfinished);
        }
        evidence.decide(&carried)
    }

    fn detect(bytes: &[u8], chunk_bytes: usize) -> (&'static str, EncodingOrigin) {
        let EncodingDecision { encoding, origin, .. } = decide(bytes, chunk_bytes).unwrap();
        (encoding.name(), origin)
    }

    const WESTERN: &str =
        "Jürgen;Groß;Lindenstraße 48\nÉlodie;Lefèvre;14 bis, rue des Lilas\nSéverine;Favre;Genève\nBjörn;Peña;Malmö\n";

    #[test]
    fn the_encoding_does_not_depend_on_where_chunks_end() {
        let (western, _, _) = WINDOWS_1252.encode(WESTERN);
        let whole = decide(&western, western.len()).unwrap();
        for chunk_bytes in 1..20 {
            assert_eq!(detect(WESTERN.as_bytes(), chunk_bytes), ("UTF-8", EncodingOrigin::Valid));
            assert_eq!(detect(&western, chunk_bytes), ("windows-1252", EncodingOrigin::Guessed), "{chunk_bytes}");
            let letters = decide(&western, chunk_bytes).unwrap().letters;
            assert!(letters.chars().all(|letter| whole.letters.contains(letter)), "{letters}");
        }
        assert_eq!(whole.letters, "ßèöÉéñü");
    }

    #[test]
    fn other_encodings_are_guessed() {
        for (encoding, text) in [
            (WINDOWS_1250, "Łukasz;Wiśniewski;ulica Świętokrzyska\nAgnieszka;Dąbrowska;Gdańsk\n"),
            (WINDOWS_1251, "Анна;Иванова;улица Ленина\nПётр;Смирнов;Москва\n"),
            (SHIFT_JIS, "美咲;佐藤;千代田区\nさくら;たなか;ひがしまち\n"),
            (GBK, "伟;王;北京市朝阳区建国路\n芳;李;上海市浦东新区世纪大道\n"),
        ] {
            let (bytes, _, unmappable) = encoding.encode(text);
            assert!(!unmappable);
            let decision = decide(&bytes, 64).unwrap();
            assert_eq!((decision.encoding.name(), decision.origin), (encoding.name(), EncodingOrigin::Guessed));
            assert!(decision.letters.chars().count() > 5, "{}", decision.letters);
            assert!(decision.letters.chars().all(|letter| text.contains(letter)), "{}", decision.letters);
        }
    }

    #[test]
    fn mac_roman_is_recognised_and_code_pages_of_dos_are_refused() {
        for text in [WESTERN, "Jürgen;Groß;Köln\nFrançois;Lefèvre;Orléans\n", "MÜLLER;KÖLN\nGonçalo;São Paulo\n"]
        {
            let (mac, _, unmappable) = MACINTOSH.encode(text);
            assert!(!unmappable);
            let decision = decide(&mac, 64).unwrap();
            assert_eq!(decision.encoding, MACINTOSH, "{text}");
            assert!(decision.letters.chars().all(|letter| text.contains(letter)), "{}", decision.letters);
            assert_eq!(decide(&encoding_score::encode_cp850(text), 64), Err(EncodingFailure::Dos), "{text}");
        }
    }

    #[test]
    fn a_guess_that_yields_control_characters_is_proven_wrong() {
        let (western, _, _) = WINDOWS_1252.encode(WESTERN);
        let mut bytes = western.into_owned();
        bytes.extend_from_slice(b"Ada;B\x81t;Leeds\n");
        assert_eq!(decide(&bytes, 64), Err(EncodingFailure::ProvenWrong { encoding: WINDOWS_1252, controls: 1 }));
    }

    #[test]
    fn a_bad_byte_does_not_change_the_encoding_of_a_utf_8_file() {
        let mut bytes = "Jürgen;Groß\nSéverine;Favre\n".repeat(3).into_bytes();
        bytes.extend_from_slice(b"Jos\xE9;Garc");
        assert_eq!(detect(&bytes, 7), ("UTF-8", EncodingOrigin::Damaged));
    }

    #[test]
    fn an_incomplete_character_at_the_end_is_malformed() {
        assert_eq!(detect("é é\u{E9}".as_bytes().split_last().unwrap().1, 4), ("UTF-8", EncodingOrigin::Damaged));
    }
}
