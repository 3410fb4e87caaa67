//! What is wrong with the settings, in words that lead to the place.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::Origin;

/// The settings can't be used.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    /// The `--config` file can't be read.
    #[error("the settings file {} can't be read: {source}", path.display())]
    File {
        /// As it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A layer isn't TOML. The text around the place is left out, since it may hold a secret.
    #[error("{origin}: {reason}")]
    Syntax {
        /// Which.
        origin: Origin,
        /// Line, column and reason.
        reason: String,
    },
    /// Keys or values are wrong.
    #[error("the settings can't be used:{}", Lines(.0))]
    Invalid(Vec<SettingsProblem>),
    /// The values passed their rules and still don't fit the types: a defect of this program.
    #[error("the settings don't fit their own rules, which is a defect: {0}")]
    Defect(#[from] config::ConfigError),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingsProblem {
    /// Where the value came from.
    pub origin: Origin,
    /// Such as `api.url`.
    pub key: String,
    /// What is wrong, to follow the key in a sentence.
    pub wrong: String,
    /// What would be right.
    pub allowed: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, wrong, allowed } = self;
        write!(f, "{origin}: {key} {wrong} (allowed: {allowed})")
    }
}

struct Lines<'a>(&'a [SettingsProblem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
