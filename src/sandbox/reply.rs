//! HTTP answers of the partner: status, `Retry-After`, and JSON in the documented shapes.

use serde::Serialize;

use crate::sandbox::users::UserView;

/// An HTTP answer of the partner or of a proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxReply {
    /// The HTTP status code.
    pub status: u16,
    /// The value of the `Retry-After` header: whole seconds or a date; only on a 429.
    pub retry_after: Option<String>,
    /// The value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The body: JSON if the partner answers, HTML if a proxy does.
    pub body: String,
}

/// The outer object of every answer of the partner.
#[derive(Serialize)]
struct ReplyEnvelope<'a, T> {
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
    pagination: ReplyPagination,
}

/// The position of a page in the list; `limit` is the one that was used, which may be lower than the requested one.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ReplyPagination {
    pub(super) skip: u64,
    pub(super) limit: u32,
    pub(super) total: usize,
}

impl SandboxReply {
    /// An error: `code` for programs, `text` for people.
    pub(super) fn error(status: u16, code: &str, text: &str) -> Self {
        Self::json(status, &ReplyEnvelope { status: "error", message: code, data: ErrorData { error: text } })
    }

    pub(super) fn created(service_id: &str, verification_url: &str) -> Self {
        let data = CreatedData { service_id, verification_url };
        Self::json(201, &ReplyEnvelope { status: "success", message: "User created successfully", data })
    }

    pub(super) fn page(users: Vec<UserView<'_>>, pagination: ReplyPagination) -> Self {
        let data = PageData { users, pagination };
        Self::json(200, &ReplyEnvelope { status: "success", message: "success", data })
    }

    /// A value as JSON.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Self {
        let body = serde_json::to_string(value).expect("strings and numbers always serialise");
        Self { status, retry_after: None, content_type: "application/json", body }
    }

    pub(super) fn throttled(retry_after: Option<String>) -> Self {
        Self { retry_after, ..Self::error(429, "RATE_LIMIT_EXCEEDED", "Too many requests") }
    }

    /// 400 with JSON that isn't the partner's, as a gateway in front of it may answer.
    pub(super) fn odd() -> Self {
        #[derive(Serialize)]
        struct Odd {
            detail: &'static str,
        }
        Self::json(400, &Odd { detail: "Bad Request" })
    }

    /// An HTML page of a proxy.
    pub(super) fn html(status: u16, title: &str) -> Self {
        let body = format!("<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>");
        Self { status, retry_after: None, content_type: "text/html", body }
    }
}
