//! The API key: from the environment or a file, never from a flag's value or a settings file.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use url::{Host, Url};

use crate::config::layers::read_bounded;
use crate::config::leaf::Origin;

pub(crate) const API_KEY_VARIABLE: &str = "PLU_API_KEY";
/// The host for `sk_staging_` keys. Source: the vendor's documentation.
pub(crate) const STAGING_HOST: &str = "services-staging.getplu.com";
/// The host for `sk_live_` keys. Source: the vendor's documentation.
pub(crate) const PRODUCTION_HOST: &str = "services.getplu.com";

/// The text that deploy/make-secrets.py writes in place of a key.
const PLACEHOLDER: &str = "put-the-key-here";

/// Maximum length of a key, in bytes; a longer file is refused.
const KEY_BYTES_MAX: u64 = 4_096;

/// The key of the partner account. It consists of visible ASCII characters, so that it can be sent in a header. `Debug`
/// doesn't show it.
#[derive(Debug, Clone)]
pub(crate) struct ApiKey(SecretString);

/// The key is missing, can't be used, or must not be sent to this URL. The error doesn't quote the key.
#[derive(Debug, Error)]
pub(crate) enum ApiKeyError {
    /// Neither source has a key.
    #[error("no API key: set the environment variable PLU_API_KEY, or name a file that holds it with --api-key-file")]
    Missing,
    /// The file can't be read, isn't text or is too long.
    #[error("the API key file {} can't be read: {source}. Check the path and its permissions", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The source holds only white space.
    #[error("{0}: there is no API key in it: put the key of your Plu account there")]
    Empty(Origin),
    /// The key has a character that a header can't have.
    #[error(
        "{origin}: the API key has white space, a control character or a character outside ASCII at position {position}: \
         copy the key again"
    )]
    Character {
        /// The source of the key.
        origin: Origin,
        /// Counted in characters from 1, without white space at the start.
        position: usize,
    },
    /// A key of one environment with the URL of the other.
    #[error("the API key is a {key} key and api.url is {url_is} ({host}): use a key for {url_is}, or change api.url")]
    WrongEnvironment {
        /// `live` or `staging`.
        key: &'static str,
        /// `production` or `staging`.
        url_is: &'static str,
        /// The host of `api.url`.
        host: &'static str,
    },
    /// Plain HTTP to another machine.
    #[error(
        "api.url is plain http:// to {host}, which would send the API key unencrypted: use https:// \
         (http:// is for this machine only: 127.0.0.1, [::1], localhost)"
    )]
    Unencrypted {
        /// The host of `api.url`.
        host: String,
    },
}

impl ApiKey {
    /// Returns the key from `key_file`, or from the text of `PLU_API_KEY` if `key_file` is empty, without white space
    /// at its ends; and warnings for the operator.
    ///
    /// # Errors
    /// The key is missing, its file can't be read, or it has a character that a header can't have.
    pub(crate) fn resolve(
        key_file: &Path,
        variable: Option<&SecretString>,
    ) -> Result<(Self, Vec<String>), ApiKeyError> {
        let variable = variable.filter(|text| !text.expose_secret().is_empty());
        if key_file.as_os_str().is_empty() {
            let text = variable.ok_or(ApiKeyError::Missing)?;
            let key = Self::parse(text.expose_secret(), Origin::Environment(API_KEY_VARIABLE.to_owned()))?;
            return Ok((key, Vec::new()));
        }
        let text: SecretString = read_bounded(key_file, KEY_BYTES_MAX)
            .map_err(|source| ApiKeyError::File { path: key_file.to_owned(), source })?
            .into();
        let key = Self::parse(text.expose_secret(), Origin::File(key_file.to_owned()))?;
        let ignored = variable.map(|_| {
            format!("{API_KEY_VARIABLE} is set but not used: the key file {} wins over it", key_file.display())
        });
        Ok((key, ignored.into_iter().chain(warn_of_readers(key_file)).collect()))
    }

    /// The key. Call this only to make the header.
    pub(crate) fn secret(&self) -> &SecretString {
        &self.0
    }

    fn parse(text: &str, origin: Origin) -> Result<Self, ApiKeyError> {
        let text = text.trim();
        if text.is_empty() || text == PLACEHOLDER {
            return Err(ApiKeyError::Empty(origin));
        }
        match text.chars().position(|char| !char.is_ascii_graphic()) {
            Some(index) => Err(ApiKeyError::Character { origin, position: index + 1 }),
            None => Ok(Self(text.into())),
        }
    }

    fn starts_with(&self, prefix: &str) -> bool {
        self.0.expose_secret().starts_with(prefix)
    }
}

/// Checks that the key may be sent to the URL. Unknown hosts and keys pass.
///
/// # Errors
/// A live key for the staging host, a staging key for the production host, or plain HTTP to another machine.
pub(crate) fn check_key_fits(url: &Url, key: &ApiKey) -> Result<(), ApiKeyError> {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    if host == STAGING_HOST && key.starts_with("sk_live_") {
        return Err(ApiKeyError::WrongEnvironment { key: "live", url_is: "staging", host: STAGING_HOST });
    }
    if host == PRODUCTION_HOST && key.starts_with("sk_staging_") {
        return Err(ApiKeyError::WrongEnvironment { key: "staging", url_is: "production", host: PRODUCTION_HOST });
    }
    if url.scheme() != "https" && !is_loopback(url) {
        return Err(ApiKeyError::Unencrypted { host: host.to_owned() });
    }
    Ok(())
}

/// Whether the host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(addr)) => addr.is_loopback(),
        Some(Host::Ipv6(addr)) => addr.is_loopback(),
        None => false,
    }
}

#[cfg(unix)]
fn warn_of_readers(path: &Path) -> Option<String> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    // Docker's folder for secrets: the container has no other users, and the mode depends on the host.
    if path.starts_with("/run/secrets") {
        return None;
    }
    let metadata = std::fs::metadata(path).ok()?;
    // The program may depend on this mode to read a file of another owner.
    let own_uid = std::fs::metadata("/proc/self").map(|process| process.uid());
    if own_uid.is_ok_and(|uid| uid != metadata.uid()) {
        return None;
    }
    let mode = metadata.permissions().mode() & 0o777;
    let path = path.display();
    // A group that can read it is no problem: a service reads a file of root's by its group.
    (mode & 0o004 != 0).then(|| {
        format!(
            "every user of this machine can read the API key file {path} (mode {mode:03o}): protect it, for example \
             with chmod o-r {path}"
        )
    })
}

#[cfg(not(unix))]
fn warn_of_readers(_path: &Path) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NO_FILE: &str = "";

    fn from_variable(text: &str) -> Result<(ApiKey, Vec<String>), ApiKeyError> {
        ApiKey::resolve(Path::new(NO_FILE), Some(&text.into()))
    }

    /// A key file that only its owner can read.
    fn key_file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn the_key_is_read_from_the_variable_or_the_file_and_trimmed() {
        let (key, warnings) = from_variable(" sk_staging_1\n").unwrap();
        assert_eq!((key.secret().expose_secret(), warnings.len()), ("sk_staging_1", 0));
        let file = key_file(b"sk_staging_2\r\n");
        let (key, warnings) = ApiKey::resolve(file.path(), None).unwrap();
        assert_eq!((key.secret().expose_secret(), warnings.len()), ("sk_staging_2", 0));
    }

    #[test]
    fn a_key_file_wins_over_the_variable_with_a_warning() {
        let file = key_file(b"sk_staging_2");
        let (key, warnings) = ApiKey::resolve(file.path(), Some(&"sk_staging_1".into())).unwrap();
        assert_eq!(key.secret().expose_secret(), "sk_staging_2");
        assert!(warnings[0].starts_with("PLU_API_KEY is set but not used"), "{warnings:?}");
    }

    #[test]
    fn a_missing_key_is_an_error_that_names_both_sources() {
        for variable in [None, Some(&SecretString::from(""))] {
            let message = ApiKey::resolve(Path::new(NO_FILE), variable).unwrap_err().to_string();
            assert!(message.contains("PLU_API_KEY") && message.contains("--api-key-file"), "{message}");
        }
    }

    #[test]
    fn a_text_that_can_not_be_a_key_is_refused_and_not_quoted() {
        for (text, expected) in [
            ("  \n", "environment PLU_API_KEY: there is no API key in it"),
            ("put-the-key-here\n", "there is no API key in it"),
            ("sk_live_s3cret\nsk_live_s3cret", "position 15"),
            ("sk_live s3cret", "position 8"),
            ("sk_live_s3cret\u{7}", "position 15"),
            ("sk_live_s3crét", "position 13"),
        ] {
            let error = from_variable(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cr"), "{error:?}");
        }
    }

    #[test]
    fn an_unusable_key_file_is_named_in_the_error() {
        let (empty, binary, long) = (key_file(b" \n"), key_file(&[0xff, 0xfe]), key_file(&[b'k'; 5_000]));
        for (path, expected) in [
            (Path::new("no-such.key"), "can't be read"),
            (empty.path(), "there is no API key in it"),
            (binary.path(), "UTF-8"),
            (long.path(), "longer than 4096 bytes"),
        ] {
            let message = ApiKey::resolve(path, None).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(&*path.to_string_lossy()), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_every_user_can_read_gives_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;

        let file = key_file(b"sk_staging_1");
        for (mode, is_warned) in
            [(0o600, false), (0o400, false), (0o640, false), (0o440, false), (0o604, true), (0o644, true)]
        {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let (_, warnings) = ApiKey::resolve(file.path(), None).unwrap();
            assert_eq!(warnings.len(), usize::from(is_warned), "{mode:o}");
            assert!(warnings.iter().all(|warning| warning.contains(&format!("mode {mode:o}"))), "{warnings:?}");
        }
    }

    #[test]
    fn a_key_is_sent_only_to_the_host_it_belongs_to() {
        for (url, key, refusal) in [
            ("https://services-staging.getplu.com/api", "sk_staging_1", None),
            ("https://services.getplu.com/api", "sk_live_1", None),
            ("https://services.getplu.com/api", "another_form", None),
            ("https://gateway.example/plu", "sk_live_1", None),
            ("https://gateway.example/plu", "sk_staging_1", None),
            ("http://127.0.0.1:8787/api", "sk_live_1", None),
            ("http://127.8.8.8", "sk_live_1", None),
            ("http://[::1]:8787", "sk_live_1", None),
            ("http://LOCALHOST:8787", "sk_live_1", None),
            ("https://services-staging.getplu.com/api", "sk_live_1", Some("is a live key and api.url is staging")),
            ("https://SERVICES-staging.getplu.com./api", "sk_live_1", Some("is a live key and api.url is staging")),
            ("https://services.getplu.com/api", "sk_staging_1", Some("is a staging key and api.url is production")),
            ("http://services.getplu.com/api", "sk_live_1", Some("unencrypted")),
            ("http://localhost.example/api", "sk_live_1", Some("unencrypted")),
            ("http://10.0.0.1/api", "another_form", Some("unencrypted")),
        ] {
            let (api_key, _) = from_variable(key).unwrap();
            let message = check_key_fits(&url.parse().unwrap(), &api_key).err().map(|error| error.to_string());
            match (&message, refusal) {
                (None, None) => {}
                (Some(message), Some(refusal)) => {
                    assert!(message.contains(refusal) && !message.contains(key), "{url} {key}: {message}");
                }
                _ => panic!("{url} {key}: {message:?}"),
            }
        }
    }

    #[test]
    fn debug_output_does_not_show_the_key() {
        let (key, _) = from_variable("sk_live_s3cret").unwrap();
        assert!(!format!("{key:?}").contains("s3cret"));
    }
}
