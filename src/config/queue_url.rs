//! Where jobs wait, as one URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use url::Url;

/// Which queue. `Debug`, `Display` and serialization leave the password out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum QueueUrl {
    /// `local:PATH`: an embedded durable file on this machine, relative to the working directory.
    Local(PathBuf),
    /// `amqp://` or `amqps://`: RabbitMQ. Has a host.
    Amqp(Url),
}

/// A text that names no queue. Doesn't quote it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the queue URL {0}; write local:PATH or amqp://USER:PASSWORD@HOST/VHOST (amqps:// for TLS)")]
pub struct QueueUrlError(&'static str);

impl QueueUrlError {
    /// What is wrong, to follow the value's name in a sentence.
    pub const fn reason(self) -> &'static str {
        self.0
    }
}

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
        let url = Url::parse(text).map_err(|_| QueueUrlError("is neither a local: path nor a URL"))?;
        match url.scheme() {
            "amqp" | "amqps" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(Self::Amqp(url)),
            "amqp" | "amqps" => Err(QueueUrlError("names no host")),
            _ => Err(QueueUrlError("begins with something other than local:, amqp:// or amqps://")),
        }
    }
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
                // A URL with a password has a host, so it can have this one.
                let _ = url.set_password(Some("redacted"));
                // A user's colon or at sign is percent-encoded, so the first match is the password.
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
            ("amqp://redacted:hunter2@h/redacted@x", "amqp://redacted:[redacted]@h/redacted@x"),
        ] {
            let url: QueueUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("QueueUrl({shown})"));
            assert_eq!(serde_json::to_string(&url).unwrap(), format!("{shown:?}"));
        }
    }

    #[test]
    fn anything_else_is_refused_with_both_forms_and_without_the_text() {
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
        ] {
            let error = text.parse::<QueueUrl>().unwrap_err();
            let message = error.to_string();
            assert!(message.contains("local:PATH") && message.contains("amqp://USER"), "{text}: {message}");
            assert!(!format!("{message} {error:?}").contains("hunter2"), "{message}");
        }
    }
}
