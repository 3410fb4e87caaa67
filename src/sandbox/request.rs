//! The requests of the partner's API, as the model receives them, and what is read from their headers and queries.

use url::form_urlencoded;
use uuid::Uuid;

use crate::sandbox::refusal::SandboxRefusal;

/// The kinds of requests that the API answers. The names are prefixes in a fault list.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum RequestKind {
    /// `POST /v2/partner/card/users`.
    Create,
    /// `GET /v1/partner/card/users`.
    List,
    /// `DELETE /v1/partner/card/users/{serviceId}`.
    Delete,
    /// `GET /v1/partner/wallet`.
    Wallet,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name of the kind in a fault list.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A request to create a user. Headers are as received; `None` is a header that is absent or isn't text.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateRequest<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `idempotency-key` header.
    pub idempotency_key: Option<&'a str>,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// A request to delete a user. Headers are as in [`CreateRequest`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteRequest<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `idempotency-key` header.
    pub idempotency_key: Option<&'a str>,
    /// The last part of the path, decoded.
    pub service_id: &'a str,
}

/// A request for a page of users.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListRequest<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The query of the URL without its question mark, such as `skip=0&limit=50`.
    pub query: &'a str,
}

/// A request for the balance of the wallet.
#[derive(Clone, Copy, Debug, Default)]
pub struct WalletRequest<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
}

/// The token of an `Authorization` header with the scheme `Bearer`.
pub(super) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Assumed: a UUID in the usual notation of 36 characters, in upper or lower case.
pub(super) fn parse_key(header: Option<&str>) -> Result<u128, SandboxRefusal> {
    let key = header.map(str::trim).filter(|key| !key.is_empty()).ok_or(SandboxRefusal::KeyMissing)?;
    match Uuid::try_parse(key) {
        Ok(uuid) if key.len() == 36 => Ok(uuid.as_u128()),
        _ => Err(SandboxRefusal::KeyMalformed),
    }
}

pub(super) fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type);
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// `skip` (0 if absent) and `limit` of a list's query.
pub(super) fn parse_page(query: &str) -> Result<(u64, Option<u32>), SandboxRefusal> {
    let (mut skip, mut limit) = (0, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "skip" => {
                skip = value.parse().map_err(|_| SandboxRefusal::Invalid("skip must be a number from 0".to_owned()))?;
            }
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| *limit > 0);
                limit =
                    Some(parsed.ok_or_else(|| SandboxRefusal::Invalid("limit must be a number from 1".to_owned()))?);
            }
            _ => {}
        }
    }
    Ok((skip, limit))
}
