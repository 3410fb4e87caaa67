//! Why a request has no answer: may it have reached the partner, and if not, why?

use std::error::Error;
use std::io;

use rustls::CertificateError;

use crate::domain::answer::UnreachableReason;

/// A request without an answer. It doesn't keep reqwest's error, whose text contains the URL.
#[derive(Debug)]
pub(super) enum RequestFailure {
    /// The request was not sent.
    NotSent(UnreachableReason),
    /// No answer within the time limit.
    Timeout,
    /// The connection broke before the end of the answer.
    ConnectionLost,
}

impl From<reqwest::Error> for RequestFailure {
    fn from(error: reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            Self::NotSent(unreachable_reason(&error))
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::ConnectionLost
        }
    }
}

fn unreachable_reason(error: &reqwest::Error) -> UnreachableReason {
    let first: &(dyn Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |cause: &&(dyn Error + 'static)| (*cause).source());
    let reason = causes.filter_map(reason_of_cause).next();
    reason.unwrap_or(if error.is_timeout() { UnreachableReason::TimedOut } else { UnreachableReason::Other })
}

fn reason_of_cause(cause: &(dyn Error + 'static)) -> Option<UnreachableReason> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(reason_of_tls(tls));
    }
    let Some(io) = cause.downcast_ref::<io::Error>() else {
        // The connector's type of this error is private.
        return cause.to_string().starts_with("dns error").then_some(UnreachableReason::Dns);
    };
    match (io.kind(), io.get_ref()) {
        // `source` of an I/O error skips the error that it wraps.
        (_, Some(inner)) => reason_of_cause(inner),
        (io::ErrorKind::ConnectionRefused, None) => Some(UnreachableReason::Refused),
        (io::ErrorKind::TimedOut, None) => Some(UnreachableReason::TimedOut),
        _ => None,
    }
}

fn reason_of_tls(error: &rustls::Error) -> UnreachableReason {
    let rustls::Error::InvalidCertificate(certificate) = error else { return UnreachableReason::Tls };
    match certificate {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => UnreachableReason::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            UnreachableReason::CertificateName
        }
        _ => UnreachableReason::CertificateUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_says_what_is_wrong_with_a_certificate() {
        for (certificate, expected) in [
            (CertificateError::Expired, UnreachableReason::CertificateExpired),
            (CertificateError::NotValidYet, UnreachableReason::CertificateExpired),
            (CertificateError::NotValidForName, UnreachableReason::CertificateName),
            (CertificateError::UnknownIssuer, UnreachableReason::CertificateUnknown),
        ] {
            let tls = rustls::Error::InvalidCertificate(certificate);
            assert_eq!(reason_of_cause(&io::Error::other(tls)), Some(expected));
        }
    }
}
