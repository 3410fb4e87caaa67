//! The secret of the webhooks' signatures: from the environment or a file, never from a flag's value or a settings
//! file.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use crate::config::layers::read_bounded;

pub(crate) const WEBHOOK_SECRET_VARIABLE: &str = "PLU_WEBHOOK_SECRET";

/// Maximum length of the secret, in bytes; a longer file is refused.
const SECRET_BYTES_MAX: u64 = 4_096;

/// The secret is missing or can't be used. The error doesn't quote it.
#[derive(Debug, Error)]
pub(crate) enum WebhookSecretError {
    /// Neither source has a secret.
    #[error(
        "no webhook secret: set the environment variable PLU_WEBHOOK_SECRET to the webhookSecret (whsec_...) in the \
         answer of Plu's Set Webhook, or name a file that holds it with webhooks.secret_file"
    )]
    Missing,
    /// The file can't be read, isn't text or is too long.
    #[error("the webhook secret's file {} can't be read: {source}. Check webhooks.secret_file", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The file holds only white space.
    #[error("the webhook secret's file {} is empty: put the secret (whsec_...) there", .0.display())]
    Empty(PathBuf),
}

/// Returns the secret from `file`, or from the text of `PLU_WEBHOOK_SECRET` if `file` is empty, without white space at
/// its ends.
pub(super) fn resolve(file: &Path, variable: Option<&SecretString>) -> Result<SecretString, WebhookSecretError> {
    if file.as_os_str().is_empty() {
        let text = variable.map(|text| text.expose_secret().trim()).filter(|text| !text.is_empty());
        return text.map(SecretString::from).ok_or(WebhookSecretError::Missing);
    }
    let text: SecretString = read_bounded(file, SECRET_BYTES_MAX)
        .map_err(|source| WebhookSecretError::File { path: file.to_owned(), source })?
        .into();
    match text.expose_secret().trim() {
        "" => Err(WebhookSecretError::Empty(file.to_owned())),
        secret => Ok(secret.into()),
    }
}
