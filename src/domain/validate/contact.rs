//! Contact data of a person: country, postal code and email.

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization;

use crate::domain::validate::FieldRefusal;
use crate::domain::{Field, Warning};

/// ISO 3166-1 alpha-2 in upper case.
pub(super) fn country_code(text: &str) -> Result<String, FieldRefusal> {
    let upper = text.to_uppercase();
    if rust_iso3166::from_alpha2(&upper).is_some() {
        return Ok(upper);
    }
    Err((
        "INVALID_COUNTRY_CODE",
        match suggested_country(&upper) {
            Some(code) => format!("write {code}: the API takes the two-letter code of ISO 3166-1"),
            None => "write the two-letter code of ISO 3166-1, for example US, KE or NG".to_owned(),
        },
    ))
}

/// Returns the code that is probably meant: for a common wrong code, an alpha-3 code or an English name.
fn suggested_country(upper: &str) -> Option<&'static str> {
    match upper {
        "UK" => return Some("GB"),
        "EL" => return Some("GR"),
        "TURKEY" => return Some("TR"),
        _ => {}
    }
    if let Some(country) = rust_iso3166::from_alpha3(upper) {
        return Some(country.alpha2);
    }
    // For "Iran (Islamic Republic of)" the part before the bracket is enough, if it fits only one country.
    let is_named = |name: &str| name.to_uppercase() == upper;
    let short = |name: &'static str| name.split(" (").next().unwrap_or(name);
    let mut named = rust_iso3166::ALL.iter().filter(|country| is_named(country.name) || is_named(short(country.name)));
    let first = named.next()?;
    named.next().is_none().then_some(first.alpha2)
}

/// Returns the length of a country's postal codes in digits, if all have the same length and some begin with 0. Source:
/// Universal Postal Union, addressing systems by country.
fn postal_code_digits(country: &str) -> Option<usize> {
    match country {
        "AU" | "NO" | "ZA" => Some(4),
        "DE" | "ES" | "FI" | "FR" | "IT" | "KE" | "KR" | "MX" | "MY" | "PR" | "TR" | "UA" | "US" => Some(5),
        "CN" | "SG" => Some(6),
        "JP" => Some(7),
        "BR" => Some(8),
        _ => None,
    }
}

/// Warns of a code that is too short: a spreadsheet reads a code of digits as a number and drops leading zeros.
pub(super) fn shortened_postal_code(code: &str, country: &str) -> Option<Warning> {
    let is_number = code.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && code.len() < postal_code_digits(country)?).then_some(Warning {
        field: Field::PostalCode,
        code: "SHORTENED_POSTAL_CODE",
        message: "has fewer digits than the postal codes of its country, perhaps because a spreadsheet dropped leading \
                  zeros: write it with them",
    })
}

/// One address in lower case. Plu's emails are unique, and addresses that differ only in case are one mailbox at nearly
/// every provider. With the case kept, one person could be created twice.
pub(super) fn email(text: &str) -> Result<String, FieldRefusal> {
    let lower = text.to_lowercase();
    let lower = if lower.is_ascii() { lower } else { lower.nfc().collect() };
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    match EmailAddress::parse_with_options(&lower, options) {
        Ok(address) if lower.chars().count() <= 254 && !lower.contains(' ') && is_mail_domain(address.domain()) => {
            Ok(lower)
        }
        _ => Err((
            "INVALID_EMAIL",
            "is not one email address: write it as name@domain.tld, without spaces, names or several addresses"
                .to_owned(),
        )),
    }
}

/// Returns whether the labels have only letters, digits and hyphens (RFC 5321). The grammar of addresses (RFC 5322)
/// allows more, but no mail server has a domain like that. Letters beyond ASCII are for internationalised names.
fn is_mail_domain(domain: &str) -> bool {
    let is_allowed = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '-';
    domain.split('.').all(|label| !label.is_empty() && label.chars().all(is_allowed))
}
