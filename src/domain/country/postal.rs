//! Shapes of postal codes: how many digits and letters, in which order.
//!
//! A code that doesn't fit is worth a look and no error: countries change their codes, and no table is complete. A
//! shape finds what spreadsheets do to codes: lost zeros, and rows whose cells are shifted by one column.

use std::sync::LazyLock;

use crate::domain::country::entries;

const SHAPES: &str = include_str!("postal_codes.txt");

/// Longest code that is compared, without separators.
const CODE_CHARS_MAX: usize = 12;

const LETTERS: usize = 26;

/// Shapes by country, at `26 * first letter + second letter`. Empty: no shape is known.
static BY_COUNTRY: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut shapes = vec![""; LETTERS * LETTERS];
    for (code, of_country) in entries(SHAPES) {
        if let Some(index) = index(code) {
            shapes[index] = of_country;
        }
    }
    shapes
});

fn index(code: &str) -> Option<usize> {
    let [first, second] = code.as_bytes() else { return None };
    let letter = |byte: &u8| byte.is_ascii_uppercase().then(|| usize::from(*byte - b'A'));
    Some(letter(first)? * LETTERS + letter(second)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) enum PostalFit {
    /// It has a shape of the country, or the country's shapes aren't known.
    Fits,
    /// Digits only, and fewer than any code of the country has.
    Shortened,
    /// It has another shape.
    Differs,
}

/// Compares a postal code with the shapes of its country. Spaces and hyphens don't count, nor does the country's code
/// before it (`LV-1010`, `L-1234`).
pub(in crate::domain) fn postal_fit(code: &str, country: &str) -> PostalFit {
    let shapes = index(country).map_or("", |index| BY_COUNTRY[index]);
    if shapes.is_empty() {
        return PostalFit::Fits;
    }
    let mut buffer = [0; CODE_CHARS_MAX];
    let Some(classes) = classes(code, &mut buffer) else { return PostalFit::Differs };
    let without_prefix = prefix_length(code, country).and_then(|length| classes.get(length..));
    let fits = |shape: &str| {
        let shape = shape.as_bytes();
        // Some countries have their own code in the shape.
        has_shape(classes, shape)
            || without_prefix.is_some_and(|rest| has_shape(rest, shape))
            || shape.strip_prefix(b"AA").is_some_and(|rest| has_shape(classes, rest))
    };
    if shapes.split('|').any(fits) {
        return PostalFit::Fits;
    }
    let is_number = classes.iter().all(|class| *class == b'9');
    let is_shorter = |shape: &str| shape.len() > classes.len() && shape.bytes().all(|class| class == b'9');
    if is_number && shapes.split('|').all(is_shorter) { PostalFit::Shortened } else { PostalFit::Differs }
}

/// Writes `9` for each digit and `A` for each letter. `None` for other characters and codes that are too long.
fn classes<'b>(code: &str, buffer: &'b mut [u8; CODE_CHARS_MAX]) -> Option<&'b [u8]> {
    let mut length = 0;
    for byte in code.bytes().filter(|byte| !matches!(byte, b' ' | b'-')) {
        *buffer.get_mut(length)? = match byte {
            b'0'..=b'9' => b'9',
            b'A'..=b'Z' | b'a'..=b'z' => b'A',
            _ => return None,
        };
        length += 1;
    }
    Some(&buffer[..length])
}

fn has_shape(classes: &[u8], shape: &[u8]) -> bool {
    classes.len() == shape.len() && classes.iter().zip(shape).all(|(class, wanted)| *wanted == b'X' || class == wanted)
}

/// Returns the length of the country's code before a postal code: `LV-`, `LV`, or one letter and a hyphen (`L-`).
fn prefix_length(code: &str, country: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    if bytes.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(country.as_bytes())) {
        return Some(2);
    }
    (bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b'-').then_some(1)
}

#[cfg(test)]
mod tests {
    use super::PostalFit::{Differs, Fits, Shortened};
    use super::*;

    #[test]
    fn postal_codes_are_compared_with_the_shapes_of_their_country() {
        for (country, code, expected) in [
            ("US", "02139", Fits),
            ("US", "02139-4307", Fits),
            ("US", "2139", Shortened),
            ("US", "OR", Differs),
            ("US", "2139.0", Differs),
            ("DE", "1067", Shortened),
            ("DE", "D-01067", Fits),
            ("DE", "DE-01067", Fits),
            ("RO", "010011", Fits),
            ("RO", "10011", Shortened),
            ("LT", "01103", Fits),
            ("LT", "1103", Shortened),
            ("LT", "LT-01103", Fits),
            ("LV", "LV-1010", Fits),
            ("LV", "1010", Fits),
            ("GB", "SW1A 1AA", Fits),
            ("GB", "sw1a1aa", Fits),
            ("GB", "M1 1AE", Fits),
            ("GB", "12345", Differs),
            ("NL", "1012 AB", Fits),
            ("NL", "1012", Differs),
            ("CA", "K1A 0B1", Fits),
            ("JP", "100-0001", Fits),
            ("PL", "00-950", Fits),
            ("IE", "D02 AF30", Fits),
            ("BR", "01310-100", Fits),
            ("SE", "211 20", Fits),
            ("KE", "00100", Fits),
            ("KE", "100", Shortened),
            ("ZA", "1", Shortened),
            // Countries without postal codes.
            ("AE", "00000", Fits),
            ("HK", "N/A", Fits),
            ("DE", "０１０６７", Differs),
            ("DE", "01067010670106701067", Differs),
        ] {
            assert_eq!(postal_fit(code, country), expected, "{country} {code}");
        }
    }

    #[test]
    fn the_table_has_only_countries_and_shapes() {
        for (code, shapes) in entries(SHAPES) {
            assert!(rust_iso3166::from_alpha2(code).is_some(), "{code}");
            let is_shape = |shape: &str| !shape.is_empty() && shape.bytes().all(|class| b"9AX".contains(&class));
            assert!(shapes.split('|').all(is_shape), "{code}: {shapes}");
        }
    }
}
