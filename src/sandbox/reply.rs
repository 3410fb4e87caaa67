//! The partner's answers: status, `Retry-After`, and JSON in the documented shapes.

use serde::Serialize;

use crate::sandbox::users::UserView;

/// An answer of the partner, or of what stands in front of it, as the HTTP layer is to send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status code.
    pub status: u16,
    /// The value of the `Retry-After` header: whole seconds or a date; only on a 429.
    pub retry_after: Option<String>,
    /// The value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The body: JSON, if the partner speaks.
    pub body: String,
}

/// What every answer looks like.
#[derive(Serialize)]
struct Envelope<'a, T> {
    status: &'a str,
    message: &'a str,
    data: T,
}

#[derive(Serialize)]
struct ErrorData<'a> {
    error: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedData<'a> {
    service_id: &'a str,
    verification_url: &'a str,
}

#[derive(Serialize)]
struct PageData<'a> {
    users: Vec<UserView<'a>>,
    pagination: Pagination,
}

/// Where a page lies in the list; `limit` is the one that was used, not the one that was asked for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Pagination {
    pub(super) skip: u64,
    pub(super) limit: u32,
    pub(super) total: usize,
}

impl Reply {
    /// A refusal: `code` for machines, `text` for people.
    pub(super) fn error(status: u16, code: &str, text: &str) -> Self {
        Self::json(status, &Envelope { status: "error", message: code, data: ErrorData { error: text } })
    }

    pub(super) fn created(service_id: &str, verification_url: &str) -> Self {
        let data = CreatedData { service_id, verification_url };
        Self::json(201, &Envelope { status: "success", message: "User created successfully", data })
    }

    pub(super) fn page(users: Vec<UserView<'_>>, pagination: Pagination) -> Self {
        let data = PageData { users, pagination };
        Self::json(200, &Envelope { status: "success", message: "success", data })
    }

    /// Any value as JSON.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Self {
        let body = serde_json::to_string(value).expect("strings and numbers always serialise");
        Self { status, retry_after: None, content_type: "application/json", body }
    }

    pub(super) fn throttled(retry_after: Option<String>) -> Self {
        Self { retry_after, ..Self::error(429, "RATE_LIMIT_EXCEEDED", "Too many requests") }
    }

    /// The refusal of something on the way that speaks JSON, and isn't the partner.
    pub(super) fn odd() -> Self {
        #[derive(Serialize)]
        struct Odd {
            detail: &'static str,
        }
        Self::json(400, &Odd { detail: "Bad Request" })
    }

    /// The page of a proxy.
    pub(super) fn html(status: u16, title: &str) -> Self {
        let body = format!("<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>");
        Self { status, retry_after: None, content_type: "text/html", body }
    }
}
