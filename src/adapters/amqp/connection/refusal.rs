//! What the broker refuses, in words that say what to do. Pure.
//!
//! lapin's own texts are not used: they may hold the URL.

use std::io;

use lapin::ErrorKind;
use rustls::{AlertDescription, CertificateError};

/// The broker's error in words, with the remedy where there is one.
pub(crate) fn explain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => of_code(refusal.get_id(), refusal.get_message().as_str()),
        ErrorKind::IOError(error) => of_io(error),
        ErrorKind::MissingHeartbeatError => {
            "it stopped answering heartbeats: is it frozen, or the network between cut?".to_owned()
        }
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            "what answers doesn't speak AMQP 0-9-1: check the port (usually 5672 for amqp://, 5671 for amqps://)"
                .to_owned()
        }
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
            "the connection is gone".to_owned()
        }
        _ => "the connection failed".to_owned(),
    }
}

/// Whether what was asked about isn't there. A queue that is there and down says `NOT_FOUND` as well.
pub(crate) fn is_missing(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return false };
    let text = refusal.get_message().as_str();
    refusal.get_id() == 404 && (text.contains("no queue") || text.contains("no exchange"))
}

/// A message whose headers are longer than a frame, which they can't be spread over.
pub(crate) const FRAME_TOO_LARGE: &str =
    "the headers of a message are longer than the frames that were agreed on: longer ones are asked for";

fn of_code(code: u16, text: &str) -> String {
    // lapin's own words.
    if text.contains("frame too large") {
        return FRAME_TOO_LARGE.to_owned();
    }
    let advice = match code {
        403 | 530 if text.contains("connection limit") => {
            "; raise that limit (rabbitmqctl set_vhost_limits, set_user_limits), or close connections: a worker has two, and with \
             --listen three"
        }
        403 | 530 if text.contains("access to vhost") => {
            "; give the user permissions on that virtual host (rabbitmqctl set_permissions), or name another one in the queue URL"
        }
        403 => "; check user, password and permissions",
        406 if text.contains("delivery acknowledgement") => {
            "; a job was in hand for longer than the broker's consumer_timeout; it is delivered again"
        }
        530 => "; check the virtual host",
        _ => "",
    };
    // Some of RabbitMQ's texts are whole sentences.
    format!("the broker refuses: {}{advice}", text.trim_end_matches('.'))
}

fn of_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => of_tls(tls),
        None => match error.kind() {
            io::ErrorKind::TimedOut => "no answer: check host, port and firewall".to_owned(),
            // The standard library has a text for it, and no kind.
            _ if error.to_string().starts_with("failed to lookup address") => {
                "its host name can't be resolved: check the name and this machine's DNS".to_owned()
            }
            io::ErrorKind::ConnectionRefused => {
                "nothing listens there: is the broker up? Else check host and port".to_owned()
            }
            kind @ (io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof) => {
                format!(
                    "the connection was closed on the other side ({kind}); where that happens at once, check port and TLS"
                )
            }
            kind => format!("{kind}: check host, port and TLS"),
        },
    }
}

fn of_tls(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            // A bad signature: a CA of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate comes from a CA that isn't trusted here: name that \
                                                CA's certificate (PEM) in amqp.ca_file"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another host name: use that name in the queue URL".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: renew it, or set this machine's clock".to_owned()
            }
            other => format!("its certificate can't be trusted: {other}"),
        },
        rustls::Error::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            "it asks for a client certificate: set amqp.client_cert_file and amqp.client_key_file".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("it refuses TLS with {alert:?}: check amqp.client_cert_file, which it may not trust")
        }
        rustls::Error::InvalidMessage(_) => {
            "what answers doesn't speak TLS: check the port (usually 5671), or use amqp://".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

/// Two values of an argument that differ.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference<'t> {
    /// Such as `x-message-ttl`.
    pub(crate) argument: &'t str,
    /// Such as `queue plu.onboarding.dead`.
    pub(crate) thing: String,
    /// What is there. `None`: it isn't set.
    pub(crate) has: Option<&'t str>,
    /// What was asked for. `None`: it isn't set.
    pub(crate) wanted: Option<&'t str>,
}

/// Reads RabbitMQ's text of a 406. `None`: it says something else, or was cut off at its 255 bytes.
pub(crate) fn difference(text: &str) -> Option<Difference<'_>> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once("' for ")?;
    let (kind, rest) = rest.split_once(" '")?;
    let (name, rest) = rest.split_once("' in vhost '")?;
    let (_, rest) = rest.split_once("': received ")?;
    let (wanted, has) = rest.split_once(" but current is ")?;
    Some(Difference { argument, thing: format!("{kind} {name}"), has: value(has)?, wanted: value(wanted)? })
}

/// `none`, `'VALUE'` or `the value 'VALUE' of type 'TYPE'`.
fn value(text: &str) -> Option<Option<&str>> {
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
    fn the_brokers_text_about_an_argument_is_read() {
        for (values, has, wanted) in [
            ("received '5000' but current is '4000'", Some("4000"), Some("5000")),
            ("received the value '100' of type 'signedint' but current is none", None, Some("100")),
            ("received none but current is the value 'reject-publish' of type 'longstr'", Some("reject-publish"), None),
            ("received '' but current is 'x'", Some("x"), Some("")),
        ] {
            let text =
                format!("PRECONDITION_FAILED - inequivalent arg 'x-a' for queue 'p.dead' in vhost '/': {values}");
            let expected = Difference { argument: "x-a", thing: "queue p.dead".to_owned(), has, wanted };
            assert_eq!(difference(&text), Some(expected), "{values}");
        }
    }

    #[test]
    fn a_refusal_reads_as_one_sentence_with_its_remedy() {
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
        let said = of_code(403, text);
        assert!(said.ends_with("see the broker logfile; check user, password and permissions"), "{said}");
        let full = "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (2) is reached";
        assert!(of_code(530, full).contains("; raise that limit"), "{}", of_code(530, full));
        let vhost = of_code(530, "NOT_ALLOWED - vhost nowhere not found");
        assert_eq!(vhost, "the broker refuses: NOT_ALLOWED - vhost nowhere not found; check the virtual host");
    }

    #[test]
    fn a_name_that_is_no_host_is_told_as_such() {
        let error = std::net::ToSocketAddrs::to_socket_addrs("no host:5672").unwrap_err();
        assert!(of_io(&error).starts_with("its host name can't be resolved"), "{error}: {}", of_io(&error));
    }

    #[test]
    fn a_text_that_says_something_else_or_is_cut_off_is_left_as_it_is() {
        let whole =
            "PRECONDITION_FAILED - inequivalent arg 'x-a' for queue 'q' in vhost '/': received '5' but current is '4'";
        for end in 0..whole.len() {
            assert_eq!(difference(&whole[..end]), None, "{}", &whole[..end]);
        }
        assert_eq!(difference("PRECONDITION_FAILED - fast reply consumer does not exist"), None);
        assert_eq!(of_code(406, "some new text"), "the broker refuses: some new text");
    }
}
