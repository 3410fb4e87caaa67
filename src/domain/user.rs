//! The user: as it came in ([`RawUser`]) and as it is sent ([`User`]).

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Field;

/// The value of one field before validation.
#[derive(Clone, Default, PartialEq)]
pub enum RawValue<'a> {
    /// Not given, or JSON `null`.
    #[default]
    Absent,
    /// Text, not yet trimmed.
    Text(Cow<'a, str>),
    /// A truth value.
    Bool(bool),
    /// A JSON value that no field takes: its kind, for the error message.
    Unfit(&'static str),
}

/// A user as a job or a row gives it: any field may be missing or wrong.
#[derive(Clone, Default)]
pub struct RawUser<'a> {
    values: [RawValue<'a>; Field::COUNT],
    /// Names inside `user` that the API does not know. Each is a problem of its own.
    pub unknown: Vec<String>,
}

impl<'a> RawUser<'a> {
    /// Sets one field.
    pub fn set(&mut self, field: Field, value: RawValue<'a>) {
        self.values[field as usize] = value;
    }

    /// One field.
    pub fn get(&self, field: Field) -> &RawValue<'a> {
        &self.values[field as usize]
    }

    /// Reads the `user` object of a job message. Names that are no API field are collected in
    /// [`RawUser::unknown`]; values of the wrong kind become [`RawValue::Unfit`].
    pub fn from_json(object: &'a Map<String, Value>) -> Self {
        let mut user = Self::default();
        for (name, value) in object {
            match Field::from_name(name) {
                Some(field) => user.set(field, RawValue::from_json(value)),
                None => user.unknown.push(name.clone()),
            }
        }
        user
    }
}

impl<'a> RawValue<'a> {
    fn from_json(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Number(_) => Self::Unfit("a number"),
            Value::Array(_) => Self::Unfit("an array"),
            Value::Object(_) => Self::Unfit("an object"),
        }
    }
}

/// Which card program the user joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Plu holds the wallet.
    Custodial,
    /// The user brings a wallet: `walletAddress` is required.
    NonCustodial,
}

/// A validated and normalised user: the request body, field for field.
///
/// **Invariant:** made only by [`super::validate()`], so that whoever holds one may send it. The fields stand
/// in the order of the canonical form. Its `Debug` prints no value.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub(super) account_purpose: String,
    pub(super) address: String,
    pub(super) city: String,
    pub(super) country_code: String,
    pub(super) email: String,
    pub(super) first_name: String,
    pub(super) ip_address: String,
    pub(super) is_terms_of_service_accepted: bool,
    pub(super) last_name: String,
    pub(super) phone_number: String,
    pub(super) postal_code: String,
    pub(super) program: Program,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redirect_url: Option<String>,
    pub(super) region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wallet_address: Option<String>,
}

impl User {
    /// The normalised email: trimmed, NFC, lower case.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// The canonical form: JSON with sorted keys and no white space, exactly the body that is sent.
    /// The idempotency key is derived from these bytes.
    pub fn canonical_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("strings and a bool always serialise"))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User([redacted])")
    }
}

impl fmt::Debug for RawUser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawUser([redacted])")
    }
}

impl fmt::Debug for RawValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Text(_) => "Text([redacted])",
            Self::Bool(_) => "Bool([redacted])",
            Self::Unfit(kind) => kind,
        })
    }
}
