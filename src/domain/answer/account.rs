//! Problems of the partner account and of the connection to the partner: no job causes them, so the worker pauses.

/// Why no request of this account can succeed, for labels, the log and the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AccountReason {
    /// 401.
    Unauthorized,
    /// 402.
    PaymentRequired,
    /// 403.
    Forbidden,
    /// 404, 405 or a redirect, with the status: the API isn't at this URL.
    NotFound(u16),
    /// The answer isn't JSON: something else answered, perhaps after the API did.
    NotTheApi,
    /// The API can't be reached.
    Unreachable(UnreachableReason),
}

/// Why the API can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "unreachable_")]
pub enum UnreachableReason {
    /// The host name can't be resolved.
    Dns,
    /// No process listens there, or a firewall refuses the connection.
    Refused,
    /// The connection could not be established in time.
    TimedOut,
    /// Requests are sent and get no answer.
    NoAnswer,
    /// The certificate is expired or not valid yet.
    CertificateExpired,
    /// The certificate is for another host.
    CertificateName,
    /// No authority that this machine trusts has signed the certificate.
    CertificateUnknown,
    /// The other side doesn't speak TLS, or no version of it that is supported here.
    Tls,
    /// Any other failure.
    Other,
}

impl UnreachableReason {
    /// Its name among the errors that the status page shows.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// What happened, a colon, and what the operator can do about it.
    const fn advice(self) -> &'static str {
        match self {
            Self::Dns => {
                "the API can't be reached, its name can't be resolved (DNS): check api.url and the name server"
            }
            Self::Refused => {
                "the API can't be reached, the connection is refused: check api.url, and firewalls or proxies in \
                 between"
            }
            Self::TimedOut => {
                "the API can't be reached, connecting takes too long: check the network, and firewalls in between"
            }
            Self::NoAnswer => {
                "the API gives no answer, requests are lost or take too long: look for a proxy in between, else ask Plu"
            }
            Self::CertificateExpired => {
                "the API can't be reached, its certificate is expired or not valid yet: check this machine's clock, \
                 else ask Plu"
            }
            Self::CertificateName => {
                "the API can't be reached, the certificate is for another host: check api.url, and look for a proxy \
                 in between"
            }
            Self::CertificateUnknown => {
                "the API can't be reached, this machine trusts no authority that signed its certificate: install \
                 ca-certificates, or set SSL_CERT_FILE to the CA of a proxy that inspects TLS"
            }
            Self::Tls => {
                "the API can't be reached, the TLS handshake failed: check api.url, and look for a proxy in between"
            }
            Self::Other => "the API can't be reached: check the network and api.url",
        }
    }
}

impl AccountReason {
    /// Every reason, with one status for all of [`AccountReason::NotFound`] and one cause for all of
    /// [`AccountReason::Unreachable`].
    pub const ALL: [Self; 6] = [
        Self::Unauthorized,
        Self::PaymentRequired,
        Self::Forbidden,
        Self::NotFound(404),
        Self::NotTheApi,
        Self::Unreachable(UnreachableReason::Other),
    ];

    /// Its name in logs and labels.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// Returns whether one job may cause it after all, as where a firewall refuses something in the request. Key,
    /// wallet and network concern every job.
    pub const fn may_concern_one_job(self) -> bool {
        matches!(self, Self::Forbidden | Self::NotFound(_) | Self::NotTheApi)
    }

    /// Returns whether a request with this answer may have created the user: a proxy may replace the API's answer by a
    /// page of its own.
    pub const fn may_have_created(self) -> bool {
        matches!(self, Self::NotTheApi)
    }

    /// What it means, a colon, and what the operator can do about it. The advice about a key depends on its source.
    pub fn advice(self, key: KeySource) -> String {
        let advice = match self {
            Self::Unauthorized => return format!("the API key is refused (401): {}", key.advice()),
            Self::NotFound(status @ 300..=399) => {
                return format!("the base URL redirects ({status}), and redirects aren't followed: check api.url");
            }
            Self::NotFound(status) => return format!("the API isn't at this base URL ({status}): check api.url"),
            Self::PaymentRequired => "the partner wallet is empty (402): top it up, then the work resumes by itself",
            Self::Forbidden => "the partner account is suspended or pending (403): ask Plu",
            Self::NotTheApi => {
                "something other than the API answers, perhaps a proxy, or a gateway whose API is down: check api.url \
                 and the network"
            }
            Self::Unreachable(reason) => reason.advice(),
        };
        advice.to_owned()
    }
}

/// Where the API key comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeySource {
    /// A file, which is read again on SIGHUP.
    #[default]
    File,
    /// A copy that the service manager made at the start (systemd's `LoadCredential`).
    Credential,
    /// An environment variable, which a running process can't read again.
    Variable,
    /// The built-in sandbox.
    Sandbox,
}

impl KeySource {
    const fn advice(self) -> &'static str {
        match self {
            Self::File => "put a valid key into the key file and send SIGHUP",
            Self::Credential => "put a valid key into the service's credential and restart the service",
            Self::Variable => "stop it and start it again with a valid key in PLU_API_KEY",
            Self::Sandbox => "nothing to do, the sandbox was set to refuse it; the work resumes by itself",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_status_and_fits_the_source_of_the_key() {
        let says = |reason: AccountReason, key, text: &str| {
            let advice = reason.advice(key);
            assert!(advice.contains(text), "{advice}");
        };
        for (status, text) in [(404, "(404): check api.url"), (405, "(405): check api.url"), (301, "redirects (301)")] {
            says(AccountReason::NotFound(status), KeySource::File, text);
        }
        says(AccountReason::Unauthorized, KeySource::File, "into the key file and send SIGHUP");
        says(AccountReason::Unauthorized, KeySource::Credential, "restart the service");
        says(AccountReason::Unauthorized, KeySource::Variable, "start it again with a valid key in PLU_API_KEY");
        says(AccountReason::Unauthorized, KeySource::Sandbox, "resumes by itself");
        assert!(!AccountReason::Unauthorized.advice(KeySource::Variable).contains("file"));
    }

    #[test]
    fn every_advice_says_what_happened_and_what_to_do() {
        for reason in AccountReason::ALL {
            let advice = reason.advice(KeySource::File);
            assert!(advice.split_once(": ").is_some_and(|(meaning, _)| !meaning.is_empty()), "{advice}");
        }
    }

    #[test]
    fn reasons_are_named_after_their_status_text() {
        let codes = AccountReason::ALL.map(AccountReason::code);
        let expected = ["unauthorized", "payment_required", "forbidden", "not_found", "not_the_api", "unreachable"];
        assert_eq!(codes, expected);
        assert_eq!(UnreachableReason::CertificateName.code(), "unreachable_certificate_name");
    }
}
