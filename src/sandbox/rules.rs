//! The field rules of the create body, from the vendor's table.
//!
//! They are separate from the worker's validation on purpose: two implementations of one specification check each
//! other. All problems of a body are reported together, each with its field.

use std::net::IpAddr;

use serde_json::{Map, Value};
use url::Url;

use crate::sandbox::new_user::{NewUser, SandboxProgram};
use crate::sandbox::refusal::SandboxRefusal;

/// The values that a field may have.
enum FieldKind {
    /// Text of 1 to this many characters.
    Text { chars_max: usize },
    /// Text that passes a check. The second value follows "must be" in the error.
    Checked(fn(&str) -> bool, &'static str),
    /// The JSON value `true`, not the text "true".
    True,
}

struct FieldRule {
    field: &'static str,
    required: bool,
    kind: FieldKind,
}

const fn required(field: &'static str, kind: FieldKind) -> FieldRule {
    FieldRule { field, required: true, kind }
}

const fn optional(field: &'static str, kind: FieldKind) -> FieldRule {
    FieldRule { field, required: false, kind }
}

/// Every field. An unknown program is a business rule (400), so any text is valid here.
static RULES: [FieldRule; 15] = [
    required("firstName", FieldKind::Text { chars_max: 100 }),
    required("lastName", FieldKind::Text { chars_max: 100 }),
    required("email", FieldKind::Checked(is_email, "an email address")),
    required("phoneNumber", FieldKind::Checked(is_phone, "an international phone number such as +14155555555")),
    required("accountPurpose", FieldKind::Text { chars_max: 200 }),
    required("ipAddress", FieldKind::Checked(is_ip, "an IP address")),
    required("isTermsOfServiceAccepted", FieldKind::True),
    required("program", FieldKind::Checked(|_| true, "a string")),
    optional("walletAddress", FieldKind::Checked(is_wallet, "an Ethereum address")),
    optional("redirectUrl", FieldKind::Checked(is_https_url, "an HTTPS URL")),
    required("address", FieldKind::Text { chars_max: 500 }),
    required("city", FieldKind::Text { chars_max: 100 }),
    required("region", FieldKind::Text { chars_max: 100 }),
    required("postalCode", FieldKind::Text { chars_max: 20 }),
    required("countryCode", FieldKind::Checked(is_country, "a country code of ISO 3166-1 alpha-2 such as US")),
];

/// The fields of a create body that follows the field rules.
pub(super) struct CreateBody(Map<String, Value>);

impl CreateBody {
    /// Reads a body and checks the field rules (422).
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SandboxRefusal> {
        let Value::Object(fields) = serde_json::from_slice(bytes).map_err(|_| SandboxRefusal::NotJson)? else {
            return Err(SandboxRefusal::Invalid("the body must be an object".to_owned()));
        };
        let problems = problems(&fields);
        if problems.is_empty() { Ok(Self(fields)) } else { Err(SandboxRefusal::Invalid(problems.join("; "))) }
    }

    /// Checks the business rules that depend on the body alone.
    pub(super) fn new_user(&self) -> Result<NewUser<'_>, SandboxRefusal> {
        let program = match self.text("program") {
            "custodial" => SandboxProgram::Custodial,
            "non_custodial" => SandboxProgram::NonCustodial,
            _ => return Err(SandboxRefusal::InvalidProgram),
        };
        let last_name = self.text("lastName");
        // An addition of this sandbox: the vendor documents no keyword for this refusal.
        if last_name.ends_with("Blacklisted") {
            return Err(SandboxRefusal::Blacklisted);
        }
        Ok(NewUser { email: self.email(), first_name: self.text("firstName"), last_name, program })
    }

    pub(super) fn email(&self) -> &str {
        self.text("email")
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

impl FieldRule {
    fn problem(&self, value: Option<&Value>) -> Option<String> {
        let field = self.field;
        let Some(value) = value else {
            return self.required.then(|| format!("{field} is required"));
        };
        match (&self.kind, value) {
            (FieldKind::True, Value::Bool(true)) => None,
            (FieldKind::True, _) => Some(format!("{field} must be true")),
            (FieldKind::Text { chars_max }, Value::String(text)) => {
                // The first comparison avoids counting: a text has at most as many characters as bytes.
                let fits = !text.is_empty() && (text.len() <= *chars_max || text.chars().count() <= *chars_max);
                (!fits).then(|| format!("{field} must be 1-{chars_max} characters"))
            }
            (FieldKind::Checked(holds, must_be), Value::String(text)) => {
                (!holds(text)).then(|| format!("{field} must be {must_be}"))
            }
            (FieldKind::Text { .. } | FieldKind::Checked(..), _) => Some(format!("{field} must be a string")),
        }
    }
}

/// Assumed: one `@`, a local part of 1 to 64 bytes, a host name with a dot, no white space, at most 254 bytes.
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

/// `^\+[1-9]\d{6,14}$`: E.164, with the shortest numbers that are in use.
fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// `^0x[0-9a-fA-F]{40}$`; the checksum in the case of the letters isn't verified.
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
