//! Where a person lives and is reached: country, postal code and email.

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization;

use crate::domain::validate::Refusal;
use crate::domain::{Field, Warning};

/// ISO 3166-1 alpha-2, upper case.
pub(super) fn country_code(text: &str) -> Result<String, Refusal> {
    let upper = text.to_uppercase();
    if rust_iso3166::from_alpha2(&upper).is_some() {
        return Ok(upper);
    }
    let advice = match upper.as_str() {
        "UK" => Some("GB"),
        "EL" => Some("GR"),
        _ => rust_iso3166::from_alpha3(&upper)
            .or_else(|| rust_iso3166::ALL.iter().find(|country| country.name.eq_ignore_ascii_case(text)).copied())
            .map(|country| country.alpha2),
    };
    Err((
        "INVALID_COUNTRY_CODE",
        match advice {
            Some(code) => format!("write {code}: the API takes the two-letter code of ISO 3166-1"),
            None => "write the two-letter code of ISO 3166-1, such as US, KE or NG".to_owned(),
        },
    ))
}

/// How many digits the postal codes of a country have, where all have as many and some begin with 0 (Universal Postal Union,
/// addressing systems by country).
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

/// A spreadsheet takes a code of digits for a number and drops the zeros it begins with.
pub(super) fn shortened_postal_code(code: &str, country: &str) -> Option<Warning> {
    let is_number = code.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && code.len() < postal_code_digits(country)?).then_some(Warning {
        field: Field::PostalCode,
        code: "SHORTENED_POSTAL_CODE",
        message: "has fewer digits than the postal codes of its country: did a spreadsheet drop the zeros it begins with? \
                  Write it with them",
    })
}

/// One address, lower case: Plu holds emails unique, and two that differ in case are one mailbox nearly
/// everywhere. Keeping the case would let one person be created twice.
pub(super) fn email(text: &str) -> Result<String, Refusal> {
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

/// Labels of letters, digits and hyphens (RFC 5321). The grammar of addresses (RFC 5322) allows more in a domain,
/// which no mail server can be found by. Letters beyond ASCII stand for an internationalised name.
fn is_mail_domain(domain: &str) -> bool {
    let is_fit = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '-';
    domain.split('.').all(|label| !label.is_empty() && label.chars().all(is_fit))
}
