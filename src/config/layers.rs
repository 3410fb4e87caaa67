//! Reads the layers: the defaults, the settings file, environment variables and flags. A layer is a list of leaves.
//!
//! Environment variables are read here and not by the `config` crate, so that an error can name the variable, and the
//! rule of the key gives its text a type.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use config::{FileFormat, FileSourceString, Source as _, Value, ValueKind};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::error::SettingsError;
use crate::config::leaf::{Leaf, LeafValue, Origin};
use crate::config::{API_KEY_VARIABLE, DEFAULT_TOML, WEBHOOK_SECRET_VARIABLE, rules};

/// Prefix of the environment variables. It ends with two underscores, because Kubernetes sets variables such as
/// `PLU_ONBOARD_PORT` in every container for a service with the name `plu-onboard`.
const VARIABLE_PREFIX: &str = "PLU_ONBOARD__";

/// Longest settings file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The settings that flags set. The values are text, which is checked like that of environment variables and never
/// printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides(Vec<Override>);

#[derive(Debug, Clone)]
struct Override {
    flag: &'static str,
    key: &'static str,
    value: SecretString,
}

impl Overrides {
    /// Sets `key` (`section.key`) to the value of `flag` (with its dashes); does nothing if the flag is absent.
    pub(crate) fn set(&mut self, flag: &'static str, key: &'static str, value: Option<impl Into<SecretString>>) {
        self.0.extend(value.map(|value| Override { flag, key, value: value.into() }));
    }

    pub(super) fn leaves(&self) -> impl Iterator<Item = Leaf> {
        self.0.iter().map(|Override { flag, key, value }| Leaf {
            origin: Origin::Flag(flag),
            key: (*key).to_owned(),
            value: LeafValue::Text(value.expose_secret().to_owned()),
        })
    }
}

/// The environment variables of this process that are settings or secrets. Unlike [`std::env::vars`], it doesn't panic
/// if another variable isn't Unicode.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let is_ours =
            [API_KEY_VARIABLE, WEBHOOK_SECRET_VARIABLE].contains(&name.as_str()) || name.starts_with(VARIABLE_PREFIX);
        is_ours.then(|| (name, value.to_string_lossy().into_owned()))
    })
}

/// The layer of the environment variables, and the secrets among them.
pub(super) struct Environment {
    pub(super) leaves: Vec<Leaf>,
    pub(super) api_key: Option<SecretString>,
    pub(super) webhook_secret: Option<SecretString>,
}

impl Environment {
    pub(super) fn read(variables: impl Iterator<Item = (String, String)>) -> Self {
        // Sorted, so that problems are reported in the same order every time.
        let mut variables: BTreeMap<_, _> = variables.collect();
        let mut secret = |name| variables.remove(name).map(SecretString::from);
        let (api_key, webhook_secret) = (secret(API_KEY_VARIABLE), secret(WEBHOOK_SECRET_VARIABLE));
        let leaves = variables.into_iter().filter_map(|(variable, text)| {
            let key = variable.strip_prefix(VARIABLE_PREFIX)?.to_lowercase().replace("__", ".");
            Some(Leaf { key, value: LeafValue::Text(text), origin: Origin::Environment(variable) })
        });
        Self { leaves: leaves.collect(), api_key, webhook_secret }
    }
}

pub(super) fn defaults() -> Result<Vec<Leaf>, SettingsError> {
    toml(&Origin::Default, DEFAULT_TOML)
}

pub(super) fn file(path: &Path) -> Result<Vec<Leaf>, SettingsError> {
    let text =
        read_bounded(path, FILE_BYTES_MAX).map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
    toml(&Origin::File(path.to_owned()), &text)
}

/// Reads a text file of at most `bytes_max` bytes.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {bytes_max} bytes")));
    }
    Ok(text)
}

fn toml(origin: &Origin, text: &str) -> Result<Vec<Leaf>, SettingsError> {
    let source: config::File<FileSourceString, _> = config::File::from_str(text, FileFormat::Toml);
    let sections = source
        .collect()
        .map_err(|error| SettingsError::Syntax { origin: origin.clone(), reason: without_source_text(&error) })?;
    let mut leaves = Vec::new();
    let mut push = |key: String, value: Value| {
        leaves.push(Leaf { origin: origin.clone(), key, value: LeafValue::Typed(value.kind) });
    };
    for (section, value) in sections {
        match value.kind {
            ValueKind::Table(table) if rules::is_section(&section) => {
                table.into_iter().for_each(|(name, value)| push(format!("{section}.{name}"), value));
            }
            // An unknown section, or a value outside of all sections. The rules refuse it by its name.
            _ => push(section, value),
        }
    }
    leaves.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(leaves)
}

/// A TOML error without the three lines that quote the file: they may hold a secret.
fn without_source_text(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let quoted = if text.starts_with("TOML parse error") { 1..4 } else { 0..0 };
    let lines = text.trim_end().lines().enumerate().filter(|(index, _)| !quoted.contains(index));
    lines.map(|(_, line)| line).collect::<Vec<_>>().join(": ")
}
