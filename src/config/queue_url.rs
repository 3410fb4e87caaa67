//! The URL of the queue: a file on this machine, or RabbitMQ.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use url::Url;

/// The queue. `Debug`, `Display` and serialization leave the password out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum QueueUrl {
    /// `local:PATH`: an embedded durable file on this machine, relative to the working directory.
    Local(PathBuf),
    /// `amqp://` or `amqps://`: RabbitMQ. Has a host.
    Amqp(Url),
}

/// A text isn't the URL of a queue. The error doesn't quote the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the queue URL {0}; write local:PATH or amqp://USER:PASSWORD@HOST/VHOST (amqps:// for TLS)")]
pub(crate) struct QueueUrlError(&'static str);

impl QueueUrlError {
    /// What is wrong, as a predicate for the name of the value.
    pub(crate) const fn reason(self) -> &'static str {
        self.0
    }
}

/// A character in the user, password or virtual host that begins another part of a URL.
const ENCODED: &str = "can't be read: check host and port, and in user, password and virtual host write / as %2F, \
                       # as %23, ? as %3F, @ as %40 and % as %25 (amqp.user and amqp.password_file need no encoding)";

impl FromStr for QueueUrl {
    type Err = QueueUrlError;

    fn from_str(text: &str) -> Result<Self, QueueUrlError> {
        if let Some(path) = text.strip_prefix("local:") {
            return match path {
                "" => Err(QueueUrlError("names no file after local:")),
                _ if path.starts_with("//") => Err(QueueUrlError("has // after local:, where a path begins at once")),
                _ => Ok(Self::Local(PathBuf::from(path))),
            };
        }
        let is_broker = text.starts_with("amqp:") || text.starts_with("amqps:");
        let unreadable = if is_broker { ENCODED } else { "is neither a local: path nor a URL" };
        let url = Url::parse(text).map_err(|_| QueueUrlError(unreadable))?;
        match url.scheme() {
            "amqp" | "amqps" if url.host_str().is_some_and(|host| !host.is_empty()) => {
                check_after_host(&url)?;
                Ok(Self::Amqp(url))
            }
            "amqp" | "amqps" => Err(QueueUrlError("names no host")),
            _ => Err(QueueUrlError("begins with something other than local:, amqp:// or amqps://")),
        }
    }
}

/// Checks the parts after the host. A slash in a password ends the host early; the rest of the password would then
/// count as the virtual host, which is shown.
fn check_after_host(url: &Url) -> Result<(), QueueUrlError> {
    if url.fragment().is_some() || url.path().contains('@') || url.query().is_some_and(|query| query.contains('@')) {
        return Err(QueueUrlError(ENCODED));
    }
    for (name, value) in url.query_pairs() {
        let (is_valid, wrong) = match &*name {
            "heartbeat" => (value.parse::<u16>().is_ok(), "has a heartbeat that isn't a whole number of seconds"),
            "channel_max" => (value.parse::<u16>().is_ok(), "has a channel_max that isn't a whole number"),
            "frame_max" => (value.parse::<u32>().is_ok(), "has a frame_max that isn't a whole number of bytes"),
            "auth_mechanism" => (true, ""),
            _ => (
                false,
                "has an unknown parameter: the parameters are heartbeat, channel_max, frame_max and auth_mechanism; \
                 for everything else, use the settings in [amqp]",
            ),
        };
        if !is_valid {
            return Err(QueueUrlError(wrong));
        }
    }
    Ok(())
}

impl TryFrom<String> for QueueUrl {
    type Error = QueueUrlError;

    fn try_from(text: String) -> Result<Self, QueueUrlError> {
        text.parse()
    }
}

impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "local:{}", path.display()),
            Self::Amqp(url) if url.password().is_none() => url.fmt(f),
            Self::Amqp(url) => {
                let mut url = url.clone();
                // This can't fail: the URL has a host.
                let _ = url.set_password(Some("redacted"));
                // The first match is the password: a colon or an at sign in the user name is percent-encoded.
                f.write_str(&url.as_str().replacen(":redacted@", ":[redacted]@", 1))
            }
        }
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueUrl({self})")
    }
}

impl Serialize for QueueUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_shown_without_the_password() {
        for (text, shown) in [
            ("local:plu-onboard.db", "local:plu-onboard.db"),
            ("local:/var/lib/plu/q.db", "local:/var/lib/plu/q.db"),
            ("amqp://rabbit.example", "amqp://rabbit.example"),
            ("amqp://plu@rabbit.example/prod", "amqp://plu@rabbit.example/prod"),
            ("amqps://plu:hunter2@rabbit.example:5671/prod", "amqps://plu:[redacted]@rabbit.example:5671/prod"),
            ("amqp://:hunter2@[::1]/%2f?heartbeat=10", "amqp://:[redacted]@[::1]/%2f?heartbeat=10"),
            ("amqp://redacted:hunter2@h/redacted%40x", "amqp://redacted:[redacted]@h/redacted%40x"),
            ("amqp://plu:hunter@2@h/%2F", "amqp://plu:[redacted]@h/%2F"),
        ] {
            let url: QueueUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("QueueUrl({shown})"));
            assert_eq!(serde_json::to_string(&url).unwrap(), format!("{shown:?}"));
        }
    }

    #[test]
    fn any_other_text_is_refused_with_both_forms_and_not_quoted() {
        for text in [
            "",
            "local:",
            "local://hunter2.db",
            "plu:hunter2@rabbit.example",
            "rabbit.example:5672",
            "ampq://plu:hunter2@rabbit.example",
            "amqp:hunter2",
            "amqp:///hunter2",
            "amqp://plu:hunter2@host:port/",
            "https://plu:hunter2@rabbit.example",
            "amqp://plu:hunter2@rabbit.example?heartbeat=x",
        ] {
            let error = text.parse::<QueueUrl>().unwrap_err();
            let message = error.to_string();
            assert!(message.contains("local:PATH") && message.contains("amqp://USER"), "{text}: {message}");
            assert!(!format!("{message} {error:?}").contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_password_that_breaks_a_url_is_refused_with_advice_on_encoding() {
        for password in ["hunter/2", "hunter#2", "hunter?2", "12/hunter2", "12#hunter2", "12?hunter2", "h@12/hunter2"] {
            let error = format!("amqp://plu:{password}@rabbit.example/cards").parse::<QueueUrl>().unwrap_err();
            assert!(
                error.reason().contains("/ as %2F") && error.reason().contains("amqp.password_file"),
                "{password}: {error}"
            );
        }
        assert!("amqp://plu:hunter%2F%23%3F%40%252@rabbit.example/%2F".parse::<QueueUrl>().is_ok());
    }

    #[test]
    fn a_parameter_is_used_or_refused_by_its_name() {
        for (parameters, said) in [
            ("heartbeat=x", "a heartbeat that isn't a whole number of seconds"),
            ("heartbeat", "a heartbeat"),
            ("heartbeat=10&frame_max=-1", "a frame_max"),
            ("channel_max=many", "a channel_max"),
            ("cacertfile=/etc/ca.pem", "the settings in [amqp]"),
        ] {
            let error = format!("amqp://rabbit.example?{parameters}").parse::<QueueUrl>().unwrap_err();
            assert!(error.reason().contains(said), "{parameters}: {error}");
        }
        let used = "amqp://rabbit.example?heartbeat=10&frame_max=131072&channel_max=9&auth_mechanism=external";
        assert!(used.parse::<QueueUrl>().is_ok());
    }
}
