//! What a fault makes of the partner's answer, if the answer arrives at all.

use serde::Deserialize;

use crate::sandbox::fault_kind::FaultKind;
use crate::sandbox::reply::{BodyEncoding, SandboxReply};

/// Longer than any `serviceId`, in characters.
const LONG_ID_CHARS: usize = 300_000;

/// Longer than any link, in characters.
const LONG_LINK_CHARS: usize = 4_096;

/// Returns the damaged answer. Answers to which the fault doesn't apply are unchanged.
pub(super) fn damaged(fault: FaultKind, reply: SandboxReply) -> SandboxReply {
    match fault {
        FaultKind::Truncated => {
            // Half of a JSON object is never valid JSON.
            let body = reply.body.chars().take(reply.body.chars().count() / 2).collect();
            SandboxReply { body, ..reply }
        }
        FaultKind::Bom => SandboxReply { body: format!("\u{feff}{}", reply.body), ..reply },
        FaultKind::Gzip => SandboxReply { content_encoding: Some(BodyEncoding::Gzip), ..reply },
        FaultKind::Deflate => SandboxReply { content_encoding: Some(BodyEncoding::Deflate), ..reply },
        FaultKind::DeflateRaw => SandboxReply { content_encoding: Some(BodyEncoding::RawDeflate), ..reply },
        FaultKind::TypeText => SandboxReply { content_type: Some("text/plain"), ..reply },
        FaultKind::TypeNone => SandboxReply { content_type: None, ..reply },
        _ if reply.status >= 300 => reply,
        FaultKind::WrongJson => SandboxReply { body: r#"{"result":[{"id":1}]}"#.to_owned(), ..reply },
        _ => match damaged_success(fault, &reply.body) {
            Some(body) => SandboxReply { body, ..reply },
            None => reply,
        },
    }
}

/// Returns the damaged body of a success. `None`: the fault doesn't apply to it.
fn damaged_success(fault: FaultKind, body: &str) -> Option<String> {
    let parts = SuccessParts::of(body)?;
    let SuccessParts { head, members } = parts;
    let text = match fault {
        FaultKind::Twice => format!(r#"{head},"data":{{{members},{members}}}}}"#),
        FaultKind::TwiceDiffers => format!(r#"{head},"data":{{{members},{}}}}}"#, other_members(members)),
        FaultKind::Flat => format!("{head},{members}}}"),
        FaultKind::Nested => format!(r#"{head},"data":{{"user":{{{members}}}}}}}"#),
        FaultKind::OpenEnd => format!(r#"{head},"data":{{{members}"#),
        _ => return damaged_creation(fault, &parts),
    };
    Some(text)
}

/// Returns the damaged body of a creation. `None`: the fault doesn't apply, or it isn't a creation.
fn damaged_creation(fault: FaultKind, parts: &SuccessParts<'_>) -> Option<String> {
    let CreatedMembers { service_id, verification_url } = CreatedMembers::of(parts.members)?;
    let (id, link) = (quoted(&service_id), quoted(&verification_url));
    let with_id = |id: &str| Some(format!(r#""serviceId":{id},"verificationUrl":{link}"#));
    let with_link = |link: &str| Some(format!(r#""serviceId":{id},"verificationUrl":{link}"#));
    let members = match fault {
        FaultKind::OpenLink => {
            let half = &link[..link.len() / 2];
            return Some(format!(r#"{},"data":{{"serviceId":{id},"verificationUrl":{half}"#, parts.head));
        }
        FaultKind::IdNone => Some(format!(r#""verificationUrl":{link}"#)),
        FaultKind::IdLong => with_id(&quoted(&"a".repeat(LONG_ID_CHARS))),
        FaultKind::IdNul => with_id(&quoted(&format!("{service_id}\0"))),
        FaultKind::LinkNone => Some(format!(r#""serviceId":{id}"#)),
        FaultKind::LinkNull => with_link("null"),
        FaultKind::LinkRenamed => Some(format!(r#""serviceId":{id},"verificationLink":{link}"#)),
        FaultKind::LinkObject => with_link(&format!(r#"{{"url":{link}}}"#)),
        FaultKind::LinkScript => with_link(r#""javascript:alert(document.domain)""#),
        FaultKind::LinkHttp => with_link(r#""http://169.254.169.254/latest/meta-data/""#),
        FaultKind::LinkFormula => with_link(&quoted("=HYPERLINK(\"https://example.com\",\"Verify\")")),
        FaultKind::LinkNul => with_link(&quoted(&format!("{verification_url}\0"))),
        FaultKind::LinkLong => with_link(&quoted(&format!("{verification_url}{}", "a".repeat(LONG_LINK_CHARS)))),
        _ => None,
    }?;
    Some(format!(r#"{},"data":{{{members}}}}}"#, parts.head))
}

/// The text of a success as [`SandboxReply`] writes it.
struct SuccessParts<'a> {
    /// From the first brace to the last member before `data`.
    head: &'a str,
    /// The members of `data`, without its braces.
    members: &'a str,
}

impl<'a> SuccessParts<'a> {
    fn of(body: &'a str) -> Option<Self> {
        let (head, rest) = body.split_once(r#","data":{"#)?;
        Some(Self { head, members: rest.strip_suffix("}}")? })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatedMembers {
    service_id: String,
    verification_url: String,
}

impl CreatedMembers {
    fn of(members: &str) -> Option<Self> {
        serde_json::from_str(&format!("{{{members}}}")).ok()
    }
}

/// The members of `data` with values that contradict the given ones.
fn other_members(members: &str) -> String {
    match CreatedMembers::of(members) {
        Some(CreatedMembers { service_id, verification_url }) => format!(
            r#""serviceId":{},"verificationUrl":{}"#,
            quoted(&format!("{service_id}x")),
            quoted(&format!("{verification_url}x"))
        ),
        None => members.replace("true", "false"),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
