//! What the partner's answer, or its absence, means for a job.
//!
//! [`classify`] is the one place where HTTP is turned into meaning; the rules and their sources:
//!
//! | what comes back | [`Answer`] |
//! | --- | --- |
//! | 2xx with `data.serviceId` | `Created` |
//! | 401, 402, 403, 404, 405, any redirect | `Account` |
//! | 429 | `Throttled` |
//! | any other answer that neither is JSON nor says so in its content type | `Account`: something else answered, and the user may have been created |
//! | 400, 409 that speak of a used idempotency key | `KeyAlreadyUsed` |
//! | `DUP_USER`, or another code that is set for it | `AlreadyThere` |
//! | any other 4xx with whole JSON | `Rejected`; without a code that can be read, as `HTTP_` and the status |
//! | any other 2xx, 4xx, 5xx | `Unknown`: the user may have been created |

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::Timestamp;

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The user was created by this request (or a replaying gateway says so again).
    Created {
        /// `{slug}-user-{uid}`.
        service_id: String,
        /// Where the person verifies their identity.
        verification_url: Option<String>,
    },
    /// A user with this email exists.
    AlreadyThere,
    /// An earlier request with this key arrived.
    KeyAlreadyUsed,
    /// The API refuses this job as it is.
    Rejected {
        /// HTTP status.
        status: u16,
        /// The API's machine-readable code.
        code: String,
        /// The API's text for people; may quote personal data.
        text: String,
    },
    /// Every job would be answered like this; no job is at fault.
    Account(AccountReason),
    /// Too fast. `None`: no advice how long to wait.
    Throttled {
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No readable answer, so the user may have been created.
    Unknown(UnknownReason),
    /// The request did not reach the partner.
    NotSent(NoConnection),
}

/// Refusals that are documented and say that no user was created with this request, nor with an earlier one that was the same.
/// Source: the vendor's page on errors. Any other code may be another partner's word for a used key or a taken email.
const CONCLUSIVE: [&str; 2] = ["USER_BLACKLISTED", "INVALID_PROGRAM"];

impl Answer {
    /// Whether it is the API's word, rather than a refusal in a shape that the API doesn't document.
    pub fn is_recognised(&self) -> bool {
        !matches!(self, Self::Rejected { code, .. } if code.starts_with(STAND_IN))
    }

    /// Whether it says of earlier requests too that they created nobody.
    pub fn is_conclusive(&self) -> bool {
        matches!(self, Self::Rejected { code, .. } if CONCLUSIVE.contains(&code.as_str()))
    }

    /// Whether the request may have created the user.
    pub const fn may_have_created(&self) -> bool {
        match self {
            Self::Created { .. } | Self::Unknown(_) => true,
            Self::Account(reason) => reason.may_have_created(),
            _ => false,
        }
    }
}

/// Begins a code that stands where the API gave none.
const STAND_IN: &str = "HTTP_";

/// Why no answer is to be had from this account, for the log line and the person who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountReason {
    /// 401.
    Unauthorized,
    /// 402.
    PaymentRequired,
    /// 403.
    Forbidden,
    /// 404, a redirect, 405 (the status): nothing of the API is there.
    WrongUrl(u16),
    /// The answer isn't JSON: something else answered, perhaps after the API did.
    NotTheApi,
    /// No connection.
    Unreachable(NoConnection),
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoConnection {
    /// The host's name can't be resolved.
    Dns,
    /// Nothing listens there, or a firewall says so.
    Refused,
    /// Nothing came back.
    TimedOut,
    /// Requests leave and aren't answered.
    NoAnswer,
    /// The certificate is past its time, or before it.
    CertificateExpired,
    /// The certificate is of somebody else.
    CertificateName,
    /// Nobody whom this machine trusts has signed the certificate.
    CertificateUnknown,
    /// What answers doesn't speak TLS, or another kind.
    Tls,
    /// Anything else.
    Other,
}

impl NoConnection {
    /// Its name among the errors that the status page shows.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Dns => "no_connection_dns",
            Self::Refused => "no_connection_refused",
            Self::TimedOut => "no_connection_timeout",
            Self::NoAnswer => "no_answer",
            Self::CertificateExpired => "no_connection_certificate_expired",
            Self::CertificateName => "no_connection_certificate_name",
            Self::CertificateUnknown => "no_connection_certificate_unknown",
            Self::Tls => "no_connection_tls",
            Self::Other => "no_connection",
        }
    }

    /// What happened, and what a person can do about it.
    const fn advice(self) -> &'static str {
        match self {
            Self::Dns => {
                "the API can't be reached, its name can't be resolved (DNS): check api.url and the name server"
            }
            Self::Refused => {
                "the API can't be reached, the connection is refused: check api.url, and firewalls or a proxy on the way"
            }
            Self::TimedOut => {
                "the API can't be reached, nothing answers in time: check the network, and firewalls on the way"
            }
            Self::NoAnswer => {
                "the API gives no answers, requests are lost or take too long: look for a proxy on the way, else ask Plu"
            }
            Self::CertificateExpired => {
                "the API can't be reached, its certificate is expired or not valid yet: check this machine's clock, else tell Plu"
            }
            Self::CertificateName => {
                "the API can't be reached, the certificate is for another host: check api.url, and for a proxy on the way"
            }
            Self::CertificateUnknown => {
                "the API can't be reached, nobody whom this machine trusts has signed its certificate: install ca-certificates, or \
                 name in SSL_CERT_FILE the CA of a proxy that looks into TLS"
            }
            Self::Tls => {
                "the API can't be reached, what answers doesn't speak TLS as it should: check api.url, and for a proxy on the way"
            }
            Self::Other => "the API can't be reached: check the network and api.url",
        }
    }
}

impl AccountReason {
    /// All of them; of the statuses that speak of a wrong URL the most usual one, and of the missing connections any.
    pub const ALL: [Self; 6] = [
        Self::Unauthorized,
        Self::PaymentRequired,
        Self::Forbidden,
        Self::WrongUrl(404),
        Self::NotTheApi,
        Self::Unreachable(NoConnection::Other),
    ];

    /// Its name in logs and labels.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::PaymentRequired => "payment_required",
            Self::Forbidden => "forbidden",
            Self::WrongUrl(_) => "wrong_url",
            Self::NotTheApi => "not_the_api",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// Whether it may be about one job after all, as where a firewall on the way dislikes something in it. Key, wallet and network
    /// are everybody's.
    pub const fn may_be_about_a_job(self) -> bool {
        matches!(self, Self::Forbidden | Self::WrongUrl(_) | Self::NotTheApi)
    }

    /// Whether a request that is answered like this may have created the user: the page of something in between may
    /// stand where the API's answer was.
    pub const fn may_have_created(self) -> bool {
        matches!(self, Self::NotTheApi)
    }

    /// What it means and what a person can do about it. What can be done about a key depends on where it is from.
    pub fn advice(self, key: KeySource) -> String {
        let advice = match self {
            Self::Unauthorized => return format!("the API key is refused (401): {}", key.advice()),
            Self::WrongUrl(status @ 300..=399) => {
                return format!("the base URL leads elsewhere ({status}), and no redirect is followed: check api.url");
            }
            Self::WrongUrl(status) => {
                return format!("nothing of the API answers at this base URL ({status}): check api.url");
            }
            Self::PaymentRequired => "the partner wallet is empty (402): top it up, and the work goes on by itself",
            Self::Forbidden => "the partner account is suspended or pending (403): ask Plu",
            Self::NotTheApi => {
                "something other than the API answers, such as a proxy, or a gateway whose API is down: check api.url and the network"
            }
            Self::Unreachable(why) => why.advice(),
        };
        advice.to_owned()
    }
}

/// Where the API key is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeySource {
    /// A file, which SIGHUP reads again.
    #[default]
    File,
    /// A copy that the service manager made at the start (systemd's `LoadCredential`).
    Credential,
    /// The environment, which a process can't get anew.
    Variable,
    /// The built-in sandbox.
    Sandbox,
}

impl KeySource {
    const fn advice(self) -> &'static str {
        match self {
            Self::File => "put a valid key into the key file and send SIGHUP",
            Self::Credential => "put a valid key where the service's credential is from, and restart the service",
            Self::Variable => "stop it and start it again with a valid key in PLU_API_KEY",
            Self::Sandbox => {
                "nothing: the sandbox was told to refuse it, and the work goes on by itself when that is over"
            }
        }
    }
}

/// How an answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnknownReason {
    /// Nothing came within the time limit.
    Timeout,
    /// The connection ended before the answer was whole.
    ConnectionLost,
    /// 5xx or 408.
    ServerError(u16),
    /// A 2xx that isn't what the API documents, or a 4xx whose JSON is cut off.
    Unreadable,
}

impl UnknownReason {
    /// Its name in logs and labels.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::ServerError(_) => "server_error",
            Self::Unreadable => "unreadable_answer",
        }
    }
}

/// An HTTP reply, reduced to what matters.
#[derive(Debug)]
pub struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, as it stands in the header.
    pub retry_after: Option<&'a str>,
    /// `Content-Type`, as it stands in the header.
    pub content_type: Option<&'a str>,
    /// `Date`: what the partner's clock shows.
    pub date: Option<Timestamp>,
    /// The body, cut at the client's limit.
    pub body: &'a [u8],
}

impl Reply<'_> {
    /// Whether it says that it is JSON (RFC 6838, 4.2.8).
    fn claims_json(&self) -> bool {
        let essence = self.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    }

    /// How long the partner asks to wait; `now` stands for its clock where it doesn't say what that shows.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(self.retry_after?, self.date.unwrap_or(now))
    }

    /// Whether it is somebody else's: no JSON, and not even cut off. Assumed: the API says of each answer that it is JSON,
    /// unless it fails so badly that it says nothing at all.
    fn is_a_page(&self) -> bool {
        let says_nothing = self.status >= 500 && self.body.is_empty() && self.content_type.is_none();
        !says_nothing
            && !self.claims_json()
            && !serde_json::from_slice::<Value>(self.body).is_ok_and(|json| json.is_object())
    }
}

/// The codes and words by which refusals are recognised that don't say that a job can't succeed. Compared without case.
#[derive(Debug, Clone, Default)]
pub struct RefusalMarks {
    /// Values of the error's `message` that mean "key already used". Assumed: the vendor documents none.
    pub key_used_codes: Vec<String>,
    /// Words in `message` or `data.error` that mean the same. Assumed, as above.
    pub key_used_words: Vec<String>,
    /// Values of `message` that mean "a user with this email exists". `DUP_USER` is documented.
    pub user_exists_codes: Vec<String>,
}

#[derive(Deserialize)]
struct Success {
    data: SuccessData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SuccessData {
    service_id: String,
    verification_url: Option<String>,
}

/// The API's documented error shape. The parts are read by themselves, so that a text of another shape doesn't hide the code.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: Value,
    #[serde(default)]
    data: Value,
}

/// Longest text of a refusal that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

impl Failure {
    /// The machine-readable code, or whatever stands in its place.
    fn code(&self) -> String {
        self.message.as_str().unwrap_or_default().to_owned()
    }

    /// The text for people.
    fn text(&self) -> String {
        let error = self.data.get("error").unwrap_or(&self.data);
        let mut text = match error {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            // A list of problems, say.
            other => other.to_string(),
        };
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text
    }
}

/// Why every request would be answered like this; `None`: it is about this request, or about the pace.
pub fn about_everybody(reply: &Reply<'_>) -> Option<AccountReason> {
    match reply.status {
        401 => Some(AccountReason::Unauthorized),
        402 => Some(AccountReason::PaymentRequired),
        403 => Some(AccountReason::Forbidden),
        404 | 405 | 300..=399 => Some(AccountReason::WrongUrl(reply.status)),
        429 => None,
        _ => reply.is_a_page().then_some(AccountReason::NotTheApi),
    }
}

/// Classifies the reply to a creation. `now` serves a `Retry-After` that is a date.
pub fn classify(reply: &Reply<'_>, marks: &RefusalMarks, now: Timestamp) -> Answer {
    if let Some(reason) = about_everybody(reply) {
        return Answer::Account(reason);
    }
    match reply.status {
        429 => Answer::Throttled { retry_after: reply.retry_after(now) },
        200..=299 => match serde_json::from_slice::<Success>(reply.body) {
            Ok(Success { data }) if !data.service_id.is_empty() => Answer::Created {
                service_id: data.service_id,
                verification_url: data.verification_url.filter(|url| !url.is_empty()),
            },
            _ => Answer::Unknown(UnknownReason::Unreadable),
        },
        408 | 500.. => Answer::Unknown(UnknownReason::ServerError(reply.status)),
        _ => refusal(reply, marks),
    }
}

fn refusal(reply: &Reply<'_>, marks: &RefusalMarks) -> Answer {
    let (code, text) = match serde_json::from_slice::<Failure>(reply.body) {
        Ok(failure) => (failure.code(), failure.text()),
        // JSON of another shape is still the API's word about this job.
        Err(_) if serde_json::from_slice::<Value>(reply.body).is_ok() => (String::new(), String::new()),
        // Cut off: it could have been any refusal, that of a used key included.
        Err(_) => return Answer::Unknown(UnknownReason::Unreadable),
    };
    if marks.says_user_exists(&code) {
        return Answer::AlreadyThere;
    }
    if matches!(reply.status, 400 | 409) && marks.says_key_used(&code, &text) {
        return Answer::KeyAlreadyUsed;
    }
    let (code, text) = if looks_like_a_code(&code) {
        (code, text)
    } else {
        // A sentence where the code should be: it may quote anything.
        (
            format!("{STAND_IN}{}", reply.status),
            [code, text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": "),
        )
    };
    Answer::Rejected { status: reply.status, code, text }
}

/// Upper-case words such as `USER_BLACKLISTED`; anything else may hold personal data, such as a number alone.
pub fn looks_like_a_code(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.starts_with(|first: char| first.is_ascii_uppercase())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Words of a refusal that speaks of an idempotency key and says that it is none, as where something on the way took the header
/// off. Nobody's key is used then.
const NO_KEY_AT_ALL: [&str; 6] = ["required", "missing", "invalid", "malformed", "must be", "not a valid"];

impl RefusalMarks {
    fn says_user_exists(&self, code: &str) -> bool {
        self.user_exists_codes.iter().any(|mark| mark.eq_ignore_ascii_case(code))
    }

    fn says_key_used(&self, code: &str, text: &str) -> bool {
        if self.key_used_codes.iter().any(|mark| mark.eq_ignore_ascii_case(code)) {
            return true;
        }
        let said = format!("{code} {text}").to_lowercase();
        let speaks_of_it = |word: &String| !word.is_empty() && said.contains(&word.to_lowercase());
        self.key_used_words.iter().any(speaks_of_it) && !NO_KEY_AT_ALL.iter().any(|word| said.contains(word))
    }
}

/// Longest advice that is followed; a partner that says more is asked again after this. Bounds a wrong header.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3). `None` where it is neither, and where nothing is to be waited
/// for: who says 429 and "at once" gives no advice.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Timestamp::parse_http(text)?.since(now),
    };
    (!wait.is_zero()).then(|| wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> RefusalMarks {
        RefusalMarks {
            key_used_codes: vec!["DUP_REQUEST".to_owned()],
            key_used_words: vec!["idempotency".to_owned(), "already used".to_owned()],
            user_exists_codes: vec!["DUP_USER".to_owned(), "EMAIL_TAKEN".to_owned()],
        }
    }

    fn typed(status: u16, content_type: Option<&str>, body: &str) -> Answer {
        let reply = Reply { status, retry_after: None, content_type, date: None, body: body.as_bytes() };
        classify(&reply, &marks(), Timestamp::from_unix_ms(0))
    }

    fn of(status: u16, body: &str) -> Answer {
        typed(status, Some("application/json; charset=utf-8"), body)
    }

    #[test]
    fn any_2xx_with_a_service_id_is_a_creation() {
        let body = r#"{"status":"success","message":"User created successfully","data":{"serviceId":"acme-user-1","verificationUrl":"https://v.example/1"}}"#;
        for status in [200, 201, 202] {
            assert_eq!(
                of(status, body),
                Answer::Created {
                    service_id: "acme-user-1".to_owned(),
                    verification_url: Some("https://v.example/1".to_owned())
                }
            );
        }
    }

    #[test]
    fn what_can_not_be_read_may_have_been_created() {
        for body in ["", "<html>", "{}", r#"{"data":{}}"#, r#"{"data":{"serviceId":""}}"#, r#"{"data":{"serviceId":"a"#]
        {
            assert_eq!(of(201, body), Answer::Unknown(UnknownReason::Unreadable), "{body}");
        }
        for status in [408, 500, 502, 503, 504, 599] {
            assert_eq!(of(status, "whatever"), Answer::Unknown(UnknownReason::ServerError(status)));
        }
        // A refusal that is cut off could have been "key already used".
        for status in [400, 409, 422] {
            assert_eq!(of(status, r#"{"status":"error","mess"#), Answer::Unknown(UnknownReason::Unreadable));
            assert_eq!(of(status, ""), Answer::Unknown(UnknownReason::Unreadable));
        }
    }

    #[test]
    fn what_neither_is_json_nor_says_so_is_not_the_apis_whatever_its_status() {
        let page = Answer::Account(AccountReason::NotTheApi);
        for status in [200, 201, 204, 400, 408, 409, 418, 422, 500, 502, 503, 504] {
            for content_type in [Some("text/html; charset=utf-8"), Some("text/plain"), Some("text/json-ish"), None] {
                for body in ["<html>Bad Gateway</html>", "upstream connect error", "", "[]", "7"] {
                    if (status, content_type, body) == (status.max(500), None, "") {
                        assert_eq!(typed(status, None, ""), Answer::Unknown(UnknownReason::ServerError(status)));
                        continue;
                    }
                    assert_eq!(typed(status, content_type, body), page, "{status} {content_type:?} {body}");
                }
            }
            for content_type in ["application/json", "Application/JSON;charset=utf-8", "application/problem+json"] {
                assert_ne!(typed(status, Some(content_type), "<html>"), page, "{status} {content_type}");
            }
            // A gateway that mislabels the API's own answer.
            assert_ne!(typed(status, Some("text/plain"), r#"{"status":"error"}"#), page, "{status}");
        }
        let created = r#"{"data":{"serviceId":"acme-user-1"}}"#;
        assert!(matches!(typed(201, None, created), Answer::Created { .. }));
    }

    #[test]
    fn only_a_page_of_what_is_about_the_account_may_hide_a_creation() {
        for reason in AccountReason::ALL {
            assert_eq!(Answer::Account(reason).may_have_created(), reason == AccountReason::NotTheApi, "{reason:?}");
        }
        assert!(Answer::Unknown(UnknownReason::Timeout).may_have_created());
        assert!(!Answer::AlreadyThere.may_have_created() && !Answer::NotSent(NoConnection::Other).may_have_created());
    }

    #[test]
    fn answers_about_the_account_are_never_charged_to_a_job() {
        let shaped = r#"{"status":"error","message":"X","data":{"error":"y"}}"#;
        for (status, body, reason) in [
            (401, shaped, AccountReason::Unauthorized),
            (402, shaped, AccountReason::PaymentRequired),
            (403, "<html>blocked by the proxy</html>", AccountReason::Forbidden),
            (404, "not found", AccountReason::WrongUrl(404)),
            (302, "", AccountReason::WrongUrl(302)),
            (405, shaped, AccountReason::WrongUrl(405)),
        ] {
            for content_type in [Some("application/json"), Some("text/html"), None] {
                assert_eq!(typed(status, content_type, body), Answer::Account(reason), "{status} {body}");
            }
        }
    }

    #[test]
    fn what_can_be_done_is_said_of_the_status_that_came_and_of_the_key_that_was_sent() {
        let says = |reason: AccountReason, key, text: &str| {
            let advice = reason.advice(key);
            assert!(advice.contains(text), "{advice}");
        };
        for (status, text) in [(404, "(404): check api.url"), (405, "(405): check api.url"), (301, "elsewhere (301)")] {
            says(AccountReason::WrongUrl(status), KeySource::File, text);
        }
        says(AccountReason::Unauthorized, KeySource::File, "into the key file and send SIGHUP");
        says(AccountReason::Unauthorized, KeySource::Credential, "restart the service");
        says(AccountReason::Unauthorized, KeySource::Variable, "start it again with a valid key in PLU_API_KEY");
        says(AccountReason::Unauthorized, KeySource::Sandbox, "goes on by itself");
        assert!(!AccountReason::Unauthorized.advice(KeySource::Variable).contains("file"));
    }

    #[test]
    fn a_used_key_is_recognised_by_code_or_words_on_400_and_409() {
        for (code, text) in [
            ("DUP_REQUEST", ""),
            ("dup_request", "x"),
            ("BAD_REQUEST", "Idempotency key has been used"),
            ("IDEMPOTENCY_KEY_ALREADY_USED", ""),
            ("BAD_REQUEST", "this key was Already Used"),
        ] {
            let body = format!(r#"{{"status":"error","message":"{code}","data":{{"error":"{text}"}}}}"#);
            for status in [400, 409] {
                assert_eq!(of(status, &body), Answer::KeyAlreadyUsed, "{body}");
            }
            assert!(matches!(of(422, &body), Answer::Rejected { .. }), "{body}");
        }
    }

    #[test]
    fn a_taken_email_or_phone_number_is_not_a_used_key() {
        let body =
            |code: &str, text: &str| format!(r#"{{"status":"error","message":"{code}","data":{{"error":"{text}"}}}}"#);
        assert_eq!(of(400, &body("DUP_USER", "email already used, idempotency")), Answer::AlreadyThere);
        let phone = of(400, &body("DUP_PHONE", "phone number already in use"));
        assert!(matches!(phone, Answer::Rejected { .. }), "{phone:?}");
    }

    #[test]
    fn a_refusal_in_another_json_shape_is_about_the_job_and_quotes_nothing_as_its_code() {
        for body in
            [r#"{"message":["email must be an email"]}"#, "{}", r#"{"error":"x"}"#, r#""email must be an email""#]
        {
            let answer = of(422, body);
            assert!(matches!(&answer, Answer::Rejected { code, .. } if code == "HTTP_422"), "{answer:?}");
        }
        assert_eq!(
            of(400, r#"{"message":"Email u@example.com is invalid","data":{"error":"really"}}"#),
            Answer::Rejected {
                status: 400,
                code: "HTTP_400".to_owned(),
                text: "Email u@example.com is invalid: really".to_owned()
            }
        );
    }

    #[test]
    fn a_text_of_another_shape_hides_no_code() {
        for data in [r#"{"error":null}"#, r#"{"error":["taken"]}"#, r#""taken""#, "null", "[]", r#"{"error":{"a":1}}"#]
        {
            for code in ["DUP_USER", "email_taken"] {
                let body = format!(r#"{{"status":"error","message":"{code}","data":{data}}}"#);
                assert_eq!(of(400, &body), Answer::AlreadyThere, "{body}");
            }
            let body = format!(r#"{{"status":"error","message":"VALIDATION_ERROR","data":{data}}}"#);
            assert!(matches!(of(422, &body), Answer::Rejected { code, .. } if code == "VALIDATION_ERROR"), "{body}");
        }
        let long = format!(r#"{{"message":"X_1","data":{{"error":"{}"}}}}"#, "é".repeat(5_000));
        assert!(matches!(of(422, &long), Answer::Rejected { text, .. } if text.len() == TEXT_BYTES_MAX));
    }

    #[test]
    fn a_key_that_is_missing_or_malformed_is_not_used() {
        for (code, text) in [
            ("IDEMPOTENCY_KEY_REQUIRED", "The idempotency-key header is required"),
            ("INVALID_IDEMPOTENCY_KEY", "The idempotency-key must be a UUID"),
            ("BAD_REQUEST", "missing idempotency key"),
        ] {
            let body = format!(r#"{{"status":"error","message":"{code}","data":{{"error":"{text}"}}}}"#);
            assert!(matches!(of(400, &body), Answer::Rejected { .. }), "{body}");
        }
    }

    #[test]
    fn refusals_carry_the_codes_of_the_api() {
        assert_eq!(
            of(400, r#"{"status":"error","message":"DUP_USER","data":{"error":"exists"}}"#),
            Answer::AlreadyThere
        );
        assert_eq!(
            of(422, r#"{"status":"error","message":"VALIDATION","data":{"error":"bad"}}"#),
            Answer::Rejected { status: 422, code: "VALIDATION".to_owned(), text: "bad".to_owned() }
        );
        assert_eq!(
            of(400, r#"{"status":"error","message":"USER_BLACKLISTED"}"#),
            Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() }
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = Timestamp::parse("2026-02-19T20:49:30Z").unwrap();
        for (text, expected) in [
            ("7", Some(7)),
            (" 0 ", None),
            ("Thu, 19 Feb 2026 20:50:00 GMT", Some(30)),
            ("Thu, 19 Feb 2026 20:00:00 GMT", None),
            ("99999999", Some(3_600)),
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
        let reply = Reply { status: 429, retry_after: Some("2"), content_type: None, date: None, body: b"" };
        assert_eq!(classify(&reply, &marks(), now), Answer::Throttled { retry_after: Some(Duration::from_secs(2)) });
        // A partner whose clock is two minutes behind, and says so.
        let date = Timestamp::parse("2026-02-19T20:47:30Z");
        let reply = Reply { retry_after: Some("Thu, 19 Feb 2026 20:47:37 GMT"), date, ..reply };
        assert_eq!(reply.retry_after(now), Some(Duration::from_secs(7)));
    }
}
