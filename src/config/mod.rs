//! The settings: read once at the start, checked as a whole, and typed.
//!
//! ```text
//! default.toml < --config file < PLU_ONBOARD__SECTION__KEY < flags
//!      └── layers: one leaf for each value, with its origin
//!            └── rules: checks each key, and the type and range of its value
//!                  └── Settings: one struct for each section
//!                        └── relations: checks that the values fit together
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `sections` | the structs |
//! | `layers`, `leaf` | reading the layers; a value with its origin |
//! | `rules`, `allowed` | the allowed values of each key |
//! | `relations` | rules about two keys |
//! | `queue_url`, `api_key`, `webhook_secret` | values that hold a secret |
//! | `convert` | the policies of the pipeline and the domain, made from the settings |
//! | `render` | `config show` |
//!
//! **Invariants:** an unknown key is an error. Every problem is reported with its origin, its key and the allowed
//! values. No secret is in a `Debug` or `Display` output, an error or a rendering.

mod allowed;
mod api_key;
mod convert;
mod error;
mod layers;
mod leaf;
mod queue_url;
mod relations;
mod render;
mod rules;
mod sections;
#[cfg(test)]
mod tests;
mod webhook_secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub(crate) use self::api_key::{API_KEY_VARIABLE, ApiKey, ApiKeyError, STAGING_HOST, check_key_fits, is_loopback};
pub(crate) use self::error::SettingsError;
use self::layers::Environment;
pub(crate) use self::layers::{Overrides, environment};
use self::leaf::Leaf;
pub(crate) use self::leaf::Origin;
pub(crate) use self::queue_url::QueueUrl;
pub(crate) use self::sections::{
    AmqpSettings, ApiSettings, CircuitBreakerSettings, HaltSettings, ImportSettings, LogSettings, PlanSettings,
    QueueSettings, RateLimitSettings, SandboxSettings, TopologyMode, WebhookSettings, WorkerSettings,
};
pub(crate) use self::webhook_secret::{WEBHOOK_SECRET_VARIABLE, WebhookSecretError};
use crate::domain::KeySource;

/// `config/default.toml`: every key with its default, its allowed values and its purpose.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// All settings, checked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub api: ApiSettings,
    pub queue: QueueSettings,
    pub amqp: AmqpSettings,
    pub rate_limit: RateLimitSettings,
    pub worker: WorkerSettings,
    pub circuit_breaker: CircuitBreakerSettings,
    pub halt: HaltSettings,
    pub import: ImportSettings,
    pub plan: PlanSettings,
    pub webhooks: WebhookSettings,
    pub log: LogSettings,
    pub sandbox: SandboxSettings,
    /// The origin of each value.
    #[serde(skip)]
    origins: BTreeMap<&'static str, Origin>,
    /// `PLU_API_KEY` at the time of reading.
    #[serde(skip)]
    api_key_variable: Option<SecretString>,
    /// `PLU_WEBHOOK_SECRET` at the time of reading.
    #[serde(skip)]
    webhook_secret_variable: Option<SecretString>,
    /// The file and the flags, for [`Settings::reload`].
    #[serde(skip)]
    read_from: ReadFrom,
}

/// The folder with the credentials of systemd services (systemd.exec(5)).
const CREDENTIALS: &str = "/run/credentials";

#[derive(Debug, Clone, Default)]
struct ReadFrom {
    file: Option<PathBuf>,
    flags: Overrides,
}

impl Settings {
    /// Reads all layers: the defaults, then `file`, then the variables of `env` (see [`environment`]), then `flags`.
    ///
    /// # Errors
    /// The file can't be read or isn't TOML, or keys or values are wrong; all wrong ones are reported together.
    pub(crate) fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, SettingsError> {
        let Environment { leaves: variables, api_key, webhook_secret } = Environment::read(env);
        let mut leaves = layers::defaults()?;
        if let Some(path) = file {
            leaves.extend(layers::file(path)?);
        }
        leaves.extend(variables);
        leaves.extend(flags.leaves());
        let read_from = ReadFrom { file: file.map(Path::to_owned), flags: flags.clone() };
        let settings = Self {
            api_key_variable: api_key,
            webhook_secret_variable: webhook_secret,
            read_from,
            ..Self::from_leaves(leaves)?
        };
        match relations::problems(&settings) {
            problems if problems.is_empty() => Ok(settings),
            problems => Err(SettingsError::Invalid(problems)),
        }
    }

    /// Reads the same layers again.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub(crate) fn reload(&self) -> Result<Self, SettingsError> {
        Self::load(self.read_from.file.as_deref(), environment(), &self.read_from.flags)
    }

    /// Checks the leaves. A later leaf replaces an earlier one with the same key.
    fn from_leaves(leaves: Vec<Leaf>) -> Result<Self, SettingsError> {
        let mut builder = config::Config::builder();
        let mut origins = BTreeMap::new();
        let mut problems = Vec::new();
        for leaf in leaves {
            match rules::check(leaf) {
                Ok((key, origin, value)) => {
                    builder = builder.set_override(key, value)?;
                    origins.insert(key, origin);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(SettingsError::Invalid(problems));
        }
        Ok(Self { origins, ..builder.build()?.try_deserialize()? })
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        self.read_from.file.as_deref()
    }

    /// The environment variables that set values of these sections, such as `PLU_ONBOARD__QUEUE__URL`.
    pub(crate) fn variables<'s>(&'s self, sections: &'s [&str]) -> impl Iterator<Item = &'s str> {
        let is_in = |key: &str| key.split('.').next().is_some_and(|section| sections.contains(&section));
        self.origins.iter().filter_map(move |(key, origin)| match origin {
            Origin::Environment(variable) if is_in(key) => Some(variable.as_str()),
            _ => None,
        })
    }

    /// The origin of the value of a key such as `api.url`. An unknown key has the origin of the defaults.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The source of the key that [`Self::api_key`] returns.
    pub(crate) fn key_source(&self) -> KeySource {
        if self.api.key_file.as_os_str().is_empty() {
            KeySource::Variable
        } else if self.api.key_file.starts_with(CREDENTIALS) {
            KeySource::Credential
        } else {
            KeySource::File
        }
    }

    /// The API key from `api.key_file`, or else from the variable `PLU_API_KEY`; and warnings for the operator. Reads
    /// the file.
    ///
    /// # Errors
    /// See [`ApiKey::resolve`].
    pub(crate) fn api_key(&self) -> Result<(ApiKey, Vec<String>), ApiKeyError> {
        ApiKey::resolve(&self.api.key_file, self.api_key_variable.as_ref())
    }

    /// The secret of the webhooks' signatures from `webhooks.secret_file`, or else from the variable
    /// `PLU_WEBHOOK_SECRET`. Reads the file.
    ///
    /// # Errors
    /// [`WebhookSecretError`].
    pub(crate) fn webhook_secret(&self) -> Result<SecretString, WebhookSecretError> {
        webhook_secret::resolve(&self.webhooks.secret_file, self.webhook_secret_variable.as_ref())
    }
}
