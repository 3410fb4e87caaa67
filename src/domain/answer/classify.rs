//! Classifies HTTP replies.

use std::time::Duration;

use serde::Deserialize;

use super::retry_after::retry_after;
use super::{AccountReason, Answer, RefusalMarks, UnknownReason, UnreachableReason, refusal, salvage};
use crate::domain::{ServiceId, Timestamp, VerificationUrl};

/// The parts of an HTTP reply that are classified.
#[derive(Debug)]
pub(crate) struct ApiReply<'a> {
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
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(self.retry_after?, self.date.unwrap_or(now))
    }

    /// Returns whether something other than the API answered: no JSON, not even truncated. Assumed: the API gives every
    /// answer a JSON content type, except an empty 5xx.
    fn is_a_page(&self) -> bool {
        let is_empty = self.status >= 500 && self.body.is_empty() && self.content_type.is_none();
        !is_empty && !self.has_json_type() && !salvage::begins_as_object(self.body)
    }
}

#[derive(Deserialize)]
struct Success {
    #[serde(default)]
    status: String,
    data: SuccessData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SuccessData {
    service_id: String,
    verification_url: String,
}

/// Returns the account problem that the reply reports; `None` where it is about this request or the rate limit.
pub(crate) fn account_problem(reply: &ApiReply<'_>) -> Option<AccountReason> {
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
///
/// A 400, 409 or 422 is about the job if its JSON names one of these:
/// - a code: `message` is one of the codes in `marks` or a documented one, or consists of upper-case letters, digits and
///   underscores beside a `status` that says error or a `data.error`;
/// - a field of the request, by its API name (its first letter may be a capital, but not that of an English word that
///   begins a sentence, except `Email`): a text in `message`, `data`, `error`,
///   `errors`, `detail`, `details`, `violations` or `validationErrors` begins with the name or quotes it, or a problem
///   in there has it in `field`, `property`, `path`, `param`, `parameter`, `pointer` or `instancePath`, or is keyed by
///   it.
///
/// Any other such answer is in the shape of something else, for example a gateway, and says nothing about the job.
pub(crate) fn classify(reply: &ApiReply<'_>, marks: &RefusalMarks, now: Timestamp) -> Answer {
    match reply.status {
        200..=299 => {
            if let Some(created) = creation(reply.body) {
                return created;
            }
        }
        421 | 425 => return Answer::NotSent(UnreachableReason::NotProcessed),
        407 | 411 | 413..=415 | 417 | 426 | 428 | 431 => {
            return Answer::Account(AccountReason::UnexpectedRefusal(reply.status));
        }
        503 => {
            if let Some(retry_after) = reply.retry_after(now) {
                return Answer::Unknown(UnknownReason::Unavailable { retry_after });
            }
        }
        _ => {}
    }
    if let Some(reason) = account_problem(reply) {
        return Answer::Account(reason);
    }
    match reply.status {
        429 => Answer::Throttled { retry_after: reply.retry_after(now) },
        200..=299 => Answer::Unknown(UnknownReason::Unreadable),
        408 | 500.. => Answer::Unknown(UnknownReason::ServerError(reply.status)),
        400 | 409 | 422 => refusal::refusal(reply.status, reply.body, marks),
        status => Answer::Account(AccountReason::UnexpectedRefusal(status)),
    }
}

/// Reads the body of a success. `None` where it has neither a usable id nor a usable link.
fn creation(body: &[u8]) -> Option<Answer> {
    let documented = serde_json::from_slice::<Success>(body).ok().filter(|success| !salvage::is_error(&success.status));
    if let Some(Success { data, .. }) = documented
        && let Some(service_id) = ServiceId::parse(&data.service_id)
        && let Some(link) = VerificationUrl::parse(&data.verification_url)
    {
        return Some(Answer::Created { service_id: Some(service_id), link: Ok(link) });
    }
    let salvage::SalvagedCreation { service_id, link } = salvage::creation(body)?;
    Some(Answer::Created { service_id, link })
}

#[cfg(test)]
mod tests;
