//! Why a request has no answer: may it have reached the partner, and if not, why?

use std::error::Error;
use std::fs::File;
use std::io;

use rustls::CertificateError;

use crate::domain::answer::{LocalLimit, UnreachableReason};

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
        } else if causes(&error).any(is_refused_stream) {
            Self::NotSent(UnreachableReason::NotProcessed)
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::ConnectionLost
        }
    }
}

fn causes<'e>(error: &'e reqwest::Error) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |cause: &&'e (dyn Error + 'static)| (*cause).source())
}

/// Returns whether an HTTP/2 server says that it didn't process the request (RFC 9113, 8.7): it refused the stream, or
/// announced with GOAWAY that it processes only earlier streams. h2 gives the error of a GOAWAY frame to later streams
/// only; the others get the error of the connection when it ends.
fn is_refused_stream(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn unreachable_reason(error: &reqwest::Error) -> UnreachableReason {
    let local = causes(error).filter_map(local_limit_of_cause).next().map(UnreachableReason::Local);
    let reason = local.or_else(|| causes(error).filter_map(reason_of_cause).next());
    match reason {
        // The resolver doesn't say that it could open no socket.
        Some(UnreachableReason::Dns) => local_limit_now().map_or(UnreachableReason::Dns, UnreachableReason::Local),
        Some(reason) => reason,
        None if error.is_timeout() => UnreachableReason::TimedOut,
        None => UnreachableReason::Other,
    }
}

fn local_limit_of_cause(cause: &(dyn Error + 'static)) -> Option<LocalLimit> {
    let io = cause.downcast_ref::<io::Error>()?;
    // `source` of an I/O error skips the error that it wraps.
    io.get_ref().map_or_else(|| LocalLimit::of(io), |inner| local_limit_of_cause(inner))
}

/// Returns the limit that keeps this process from opening a file now.
fn local_limit_now() -> Option<LocalLimit> {
    File::open("/dev/null").err().and_then(|error| LocalLimit::of(&error))
}

fn reason_of_cause(cause: &(dyn Error + 'static)) -> Option<UnreachableReason> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(reason_of_tls(tls));
    }
    let Some(io) = cause.downcast_ref::<io::Error>() else {
        // The types of these errors are private.
        return match cause.to_string() {
            text if text.starts_with("dns error") => Some(UnreachableReason::Dns),
            text if text == "tunnel error: proxy authorization required" => Some(UnreachableReason::ProxyPassword),
            // The texts of a refusal, and of a connection that the proxy closes instead of answering.
            text if ["tunnel error: unsuccessful", "tunnel error: unexpected end of file"].contains(&&*text) => {
                Some(UnreachableReason::ProxyRefused)
            }
            _ => None,
        };
    };
    match (io.kind(), io.get_ref()) {
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
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    fn builder() -> reqwest::ClientBuilder {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().tls_certs_only([])
    }

    async fn not_sent_because(builder: reqwest::ClientBuilder, url: &str) -> UnreachableReason {
        let error = builder.build().unwrap().get(url).send().await.unwrap_err();
        match RequestFailure::from(error) {
            RequestFailure::NotSent(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_address_that_this_machine_lacks_is_not_an_unreachable_api() {
        // From a network for documentation (RFC 5737).
        let builder = builder().no_proxy().local_address(std::net::IpAddr::from(Ipv4Addr::new(203, 0, 113, 9)));
        let reason = not_sent_because(builder, "http://127.0.0.1:1").await;
        assert_eq!(reason, UnreachableReason::Local(LocalLimit::Ports));
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_to_connect_is_the_reason() {
        for (answer, expected) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", UnreachableReason::ProxyPassword),
            ("HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\ndenied", UnreachableReason::ProxyRefused),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", UnreachableReason::ProxyRefused),
            ("<html>", UnreachableReason::ProxyRefused),
            ("", UnreachableReason::ProxyRefused),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                client.write_all(answer.as_bytes()).unwrap();
            });
            let builder = builder().proxy(reqwest::Proxy::https(url).unwrap());
            assert_eq!(not_sent_because(builder, "https://api.example").await, expected, "{answer:?}");
        }
    }

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
