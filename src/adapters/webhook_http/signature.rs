//! Verifies the signatures of webhooks: HMAC-SHA256 of the body.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Mutex, RwLock};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::domain::kyc::SignatureEncoding;

/// Minimum time between two reads of the secret, so that many unsigned requests don't cause as many reads.
const READ_EVERY: Duration = Duration::from_millis(100);

/// Reads the secret, which may have changed. `None` if it can't be read.
pub(crate) type ReadSecret = Arc<dyn Fn() -> Option<SecretString> + Send + Sync>;

/// Verifies signatures in constant time, so that an answer's time doesn't show how much of a signature was right.
pub(super) struct SignatureVerifier {
    key: RwLock<Arc<hmac::Key>>,
    encoding: SignatureEncoding,
    read_secret: ReadSecret,
    read_at: Mutex<Instant>,
}

impl SignatureVerifier {
    pub(super) fn new(secret: &SecretString, encoding: SignatureEncoding, read_secret: ReadSecret) -> Self {
        Self { key: RwLock::new(Arc::new(key(secret))), encoding, read_secret, read_at: Mutex::new(Instant::now()) }
    }

    /// Whether this is the signature of the body. If it doesn't match, the secret is read again, because it may have
    /// changed.
    pub(super) async fn verify(&self, signature: &[u8], body: &[u8]) -> bool {
        let Some(tag) = decode(signature, self.encoding) else { return false };
        let is_signed_with = |key: &hmac::Key| hmac::verify(key, body, &tag).is_ok();
        let key_before = self.key().await;
        if is_signed_with(&key_before) {
            return true;
        }
        let mut read_at = self.read_at.lock().await;
        if read_at.elapsed() >= READ_EVERY {
            *read_at = Instant::now();
            let read = Arc::clone(&self.read_secret);
            let Ok(Some(secret)) = spawn_blocking(move || read()).await else { return false };
            *self.key.write().await = Arc::new(key(&secret));
        }
        drop(read_at);
        // Another request may have read the secret meanwhile.
        let key_now = self.key().await;
        !Arc::ptr_eq(&key_now, &key_before) && is_signed_with(&key_now)
    }

    async fn key(&self) -> Arc<hmac::Key> {
        Arc::clone(&*self.key.read().await)
    }
}

fn key(secret: &SecretString) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes())
}

/// Decodes a signature. `None` if it isn't in this encoding.
fn decode(signature: &[u8], encoding: SignatureEncoding) -> Option<Vec<u8>> {
    let text = signature.trim_ascii();
    let text = text.strip_prefix(b"sha256=").unwrap_or(text);
    match encoding {
        SignatureEncoding::Hex => hex::decode(text).ok(),
        SignatureEncoding::Base64 => BASE64_STANDARD.decode(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_changed_secret_is_read_again_when_a_signature_does_not_match() {
        let secret = Arc::new(StdMutex::new("old"));
        let read_secret = {
            let secret = Arc::clone(&secret);
            Arc::new(move || Some(SecretString::from(*secret.lock().unwrap()))) as ReadSecret
        };
        let verifier = SignatureVerifier::new(&"old".into(), SignatureEncoding::Hex, read_secret);
        let signature = |secret: &str| {
            format!(" sha256={} ", hex::encode(hmac::sign(&key(&SecretString::from(secret)), b"body"))).into_bytes()
        };
        assert!(verifier.verify(&signature("old"), b"body").await);
        assert!(!verifier.verify(&signature("old"), b"other body").await);
        *secret.lock().unwrap() = "new";
        assert!(!verifier.verify(&signature("new"), b"body").await, "the secret was read too often");
        tokio::time::advance(READ_EVERY).await;
        assert!(verifier.verify(&signature("new"), b"body").await);
        tokio::time::advance(READ_EVERY).await;
        assert!(!verifier.verify(&signature("old"), b"body").await);
        assert!(!verifier.verify(b"no hexadecimal digits", b"body").await);
    }
}
