//! HTTP answers of the partner: status, `Retry-After`, and JSON in the documented shapes.

use axum::http::StatusCode;
use serde::Serialize;

use crate::sandbox::ids::SandboxId;
use crate::sandbox::money::Money;
use crate::sandbox::users::UserView;

const JSON: Option<&str> = Some("application/json");

/// An HTTP answer of the partner or of a proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxReply {
    /// The HTTP status code.
    pub status: u16,
    /// The value of the `Retry-After` header: whole seconds or a date; only on a 429 and a 503.
    pub retry_after: Option<String>,
    /// The value of the `Content-Type` header; `None`: there is none.
    pub content_type: Option<&'static str>,
    /// How the body is encoded on the wire; `None`: as it is.
    pub content_encoding: Option<BodyEncoding>,
    /// The body before it is encoded: JSON if the partner answers, HTML if a proxy does.
    pub body: String,
}

/// A compressed body. The server encodes it although no client of this project asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoding {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate` as RFC 9110 defines it: the zlib format (RFC 1950).
    Deflate,
    /// `deflate` without the zlib header and checksum (RFC 1951), as some servers send it.
    RawDeflate,
}

/// The outer object of every answer of the partner.
#[derive(Serialize)]
struct ReplyEnvelope<'a, T> {
    status: &'a str,
    message: &'a str,
    data: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorData<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_cards: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedData<'a> {
    service_id: &'a SandboxId,
    verification_url: &'a str,
}

#[derive(Serialize)]
struct DeletedData {
    deleted: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WalletData<'a> {
    partner_id: &'a str,
    balance: Money,
    currency: &'a str,
    active: bool,
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
        Self::json(
            status,
            &ReplyEnvelope { status: "error", message: code, data: ErrorData { error: text, active_cards: None } },
        )
    }

    pub(super) fn active_cards(cards: u32) -> Self {
        let data = ErrorData { error: "The user has active cards", active_cards: Some(cards) };
        Self::json(409, &ReplyEnvelope { status: "error", message: "ACTIVE_CARDS_EXIST", data })
    }

    pub(super) fn created(service_id: &SandboxId, verification_url: &str) -> Self {
        let data = CreatedData { service_id, verification_url };
        Self::json(201, &ReplyEnvelope { status: "success", message: "User created successfully", data })
    }

    pub(super) fn deleted() -> Self {
        let data = DeletedData { deleted: true };
        Self::json(200, &ReplyEnvelope { status: "success", message: "User deleted successfully", data })
    }

    pub(super) fn wallet(partner_id: &str, balance: Money, currency: &str) -> Self {
        let data = WalletData { partner_id, balance, currency, active: true };
        Self::json(200, &ReplyEnvelope { status: "success", message: "success", data })
    }

    pub(super) fn page(users: Vec<UserView<'_>>, pagination: ReplyPagination) -> Self {
        let data = PageData { users, pagination };
        Self::json(200, &ReplyEnvelope { status: "success", message: "success", data })
    }

    pub(super) fn json(status: u16, value: &impl Serialize) -> Self {
        let body = serde_json::to_string(value).expect("strings and numbers always serialise");
        Self { status, retry_after: None, content_type: JSON, content_encoding: None, body }
    }

    pub(super) fn throttled(retry_after: Option<String>) -> Self {
        Self { retry_after, ..Self::error(429, "RATE_LIMIT_EXCEEDED", "Too many requests") }
    }

    pub(super) fn unavailable(retry_after: String) -> Self {
        Self { retry_after: Some(retry_after), ..Self::error(503, "SERVICE_UNAVAILABLE", "Try again later") }
    }

    /// 400 with JSON that isn't the partner's, as a gateway in front of it may answer.
    pub(super) fn odd() -> Self {
        #[derive(Serialize)]
        struct Odd {
            detail: &'static str,
        }
        Self::json(400, &Odd { detail: "Bad Request" })
    }

    /// An error of a gateway in front of the partner, which names neither a code nor a field.
    pub(super) fn gateway(status: u16) -> Self {
        #[derive(Serialize)]
        struct Gateway<'a> {
            message: &'a str,
            request_id: &'a str,
        }
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let message = reason.unwrap_or("Unknown Error");
        Self::json(status, &Gateway { message, request_id: "8f2a6c1d4e0b4f7a9d3c5b6a7e8f9012" })
    }

    /// An HTML page of a proxy.
    pub(super) fn html(status: u16, title: &str) -> Self {
        let body = format!("<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>");
        Self { content_type: Some("text/html"), body, ..Self::json(status, &()) }
    }
}
