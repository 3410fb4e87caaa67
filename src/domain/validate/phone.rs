//! Phone numbers: converts the usual notations to E.164.
//!
//! Uses libphonenumber's metadata. Compiling its regular expressions takes a fraction of a millisecond per country. A
//! number that is in E.164 already doesn't need them: only its length is compared with those that its calling code
//! allows.

use std::sync::{LazyLock, PoisonError};

use phonenumber::metadata::{DATABASE, Database};
use phonenumber::{Mode, PhoneNumber, country};
use regex_cache::RegexCache;

use crate::domain::validate::FieldRefusal;
use crate::domain::validate::calling_codes::POSSIBLE_LENGTHS;

/// Most compiled patterns in the cache, enough for about forty countries. With the library's default of 100, a file
/// with ten countries compiles them again and again (measured: 300 numbers a second).
const PATTERNS_MAX: usize = 512;

/// The library's metadata, with a larger pattern cache. Reading it takes 60 ms and 6 MB, so it is read at the first
/// number that needs it.
static METADATA: LazyLock<&Database> = LazyLock::new(|| {
    *DATABASE.cache().lock().unwrap_or_else(PoisonError::into_inner) = RegexCache::new(PATTERNS_MAX);
    &DATABASE
});

/// Converts a number to E.164. One that starts with `+` (or `00`) has its country code; any other is read as a national
/// number of `countryCode`.
///
/// A national number must be valid by the metadata, because its country is a guess. An international one only needs a
/// length that its calling code allows: metadata is behind newly opened ranges, a correct number that is refused here
/// can't be corrected, and the API refuses a wrong one without charge.
pub(super) fn phone_number(text: &str, country_code: Option<&str>) -> Result<String, FieldRefusal> {
    if looks_scientific(text) {
        return refuse(
            "was converted to scientific notation by a spreadsheet and has lost digits: format the column as text and \
             enter the number again",
        );
    }
    if looks_like_a_fraction(text) {
        return refuse(
            "was converted to a decimal number by another program, which added .0: format the column as text and enter \
             the number again",
        );
    }
    let text = text.strip_prefix("tel:").unwrap_or(text);
    if text.chars().any(char::is_alphabetic) {
        // The parser converts letters as on a keypad, so a mistyped O would become a 6.
        return refuse("contains letters: write digits only, with + and the calling code, for example +14155555555");
    }
    let international = text.strip_prefix("00").map(|rest| format!("+{rest}"));
    let text = international.as_deref().unwrap_or(text);
    if text.starts_with(['+', '\u{FF0B}']) {
        if is_plain_e164(text) {
            return Ok(text.to_owned());
        }
        return match parse(None, text) {
            Some(number) if has_possible_length(&number) => Ok(e164(&number)),
            _ => refuse("is not a phone number: write it with + and the calling code, for example +14155555555"),
        };
    }
    let Some(code) = country_code else {
        return refuse("has no country: write it with + and the country's calling code, for example +14155555555");
    };
    match code.parse().ok().and_then(|country| parse(Some(country), text)) {
        Some(number) if number.is_valid() => Ok(e164(&number)),
        _ => refuse(&format!(
            "is not a phone number of {code}: write it with + and the calling code, for example +14155555555"
        )),
    }
}

fn refuse<T>(message: &str) -> Result<T, FieldRefusal> {
    Err(("INVALID_PHONE_NUMBER", message.to_owned()))
}

fn parse(country: Option<country::Id>, text: &str) -> Option<PhoneNumber> {
    phonenumber::parse_with(&METADATA, country, text).ok().filter(|number| number.extension().is_none())
}

fn e164(number: &PhoneNumber) -> String {
    number.format().mode(Mode::E164).to_string()
}

/// Returns whether it is `+`, a calling code and a national number of a possible length. A national number with a
/// leading 0 is left to the parser, because the 0 is a trunk prefix in most countries and part of the number in others.
fn is_plain_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) else {
        return false;
    };
    // No calling code is a prefix of another.
    (1..=3).filter_map(|length| digits.split_at_checked(length)).any(|(code, national)| {
        !national.starts_with('0') && code.parse().is_ok_and(|code| is_possible_length(code, national.len()))
    })
}

fn has_possible_length(number: &PhoneNumber) -> bool {
    let code = number.country().code();
    let digits = e164(number).len() - 1 - code.to_string().len();
    is_possible_length(code, digits)
}

fn is_possible_length(code: u16, digits: usize) -> bool {
    let known = POSSIBLE_LENGTHS.binary_search_by_key(&code, |(code, _)| *code).ok();
    known.is_some_and(|index| POSSIBLE_LENGTHS[index].1.iter().any(|length| usize::from(*length) == digits))
}

/// Returns whether it is digits and `.0`: some programs convert a column of numbers with an empty cell to decimal
/// numbers. The parser would read the zero as a digit.
fn looks_like_a_fraction(text: &str) -> bool {
    let digits = text.strip_suffix(".0").map(|whole| whole.strip_prefix('+').unwrap_or(whole));
    digits.is_some_and(|digits| digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn looks_scientific(text: &str) -> bool {
    let mut parts = text.split(['e', 'E']);
    let (Some(mantissa), Some(exponent), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let is_number = |part: &str| {
        part.contains(|c: char| c.is_ascii_digit()) && part.chars().all(|c| c.is_ascii_digit() || ".,+-".contains(c))
    };
    is_number(mantissa) && is_number(exponent)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use phonenumber::metadata::{Descriptor, Descriptors};

    use super::*;

    /// Returns the types of numbers that E.164 includes: all except emergency and short codes.
    fn e164_types(kinds: &Descriptors) -> impl Iterator<Item = &Descriptor> {
        [
            kinds.fixed_line(),
            kinds.mobile(),
            kinds.voip(),
            kinds.personal_number(),
            kinds.toll_free(),
            kinds.premium_rate(),
            kinds.shared_cost(),
            kinds.pager(),
            kinds.uan(),
            kinds.voicemail(),
        ]
        .into_iter()
        .flatten()
    }

    #[test]
    fn the_possible_lengths_are_those_of_the_metadata() {
        let mut lengths: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
        for country in METADATA.iter() {
            let possible = e164_types(country.descriptors()).flat_map(Descriptor::possible_length);
            lengths.entry(country.country_code()).or_default().extend(possible);
        }
        let wanted: String = lengths.iter().map(|(code, lengths)| format!("    ({code}, &{lengths:?}),\n")).collect();
        let wanted = wanted.replace('{', "[").replace('}', "]");
        let table: String =
            POSSIBLE_LENGTHS.iter().map(|(code, lengths)| format!("    ({code}, &{lengths:?}),\n")).collect();
        assert_eq!(
            table, wanted,
            "the metadata of the library changed: replace the table in calling_codes.rs by\n{wanted}"
        );
    }

    #[test]
    fn reads_numbers_in_the_usual_notations() {
        let table = [
            ("+14155550132", "US", Some("+14155550132")),
            // From a column that was read as decimal numbers.
            ("493023125012.0", "DE", None),
            ("+493023125012.0", "DE", None),
            ("030.231.25012", "DE", Some("+493023125012")),
            ("+1 (415) 555-0132", "FR", Some("+14155550132")),
            ("0014155550132", "FR", Some("+14155550132")),
            ("(415) 555-0132", "US", Some("+14155550132")),
            // Ofcom's range for drama, which the metadata doesn't have.
            ("+447700900123", "GB", Some("+447700900123")),
            ("+44 (0)20 7946 0958", "US", Some("+442079460958")),
            ("+4402079460958", "GB", Some("+442079460958")),
            // Italian landlines keep their 0 in every country.
            ("+390669812345", "FR", Some("+390669812345")),
            ("+39 06 6981 2345", "FR", Some("+390669812345")),
            ("06 6981 2345", "IT", Some("+390669812345")),
            // One digit too few, one too many, an unknown calling code.
            ("+1415555013", "US", None),
            ("+141555501321", "US", None),
            ("+999123456789", "US", None),
            ("+0123456789", "US", None),
            ("020 7946 0958", "US", None),
            ("+1415555O132", "US", None),
            ("+1-800-FLOWERS", "US", None),
            ("tel:+1-415-555-0132", "US", Some("+14155550132")),
            ("+", "US", None),
            ("00", "US", None),
        ];
        for (given, country, expected) in table {
            assert_eq!(phone_number(given, Some(country)).ok().as_deref(), expected, "{given} in {country}");
        }
    }

    #[test]
    fn the_parser_does_not_change_a_number_in_e164() {
        for country in DATABASE.iter() {
            let types = [country.descriptors().mobile(), country.descriptors().fixed_line()];
            for example in types.into_iter().flatten().filter_map(Descriptor::example) {
                let plain = format!("+{}{example}", country.country_code());
                if is_plain_e164(&plain) {
                    let parsed = parse(None, &plain).map(|number| e164(&number));
                    assert_eq!(parsed.as_deref(), Some(plain.as_str()), "{}", country.id());
                }
            }
        }
    }
}
