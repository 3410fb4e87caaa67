//! Reads a page of the user list from an answer. Pure.

use serde::Deserialize;
use serde_json::Value;

use crate::adapters::plu_http::partner_clock::PartnerClock;
use crate::domain::answer::salvage::without_mark;
use crate::domain::answer::{ApiReply, account_problem};
use crate::domain::decide::FoundUser;
use crate::domain::{AccountReason, NameMark, ServiceId, Timestamp, UserStatus};
use crate::ports::{ListError, UserListPage};

#[derive(Deserialize)]
struct UserListBody {
    data: UserListData,
}

#[derive(Deserialize)]
struct UserListData {
    /// Parsed one by one, so that an unusual entry doesn't hide the others.
    users: Vec<Value>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    total: Value,
}

/// Reads the answer to a request for a page. Its times are converted to our clock; `now` is needed for a `Retry-After`
/// with a date.
///
/// # Errors
/// [`ListError`] if the answer is no page.
pub(crate) fn read_page(reply: &ApiReply<'_>, clock: &PartnerClock, now: Timestamp) -> Result<UserListPage, ListError> {
    match (account_problem(reply), reply.status) {
        // Reading is free, so an empty wallet doesn't prevent it.
        (Some(reason), _) if reason != AccountReason::PaymentRequired => Err(ListError::Account(reason)),
        (_, 200..=299) => parse_page(reply.body, clock),
        (_, 429) => Err(ListError::Throttled(reply.retry_after(now))),
        // Every other request would get it too.
        (_, 503) if reply.retry_after(now).is_some() => Err(ListError::Throttled(reply.retry_after(now))),
        (_, 408 | 500..) => Err(ListError::Failed("server_error")),
        _ => Err(ListError::Refused),
    }
}

fn parse_page(body: &[u8], clock: &PartnerClock) -> Result<UserListPage, ListError> {
    const UNREADABLE: ListError = ListError::Failed("unreadable_answer");
    let UserListBody { data } = serde_json::from_slice(without_mark(body)).map_err(|_| UNREADABLE)?;
    let total = whole_number(&data.pagination.total).ok_or(UNREADABLE)?;
    let entries = data.users.iter().filter_map(|entry| Some((parse_user(entry, clock)?, status(entry))));
    let (users, statuses): (Vec<_>, _) = entries.unzip();
    let unusable = (data.users.len() - users.len()) as u64;
    Ok(UserListPage { users, statuses, unusable, total })
}

/// Returns the email and the user of an entry; `None` without an email or a usable id.
fn parse_user(entry: &Value, clock: &PartnerClock) -> Option<(String, FoundUser)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let service_id = match entry.get("serviceId")? {
        Value::String(id) => ServiceId::parse(id)?,
        Value::Number(id) => ServiceId::parse(&id.to_string())?,
        _ => return None,
    };
    let created_at = text("createdAt").and_then(Timestamp::parse).map(|at| clock.to_ours(at));
    let name = text("firstName").zip(text("lastName")).and_then(|(first, last)| NameMark::of(first, last));
    Some((text("email")?.to_owned(), FoundUser { service_id, created_at, name }))
}

/// Returns the KYC status of an entry; `None` where it has none that is a word.
fn status(entry: &Value) -> Option<UserStatus> {
    entry.get("status").and_then(Value::as_str).and_then(UserStatus::parse)
}

/// Reads a number, which may be written as a string.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}
