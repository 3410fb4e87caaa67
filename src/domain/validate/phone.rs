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
use crate::domain::{Field, Warning};

/// Most compiled patterns in the cache, enough for about forty countries. With the library's default of 100, a file
/// with ten countries compiles them again and again (measured: 300 numbers a second).
const PATTERNS_MAX: usize = 512;

/// The library's metadata, with a larger pattern cache. Reading it takes 60 ms and 6 MB, so it is read at the first
/// number that needs it.
static METADATA: LazyLock<&Database> = LazyLock::new(|| {
    *DATABASE.cache().lock().unwrap_or_else(PoisonError::into_inner) = RegexCache::new(PATTERNS_MAX);
    &DATABASE
});

/// How a number of bare digits is read: the answer to the question about a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum PhoneReading {
    /// As a national number of the row's country.
    National,
    /// As an international number that lost its `+`.
    International,
}

/// Converts a number to E.164. One that starts with `+` (or `00`) has its country code; any other is read as a national
/// number of `countryCode`.
///
/// A national number must be valid by the metadata, because its country is a guess. An international one only needs a
/// length that its calling code allows: metadata is behind newly opened ranges, a correct number that is refused here
/// can't be corrected, and the API refuses a wrong one without charge.
///
/// Spreadsheets remove the `+` of a number. Bare digits, without a trunk zero and punctuation, that are possible
/// numbers with a `+` and valid ones without it are refused, unless `without_plus` says how they are read.
pub(super) fn phone_number(
    text: &str,
    country_code: Option<&str>,
    without_plus: Option<PhoneReading>,
) -> Result<String, FieldRefusal> {
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
    let prefixed = text.strip_prefix("00").map(|rest| format!("+{rest}"));
    let text = prefixed.as_deref().unwrap_or(text);
    if text.starts_with(['+', '\u{FF0B}']) {
        return international(text).map(|(number, _)| number).ok_or_else(|| {
            refusal("is not a phone number: write it with + and the calling code, for example +14155555555")
        });
    }
    let Some(code) = country_code else {
        return refuse("has no country: write it with + and the country's calling code, for example +14155555555");
    };
    if is_bare(text) { bare_digits(text, code, without_plus) } else { national(text, code).ok_or_else(|| not_of(code)) }
}

/// Reads digits that may have lost a `+`.
fn bare_digits(digits: &str, country: &str, without_plus: Option<PhoneReading>) -> Result<String, FieldRefusal> {
    let with_plus = || {
        let number = format!("+{digits}");
        // A number that lost its + has no trunk zero after the calling code.
        international(&number)
            .filter(|(e164, _)| e164.strip_prefix('+').is_some_and(|rest| is_same_digits(rest, digits)))
    };
    match without_plus {
        Some(PhoneReading::National) => national(digits, country).ok_or_else(|| not_of(country)),
        Some(PhoneReading::International) => with_plus().map(|(number, _)| number).ok_or_else(|| {
            refusal(
                "is not an international number without its +, as which its column is read: write it with + and \
                     the calling code, for example +14155555555",
            )
        }),
        None => match (national(digits, country), with_plus()) {
            (Some(national), Some((number, code))) if national != number => Err((
                "AMBIGUOUS_PHONE_NUMBER",
                format!(
                    "is a number of {country} if it is national, and a number with the calling code +{code} if a \
                     spreadsheet removed its +: write it with + and the calling code, or say how all such numbers are \
                     meant with --phone-without-plus national or --phone-without-plus international"
                ),
            )),
            (Some(number), _) => Ok(number),
            (None, Some((_, code))) => Err((
                "INVALID_PHONE_NUMBER",
                format!(
                    "is not a phone number of {country}, but one with the calling code +{code} if a spreadsheet \
                     removed its +: write it with + and the calling code, or say that all such numbers lost their + \
                     with --phone-without-plus international"
                ),
            )),
            (None, None) => Err(not_of(country)),
        },
    }
}

/// Returns whether it is digits without a trunk zero and punctuation. Digits of other scripts count too.
fn is_bare(text: &str) -> bool {
    text.chars().all(char::is_numeric) && !text.starts_with('0')
}

/// The parser converts digits of other scripts, so these can't be compared.
fn is_same_digits(e164: &str, given: &str) -> bool {
    e164 == given || (!given.is_ascii() && e164.len() == given.chars().count())
}

/// Returns what a person should know of a number that was read: that it lost its `+`, or may have.
pub(super) fn warning(text: &str, e164: &str, without_plus: Option<PhoneReading>) -> Option<Warning> {
    let field = Field::PhoneNumber;
    if text.starts_with('+') {
        return None;
    }
    if without_plus == Some(PhoneReading::International) && is_bare(text) {
        let message = "has no +: it is read as an international number, as --phone-without-plus says";
        return Some(Warning::converted(field, "PLUS_ADDED", message));
    }
    may_lack_plus(text, e164).then_some(Warning::doubtful(
        field,
        "PLUS_MAY_BE_MISSING",
        "is read as a national number, and begins with another country's calling code: write it with + if it is one",
    ))
}

/// Warns of a number whose first group is another country's calling code: `44 7911 123456` in Germany. With ten digits
/// or fewer it is hardly an international number.
fn may_lack_plus(text: &str, e164: &str) -> bool {
    const DIGITS_MIN: usize = 11;
    if text.starts_with(['+', '0', '(']) || text.bytes().filter(u8::is_ascii_digit).count() < DIGITS_MIN {
        return false;
    }
    let Some((group, _)) = text.split_once([' ', '-', '.', '/']) else { return false };
    if !matches!(group.len(), 1..=3) || e164.strip_prefix('+').is_some_and(|digits| digits.starts_with(group)) {
        return false;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    international(&format!("+{digits}")).is_some_and(|(_, code)| code.to_string() == group)
}

/// Returns the E.164 form of a number that starts with `+`, and its calling code.
fn international(text: &str) -> Option<(String, u16)> {
    if let Some(code) = plain_e164_code(text) {
        return Some((text.to_owned(), code));
    }
    let number = parse(None, text).filter(has_possible_length)?;
    Some((checked_e164(&number)?, number.country().code()))
}

/// Returns the E.164 form of a national number of a country.
fn national(text: &str, country: &str) -> Option<String> {
    let country = country.parse().ok()?;
    parse(Some(country), text).filter(PhoneNumber::is_valid).as_ref().and_then(checked_e164)
}

fn not_of(country: &str) -> FieldRefusal {
    refusal(&format!(
        "is not a phone number of {country}: write it with + and the calling code, for example +14155555555"
    ))
}

fn refusal(message: &str) -> FieldRefusal {
    ("INVALID_PHONE_NUMBER", message.to_owned())
}

fn refuse<T>(message: &str) -> Result<T, FieldRefusal> {
    Err(refusal(message))
}

fn parse(country: Option<country::Id>, text: &str) -> Option<PhoneNumber> {
    phonenumber::parse_with(&METADATA, country, text).ok().filter(|number| number.extension().is_none())
}

fn e164(number: &PhoneNumber) -> String {
    number.format().mode(Mode::E164).to_string()
}

/// Most digits of a number in E.164, with the calling code. Several countries have longer numbers, which can't be
/// called from abroad.
const DIGITS_MAX: usize = 15;

/// Returns the E.164 form of a parsed number, if it has one: the parser also returns longer numbers.
fn checked_e164(number: &PhoneNumber) -> Option<String> {
    let text = e164(number);
    let digits = text.strip_prefix('+')?;
    let is_e164 = !digits.starts_with('0') && digits.len() <= DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit());
    is_e164.then_some(text)
}

/// Returns the calling code if the text is `+`, a calling code and a national number of a possible length. A national
/// number with a leading 0 is left to the parser, because the 0 is a trunk prefix in most countries and part of the
/// number in others.
fn plain_e164_code(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('+').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    if digits.len() > DIGITS_MAX {
        return None;
    }
    // No calling code is a prefix of another.
    (1..=3).filter_map(|length| digits.split_at_checked(length)).find_map(|(code, national)| {
        let code = code.parse().ok().filter(|_| !code.starts_with('0') && !national.starts_with('0'))?;
        is_possible_length(code, national.len()).then_some(code)
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
            ("+04155550132", "US", None),
            ("+62123456789012345", "ID", None),
            ("+62 123 456 789 012 345", "ID", None),
            ("020 7946 0958", "US", None),
            ("+1415555O132", "US", None),
            ("+1-800-FLOWERS", "US", None),
            ("tel:+1-415-555-0132", "US", Some("+14155550132")),
            ("+", "US", None),
            ("00", "US", None),
        ];
        for (given, country, expected) in table {
            assert_eq!(phone_number(given, Some(country), None).ok().as_deref(), expected, "{given} in {country}");
        }
    }

    #[test]
    fn the_parser_does_not_change_a_number_in_e164() {
        for country in DATABASE.iter() {
            let types = [country.descriptors().mobile(), country.descriptors().fixed_line()];
            for example in types.into_iter().flatten().filter_map(Descriptor::example) {
                let plain = format!("+{}{example}", country.country_code());
                if plain_e164_code(&plain).is_some() {
                    let parsed = parse(None, &plain).map(|number| e164(&number));
                    assert_eq!(parsed.as_deref(), Some(plain.as_str()), "{}", country.id());
                }
            }
        }
    }

    #[test]
    fn bare_digits_with_two_readings_are_refused_until_the_column_is_known() {
        use PhoneReading::{International, National};
        for (given, country, national, international) in [
            ("447911123456", "DE", Some("+49447911123456"), Some("+447911123456")),
            ("33612345678", "DE", Some("+4933612345678"), Some("+33612345678")),
            ("2025550123", "US", Some("+12025550123"), Some("+2025550123")),
        ] {
            let read = |reading| phone_number(given, Some(country), reading);
            let (code, message) = read(None).unwrap_err();
            assert_eq!(code, "AMBIGUOUS_PHONE_NUMBER", "{given} in {country}");
            assert!(message.contains(country) && message.contains("calling code +"), "{message}");
            assert_eq!(read(Some(National)).ok().as_deref(), national, "{given} in {country}");
            assert_eq!(read(Some(International)).ok().as_deref(), international, "{given} in {country}");
        }
    }

    #[test]
    fn bare_digits_with_one_reading_are_read_like_that() {
        use PhoneReading::{International, National};
        // Another reading isn't possible, or is the same number.
        for (given, country, expected) in [
            ("4155550132", "US", "+14155550132"),
            ("14155550132", "US", "+14155550132"),
            ("89161234567", "RU", "+79161234567"),
        ] {
            for reading in [None, Some(National)] {
                assert_eq!(phone_number(given, Some(country), reading).ok().as_deref(), Some(expected), "{given}");
            }
        }
        // Only a number with the + removed.
        let (code, message) = phone_number("447911123456", Some("US"), None).unwrap_err();
        assert!(code == "INVALID_PHONE_NUMBER" && message.contains("+44"), "{message}");
        let read = phone_number("447911123456", Some("US"), Some(International));
        assert_eq!(read.ok().as_deref(), Some("+447911123456"));
        assert!(phone_number("4155550132", Some("US"), Some(International)).is_err());
    }

    #[test]
    fn a_trunk_zero_or_punctuation_shows_that_a_number_is_national() {
        for (given, country, expected) in [
            ("(775) 555-0154", "US", "+17755550154"),
            ("202-555-0123", "US", "+12025550123"),
            ("0170 1234567", "DE", "+491701234567"),
            ("01701234567", "DE", "+491701234567"),
        ] {
            assert_eq!(phone_number(given, Some(country), None).ok().as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn a_first_group_that_is_another_calling_code_is_noticed() {
        for (given, e164, expected) in [
            ("44 7911 123456", "+49447911123456", true),
            ("1-415-555-0132", "+4914155550132", true),
            ("1-415-555-0132", "+14155550132", false),
            ("0044 7911 123456", "+447911123456", false),
            ("202-555-0123", "+12025550123", false),
            ("030 23125 012", "+493023125012", false),
        ] {
            assert_eq!(may_lack_plus(given, e164), expected, "{given}");
        }
    }

    #[test]
    fn every_possible_number_of_every_country_is_e164_or_refused() {
        for country in DATABASE.iter() {
            let types = [country.descriptors().mobile(), country.descriptors().fixed_line()];
            for example in types.into_iter().flatten().filter_map(Descriptor::example) {
                for given in [example.to_owned(), format!("{}{example}", country.country_code()), format!("0{example}")]
                {
                    for reading in [None, Some(PhoneReading::National), Some(PhoneReading::International)] {
                        let Ok(number) = phone_number(&given, Some(country.id()), reading) else { continue };
                        let digits = number.strip_prefix('+').unwrap();
                        assert!(
                            digits.len() <= 15 && !digits.starts_with('0'),
                            "{given} in {}: {number}",
                            country.id()
                        );
                    }
                }
            }
        }
    }
}
