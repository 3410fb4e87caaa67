//! The field rules of the create body, from the vendor's table.
//!
//! Written apart from the worker's own validation on purpose: two readings of one specification
//! check each other. All problems of a body are reported together, each naming its field.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::sandbox::refusal::Refusal;

/// The card program of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The partner holds the funds.
    Custodial,
    /// The user's own wallet holds the funds; its address is required.
    NonCustodial,
}

/// What the partner keeps of a body that follows the rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewUser<'a> {
    pub(super) email: &'a str,
    pub(super) first_name: &'a str,
    pub(super) last_name: &'a str,
    pub(super) program: Program,
}

/// What a field's value must be.
enum Kind {
    /// Text of 1 to this many characters.
    Text { chars_max: usize },
    /// Text that passes a check; the words complete "must be".
    Checked(fn(&str) -> bool, &'static str),
    /// The JSON value `true`, not the text.
    True,
}

struct Rule {
    field: &'static str,
    required: bool,
    kind: Kind,
}

const fn required(field: &'static str, kind: Kind) -> Rule {
    Rule { field, required: true, kind }
}

const fn optional(field: &'static str, kind: Kind) -> Rule {
    Rule { field, required: false, kind }
}

/// Every field there is. Which programs exist is a business rule (400), so here any text will do.
static RULES: [Rule; 15] = [
    required("firstName", Kind::Text { chars_max: 100 }),
    required("lastName", Kind::Text { chars_max: 100 }),
    required("email", Kind::Checked(is_email, "an email address")),
    required("phoneNumber", Kind::Checked(is_phone, "an international phone number such as +14155555555")),
    required("accountPurpose", Kind::Text { chars_max: 200 }),
    required("ipAddress", Kind::Checked(is_ip, "an IP address")),
    required("isTermsOfServiceAccepted", Kind::True),
    required("program", Kind::Checked(|_| true, "a string")),
    optional("walletAddress", Kind::Checked(is_wallet, "an Ethereum address")),
    optional("redirectUrl", Kind::Checked(is_https_url, "an HTTPS URL")),
    required("address", Kind::Text { chars_max: 500 }),
    required("city", Kind::Text { chars_max: 100 }),
    required("region", Kind::Text { chars_max: 100 }),
    required("postalCode", Kind::Text { chars_max: 20 }),
    required("countryCode", Kind::Checked(is_country, "a country code of ISO 3166-1 alpha-2 such as US")),
];

/// The fields of a create body, once it is known to be a JSON object.
pub(super) struct Body(Map<String, Value>);

impl Body {
    /// Reads a body and checks every rule that a 422 stands for.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let Value::Object(fields) = serde_json::from_slice(bytes).map_err(|_| Refusal::NotJson)? else {
            return Err(Refusal::Invalid("the body must be an object".to_owned()));
        };
        let problems = problems(&fields);
        if problems.is_empty() { Ok(Self(fields)) } else { Err(Refusal::Invalid(problems.join("; "))) }
    }

    /// Checks the business rules that depend on the body alone.
    pub(super) fn new_user(&self) -> Result<NewUser<'_>, Refusal> {
        let program = match self.text("program") {
            "custodial" => Program::Custodial,
            "non_custodial" => Program::NonCustodial,
            _ => return Err(Refusal::InvalidProgram),
        };
        let last_name = self.text("lastName");
        // A convenience of this sandbox; the vendor documents no such keyword.
        if last_name.ends_with("Blacklisted") {
            return Err(Refusal::Blacklisted);
        }
        Ok(NewUser { email: self.text("email"), first_name: self.text("firstName"), last_name, program })
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

fn problems(fields: &Map<String, Value>) -> Vec<String> {
    let mut problems: Vec<String> = RULES.iter().filter_map(|rule| rule.problem(fields.get(rule.field))).collect();
    let non_custodial = fields.get("program").is_some_and(|program| program == "non_custodial");
    if non_custodial && !fields.contains_key("walletAddress") {
        problems.push("walletAddress is required when program is non_custodial".to_owned());
    }
    let unknown = fields.keys().filter(|name| RULES.iter().all(|rule| rule.field != *name));
    problems.extend(unknown.map(|name| format!("{name} is not a known field")));
    problems
}

impl Rule {
    fn problem(&self, value: Option<&Value>) -> Option<String> {
        let field = self.field;
        let Some(value) = value else {
            return self.required.then(|| format!("{field} is required"));
        };
        match (&self.kind, value) {
            (Kind::True, Value::Bool(true)) => None,
            (Kind::True, _) => Some(format!("{field} must be true")),
            (Kind::Text { chars_max }, Value::String(text)) => {
                // The first test spares counting: there are never more characters than bytes.
                let fits = !text.is_empty() && (text.len() <= *chars_max || text.chars().count() <= *chars_max);
                (!fits).then(|| format!("{field} must be 1-{chars_max} characters"))
            }
            (Kind::Checked(holds, must_be), Value::String(text)) => {
                (!holds(text)).then(|| format!("{field} must be {must_be}"))
            }
            (Kind::Text { .. } | Kind::Checked(..), _) => Some(format!("{field} must be a string")),
        }
    }
}

/// Assumed: one `@`, a local part of 1-64 bytes, a dotted host name, no white space, 254 bytes at
/// most.
fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else {
        return false;
    };
    text.len() <= 254
        && (1..=64).contains(&local.len())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && host.contains('.')
        && host.split('.').all(is_host_label)
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_alphanumeric() || c == '-')
}

/// `^\+[1-9]\d{6,14}$`: E.164, with the shortest numbers in use.
fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// `^0x[0-9a-fA-F]{40}$`; the case of the letters isn't read as a checksum.
fn is_wallet(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_https_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.has_host())
}

/// Two upper-case letters that ISO 3166-1 assigns to a country.
fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) && rust_iso3166::from_alpha2(text).is_some()
}
