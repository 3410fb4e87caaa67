//! A value of one layer, and its origin.

use std::fmt;
use std::path::PathBuf;

use config::ValueKind;

/// The layer that a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The built-in defaults.
    Default,
    /// The `--config` file, or a file that holds a secret.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One value of one layer. It has no `Debug`, because the value may hold a secret.
pub(super) struct Leaf {
    pub(super) origin: Origin,
    /// `section.key`.
    pub(super) key: String,
    pub(super) value: LeafValue,
}

pub(super) enum LeafValue {
    /// A value with a type, as in a TOML file.
    Typed(ValueKind),
    /// The text of a variable or a flag; the rule of its key gives it a type.
    Text(String),
}
