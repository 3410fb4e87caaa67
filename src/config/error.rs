//! Errors of the settings. Each names the origin, the key and the allowed values.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::leaf::Origin;

/// The settings can't be used.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    /// The `--config` file can't be read.
    #[error("the settings file {} can't be read: {source}. Check the path given with --config", path.display())]
    File { path: PathBuf, source: io::Error },
    /// A layer isn't TOML. The error doesn't quote the file, which may hold a secret.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The layer.
        origin: Origin,
        /// Line, column and reason.
        reason: String,
    },
    /// Keys or values are wrong. Lists every problem.
    #[error("the settings can't be used:{}", ProblemLines(.0))]
    Invalid(Vec<SettingsProblem>),
    /// The values passed the rules but don't fit the types of the structs, which is a defect of this program.
    #[error(
        "the settings passed their rules and can't be read: {0}. This is a defect of plu-onboard; please report it"
    )]
    Defect(#[from] config::ConfigError),
}

/// One wrong key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingsProblem {
    /// The layer of the value.
    pub origin: Origin,
    /// The key, such as `api.url`.
    pub key: String,
    /// What is wrong, as a predicate for the key.
    pub wrong: String,
    /// The allowed values.
    pub allowed: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, wrong, allowed } = self;
        write!(f, "{origin}: {key} {wrong} (allowed: {allowed})")
    }
}

struct ProblemLines<'a>(&'a [SettingsProblem]);

impl fmt::Display for ProblemLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
