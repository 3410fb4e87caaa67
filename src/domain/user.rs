//! The user: as given ([`RawUser`]) and as sent ([`User`]).

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::Field;

/// The value of one field before validation.
#[derive(Clone, Default, PartialEq)]
pub enum RawValue<'a> {
    /// Not given, or JSON `null`.
    #[default]
    Absent,
    /// Text, not yet trimmed.
    Text(Cow<'a, str>),
    /// JSON `true` or `false`.
    Bool(bool),
    /// A JSON value that no field accepts: its type, for the error message.
    Unfit(&'static str),
}

/// A user as given by a job or a row: any field may be missing or wrong.
#[derive(Clone, Default)]
pub struct RawUser<'a> {
    values: [RawValue<'a>; Field::COUNT],
    /// Members of `user` that are no fields of the API. Each is a problem.
    pub unknown: Vec<String>,
}

impl<'a> RawUser<'a> {
    /// Sets the value of a field, in place of an earlier one.
    pub fn set(&mut self, field: Field, value: RawValue<'a>) {
        self.values[field as usize] = value;
    }

    /// Returns the value of a field.
    pub fn get(&self, field: Field) -> &RawValue<'a> {
        &self.values[field as usize]
    }
}

/// Reads the `user` object of a job message. Members that are no API field are collected in [`RawUser::unknown`];
/// values of the wrong type become [`RawValue::Unfit`]. Text without escapes is borrowed.
impl<'de> Deserialize<'de> for RawUser<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UserVisitor)
    }
}

struct UserVisitor;

impl<'de> Visitor<'de> for UserVisitor {
    type Value = RawUser<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the API's fields")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<RawUser<'de>, M::Error> {
        let mut user = RawUser::default();
        while let Some(MemberName(name)) = members.next_key()? {
            let value = members.next_value()?;
            match Field::from_name(&name) {
                // Which of the two values is meant is unknown.
                Some(field) if *user.get(field) != RawValue::Absent => user.set(field, RawValue::Unfit("given twice")),
                Some(field) => user.set(field, value),
                None if user.unknown.iter().any(|known| *known == name) => {}
                None => user.unknown.push(name.into_owned()),
            }
        }
        Ok(user)
    }
}

#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for RawValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = RawValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Absent)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Bool(truth))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Unfit("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Unfit("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawValue<'de>, E> {
        Ok(RawValue::Unfit("a number"))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<RawValue<'de>, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawValue::Unfit("an array"))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<RawValue<'de>, M::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(RawValue::Unfit("an object"))
    }
}

/// Which card program the user joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Plu holds the wallet.
    Custodial,
    /// The user brings a wallet: `walletAddress` is required.
    NonCustodial,
}

/// A validated and normalised user: the request body, field for field.
///
/// **Invariant:** only [`crate::domain::validate()`] creates one, so every `User` may be sent. The fields are in the
/// order of the canonical form. Text that was in its normal form is borrowed. Its `Debug` prints no value.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(
    test,
    schemars(deny_unknown_fields, title = "User", description = "The person, with the fields of the API.")
)]
pub struct User<'a> {
    /// What the card is for.
    #[cfg_attr(test, schemars(length(min = 1, max = 200)))]
    pub(super) account_purpose: Cow<'a, str>,
    /// Street address.
    #[cfg_attr(test, schemars(length(min = 1, max = 500)))]
    pub(super) address: Cow<'a, str>,
    #[cfg_attr(test, schemars(length(min = 1, max = 100)))]
    pub(super) city: Cow<'a, str>,
    /// ISO 3166-1 alpha-2, for example `US`.
    #[cfg_attr(test, schemars(length(equal = 2)))]
    pub(super) country_code: String,
    /// Unique across the partner account.
    #[cfg_attr(test, schemars(email))]
    pub(super) email: String,
    /// Given name.
    #[cfg_attr(test, schemars(length(min = 1, max = 100)))]
    pub(super) first_name: Cow<'a, str>,
    /// IPv4 or IPv6 address of the person at registration.
    pub(super) ip_address: String,
    /// Must be `true`.
    #[cfg_attr(test, schemars(extend("const" = true)))]
    pub(super) is_terms_of_service_accepted: bool,
    /// Family name.
    #[cfg_attr(test, schemars(length(min = 1, max = 100)))]
    pub(super) last_name: Cow<'a, str>,
    /// E.164, for example `+14155550132`.
    pub(super) phone_number: String,
    #[cfg_attr(test, schemars(length(min = 1, max = 20)))]
    pub(super) postal_code: Cow<'a, str>,
    /// The card program.
    pub(super) program: Program,
    /// The page that the person is sent to after the verification; HTTPS.
    #[cfg_attr(test, schemars(url))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redirect_url: Option<String>,
    /// State or region.
    #[cfg_attr(test, schemars(length(min = 1, max = 100)))]
    pub(super) region: Cow<'a, str>,
    /// Ethereum address; required where `program` is `non_custodial`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wallet_address: Option<String>,
}

impl User<'_> {
    /// The normalised email: trimmed, NFC, lower case.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// Returns the canonical form: JSON with sorted keys and without white space, exactly the body that is sent. The
    /// idempotency key is derived from these bytes.
    pub fn canonical_json(&self) -> String {
        // Most users fit, so that the buffer doesn't grow from 128 bytes.
        let mut json = Vec::with_capacity(512);
        let written = serde_json::to_writer(&mut json, self).map(|()| String::from_utf8(json));
        written.ok().and_then(Result::ok).unwrap_or_else(|| unreachable!("a user has only strings and a bool"))
    }
}

impl fmt::Debug for User<'_> {
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
