//! Why there is no answer, by two questions: may the request have reached the partner, and if not, what was in its way?

use std::error::Error;
use std::io;

use rustls::CertificateError;

use crate::domain::answer::NoConnection;

/// Why there is no answer. reqwest's own error is not kept: its text holds the URL.
#[derive(Debug)]
pub(super) enum Lost {
    /// The request did not leave.
    NotSent(NoConnection),
    Timeout,
    Connection,
}

impl From<&reqwest::Error> for Lost {
    fn from(error: &reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            Self::NotSent(no_connection(error))
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Connection
        }
    }
}

fn no_connection(error: &reqwest::Error) -> NoConnection {
    let first: &(dyn Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |cause: &&(dyn Error + 'static)| (*cause).source());
    let why = causes.filter_map(what_it_says).next();
    why.unwrap_or(if error.is_timeout() { NoConnection::TimedOut } else { NoConnection::Other })
}

fn what_it_says(cause: &(dyn Error + 'static)) -> Option<NoConnection> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(of_tls(tls));
    }
    let Some(io) = cause.downcast_ref::<io::Error>() else {
        // The connector's own type for it can't be named.
        return cause.to_string().starts_with("dns error").then_some(NoConnection::Dns);
    };
    match (io.kind(), io.get_ref()) {
        // What an error of the system carries isn't among its causes.
        (_, Some(inner)) => what_it_says(inner),
        (io::ErrorKind::ConnectionRefused, None) => Some(NoConnection::Refused),
        (io::ErrorKind::TimedOut, None) => Some(NoConnection::TimedOut),
        _ => None,
    }
}

fn of_tls(error: &rustls::Error) -> NoConnection {
    let rustls::Error::InvalidCertificate(certificate) = error else { return NoConnection::Tls };
    match certificate {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => NoConnection::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            NoConnection::CertificateName
        }
        _ => NoConnection::CertificateUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_what_is_wrong_with_it() {
        for (certificate, expected) in [
            (CertificateError::Expired, NoConnection::CertificateExpired),
            (CertificateError::NotValidYet, NoConnection::CertificateExpired),
            (CertificateError::NotValidForName, NoConnection::CertificateName),
            (CertificateError::UnknownIssuer, NoConnection::CertificateUnknown),
        ] {
            let tls = rustls::Error::InvalidCertificate(certificate);
            assert_eq!(what_it_says(&io::Error::other(tls)), Some(expected));
        }
    }
}
