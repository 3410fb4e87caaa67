//! Which encoding a file is in: the evidence, gathered chunk by chunk, and the verdict. Pure.
//!
//! The order: what the user says > a byte order mark > UTF-8 where all of it is valid > UTF-8 where most of it
//! is > the guess of chardetng, which is what browsers do with pages that don't say.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// How the encoding of a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodingOrigin {
    /// The user said so.
    Option,
    /// The file begins with a byte order mark.
    ByteOrderMark,
    /// All of the file is valid UTF-8.
    Valid,
    /// UTF-8 with some malformed bytes; the cells they are in will be refused.
    Damaged,
    /// Guessed from the bytes: a person should look at the accents before anything is sent.
    Guessed,
}

/// What the bytes seen so far say.
pub(super) struct Evidence {
    /// Characters beyond ASCII that are valid UTF-8.
    valid: u64,
    /// Byte sequences that aren't.
    malformed: u64,
    /// Fed from the first chunk on that isn't UTF-8; what came before is ASCII, or it wouldn't matter.
    detector: EncodingDetector,
}

impl Evidence {
    pub(super) fn new() -> Self {
        // ISO-2022-JP is all ASCII bytes, so such a file would count as valid UTF-8 anyway.
        Self { valid: 0, malformed: 0, detector: EncodingDetector::new(Iso2022JpDetection::Deny) }
    }

    /// Takes the next bytes. Returns how many at the end are the beginning of a character: they were not counted
    /// and must be given again at the head of the next chunk.
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

    /// The verdict. `unfinished` are the bytes that were not counted when the file ended.
    pub(super) fn verdict(mut self, unfinished: &[u8]) -> (&'static Encoding, EncodingOrigin) {
        self.malformed += u64::from(!unfinished.is_empty());
        if self.malformed == 0 {
            return (UTF_8, EncodingOrigin::Valid);
        }
        // In a file of another encoding hardly any sequence is UTF-8 by chance. Where as many are well-formed as
        // not, one bad byte must not turn every accent of the file into two wrong letters: a row that is refused
        // can be mended, a customer who was created with a garbled name can't.
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

    fn verdict_of(bytes: &[u8], chunk_bytes: usize) -> (&'static str, EncodingOrigin) {
        let mut evidence = Evidence::new();
        let mut carried = Vec::new();
        for chunk in bytes.chunks(chunk_bytes) {
            carried.extend_from_slice(chunk);
            let unfinished = evidence.feed(&carried);
            carried.drain(..carried.len() - unfinished);
        }
        let (encoding, origin) = evidence.verdict(&carried);
        (encoding.name(), origin)
    }

    #[test]
    fn the_verdict_does_not_depend_on_where_the_chunks_end() {
        let text = "Jürgen;Groß;Lindenstraße 48\nÉlodie;Lefèvre;14 bis, rue des Lilas\nSéverine;Favre;Genève\n";
        for chunk_bytes in 1..20 {
            assert_eq!(verdict_of(text.as_bytes(), chunk_bytes), ("UTF-8", EncodingOrigin::Valid));
            let (western, _, _) = WINDOWS_1252.encode(text);
            assert_eq!(verdict_of(&western, chunk_bytes), ("windows-1252", EncodingOrigin::Guessed), "{chunk_bytes}");
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
            assert_eq!(verdict_of(&bytes, 64), (encoding.name(), EncodingOrigin::Guessed));
        }
    }

    #[test]
    fn one_bad_byte_does_not_garble_a_file_of_utf_8() {
        let mut bytes = "Jürgen;Groß\nSéverine;Favre\n".repeat(3).into_bytes();
        bytes.extend_from_slice(b"Jos\xE9;Garc");
        assert_eq!(verdict_of(&bytes, 7), ("UTF-8", EncodingOrigin::Damaged));
    }

    #[test]
    fn a_character_cut_off_at_the_end_is_malformed() {
        assert_eq!(verdict_of("é é\u{E9}".as_bytes().split_last().unwrap().1, 4), ("UTF-8", EncodingOrigin::Damaged));
    }
}
