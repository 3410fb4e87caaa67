//! What the partner says of a person's verification: the webhook as it comes, and the event that it becomes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue as RawJson;
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::domain::event::SPEC_VERSION;
use crate::domain::job::ID_BYTES_MAX;
use crate::domain::private::debug_redacted;

/// Namespace of the ids of these events: UUIDv5 of the DNS namespace and `kyc.plu-onboard`. Never changes: a webhook that comes
/// again must have the same id on every machine and in every version.
const NAMESPACE: Uuid = Uuid::from_u128(0x970f_60b6_733c_5422_a804_0dac_3913_8279);

/// Names of the event that a verification has ended. Source: the vendor's page; it was called `rain.user-event` before April 2026.
const NAMES: [&str; 2] = ["user.kyc-event", "rain.user-event"];

/// What the same page also calls an approval.
const APPROVED_NAME: &str = "user.kyc.approved";

/// The kind of an event about a verification; its text is also the routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum KycType {
    /// The person can get a card now.
    #[serde(rename = "kyc.approved")]
    Approved,
    /// The person can't.
    #[serde(rename = "kyc.denied")]
    Denied,
    /// The person has to do something more.
    #[serde(rename = "kyc.needs-verification")]
    NeedsVerification,
}

impl KycType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Approved, Self::Denied, Self::NeedsVerification];

    /// The routing key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "kyc.approved",
            Self::Denied => "kyc.denied",
            Self::NeedsVerification => "kyc.needs-verification",
        }
    }

    /// The partner's word for it.
    const fn status(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::NeedsVerification => "needsVerification",
        }
    }

    fn of_status(status: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.status() == status)
    }
}

/// The end of a verification, ready to be published. Its `Debug` prints nothing personal.
///
/// It names the user and not the job: the partner's webhook knows no job. The event of the job that created the user has the same
/// `serviceId`.
#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(
    test,
    schemars(title = "End of a verification", description = "What the partner says of a person's verification.")
)]
pub struct KycEvent {
    /// Version of the event's shape.
    pub spec_version: Cow<'static, str>,
    /// UUIDv5 of what the webhook says: one that comes again can be recognised.
    pub id: Uuid,
    /// How it ended.
    #[serde(rename = "type")]
    pub event_type: KycType,
    /// When, by the partner's clock; when it came, where the webhook doesn't say.
    pub time: Timestamp,
    /// The user at the partner.
    pub service_id: String,
    /// The partner's own word for how it ended.
    pub status: Cow<'static, str>,
    /// Codes for why it was denied, such as `WRONG_USER_REGION`.
    pub reasons: Vec<String>,
    /// Where the person goes on with the verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_url: Option<String>,
    /// The user's email.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What a webhook is.
#[derive(Debug)]
pub enum Webhook {
    /// A verification has ended.
    Kyc(Box<KycEvent>),
    /// Something else, which is nobody's event here.
    Other,
    /// The event of a verification with a status that isn't documented: whether it ends one nobody knows.
    UnknownStatus,
}

/// A webhook that can't be what the partner documents. Says what is wrong and quotes nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnfitWebhook(&'static str);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default)]
    timestamp: Value,
    #[serde(borrow, default)]
    data: Option<&'a RawJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    service_id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    reason: Value,
    #[serde(default)]
    verification_link: Option<String>,
}

/// Reads the body of a webhook that came at `now`. An event of another name is [`Webhook::Other`]. What isn't needed may be of any kind.
///
/// # Errors
/// [`UnfitWebhook`] where it isn't JSON, or is the event of a verification without a user.
pub fn read(body: &[u8], now: Timestamp) -> Result<Webhook, UnfitWebhook> {
    // RFC 8259, 8.1: a byte order mark may be ignored.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let envelope: Envelope<'_> =
        serde_json::from_slice(body).map_err(|_| UnfitWebhook("the body is not JSON with an event and its data"))?;
    let is_approval = envelope.event == APPROVED_NAME;
    if !is_approval && !NAMES.contains(&&*envelope.event) {
        return Ok(Webhook::Other);
    }
    let data: Option<Data> = envelope.data.and_then(|data| serde_json::from_str(data.get()).ok());
    let data = data.ok_or(UnfitWebhook("data has no serviceId, or a member of another kind than documented"))?;
    let is_fit = (1..=ID_BYTES_MAX).contains(&data.service_id.len()) && !data.service_id.chars().any(char::is_control);
    if !is_fit {
        return Err(UnfitWebhook("serviceId is empty, too long or has control characters"));
    }
    let known = match data.status.as_deref() {
        None if is_approval => Some(KycType::Approved),
        status => KycType::of_status(status.unwrap_or_default()),
    };
    let Some(event_type) = known else { return Ok(Webhook::UnknownStatus) };
    let Data { service_id, email, reason, verification_link, .. } = data;
    // Documented as one text with commas.
    let reason = match reason {
        Value::String(codes) => Some(codes),
        Value::Array(codes) => Some(codes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
        _ => None,
    };
    let timestamp = match &envelope.timestamp {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let id = {
        let part = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let said = [
            service_id.clone(),
            part(Some(event_type.name())),
            part(timestamp.as_deref()),
            part(reason.as_deref()),
            part(verification_link.as_deref()),
        ];
        Uuid::new_v5(&NAMESPACE, said.join("\n").as_bytes())
    };
    let reasons = reason.iter().flat_map(|codes| codes.split(',')).map(str::trim).filter(|code| !code.is_empty());
    Ok(Webhook::Kyc(Box::new(KycEvent {
        spec_version: Cow::Borrowed(SPEC_VERSION),
        id,
        event_type,
        time: timestamp.as_deref().and_then(Timestamp::parse).unwrap_or(now),
        service_id,
        status: Cow::Borrowed(event_type.status()),
        reasons: reasons.map(str::to_owned).collect(),
        verification_url: verification_link,
        email,
    })))
}

impl KycEvent {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("an event holds only strings"))
    }
}

impl fmt::Debug for KycEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KycEvent").field("id", &self.id).field("type", &self.event_type.name()).finish_non_exhaustive()
    }
}

debug_redacted!(Envelope<'a>, Data);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(0);

    /// The examples of the vendor's page, with an address of a domain for examples.
    const APPROVED: &str = r#"{"event": "user.kyc-event", "timestamp": "2026-02-19T20:49:29.927Z", "data": {
        "serviceId": "acme-user-7mFQc5aCslAWtkd", "status": "approved", "email": "jane@example.com",
        "firstName": "Jane", "lastName": "DoeApproved"}}"#;
    const DENIED: &str = r#"{"event": "user.kyc-event", "timestamp": "2026-02-19T21:01:49.217Z", "data": {
        "serviceId": "acme-user-yvDaVMdFaug51H4", "status": "denied", "email": "jane@example.com",
        "firstName": "Jane", "lastName": "DoeDenied", "reason": "WRONG_USER_REGION, REGULATIONS_VIOLATIONS"}}"#;
    const NEEDS_MORE: &str = r#"{"event": "user.kyc-event", "timestamp": "2026-02-19T21:02:49.083Z", "data": {
        "serviceId": "acme-user-G9KZgnhgbndDdJg", "status": "needsVerification", "email": "jane@example.com",
        "firstName": "Jane", "lastName": "DoeneedsVerification",
        "verificationLink": "https://kyc.getplu.com/verify?userId=e5508685"}}"#;

    fn event(body: &str) -> KycEvent {
        match read(body.as_bytes(), NOW) {
            Ok(Webhook::Kyc(event)) => *event,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn each_end_of_a_verification_becomes_the_event_of_the_contract() {
        assert_eq!(
            event(APPROVED).to_json(),
            concat!(
                r#"{"specVersion":"1.0","id":"e265154a-3b82-5be8-9b3d-59a9e129e568","type":"kyc.approved","#,
                r#""time":"2026-02-19T20:49:29.927Z","serviceId":"acme-user-7mFQc5aCslAWtkd","status":"approved","reasons":[],"#,
                r#""email":"jane@example.com"}"#
            )
        );
        let denied = event(DENIED);
        assert_eq!(denied.event_type.name(), "kyc.denied");
        assert_eq!(denied.reasons, ["WRONG_USER_REGION", "REGULATIONS_VIOLATIONS"]);
        let more = event(NEEDS_MORE);
        assert_eq!((more.event_type.name(), &*more.status), ("kyc.needs-verification", "needsVerification"));
        assert_eq!(more.verification_url.as_deref(), Some("https://kyc.getplu.com/verify?userId=e5508685"));
    }

    #[test]
    fn the_names_that_the_vendor_used_before_and_beside_are_known() {
        let before = APPROVED.replace("user.kyc-event", "rain.user-event");
        assert_eq!(event(&before).id, event(APPROVED).id);
        let beside = r#"{"event": "user.kyc.approved", "data": {"serviceId": "1"}}"#;
        assert_eq!((event(beside).event_type, event(beside).time), (KycType::Approved, NOW));
    }

    #[test]
    fn what_is_not_needed_may_be_of_another_kind_than_documented() {
        let listed =
            DENIED.replace(r#""WRONG_USER_REGION, REGULATIONS_VIOLATIONS""#, r#"["WRONG_USER_REGION", "OTHER"]"#);
        assert_eq!(event(&listed).reasons, ["WRONG_USER_REGION", "OTHER"]);
        let counted = APPROVED.replace(r#""2026-02-19T20:49:29.927Z""#, "1771534169");
        assert_eq!(event(&counted).time, NOW);
        assert_eq!(event(&format!("\u{feff}{APPROVED}")).id, event(APPROVED).id);
    }

    #[test]
    fn the_same_webhook_again_has_the_same_id_and_a_later_one_another() {
        let compact: serde_json::Value = serde_json::from_str(DENIED).unwrap();
        assert_eq!(event(&compact.to_string()).id, event(DENIED).id);
        let ids =
            [APPROVED, DENIED, NEEDS_MORE, &DENIED.replace("21:01:49", "21:05:00"), &DENIED.replace("WRONG", "OTHER")]
                .map(|body| event(body).id);
        let different: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
    }

    #[test]
    fn what_ends_no_verification_is_no_event_and_what_names_nobody_is_refused() {
        for other in [
            APPROVED.replace("user.kyc-event", "card.created"),
            r#"{"event": "card.created"}"#.to_owned(),
            r#"{"event": "card.created", "timestamp": 7, "data": []}"#.to_owned(),
        ] {
            assert!(matches!(read(other.as_bytes(), NOW), Ok(Webhook::Other)), "{other}");
        }
        let unknown = APPROVED.replace(r#""approved""#, r#""pending""#);
        assert!(matches!(read(unknown.as_bytes(), NOW), Ok(Webhook::UnknownStatus)));
        for unfit in [
            "",
            "[]",
            r#"{"timestamp": "2026-02-19T20:49:29.927Z"}"#,
            r#"{"event": "user.kyc-event"}"#,
            &APPROVED.replace("acme-user-7mFQc5aCslAWtkd", ""),
            &APPROVED.replace("acme-user-7mFQc5aCslAWtkd", "a\\u0000"),
            &APPROVED.replace(r#""acme-user-7mFQc5aCslAWtkd""#, "7"),
        ] {
            let error = read(unfit.as_bytes(), NOW).err().unwrap_or_else(|| panic!("{unfit}"));
            assert!(!error.to_string().contains("acme"), "{error}");
        }
    }

    #[test]
    fn debug_output_holds_nothing_personal() {
        let shown = format!("{:?}", read(NEEDS_MORE.as_bytes(), NOW));
        assert!(!shown.contains("jane") && !shown.contains("acme") && !shown.contains("kyc.getplu"), "{shown}");
    }
}
