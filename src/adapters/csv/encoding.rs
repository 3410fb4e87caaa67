//! Detects the encoding of a file, chunk by chunk. Pure; used by the scan.
//!
//! In this order: the user's option, a byte order mark, UTF-8 if all of the file is valid, UTF-8 if most of it is, the
//! guess of chardetng, which browsers use for pages that don't name their encoding.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

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

/// Counts and detector state of the bytes so far.
pub(super) struct EncodingEvidence {
    /// Characters beyond ASCII that are valid UTF-8.
    valid: u64,
    /// Byte sequences that aren't valid UTF-8.
    malformed: u64,
    /// Fed from the first chunk that isn't UTF-8. The chunks before are ASCII, or the file counts as UTF-8.
    detector: EncodingDetector,
}

impl EncodingEvidence {
    pub(super) fn new() -> Self {
        // A file in ISO-2022-JP has ASCII bytes only, so it counts as valid UTF-8 anyway.
        Self { valid: 0, malformed: 0, detector: EncodingDetector::new(Iso2022JpDetection::Deny) }
    }

    /// Takes the next bytes. Returns how many bytes at the end are an incomplete character: they were not counted and
    /// must be passed again at the start of the next chunk.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> usize {
        let unfinished = self.count(chunk);
        if self.malformed > 0 {
            self.detector.feed(&chunk[..chunk.len() - unfinished], false);
        }
        unfinished
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
    pub(super) fn decide(mut self, unfinished: &[u8]) -> (&'static Encoding, EncodingOrigin) {
        self.malformed += u64::from(!unfinished.is_empty());
        if self.malformed == 0 {
            return (UTF_8, EncodingOrigin::Valid);
        }
        // In another encoding, hardly any sequence is valid UTF-8 by chance. If at least half are valid, a bad byte
        // must not turn every accent of the file into two wrong characters: a refused row can be corrected, a user who
        // was created with a garbled name can't.
        if self.valid >= self.malformed {
            return (UTF_8, EncodingOrigin::Damaged);
        }
        self.detector.feed(unfinished, true);
        (self.detector.guess(None, Utf8Detection::Deny), EncodingOrigin::Guessed)
    }
}

/// Counts the characters beyond ASCII in valid UTF-8, by their first bytes.
fn beyond_ascii(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte >= 0xC0)).sum()
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GBK, SHIFT_JIS, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252};

    use super::*;

    fn detect(bytes: &[u8], chunk_bytes: usize) -> (&'static str, EncodingOrigin) {
        let mut evidence = EncodingEvidence::new();
        let mut carried = Vec::new();
        for chunk in bytes.chunks(chunk_bytes) {
            carried.extend_from_slice(chunk);
            let unfinished = evidence.feed(&carried);
            carried.drain(..carried.len() - unfinished);
        }
        let (encoding, origin) = evidence.decide(&carried);
        (encoding.name(), origin)
    }

    #[test]
    fn the_encoding_does_not_depend_on_where_chunks_end() {
        let text = "Jürgen;Groß;Lindenstraße 48\nÉlodie;Lefèvre;14 bis, rue des Lilas\nSéverine;Favre;Genève\n";
        for chunk_bytes in 1..20 {
            assert_eq!(detect(text.as_bytes(), chunk_bytes), ("UTF-8", EncodingOrigin::Valid));
            let (western, _, _) = WINDOWS_1252.encode(text);
            assert_eq!(detect(&western, chunk_bytes), ("windows-1252", EncodingOrigin::Guessed), "{chunk_bytes}");
        }
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
            assert_eq!(detect(&bytes, 64), (encoding.name(), EncodingOrigin::Guessed));
        }
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
