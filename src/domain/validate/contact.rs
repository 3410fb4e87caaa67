//! Contact data of a person: country, postal code and email.

use std::borrow::Cow;

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization;

use crate::domain::country::{self, PostalFit};
use crate::domain::validate::{FieldRefusal, damage};
use crate::domain::{Field, Warning};

/// ISO 3166-1 alpha-2 in upper case, and whether it was converted from a country in words.
pub(super) fn country_code(text: &str) -> Result<(String, bool), FieldRefusal> {
    if text.len() == 2 {
        let upper = text.to_ascii_uppercase();
        if rust_iso3166::from_alpha2(&upper).is_some() {
            return Ok((upper, false));
        }
    }
    country::code_of_words(text).map(|code| (code.to_owned(), true)).ok_or_else(|| {
        (
            "INVALID_COUNTRY_CODE",
            "is not a country, or may be two: write the two-letter code of ISO 3166-1, for example US, KE or NG"
                .to_owned(),
        )
    })
}

pub(super) const fn converted_country() -> Warning {
    Warning::converted(
        Field::CountryCode,
        "COUNTRY_IN_WORDS",
        "is a country in words or another code: the two-letter code of ISO 3166-1 is sent",
    )
}

/// Removes an added `.0` and compares a postal code with those of its country.
pub(super) fn postal_code<'v>(code: Cow<'v, str>, country: Option<&str>) -> (Cow<'v, str>, Option<Warning>) {
    let field = Field::PostalCode;
    let Some(country) = country else { return (code, None) };
    let fit = country::postal_fit(&code, country);
    if fit != PostalFit::Fits
        && let Some(whole) = damage::without_added_decimal(&code)
        && country::postal_fit(&whole, country) == PostalFit::Fits
    {
        let report = Warning::converted(field, "ADDED_DECIMAL_REMOVED", "ended with .0, which programs add to numbers");
        return (whole, Some(report));
    }
    let warning = match fit {
        PostalFit::Fits => {
            damage::postal_code_doubt(&code).map(|(code, message)| Warning::doubtful(field, code, message))
        }
        PostalFit::Shortened => Some(Warning::doubtful(
            field,
            "SHORTENED_POSTAL_CODE",
            "has fewer digits than the postal codes of its country, perhaps because a spreadsheet dropped leading \
             zeros: write it with them",
        )),
        PostalFit::Differs => Some(Warning::doubtful(
            field,
            "UNLIKELY_POSTAL_CODE",
            "is not like the postal codes of its country, worth a look: are the cells of this row shifted?",
        )),
    };
    (code, warning)
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
