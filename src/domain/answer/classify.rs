//! Classifies HTTP replies.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{AccountReason, Answer, STATUS_CODE_PREFIX, UnknownReason};
use crate::domain::Timestamp;

/// The parts of an HTTP reply that are classified.
#[derive(Debug)]
pub struct ApiReply<'a> {
    /// HTTP status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<&'a str>,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The header `Date`: the time on the partner's clock.
    pub date: Option<Timestamp>,
    /// The body, cut at the client's limit.
    pub body: &'a [u8],
}

impl ApiReply<'_> {
    /// Returns whether the content type is JSON (RFC 6838, 4.2.8).
    fn has_json_type(&self) -> bool {
        let essence = self.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    }

    /// Returns how long the partner asks to wait. `now` replaces a missing `Date`.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(self.retry_after?, self.date.unwrap_or(now))
    }

    /// Returns whether something other than the API answered: no JSON, not even truncated. Assumed: the API gives every
    /// answer a JSON content type, except an empty 5xx.
    fn is_a_page(&self) -> bool {
        let is_empty = self.status >= 500 && self.body.is_empty() && self.content_type.is_none();
        !is_empty
            && !self.has_json_type()
            && !serde_json::from_slice::<Value>(self.body).is_ok_and(|json| json.is_object())
    }
}

/// The codes and words of refusals that don't mean that the job can't succeed. Compared without case.
#[derive(Debug, Clone, Default)]
pub struct RefusalMarks {
    /// Values of the error's `message` that mean "key already used". Assumed: the vendor documents none.
    pub key_used_codes: Vec<String>,
    /// Words in `message` or `data.error` that mean "key already used". Assumed, as above.
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

/// The API's documented error shape. Each part is read separately, so that a text of another shape doesn't hide the
/// code.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: Value,
    #[serde(default)]
    data: Value,
}

/// Longest part of a refusal's text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

impl Failure {
    /// The machine-readable code, or the text in its place.
    fn code(&self) -> String {
        self.message.as_str().unwrap_or_default().to_owned()
    }

    /// The text for people.
    fn text(&self) -> String {
        let error = self.data.get("error").unwrap_or(&self.data);
        let mut text = match error {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            // For example a list of problems.
            other => other.to_string(),
        };
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text
    }
}

/// Returns the account problem that the reply reports; `None` where it is about this request or the rate limit.
pub fn account_problem(reply: &ApiReply<'_>) -> Option<AccountReason> {
    match reply.status {
        401 => Some(AccountReason::Unauthorized),
        402 => Some(AccountReason::PaymentRequired),
        403 => Some(AccountReason::Forbidden),
        404 | 405 | 300..=399 => Some(AccountReason::NotFound(reply.status)),
        429 => None,
        _ => reply.is_a_page().then_some(AccountReason::NotTheApi),
    }
}

/// Classifies the reply to a creation. `now` is for a `Retry-After` that is a date.
pub fn classify(reply: &ApiReply<'_>, marks: &RefusalMarks, now: Timestamp) -> Answer {
    if let Some(reason) = account_problem(reply) {
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

fn refusal(reply: &ApiReply<'_>, marks: &RefusalMarks) -> Answer {
    let (code, text) = match serde_json::from_slice::<Failure>(reply.body) {
        Ok(failure) => (failure.code(), failure.text()),
        // JSON of another shape is still an answer of the API about this job.
        Err(_) if serde_json::from_slice::<Value>(reply.body).is_ok() => (String::new(), String::new()),
        // Cut off: it may have been any refusal, including that of a used key.
        Err(_) => return Answer::Unknown(UnknownReason::Unreadable),
    };
    if marks.says_user_exists(&code) {
        return Answer::UserExists;
    }
    if matches!(reply.status, 400 | 409) && marks.says_key_used(&code, &text) {
        return Answer::KeyAlreadyUsed;
    }
    let (code, text) = if looks_like_a_code(&code) {
        (code, text)
    } else {
        // A sentence in place of the code may quote personal data.
        (
            format!("{STATUS_CODE_PREFIX}{}", reply.status),
            [code, text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": "),
        )
    };
    Answer::Rejected { status: reply.status, code, text }
}

/// Returns whether it is an upper-case code like `USER_BLACKLISTED`. Any other text may contain personal data, for
/// example a phone number.
pub fn looks_like_a_code(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.starts_with(|first: char| first.is_ascii_uppercase())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Words of a refusal that mentions an idempotency key because it is missing or malformed, perhaps because a proxy
/// removed the header. No key is used then.
const NO_KEY_WORDS: [&str; 6] = ["required", "missing", "invalid", "malformed", "must be", "not a valid"];

impl RefusalMarks {
    fn says_user_exists(&self, code: &str) -> bool {
        self.user_exists_codes.iter().any(|mark| mark.eq_ignore_ascii_case(code))
    }

    fn says_key_used(&self, code: &str, text: &str) -> bool {
        if self.key_used_codes.iter().any(|mark| mark.eq_ignore_ascii_case(code)) {
            return true;
        }
        let refusal = format!("{code} {text}").to_lowercase();
        let mentions_key = |word: &String| !word.is_empty() && refusal.contains(&word.to_lowercase());
        self.key_used_words.iter().any(mentions_key) && !NO_KEY_WORDS.iter().any(|word| refusal.contains(word))
    }
}

/// Longest `Retry-After` that is obeyed, against a wrong header. After this the partner is asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Parses `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3). `None` where it is neither and where it is zero: a
/// 429 that asks to retry at once gives no delay.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Timestamp::parse_http(text)?.since(now),
    };
    (!wait.is_zero()).then(|| wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests;
