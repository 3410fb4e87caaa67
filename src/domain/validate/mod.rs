//! The rules of the API's field table, and the normal form of every value.
//!
//! [`validate()`] reports every problem of a user at once. Normalisation is idempotent: a normalised user validates to
//! itself. A change of a normal form would change idempotency keys, so these rules (version 1) never change:
//!
//! | field | normal form | rule |
//! | --- | --- | --- |
//! | text fields | invisible format characters removed, NFC, runs of white space as one space, trimmed; empty if only joiners are left | length in characters, no control character |
//! | `email` | as text, then lower case | one address with a domain of letters, digits and hyphens, at most 254 characters |
//! | `phoneNumber` | E.164; a national number is read with `countryCode` | a possible number; bare digits that have two readings are refused |
//! | `ipAddress` | canonical text; IPv4-mapped IPv6 as IPv4 | IPv4 or IPv6; a warning for an address that no person can have |
//! | `countryCode` | upper case | ISO 3166-1 alpha-2; a country in words is converted and reported |
//! | `postalCode` | as text, without an added `.0` | length; a warning where it isn't like those of its country |
//! | `program` | lower case, `-` and space as `_` | `custodial` or `non_custodial` |
//! | `redirectUrl` | WHATWG serialisation; left out when empty | begins with `https://`, a host without empty labels, no credentials |
//! | `walletAddress` | EIP-55; left out when empty | 0x and 40 hex digits, with a valid checksum if mixed-case |
//! | `isTermsOfServiceAccepted` | `true` | must be true; never defaulted |
//!
//! Damage by spreadsheets is looked for in every field (`damage`).

mod calling_codes;
mod contact;
mod damage;
mod damage_shapes;
mod double_encoding;
mod network;
mod phone;
mod text;
mod wallet;

use std::borrow::Cow;
use std::fmt;

use self::damage::DamageFinding;
pub(crate) use self::damage::reference_problem;
pub(in crate::domain) use self::damage_shapes::is_decimal_of_whole as is_added_decimal;
pub use self::phone::PhoneReading;
use crate::domain::user::Program;
use crate::domain::{Field, Problem, RawUser, RawValue, User, Warning};

/// Answers to questions about whole columns. Without an answer, a value in question is refused.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ReadingOptions {
    /// How phone numbers of bare digits are read.
    pub phone_without_plus: Option<PhoneReading>,
    /// Whether text that was encoded twice as UTF-8 (`MÃ¼ller`) is mended.
    pub mends_double_encoding: bool,
}

impl fmt::Display for ReadingOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phones: &str = self.phone_without_plus.map_or("", Into::into);
        let mended = if self.mends_double_encoding { " mended" } else { "" };
        write!(f, "{phones}{mended}")
    }
}

/// Validates and normalises a user.
///
/// # Errors
/// Every problem of the user, in the order of the canonical form.
pub fn validate<'r>(raw: &'r RawUser<'_>) -> Result<(User<'r>, Vec<Warning>), Vec<Problem>> {
    validate_with(raw, ReadingOptions::default())
}

/// Validates and normalises a user of whose columns something is known.
///
/// # Errors
/// As for [`validate()`].
pub fn validate_with<'r>(
    raw: &'r RawUser<'_>,
    options: ReadingOptions,
) -> Result<(User<'r>, Vec<Warning>), Vec<Problem>> {
    let mut check = Check { raw, options, problems: Vec::new(), warnings: Vec::new() };
    for name in &raw.unknown {
        check.problems.push(unknown_field(name));
    }
    let account_purpose = check.text(Field::AccountPurpose, 200);
    let address = check.text(Field::Address, 500);
    let city = check.text(Field::City, 100);
    let country_code = check.country();
    let email = check.normal(Field::Email, contact::email);
    let first_name = check.text(Field::FirstName, 100);
    let ip_address = check.normal(Field::IpAddress, network::ip_address);
    let terms = check.terms();
    let last_name = check.text(Field::LastName, 100);
    let hint = country_code.as_deref();
    let phone_number = check.phone(hint);
    let postal_code = check.postal_code(hint);
    let program = check.normal(Field::Program, program);
    let redirect_url = check.normal(Field::RedirectUrl, network::redirect_url);
    let region = check.text(Field::Region, 100);
    let wallet_address = check.normal(Field::WalletAddress, wallet::ethereum_address);
    if program == Some(Program::NonCustodial) && check.is_empty(Field::WalletAddress) {
        check.problems.push(Problem::of(
            Field::WalletAddress,
            "REQUIRED",
            "program non_custodial needs the user's Ethereum address (0x and 40 hex digits)",
        ));
    }
    check.warnings.extend(ip_address.as_deref().and_then(network::unlikely_address));
    let Check { mut problems, warnings, .. } = check;
    let user = (|| {
        Some(User {
            account_purpose: account_purpose?,
            address: address?,
            city: city?,
            country_code: country_code?,
            email: email?,
            first_name: first_name?,
            ip_address: ip_address?,
            is_terms_of_service_accepted: terms?,
            last_name: last_name?,
            phone_number: phone_number?,
            postal_code: postal_code?,
            program: program?,
            redirect_url,
            region: region?,
            wallet_address,
        })
    })();
    match user {
        Some(user) if problems.is_empty() => Ok((user, warnings)),
        _ => {
            problems.sort_by_key(|problem| problem.field.as_deref().and_then(Field::from_name));
            Err(problems)
        }
    }
}

/// Code and message of a rule that a value breaks.
type FieldRefusal = (&'static str, String);

struct Check<'r, 'a> {
    raw: &'r RawUser<'a>,
    options: ReadingOptions,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl<'r> Check<'r, '_> {
    /// Returns the cleaned text of a field. `None` where it is empty or of the wrong type; adds a problem where it is
    /// required or of the wrong type.
    fn cleaned(&mut self, field: Field) -> Option<Cow<'r, str>> {
        let raw: &'r RawUser<'_> = self.raw;
        let cleaned = match raw.get(field) {
            RawValue::Absent => Cow::Borrowed(""),
            RawValue::Text(given) => match self.undamaged(field, given) {
                Ok(value) => value,
                Err(refusal) => return self.refuse(field, refusal),
            },
            RawValue::Bool(_) => return self.refuse(field, wrong_type("text", "true or false")),
            RawValue::Unfit(kind) => return self.refuse(field, wrong_type("text", kind)),
        };
        if cleaned.is_empty() {
            if field.is_required() {
                return self.refuse(field, ("REQUIRED", "is empty: every user needs it".to_owned()));
            }
            return None;
        }
        Some(cleaned)
    }

    /// Returns the cleaned text of a value, without damage that can be undone. Warns of other damage.
    fn undamaged(&mut self, field: Field, given: &'r str) -> Result<Cow<'r, str>, FieldRefusal> {
        let mended = double_encoding::mended(given);
        if mended.is_some() && !self.options.mends_double_encoding {
            return Err(double_encoding::refusal());
        }
        let cleaned = match mended {
            None => text::clean(given),
            Some(mended) => {
                self.warnings.push(double_encoding::report(field));
                Cow::Owned(text::clean(&mended).into_owned())
            }
        };
        if cleaned.is_empty() {
            return Ok(cleaned);
        }
        let unwrapped = match damage::inspect(field, given, &cleaned) {
            DamageFinding::Whole => None,
            DamageFinding::Refused(refusal) => return Err(refusal),
            DamageFinding::Doubtful(warning) => {
                self.warnings.push(warning);
                None
            }
            DamageFinding::Unwrapped(inner, report, doubt) => {
                self.warnings.push(report);
                self.warnings.extend(doubt);
                Some(text::clean(inner).into_owned())
            }
        };
        Ok(unwrapped.map_or(cleaned, Cow::Owned))
    }

    fn country(&mut self) -> Option<String> {
        let (code, is_converted) = self.normal(Field::CountryCode, contact::country_code)?;
        if is_converted {
            self.warnings.push(contact::converted_country());
        }
        Some(code)
    }

    fn phone(&mut self, country: Option<&str>) -> Option<String> {
        let reading = self.options.phone_without_plus;
        let (number, warning) = self.normal(Field::PhoneNumber, |text| {
            let number = phone::phone_number(text, country, reading)?;
            let warning = phone::warning(text, &number, reading);
            Ok((number, warning))
        })?;
        self.warnings.extend(warning);
        Some(number)
    }

    fn postal_code(&mut self, country: Option<&str>) -> Option<Cow<'r, str>> {
        let given = self.text(Field::PostalCode, 20)?;
        let (code, warning) = contact::postal_code(given, country);
        self.warnings.extend(warning);
        Some(code)
    }

    fn normal<T>(&mut self, field: Field, rule: impl FnOnce(&str) -> Result<T, FieldRefusal>) -> Option<T> {
        let cleaned = self.cleaned(field)?;
        match text::without_control(&cleaned).and_then(|()| rule(&cleaned)) {
            Ok(value) => Some(value),
            Err(refusal) => self.refuse(field, refusal),
        }
    }

    fn text(&mut self, field: Field, chars_max: usize) -> Option<Cow<'r, str>> {
        let cleaned = self.cleaned(field)?;
        match text::without_control(&cleaned).and_then(|()| text::at_most(&cleaned, chars_max)) {
            Ok(()) => Some(cleaned),
            Err(refusal) => self.refuse(field, refusal),
        }
    }

    fn terms(&mut self) -> Option<bool> {
        let field = Field::IsTermsOfServiceAccepted;
        let refusal = match self.raw.get(field) {
            RawValue::Bool(true) => return Some(true),
            RawValue::Bool(false) => (
                "TERMS_NOT_ACCEPTED",
                "is false: only a person who has accepted the terms of service can be created".to_owned(),
            ),
            RawValue::Text(given) if !text::clean(given).is_empty() => {
                wrong_type("true or false (in a file also yes, no, y, n, 1, 0)", "another text")
            }
            RawValue::Unfit(kind) => wrong_type("true or false", kind),
            RawValue::Absent | RawValue::Text(_) => (
                "REQUIRED",
                "is empty: write true once the person has accepted the terms of service; it is never assumed"
                    .to_owned(),
            ),
        };
        self.refuse(field, refusal)
    }

    fn is_empty(&self, field: Field) -> bool {
        match self.raw.get(field) {
            RawValue::Absent => true,
            RawValue::Text(given) => text::clean(given).is_empty(),
            RawValue::Bool(_) | RawValue::Unfit(_) => false,
        }
    }

    fn refuse<T>(&mut self, field: Field, (code, message): FieldRefusal) -> Option<T> {
        self.problems.push(Problem::of(field, code, message));
        None
    }
}

fn program(text: &str) -> Result<Program, FieldRefusal> {
    match text.to_lowercase().replace(['-', ' '], "_").as_str() {
        "custodial" => Ok(Program::Custodial),
        "non_custodial" => Ok(Program::NonCustodial),
        _ => Err(("INVALID_PROGRAM", "write custodial or non_custodial".to_owned())),
    }
}

fn wrong_type(wanted: &str, got: &str) -> FieldRefusal {
    ("WRONG_TYPE", format!("must be {wanted}, not {got}"))
}

fn unknown_field(name: &str) -> Problem {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    Problem {
        message: format!("the API has no such field; it has {}", Field::ALL.map(Field::name).join(", ")),
        field: Some(shown),
        code: "UNKNOWN_FIELD".to_owned(),
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
