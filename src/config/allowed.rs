//! Allowed values: how text becomes a value, how a value is checked, and how the allowed values are described.

use std::fmt;

use config::ValueKind;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::config::QueueUrl;
use crate::pipeline::rate::hours::{self, ActiveHours};
use crate::sandbox::{FAULT_FORM, FaultPlan};

/// Maximum number of texts in a list.
const TEXTS_MAX: usize = 32;
/// Maximum length of a text in a list, in characters.
const LISTED_CHARS_MAX: usize = 100;
/// Maximum length of any other text, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;
/// An error shows a wrong value up to this many characters.
const SHOWN_CHARS_MAX: usize = 40;

/// The values that a key may have. `Display` describes them, for errors and for the "Allowed:" lines of `default.toml`.
#[derive(Debug)]
pub(super) enum AllowedValues {
    /// A whole number, bounds included.
    Whole { min: i64, max: i64 },
    /// A number, bounds included.
    Decimal { min: f64, max: f64 },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of short texts that `check` reads as a whole. Variables and flags separate them by commas.
    List { form: &'static str, check: fn(&[String]) -> Result<(), String> },
    /// A list of short texts. Variables and flags separate them by commas.
    Texts,
    /// A text with a form of its own. The error of `check` says what is wrong and doesn't quote the text, which may
    /// hold a secret.
    Text { form: &'static str, check: fn(&str) -> Result<(), String> },
}

pub(super) const API_URL: AllowedValues = AllowedValues::Text {
    form: "a base URL such as https://services.getplu.com/api, without user, password, query and fragment",
    check: check_api_url,
};

pub(super) const QUEUE_URL: AllowedValues = AllowedValues::Text {
    form: "local:PATH, or amqp://USER:PASSWORD@HOST/VHOST (amqps:// for TLS)",
    check: |text| text.parse::<QueueUrl>().map(|_| ()).map_err(|error| error.reason().to_owned()),
};

pub(super) const KEY_FILE: AllowedValues = AllowedValues::Text {
    form: "the path of a file, not the key itself; empty for none",
    check: |text| if text.starts_with("sk_") { Err("looks like an API key".to_owned()) } else { Ok(()) },
};

pub(super) const SECRET_FILE: AllowedValues = AllowedValues::Text {
    form: "the path of a file, not the secret itself; empty for none",
    check: |text| if text.starts_with("whsec_") { Err("looks like a webhook secret".to_owned()) } else { Ok(()) },
};

pub(super) const FILE: AllowedValues =
    AllowedValues::Text { form: "the path of a file; empty for none", check: |_| Ok(()) };

/// Leaves room for the longest suffix within the 255 bytes of an AMQP name.
const PREFIX_BYTES_MAX: usize = 200;

pub(super) const AMQP_PREFIX: AllowedValues = AllowedValues::Text {
    form: "1 to 200 letters, digits, dots, dashes and underscores",
    check: |text| {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match text.len() {
            1..=PREFIX_BYTES_MAX if text.bytes().all(is_valid) => Ok(()),
            _ => Err("has another length or another character".to_owned()),
        }
    },
};

/// Maximum length of a user name in the AMQP login of every client.
const USER_BYTES_MAX: usize = 255;

pub(super) const AMQP_USER: AllowedValues = AllowedValues::Text {
    form: "a user name of up to 255 bytes; empty for the one in queue.url",
    check: |text| if text.len() > USER_BYTES_MAX { Err("is longer than that".to_owned()) } else { Ok(()) },
};

/// Maximum length of a path or header name; proxies forward this length by default.
const PATH_BYTES_MAX: usize = 1_024;

pub(super) const WEBHOOK_PATH: AllowedValues = AllowedValues::Text {
    form: "a path such as /webhooks/plu: letters, digits and - . _ ~ / after a slash",
    check: |text| {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        match text.as_bytes() {
            [b'/', rest @ ..] if rest.len() < PATH_BYTES_MAX && rest.iter().all(|byte| is_valid(*byte)) => Ok(()),
            _ => Err("has another form".to_owned()),
        }
    },
};

pub(super) const HEADER_NAME: AllowedValues = AllowedValues::Text {
    form: "the name of a header, such as x-webhook-signature",
    check: |text| {
        // RFC 9110, 5.6.2: a token.
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if (1..=PATH_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_valid) {
            Ok(())
        } else {
            Err("is no header name".to_owned())
        }
    },
};

pub(super) const FAULTS: AllowedValues =
    AllowedValues::List { form: FAULT_FORM, check: |entries| FaultPlan::parse(entries).map(|_| ()) };

pub(super) const CURRENCY: AllowedValues = AllowedValues::Text {
    form: "three capital letters, such as USD",
    check: |text| match text.as_bytes() {
        letters @ [_, _, _] if letters.iter().all(u8::is_ascii_uppercase) => Ok(()),
        _ => Err("is no currency code".to_owned()),
    },
};

pub(super) const ACTIVE_HOURS: AllowedValues = AllowedValues::Text {
    form: "two times of day such as 08:00-20:00; empty for always",
    check: |text| ActiveHours::parse(text, "UTC").map(|_| ()),
};

pub(super) const TIME_ZONE: AllowedValues = AllowedValues::Text {
    form: "a name such as Europe/Berlin or UTC, or an offset such as +02:00",
    check: hours::check_zone,
};

pub(super) const LOG_FILTER: AllowedValues = AllowedValues::Text {
    form: "a filter such as info or plu_onboard=debug; empty for the command's own",
    check: |text| EnvFilter::try_new(text).map(|_| ()).map_err(|error| format!("can't be read: {error}")),
};

fn check_api_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let wrong = match url.scheme() {
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => "holds a user or a password",
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => "holds a query or a fragment",
        "http" | "https" => return Ok(()),
        _ => "begins with something other than https:// or http://",
    };
    Err(wrong.to_owned())
}

impl AllowedValues {
    /// Gives the text of a variable or flag its type. An unreadable text stays a text, which [`Self::check`] refuses.
    pub(super) fn read(&self, text: &str) -> ValueKind {
        let as_text = || ValueKind::from(text);
        match self {
            Self::Whole { .. } => text.trim().parse().map_or_else(|_| as_text(), ValueKind::I64),
            Self::Decimal { .. } => text.trim().parse().map_or_else(|_| as_text(), ValueKind::Float),
            Self::Texts | Self::List { .. } if text.trim().is_empty() => ValueKind::from(Vec::<String>::new()),
            Self::Texts | Self::List { .. } => ValueKind::from(text.split(',').map(str::trim).collect::<Vec<_>>()),
            Self::OneOf(_) | Self::Text { .. } => as_text(),
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// What is wrong, as a predicate for the key.
    pub(super) fn check(&self, kind: &ValueKind) -> Result<(), String> {
        let is_allowed = match (self, kind) {
            (Self::Whole { min, max }, ValueKind::I64(number)) => (min..=max).contains(&number),
            (Self::Decimal { min, max }, ValueKind::Float(number)) => (min..=max).contains(&number),
            (Self::Decimal { min, max }, ValueKind::I64(number)) => (*min..=*max).contains(&(*number as f64)),
            (Self::OneOf(words), ValueKind::String(text)) => words.contains(&text.as_str()),
            (Self::Texts, ValueKind::Array(items)) => return check_texts(items),
            (Self::List { check, .. }, ValueKind::Array(items)) => {
                check_texts(items)?;
                let texts: Vec<String> = items.iter().filter_map(|item| item.clone().into_string().ok()).collect();
                return check(&texts);
            }
            (Self::Text { check, .. }, ValueKind::String(text)) => {
                check_plain(text)?;
                return check(text);
            }
            _ => false,
        };
        if is_allowed { Ok(()) } else { Err(format!("is {}", shown(kind))) }
    }
}

impl fmt::Display for AllowedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Decimal { min, max } => write!(f, "a number from {min} to {max}"),
            Self::OneOf(words) => f.write_str(&words.join(" or ")),
            Self::Texts => write!(f, "a list of up to {TEXTS_MAX} texts of 1 to {LISTED_CHARS_MAX} characters"),
            Self::Text { form, .. } | Self::List { form, .. } => f.write_str(form),
        }
    }
}

fn check_texts(items: &[config::Value]) -> Result<(), String> {
    if items.len() > TEXTS_MAX {
        return Err(format!("has {} entries", items.len()));
    }
    items.iter().try_for_each(|item| match &item.kind {
        ValueKind::String(text) => match text.chars().count() {
            1..=LISTED_CHARS_MAX => check_plain(text),
            chars => Err(format!("holds a text of {chars} characters")),
        },
        kind => Err(format!("holds {}", shown(kind))),
    })
}

fn check_plain(text: &str) -> Result<(), String> {
    match text.chars().position(char::is_control) {
        Some(index) => Err(format!("holds a control character (character {})", index + 1)),
        None if text.len() > TEXT_BYTES_MAX => Err(format!("is longer than {TEXT_BYTES_MAX} bytes")),
        None => Ok(()),
    }
}

fn shown(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            format!("the text {:?}...", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
        }
        ValueKind::String(text) => format!("the text {text:?}"),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}
