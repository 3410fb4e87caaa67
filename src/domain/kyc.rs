//! The result of a person's identity verification (KYC): the partner's webhook and the event made from it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue as RawJson;
use strum::VariantArray;
use uuid::Uuid;

use crate::domain::event::SPEC_VERSION;
use crate::domain::private::debug_redacted;
use crate::domain::{ServiceId, Timestamp, VerificationUrl};

/// Namespace of the ids of these events: UUIDv5 of the DNS namespace and `kyc.plu-onboard`. It never changes: a
/// repeated webhook must get the same id on every machine and in every version.
const NAMESPACE: Uuid = Uuid::from_u128(0x970f_60b6_733c_5422_a804_0dac_3913_8279);

/// Names of the webhook about the result of a verification. Source: the vendor's page; `rain.user-event` is the name
/// from before April 2026.
const KYC_EVENT_NAMES: [&str; 2] = ["user.kyc-event", "rain.user-event"];

/// Another name for an approval on the same page.
const APPROVED_NAME: &str = "user.kyc.approved";

/// The type of an event about a verification; its name is also the routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case", prefix = "kyc.")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum KycType {
    /// The person can get a card.
    #[serde(rename = "kyc.approved")]
    Approved,
    /// The person can't get a card.
    #[serde(rename = "kyc.denied")]
    Denied,
    /// The person has to continue the verification.
    #[serde(rename = "kyc.needs-verification")]
    NeedsVerification,
}

impl KycType {
    /// Every type.
    pub const ALL: [Self; 3] = *Self::VARIANTS.as_array().unwrap();

    /// The routing key.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The partner's status.
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

/// How the signature of a webhook is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SignatureEncoding {
    /// Hexadecimal digits in lower or upper case.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// The result of a verification, ready to be published. Its `Debug` prints no personal data.
///
/// It has the user's `serviceId` and no job, because the partner's webhook has no job either. The event of the job that
/// created the user has the same `serviceId`.
#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(
    test,
    schemars(
        title = "Result of a verification",
        description = "The result of a person's verification at the partner."
    )
)]
pub struct KycEvent {
    /// Version of the event's shape.
    pub spec_version: Cow<'static, str>,
    /// UUIDv5 of the content of the webhook, the same for a repeated webhook.
    pub id: Uuid,
    /// The result.
    #[serde(rename = "type")]
    pub event_type: KycType,
    /// The time in the webhook, else the time of its arrival.
    pub time: Timestamp,
    /// The partner's id of the user.
    #[cfg_attr(test, schemars(length(min = 1, max = 255)))]
    pub service_id: String,
    /// The partner's status.
    pub status: Cow<'static, str>,
    /// Codes of the reasons for a denial, for example `WRONG_USER_REGION`.
    pub reasons: Vec<String>,
    /// Where the person continues the verification. Left out if the webhook has none, or none that is a safe link.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(max = 2048), regex(pattern = r"^https://")))]
    pub verification_url: Option<String>,
    /// The user's email.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// A webhook, as far as this program uses it.
#[derive(Debug)]
pub(crate) enum Webhook {
    /// The result of a verification.
    Kyc(Box<KycEvent>),
    /// A webhook about something else, which is ignored.
    Other,
    /// A webhook about a verification with an undocumented status, which may not be final.
    UnknownStatus,
}

/// A webhook that doesn't have the documented shape. The text says what is wrong and quotes no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnfitWebhook(&'static str);

#[derive(Deserialize)]
struct WebhookEnvelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default)]
    timestamp: Value,
    #[serde(borrow, default)]
    data: Option<&'a RawJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KycData {
    service_id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    reason: Value,
    #[serde(default)]
    verification_link: Value,
}

/// Parses the body of a webhook that arrived at `now`. One with another name is [`Webhook::Other`]. Optional members
/// may have any type.
///
/// # Errors
/// [`UnfitWebhook`] where it isn't JSON, or is about a verification and has no user.
pub(crate) fn read(body: &[u8], now: Timestamp) -> Result<Webhook, UnfitWebhook> {
    // RFC 8259, 8.1: a byte order mark may be ignored.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let envelope: WebhookEnvelope<'_> =
        serde_json::from_slice(body).map_err(|_| UnfitWebhook("the body is not JSON with an event and its data"))?;
    let is_approval = envelope.event == APPROVED_NAME;
    if !is_approval && !KYC_EVENT_NAMES.contains(&&*envelope.event) {
        return Ok(Webhook::Other);
    }
    let data: Option<KycData> = envelope.data.and_then(|data| serde_json::from_str(data.get()).ok());
    let data = data.ok_or(UnfitWebhook("data has no serviceId, or a member of another type than documented"))?;
    if ServiceId::parse(&data.service_id).is_none() {
        return Err(UnfitWebhook("serviceId is empty, too long or has control characters"));
    }
    let known = match data.status.as_deref() {
        None if is_approval => Some(KycType::Approved),
        status => KycType::of_status(status.unwrap_or_default()),
    };
    let Some(event_type) = known else { return Ok(Webhook::UnknownStatus) };
    let KycData { service_id, email, reason, verification_link, .. } = data;
    // Documented as one text with commas; a list is accepted too.
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
        let content = [
            service_id.clone(),
            part(Some(event_type.name())),
            part(timestamp.as_deref()),
            part(reason.as_deref()),
            part(verification_link.as_str()),
        ];
        Uuid::new_v5(&NAMESPACE, content.join("\n").as_bytes())
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
        verification_url: verification_link.as_str().and_then(VerificationUrl::parse).map(VerificationUrl::into_string),
        email,
    })))
}

impl KycEvent {
    /// Returns the event as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("an event has only strings"))
    }
}

impl fmt::Debug for KycEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KycEvent").field("id", &self.id).field("type", &self.event_type.name()).finish_non_exhaustive()
    }
}

debug_redacted!(WebhookEnvelope<'a>, KycData);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(0);

    /// The examples of the vendor's page, with an email of an example domain.
    const APPROVED: &str = r#"{"event": "user.kyc-event", "timestamp": "2026-02-19T20:49:29.927Z", "data": {
        "serviceId": "acme-user-7mFQc5aCslAWtkd", "status": "approved", "email": "jane@example.com",
        "firstName": "Jane", "lastName": "DoeApproved"}}"#;
    const DENIED: &str = r#"{"event": "user.kyc-event", "timestamp": "2026-02-19T21:01:49.217Z", "data": {
        "serviceId": "acme-user-yvDaVMdFaug51H4", "status": "denied", "email": "jane@example.com",
        "firstName": "Jane", "lastName": "DoeDenied", "reason": "WRONG_USER_REGION, REGULATIONS_VIOLATIONS"}}"#;
    const NEEDS_VERIFICATION: &str = r#"{"event": "user.kyc-event", "timestamp": "2026-02-19T21:02:49.083Z", "data": {
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
    fn each_result_of_a_verification_becomes_the_event_of_the_contract() {
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
        let unfinished = event(NEEDS_VERIFICATION);
        assert_eq!(
            (unfinished.event_type.name(), &*unfinished.status),
            ("kyc.needs-verification", "needsVerification")
        );
        assert_eq!(unfinished.verification_url.as_deref(), Some("https://kyc.getplu.com/verify?userId=e5508685"));
    }

    #[test]
    fn a_link_that_can_not_be_used_is_left_out() {
        let link = r#""https://kyc.getplu.com/verify?userId=e5508685""#;
        for other in [
            r#""javascript:alert(1)""#,
            r#""http://169.254.169.254/""#,
            r#""=HYPERLINK(\"https://v.example\")""#,
            r#""https://v.example/\u0000""#,
            r#""""#,
            "7",
            "null",
            r#"{"url":"https://v.example/1"}"#,
        ] {
            let event = event(&NEEDS_VERIFICATION.replace(link, other));
            assert_eq!((event.event_type, event.verification_url), (KycType::NeedsVerification, None), "{other}");
        }
    }

    #[test]
    fn earlier_and_alternative_names_of_the_webhook_are_known() {
        let earlier = APPROVED.replace("user.kyc-event", "rain.user-event");
        assert_eq!(event(&earlier).id, event(APPROVED).id);
        let alternative = r#"{"event": "user.kyc.approved", "data": {"serviceId": "1"}}"#;
        assert_eq!((event(alternative).event_type, event(alternative).time), (KycType::Approved, NOW));
    }

    #[test]
    fn optional_members_may_have_another_type_than_documented() {
        let listed =
            DENIED.replace(r#""WRONG_USER_REGION, REGULATIONS_VIOLATIONS""#, r#"["WRONG_USER_REGION", "OTHER"]"#);
        assert_eq!(event(&listed).reasons, ["WRONG_USER_REGION", "OTHER"]);
        let counted = APPROVED.replace(r#""2026-02-19T20:49:29.927Z""#, "1771534169");
        assert_eq!(event(&counted).time, NOW);
        assert_eq!(event(&format!("\u{feff}{APPROVED}")).id, event(APPROVED).id);
    }

    #[test]
    fn a_repeated_webhook_has_the_same_id_and_a_later_one_a_different_one() {
        let compact: serde_json::Value = serde_json::from_str(DENIED).unwrap();
        assert_eq!(event(&compact.to_string()).id, event(DENIED).id);
        let ids = [
            APPROVED,
            DENIED,
            NEEDS_VERIFICATION,
            &DENIED.replace("21:01:49", "21:05:00"),
            &DENIED.replace("WRONG", "OTHER"),
        ]
        .map(|body| event(body).id);
        let different: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
    }

    #[test]
    fn ignores_other_webhooks_and_refuses_one_without_a_user() {
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
    fn debug_output_has_no_personal_data() {
        let shown = format!("{:?}", read(NEEDS_VERIFICATION.as_bytes(), NOW));
        assert!(!shown.contains("jane") && !shown.contains("acme") && !shown.contains("kyc.getplu"), "{shown}");
    }
}
