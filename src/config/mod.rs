//! The settings: read once, checked as a whole, typed from then on.
//!
//! ```text
//! default.toml < --config file < PLU_ONBOARD__SECTION__KEY < flags
//!      └── layers: one leaf for each value, with its origin
//!            └── rules: is the key known, has the value the right type and range?
//!                  └── Settings, one struct a section
//!                        └── relations: do the values fit together?
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `sections` | the structs |
//! | `layers` | where values come from |
//! | `rules`, `allowed` | what each value may be |
//! | `relations` | what two values have to do with each other |
//! | `queue_url`, `api_key`, `webhook_secret` | the values with a secret in them |
//! | `convert` | what the pipeline and the domain want to know |
//! | `render` | `config show` |
//!
//! **Invariants:** an unknown key is an error; every problem is reported, each with its origin, its key and what is
//! allowed; no secret is in a `Debug` or `Display` output, an error or a rendering.

mod allowed;
mod api_key;
mod convert;
mod error;
mod layers;
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
use self::layers::{Environment, Leaf};
pub(crate) use self::layers::{Origin, Overrides, environment};
pub(crate) use self::queue_url::QueueUrl;
pub(crate) use self::sections::{
    AmqpSettings, ApiSettings, BreakerSettings, HaltSettings, ImportSettings, LogSettings, PlanSettings, QueueSettings,
    RateLimitSettings, RetrySettings, SandboxSettings, SignatureEncoding, TopologyMode, WebhookSettings,
    WorkerSettings,
};
pub(crate) use self::webhook_secret::{WEBHOOK_SECRET_VARIABLE, WebhookSecretError};
use crate::domain::KeySource;

/// `config/default.toml`: every key, its default, its range and why.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Everything that can be set, checked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The partner API.
    pub api: ApiSettings,
    /// Where jobs wait.
    pub queue: QueueSettings,
    /// RabbitMQ.
    pub amqp: AmqpSettings,
    /// How fast requests leave.
    pub rate_limit: RateLimitSettings,
    /// How the worker behaves.
    pub worker: WorkerSettings,
    /// When an API that answers badly is left alone.
    pub breaker: BreakerSettings,
    /// How many repetitions there may be.
    pub retry: RetrySettings,
    /// When the outcomes are too bad to go on.
    pub halt: HaltSettings,
    /// How files are read.
    pub import: ImportSettings,
    /// What `check` calculates with.
    pub plan: PlanSettings,
    /// What the partner says of people's verification.
    pub webhooks: WebhookSettings,
    /// Log lines.
    pub log: LogSettings,
    /// The built-in simulated API.
    pub sandbox: SandboxSettings,
    /// Where each value came from.
    #[serde(skip)]
    origins: BTreeMap<&'static str, Origin>,
    /// `PLU_API_KEY`, as it was when the settings were read.
    #[serde(skip)]
    api_key_variable: Option<SecretString>,
    /// `PLU_WEBHOOK_SECRET`, the same.
    #[serde(skip)]
    webhook_secret_variable: Option<SecretString>,
    /// What was read besides the defaults and the environment.
    #[serde(skip)]
    read_from: ReadFrom,
}

/// Where systemd puts the credentials of its services (systemd.exec(5)).
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
    /// A file that can't be read or isn't TOML, and everything that is wrong with keys and values, all at once.
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

    /// Reads the same layers again, as they are now.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub(crate) fn reload(&self) -> Result<Self, SettingsError> {
        Self::load(self.read_from.file.as_deref(), environment(), &self.read_from.flags)
    }

    /// Later leaves win.
    fn from_leaves(leaves: Vec<Leaf>) -> Result<Self, SettingsError> {
        let mut builder = config::Config::builder();
        let mut origins = BTreeMap::new();
        let mut problems = Vec::new();
        for leaf in leaves {
            match rules::admit(leaf) {
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

    /// The settings file, as it was given.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.read_from.file.as_deref()
    }

    /// The variables that the values of these sections came from, such as `PLU_ONBOARD__QUEUE__URL`.
    pub(crate) fn variables<'s>(&'s self, sections: &'s [&str]) -> impl Iterator<Item = &'s str> {
        let is_in = |key: &str| key.split('.').next().is_some_and(|section| sections.contains(&section));
        self.origins.iter().filter_map(move |(key, origin)| match origin {
            Origin::Environment(variable) if is_in(key) => Some(variable.as_str()),
            _ => None,
        })
    }

    /// Where the value of a key such as `api.url` came from. Every key has an origin; an unknown one has the defaults'.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Where [`Self::api_key`] has it from.
    pub(crate) fn key_source(&self) -> KeySource {
        if self.api.key_file.as_os_str().is_empty() {
            KeySource::Variable
        } else if self.api.key_file.starts_with(CREDENTIALS) {
            KeySource::Credential
        } else {
            KeySource::File
        }
    }

    /// The API key from `api.key_file` or else from the variable `PLU_API_KEY`, and what a person should be warned
    /// of. Reads the file.
    ///
    /// # Errors
    /// See [`ApiKey::resolve`].
    pub(crate) fn api_key(&self) -> Result<(ApiKey, Vec<String>), ApiKeyError> {
        ApiKey::resolve(&self.api.key_file, self.api_key_variable.as_ref())
    }

    /// The secret that webhooks are signed with, from `webhooks.secret_file` or else from the variable `PLU_WEBHOOK_SECRET`. Reads
    /// the file.
    ///
    /// # Errors
    /// [`WebhookSecretError`].
    pub(crate) fn webhook_secret(&self) -> Result<SecretString, WebhookSecretError> {
        webhook_secret::resolve(&self.webhooks.secret_file, self.webhook_secret_variable.as_ref())
    }
}
