//! Text that was encoded as UTF-8, decoded as Windows-1252 or MacRoman, and encoded again: `MÃ¼ller` or `M√ºller` for
//! `Müller`.
//!
//! A text counts as damaged if it decodes completely: each of its characters is a byte of that encoding, and these bytes
//! are valid UTF-8 with at least one character beyond ASCII. Right text hardly ever does, because `Ã` or `Å` would have
//! to be followed by a symbol such as `¼`, and every other accent too.

use encoding_rs::{Encoding, MACINTOSH, WINDOWS_1252};

use crate::domain::validate::FieldRefusal;
use crate::domain::{Field, Warning};

/// Returns what the text was before it was encoded a second time, or `None` if it wasn't.
pub(super) fn mended(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let once = [WINDOWS_1252, MACINTOSH].into_iter().find_map(|encoding| mended_of(text, encoding))?;
    // Each time makes it shorter.
    Some(mended(&once).unwrap_or(once))
}

fn mended_of(text: &str, encoding: &'static Encoding) -> Option<String> {
    // Right text is done here: after its first accent there is another letter.
    let mut from_accent = text.chars().skip_while(char::is_ascii);
    let lead = byte_of(from_accent.next()?, encoding).filter(|byte| is_lead(*byte, encoding))?;
    byte_of(from_accent.next()?, encoding).filter(|byte| matches!(byte, 0x80..=0xBF))?;
    let bytes: Vec<u8> = text.chars().map(|c| byte_of(c, encoding)).collect::<Option<_>>()?;
    let mended = String::from_utf8(bytes).ok()?;
    // An accent directly after a dash gives one Cyrillic letter: `Paris–Évreux`.
    let is_dash = encoding == MACINTOSH && matches!(lead, 0xD0 | 0xD1);
    (!is_dash || mended.chars().filter(|c| !c.is_ascii()).count() > 1).then_some(mended)
}

/// Returns whether it can be the first byte of a character of UTF-8.
fn is_lead(byte: u8, encoding: &'static Encoding) -> bool {
    if encoding == MACINTOSH {
        // Latin, Greek and Cyrillic letters, and punctuation. Others are quotation marks and capital letters in
        // MacRoman, which are before an accent in right text: `l’Église`.
        return matches!(byte, 0xC2..=0xC5 | 0xC8 | 0xC9 | 0xCE..=0xD1 | 0xE2);
    }
    matches!(byte, 0xC2..=0xF4)
}

fn byte_of(c: char, encoding: &'static Encoding) -> Option<u8> {
    // Some programs decode as Latin-1, where the bytes from 0x80 to 0x9F are control characters.
    if let Ok(byte) = u8::try_from(u32::from(c))
        && (encoding == WINDOWS_1252 || c.is_ascii())
    {
        return Some(byte);
    }
    let mut buffer = [0; 4];
    let (bytes, _, is_unmappable) = encoding.encode(c.encode_utf8(&mut buffer));
    bytes.first().copied().filter(|_| !is_unmappable)
}

pub(super) fn refusal() -> FieldRefusal {
    (
        "DOUBLE_ENCODING",
        "looks like UTF-8 that was encoded twice, with two wrong characters for each accent: export the file again as \
         UTF-8, or have such texts mended with --mend-double-encoding"
            .to_owned(),
    )
}

pub(super) const fn report(field: Field) -> Warning {
    Warning::converted(field, "DOUBLE_ENCODING_MENDED", "was encoded twice as UTF-8: it is sent with its accents")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubly_encoded_text_is_mended() {
        for text in ["Müller", "Groß", "Zoë", "Łukasiewicz", "Łódź", "Иванова", "O’Brien", "日本", "Málaga – Sur"]
        {
            let (twice, _, _) = WINDOWS_1252.decode(text.as_bytes());
            assert_eq!(mended(&twice).as_deref(), Some(text), "{twice}");
            let (mac, _, _) = MACINTOSH.decode(text.as_bytes());
            if !text.starts_with('日') {
                assert_eq!(mended(&mac).as_deref(), Some(text), "{mac}");
            }
            let latin_1: String = text.bytes().map(char::from).collect();
            assert_eq!(mended(&latin_1).as_deref(), Some(text), "{latin_1}");
        }
    }

    #[test]
    fn right_text_is_left_alone() {
        for text in [
            "Müller",
            "JOÃO",
            "CAFÉ",
            "„ÄRGER“",
            "“CAFÉ”",
            "Ångström",
            "ÎLE-DE-FRANCE",
            "Łódź",
            "日本",
            "Ñandú",
            "São Tomé & Príncipe",
            "Åse Øst",
            "Ada",
            "Đorđe",
            "SÃO PAULO – CENTRO",
            "Â",
            "",
            "Main Street – North",
            "Œuvre",
            "√2",
            "rue de l’Église",
            "Paris–Évreux",
            "« Été »",
        ] {
            assert_eq!(mended(text), None, "{text}");
        }
    }
}
