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
    let second = byte_of(from_accent.next()?, encoding).filter(|byte| matches!(byte, 0x80..=0xBF))?;
    let bytes: Vec<u8> = text.chars().map(|c| byte_of(c, encoding)).collect::<Option<_>>()?;
    let mended = String::from_utf8(bytes).ok()?;
    let is_sure = if encoding == MACINTOSH {
        // An accent directly after a dash gives one Cyrillic letter: `Paris–Évreux`.
        !matches!(lead, 0xD0 | 0xD1) || mended.chars().filter(|c| !c.is_ascii()).count() > 1
    } else {
        is_sure_start(lead, second) || has_letters_in_a_row(&mended)
    };
    is_sure.then_some(mended)
}

/// Returns whether no right text in Windows-1252 has these two characters one after the other. Words do end with a
/// letter such as `É` or `ß`, before a no-break space, a quotation mark or a dash: `ANDRÉ’S`.
fn is_sure_start(lead: u8, second: u8) -> bool {
    match lead {
        // Latin letters, and characters of three and more bytes.
        0xC2..=0xC5 | 0xE0..=0xF4 => true,
        // `ơ` and `ư` of Vietnamese, `ș` and `ț` of Romanian.
        0xC6 => matches!(second, 0xA1 | 0xAF | 0xB0),
        0xC8 => matches!(second, 0x98..=0x9B),
        // Greek and Cyrillic letters.
        0xCE..=0xD1 => !matches!(second, 0x8B | 0x91..=0x94 | 0x96 | 0x97 | 0x9B | 0xA0 | 0xAB | 0xBB),
        _ => false,
    }
}

/// Returns whether there are two characters beyond ASCII in a row, as in every word of Arabic or Hebrew.
fn has_letters_in_a_row(text: &str) -> bool {
    text.chars().zip(text.chars().skip(1)).any(|(c, next)| !c.is_ascii() && !next.is_ascii())
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
        for text in [
            "Müller",
            "Groß",
            "Zoë",
            "Łukasiewicz",
            "Łódź",
            "Иванова",
            "O’Brien",
            "日本",
            "Málaga – Sur",
            "à la carte",
            "Šimek",
        ] {
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
    fn doubly_encoded_words_of_other_scripts_are_mended() {
        for text in ["محمد", "שרה כהן", "Αθήνα", "Ражин", "Արամ", "Lưu", "București", "Bistrița"]
        {
            let (twice, _, _) = WINDOWS_1252.decode(text.as_bytes());
            assert_eq!(mended(&twice).as_deref(), Some(text), "{twice}");
        }
    }

    #[test]
    fn a_last_letter_before_a_space_quote_or_dash_is_right() {
        for text in [
            "JOSÉ\u{a0}",
            "RENÉ\u{a0}",
            "ANDRÉ\u{a0}",
            "RENÉ\u{a0}ANDRÉ\u{a0}",
            "Groß\u{a0}",
            "Weiß\u{a0}Muller",
            "Weiß\u{a0}Müller",
            "ANDRÉ’S",
            "RUE ANDRÉ–MALRAUX",
            "CAFÈ\u{a0}",
            "CAFÈ’",
            "«CAFÉ»",
            "CAFÉ»",
            "LEVÎ\u{a0}",
            "ESPAÑ’",
        ] {
            assert_eq!(mended(text), None, "{text}");
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
