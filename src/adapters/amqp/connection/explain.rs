//! Broker errors as messages that say what to do. Pure.
//!
//! lapin's own texts are not shown: they may hold the URL.

use std::io;

use lapin::ErrorKind;
use rustls::{AlertDescription, CertificateError};

/// Returns the error as a message, with a remedy where one is known.
pub(crate) fn explain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => explain_reply_code(refusal.get_id(), refusal.get_message().as_str()),
        ErrorKind::IOError(error) => explain_io(error),
        ErrorKind::MissingHeartbeatError => {
            "the broker stopped answering heartbeats: check whether it is frozen or the network is down".to_owned()
        }
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            "the server doesn't speak AMQP 0-9-1: check the port (usually 5672 for amqp://, 5671 for amqps://)"
                .to_owned()
        }
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
            "the connection is closed".to_owned()
        }
        _ => "the connection failed".to_owned(),
    }
}

/// Whether an exchange or a queue doesn't exist. RabbitMQ answers `NOT_FOUND` for a queue that exists and is down too.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return false };
    let text = refusal.get_message().as_str();
    refusal.get_id() == 404 && (text.contains("no queue") || text.contains("no exchange"))
}

/// The headers of a message are longer than a frame. Headers can't be split over frames.
pub(crate) const FRAME_TOO_LARGE: &str =
    "the headers of a message are longer than the negotiated frame size: the next connection asks for the largest one";

/// `code`: a reply code of AMQP 0-9-1 (1.2). `text`: RabbitMQ's message, or lapin's.
fn explain_reply_code(code: u16, text: &str) -> String {
    // lapin's message.
    if text.contains("frame too large") {
        return FRAME_TOO_LARGE.to_owned();
    }
    let advice = match code {
        403 | 530 if text.contains("connection limit") => {
            "; raise that limit (rabbitmqctl set_vhost_limits, set_user_limits), or close connections: a worker has \
             two, and three with --listen"
        }
        403 | 530 if text.contains("access to vhost") => {
            "; give the user permissions on that virtual host (rabbitmqctl set_permissions), or name another one in \
             the queue URL"
        }
        403 => "; check user, password and permissions",
        406 if text.contains("delivery acknowledgement") => {
            "; a job was not acknowledged within the broker's consumer_timeout; the broker delivers it again"
        }
        530 => "; check the virtual host",
        _ => "",
    };
    // Some of RabbitMQ's texts end with a full stop.
    format!("the broker refuses: {}{advice}", text.trim_end_matches('.'))
}

fn explain_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => explain_tls(tls),
        None => match error.kind() {
            io::ErrorKind::TimedOut => "no answer: check host, port and firewall".to_owned(),
            // The standard library has no kind for this error, only a text.
            _ if error.to_string().starts_with("failed to lookup address") => {
                "the host name can't be resolved: check the name and this machine's DNS".to_owned()
            }
            io::ErrorKind::ConnectionRefused => {
                "connection refused: check whether the broker is running, then host and port".to_owned()
            }
            kind @ (io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof) => {
                format!("the other side closed the connection ({kind}); if that happens at once, check port and TLS")
            }
            kind => format!("{kind}: check host, port and TLS"),
        },
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            // A bad signature: a CA of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the broker's certificate comes from a CA that isn't trusted here: set amqp.ca_file to that CA's \
                 certificate (PEM)"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the broker's certificate is for another host name: use that name in the queue URL".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired: renew it, or set this machine's clock".to_owned()
            }
            other => format!("the broker's certificate can't be trusted: {other}"),
        },
        rustls::Error::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            "the broker asks for a client certificate: set amqp.client_cert_file and amqp.client_key_file".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the broker refuses TLS with {alert:?}: check amqp.client_cert_file, which it may not trust")
        }
        rustls::Error::InvalidMessage(_) => {
            "the server doesn't speak TLS: check the port (usually 5671), or use amqp://".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

/// Two values of one argument that differ.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArgumentMismatch<'t> {
    /// Name of the argument, as in `x-message-ttl`.
    pub(crate) argument: &'t str,
    /// Kind and name, as in `queue plu.onboarding.dead`.
    pub(crate) entity: String,
    /// Value on the broker; `None` if it isn't set.
    pub(crate) actual: Option<&'t str>,
    /// Value that was asked for; `None` if it must not be set.
    pub(crate) expected: Option<&'t str>,
}

/// Parses RabbitMQ's text of a 406. `None` if it says something else, or was cut off at its 255 bytes.
pub(crate) fn parse_argument_mismatch(text: &str) -> Option<ArgumentMismatch<'_>> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once("' for ")?;
    let (kind, rest) = rest.split_once(" '")?;
    let (name, rest) = rest.split_once("' in vhost '")?;
    let (_, rest) = rest.split_once("': received ")?;
    let (expected, actual) = rest.split_once(" but current is ")?;
    Some(ArgumentMismatch {
        argument,
        entity: format!("{kind} {name}"),
        actual: parse_value(actual)?,
        expected: parse_value(expected)?,
    })
}

/// Parses `none`, `'VALUE'` or `the value 'VALUE' of type 'TYPE'`.
fn parse_value(text: &str) -> Option<Option<&str>> {
    if text == "none" {
        return Some(None);
    }
    let text = match text.strip_prefix("the value ") {
        Some(typed) => typed.rsplit_once(" of type ")?.0,
        None => text,
    };
    text.strip_prefix('\'')?.strip_suffix('\'').map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_406_text_is_parsed_into_the_argument_and_both_values() {
        for (values, actual, expected) in [
            ("received '5000' but current is '4000'", Some("4000"), Some("5000")),
            ("received the value '100' of type 'signedint' but current is none", None, Some("100")),
            ("received none but current is the value 'reject-publish' of type 'longstr'", Some("reject-publish"), None),
            ("received '' but current is 'x'", Some("x"), Some("")),
        ] {
            let text =
                format!("PRECONDITION_FAILED - inequivalent arg 'x-a' for queue 'p.dead' in vhost '/': {values}");
            let entity = "queue p.dead".to_owned();
            let mismatch = ArgumentMismatch { argument: "x-a", entity, actual, expected };
            assert_eq!(parse_argument_mismatch(&text), Some(mismatch), "{values}");
        }
    }

    #[test]
    fn a_refusal_is_explained_in_one_sentence_with_a_remedy() {
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                    broker logfile.";
        let message = explain_reply_code(403, text);
        assert!(message.ends_with("see the broker logfile; check user, password and permissions"), "{message}");
        let full = "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (2) is reached";
        assert!(explain_reply_code(530, full).contains("; raise that limit"), "{}", explain_reply_code(530, full));
        let vhost = explain_reply_code(530, "NOT_ALLOWED - vhost nowhere not found");
        assert_eq!(vhost, "the broker refuses: NOT_ALLOWED - vhost nowhere not found; check the virtual host");
    }

    #[test]
    fn an_unknown_host_name_is_explained_as_a_dns_problem() {
        let error = std::net::ToSocketAddrs::to_socket_addrs("no host:5672").unwrap_err();
        assert!(explain_io(&error).starts_with("the host name can't be resolved"), "{error}: {}", explain_io(&error));
    }

    #[test]
    fn a_text_that_is_cut_off_or_unknown_is_not_parsed() {
        let whole =
            "PRECONDITION_FAILED - inequivalent arg 'x-a' for queue 'q' in vhost '/': received '5' but current is '4'";
        for end in 0..whole.len() {
            assert_eq!(parse_argument_mismatch(&whole[..end]), None, "{}", &whole[..end]);
        }
        assert_eq!(parse_argument_mismatch("PRECONDITION_FAILED - fast reply consumer does not exist"), None);
        assert_eq!(explain_reply_code(406, "some new text"), "the broker refuses: some new text");
    }
}
