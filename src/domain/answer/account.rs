//! Problems of the partner account and of the connection to the partner: no job causes them, so the worker pauses.

use super::LocalLimit;

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
    /// A 4xx with this status that isn't about a job: it isn't the API's, or means a mistake in every request.
    UnexpectedRefusal(u16),
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
    /// Requests arrive and aren't processed: 421, 425, or an HTTP/2 stream that is refused.
    NotProcessed,
    /// The proxy asks for a user name and a password (407).
    ProxyPassword,
    /// The proxy refuses to connect to the API, for example with 403 or 502.
    ProxyRefused,
    /// A limit of this machine is reached.
    #[strum(transparent)]
    Local(LocalLimit),
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

/// Code of [`AccountReason::Unreachable`] where this machine is the cause: the API wasn't even asked.
const LOCAL_LIMIT: &str = "local_limit";

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
            Self::NotProcessed => {
                "the API doesn't process the requests that it receives (421, 425 or refused HTTP/2 streams): look for a \
                 proxy in between, else ask Plu"
            }
            Self::ProxyPassword => {
                "the API can't be reached, the proxy in HTTPS_PROXY or ALL_PROXY asks for a user name and a password \
                 (407): put valid ones into that variable (http://USER:PASSWORD@HOST:PORT) and restart"
            }
            Self::ProxyRefused => {
                "the API can't be reached, the proxy in HTTPS_PROXY or ALL_PROXY refuses to connect to it (such as 403 \
                 or 502 to CONNECT): have the API's host allowed there, or exclude it with NO_PROXY and restart"
            }
            Self::Local(limit) => limit.advice(),
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
    /// Every reason, with one status for all of [`AccountReason::NotFound`] and [`AccountReason::UnexpectedRefusal`],
    /// and one cause each for [`AccountReason::Unreachable`] by the network and by this machine.
    pub const ALL: [Self; 8] = [
        Self::Unauthorized,
        Self::PaymentRequired,
        Self::Forbidden,
        Self::NotFound(404),
        Self::UnexpectedRefusal(400),
        Self::NotTheApi,
        Self::Unreachable(UnreachableReason::Other),
        Self::Unreachable(UnreachableReason::Local(LocalLimit::Files)),
    ];

    /// Its name in logs and labels.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable(UnreachableReason::Local(_)) => LOCAL_LIMIT,
            other => other.into(),
        }
    }

    /// Returns whether one job may cause it after all, as where a firewall refuses something in the request. Key,
    /// wallet and network concern every job.
    pub const fn may_concern_one_job(self) -> bool {
        matches!(
            self,
            Self::Forbidden
                | Self::NotFound(_)
                | Self::UnexpectedRefusal(_)
                | Self::NotTheApi
                | Self::Unreachable(UnreachableReason::NotProcessed)
        )
    }

    /// Returns whether a request with this answer may have created the user: a proxy may replace the API's answer by a
    /// page of its own. A registered 4xx means that the request was not performed (RFC 9110, 15.5); the numbers beyond
    /// are proxies' own, for example 499 for a client that is gone.
    pub const fn may_have_created(self) -> bool {
        matches!(self, Self::NotTheApi | Self::UnexpectedRefusal(432..=450 | 452..))
    }

    /// Returns whether one request may get it by chance while all others succeed, as from one of a gateway's machines.
    pub const fn may_be_chance(self) -> bool {
        matches!(
            self,
            Self::NotTheApi | Self::UnexpectedRefusal(_) | Self::Unreachable(UnreachableReason::NotProcessed)
        )
    }

    /// What it means, a colon, and what the operator can do about it. The advice about a key depends on its source.
    pub fn advice(self, key: KeySource) -> String {
        let advice = match self {
            Self::Unauthorized => return format!("the API key is refused (401): {}", key.advice()),
            Self::NotFound(status @ 300..=399) => {
                return format!("the base URL redirects ({status}), and redirects aren't followed: check api.url");
            }
            Self::NotFound(status) => return format!("the API isn't at this base URL ({status}): check api.url"),
            Self::UnexpectedRefusal(status) => {
                return format!("{}: {}", refusal_meaning(status), refusal_advice(status));
            }
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

fn refusal_meaning(status: u16) -> String {
    match status {
        400 | 409 | 422 => {
            format!("requests are refused ({status}) in a shape that isn't the API's, without a code or a field")
        }
        _ => format!("requests are refused ({status}), which the API documents for no job"),
    }
}

const fn refusal_advice(status: u16) -> &'static str {
    match status {
        407 => "a proxy asks for a user name and a password; put them into the proxy's URL (HTTPS_PROXY)",
        413 | 414 | 431 => "look for a proxy or firewall in between that limits the size of requests",
        _ => "look for a proxy, gateway or firewall in between, else ask Plu",
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
        says(AccountReason::UnexpectedRefusal(400), KeySource::File, "refused (400) in a shape that isn't the API's");
        says(
            AccountReason::UnexpectedRefusal(413),
            KeySource::File,
            "refused (413), which the API documents for no job",
        );
        says(AccountReason::UnexpectedRefusal(407), KeySource::File, "a proxy asks for a user name");
        says(AccountReason::Unauthorized, KeySource::File, "into the key file and send SIGHUP");
        says(AccountReason::Unauthorized, KeySource::Credential, "restart the service");
        says(AccountReason::Unauthorized, KeySource::Variable, "start it again with a valid key in PLU_API_KEY");
        says(AccountReason::Unauthorized, KeySource::Sandbox, "resumes by itself");
        assert!(!AccountReason::Unauthorized.advice(KeySource::Variable).contains("file"));
    }

    #[test]
    fn a_request_that_is_not_processed_may_concern_one_job_only() {
        let concerns_one = |reason| AccountReason::Unreachable(reason).may_concern_one_job();
        assert!(concerns_one(UnreachableReason::NotProcessed));
        assert!(!concerns_one(UnreachableReason::Refused) && !concerns_one(UnreachableReason::NoAnswer));
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
        let expected = [
            "unauthorized",
            "payment_required",
            "forbidden",
            "not_found",
            "unexpected_refusal",
            "not_the_api",
            "unreachable",
            "local_limit",
        ];
        assert_eq!(codes, expected);
        assert_eq!(UnreachableReason::Local(LocalLimit::Ports).code(), "local_ports");
        assert_eq!(UnreachableReason::CertificateName.code(), "unreachable_certificate_name");
    }
}
