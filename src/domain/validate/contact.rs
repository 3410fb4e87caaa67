//! How and where a person is reached: country, email, phone.

use email_address::{EmailAddress, Options};
use phonenumber::{Mode, PhoneNumber, country};
use unicode_normalization::UnicodeNormalization;

use super::Refusal;

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

/// One address, lower case: Plu holds emails unique, and two that differ in case are one mailbox nearly
/// everywhere. Keeping the case would let one person be created twice.
pub(super) fn email(text: &str) -> Result<String, Refusal> {
    let lower: String = text.to_lowercase().nfc().collect();
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    match EmailAddress::parse_with_options(&lower, options) {
        Ok(_) if lower.chars().count() <= 254 && !lower.contains(' ') => Ok(lower),
        _ => Err((
            "INVALID_EMAIL",
            "is not one email address: write it as name@domain.tld, without spaces, names or several addresses"
                .to_owned(),
        )),
    }
}

/// E.164. A number that starts with `+` (or `00`) says its country itself; any other is read as a national
/// number of `countryCode`.
///
/// A national number must be valid by libphonenumber's metadata, because the country is a guess there. An
/// international one must only be parseable with a length that E.164 allows: metadata lags behind newly opened
/// ranges, and the API refuses a wrong number without charge.
pub(super) fn phone_number(text: &str, country_code: Option<&str>) -> Result<String, Refusal> {
    if looks_scientific(text) {
        return Err((
            "INVALID_PHONE_NUMBER",
            "was turned into scientific notation by a spreadsheet and has lost digits: format the column as text \
             and enter the number again"
                .to_owned(),
        ));
    }
    let international = text.strip_prefix("00").map(|rest| format!("+{rest}"));
    let text = international.as_deref().unwrap_or(text);
    let is_international = text.starts_with('+') || text.starts_with('\u{FF0B}');
    let hint: Option<country::Id> = country_code.and_then(|code| code.parse().ok());
    if !is_international && hint.is_none() {
        return Err((
            "INVALID_PHONE_NUMBER",
            "has no country: write it with + and the country's calling code, such as +14155555555".to_owned(),
        ));
    }
    let parsed = phonenumber::parse(hint, text).ok().filter(|number| number.extension().is_none());
    let parsed = parsed.filter(|number| if is_international { is_dialable(number) } else { number.is_valid() });
    match parsed {
        Some(number) => Ok(number.format().mode(Mode::E164).to_string()),
        None => Err((
            "INVALID_PHONE_NUMBER",
            match country_code {
                Some(code) if !is_international => {
                    format!("is no phone number of {code}: write it with + and the calling code, such as +14155555555")
                }
                _ => "is no phone number: write it with + and the calling code, such as +14155555555".to_owned(),
            },
        )),
    }
}

/// E.164 allows 15 digits; no country has numbers with fewer than 7 in all that can be dialled from abroad.
fn is_dialable(number: &PhoneNumber) -> bool {
    let digits = number.format().mode(Mode::E164).to_string().len() - 1;
    (7..=15).contains(&digits) && (number.is_valid() || number.country().id().is_some() && digits >= 9)
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
