//! TLS for `amqps://`: the trusted certificates and the client certificate.

use std::path::{Path, PathBuf};

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Files with certificates and keys, all in PEM. Read for each connection: a renewed certificate needs no restart.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Trusted CA certificates. They replace the system's; without this file the system's are trusted.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Builds the TLS connector from the files.
///
/// # Errors
/// Says which file can't be used and why. Never quotes a file.
pub fn connector(files: &TlsFiles) -> Result<RustlsConnector, String> {
    let trusted = match &files.ca_file {
        Some(file) => {
            let mut trusted = RustlsConnectorConfig::default();
            trusted.add_parsable_certificates(certificates(file)?);
            trusted
        }
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            format!(
                "this system has no list of trusted certificates ({error}): install ca-certificates, or set \
                 amqp.ca_file"
            )
        })?,
    };
    let Some((cert_file, key_file)) = &files.identity else {
        return trusted.connector_with_no_client_auth().map_err(|error| format!("TLS can't be used: {error}"));
    };
    let chain = certificates(cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| format!("{}: the file holds no private key (PEM): {error}", key_file.display()))?;
    trusted
        .connector_with_single_cert(chain, key)
        .map_err(|error| format!("{} and {} don't belong together: {error}", cert_file.display(), key_file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |why: String| format!("{}: the file holds no certificate (PEM){why}", file.display());
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(format!(": {error}")))?;
    if certificates.is_empty() { Err(unusable(String::new())) } else { Ok(certificates) }
}
