//! The faults that can happen to a single request.

use std::time::Duration;

use crate::sandbox::request::RequestKind;

/// How long a dripping answer takes in all.
pub const DRIP: Duration = Duration::from_secs(40);

/// What happens to one request.
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
pub enum FaultKind {
    /// The connection is closed before the request takes effect.
    Drop,
    /// The request takes effect; the connection is closed without an answer.
    Lost,
    /// The request takes effect; the connection is closed in the middle of the answer.
    Cut,
    /// 500, and the request has no effect.
    ErrorBefore,
    /// 500 after the request took effect.
    ErrorAfter,
    /// The right status with a JSON body that ends too early.
    Truncated,
    /// A success with JSON of another shape; error answers are unchanged.
    WrongJson,
    /// The answer arrives piece by piece over [`DRIP`], longer than any client waits.
    Drip,
    /// 429 with `Retry-After` in seconds.
    #[strum(serialize = "429")]
    Throttled,
    /// 429 with `Retry-After` as an HTTP date.
    #[strum(serialize = "429-date")]
    ThrottledDate,
    /// 429 without `Retry-After`.
    #[strum(serialize = "429-bare")]
    ThrottledBare,
    /// 401.
    #[strum(serialize = "401")]
    Unauthorized,
    /// 402, for creations and deletions.
    #[strum(serialize = "402")]
    PaymentRequired,
    /// 403.
    #[strum(serialize = "403")]
    Forbidden,
    /// 404.
    #[strum(serialize = "404")]
    NotFound,
    /// 200 with an HTML page of a proxy; the partner doesn't receive the request.
    #[strum(serialize = "html-200")]
    Html200,
    /// The request takes effect; a proxy answers 502 with an HTML page.
    #[strum(serialize = "html-502")]
    Html502,
    /// 400 with JSON of an undocumented shape; the partner doesn't receive the request.
    #[strum(serialize = "odd-400")]
    Odd400,
    // The faults of `BASIC` end here.
    /// 429 with a `Retry-After` of more digits than any number type holds.
    #[strum(serialize = "429-long")]
    ThrottledLong,
    /// 503 with `Retry-After`; the partner doesn't receive the request.
    #[strum(serialize = "503")]
    Unavailable,
    /// The request takes effect; the answer is 503 with `Retry-After`.
    #[strum(serialize = "503-after")]
    UnavailableAfter,
    /// The body begins with a byte order mark.
    Bom,
    /// The body is compressed with gzip.
    Gzip,
    /// The body is compressed in the zlib format.
    Deflate,
    /// The body is compressed, with neither header nor checksum.
    DeflateRaw,
    /// `Content-Type: text/plain`.
    TypeText,
    /// No `Content-Type`.
    TypeNone,
    /// A success whose members of `data` are there twice, with the same values.
    Twice,
    /// A success whose members of `data` are there twice, with different values.
    TwiceDiffers,
    /// A success whose members of `data` are beside `status`, not in `data`.
    Flat,
    /// A success whose members of `data` are one level deeper.
    Nested,
    /// A success whose JSON ends after the last value, without the closing braces.
    OpenEnd,
    /// A creation whose JSON ends in the middle of the link.
    OpenLink,
    /// A creation with a number as `serviceId`. The list has its digits as text.
    IdNumber,
    /// A creation without `serviceId`.
    IdNone,
    /// A creation with a `serviceId` of 300,000 characters.
    IdLong,
    /// A creation with a NUL in its `serviceId`.
    IdNul,
    /// A creation without `verificationUrl`.
    LinkNone,
    /// A creation whose `verificationUrl` is `null`.
    LinkNull,
    /// A creation with `verificationLink` instead of `verificationUrl`.
    LinkRenamed,
    /// A creation whose `verificationUrl` is an object with the link as `url`.
    LinkObject,
    /// A creation with a `javascript:` link.
    LinkScript,
    /// A creation with an `http:` link to an internal address.
    LinkHttp,
    /// A creation with a spreadsheet formula as its link.
    LinkFormula,
    /// A creation with a NUL in its link.
    LinkNul,
    /// A creation with a link of more than 4,000 characters.
    LinkLong,
    /// A gateway refuses the request with this status and JSON of its own; the partner doesn't receive it.
    #[strum(serialize = "gateway-405")]
    Gateway405,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-406")]
    Gateway406,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-407")]
    Gateway407,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-408")]
    Gateway408,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-409")]
    Gateway409,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-410")]
    Gateway410,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-411")]
    Gateway411,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-412")]
    Gateway412,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-413")]
    Gateway413,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-414")]
    Gateway414,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-415")]
    Gateway415,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-417")]
    Gateway417,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-421")]
    Gateway421,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-422")]
    Gateway422,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-425")]
    Gateway425,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-426")]
    Gateway426,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-428")]
    Gateway428,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-431")]
    Gateway431,
    /// As [`FaultKind::Gateway405`].
    #[strum(serialize = "gateway-451")]
    Gateway451,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The faults of the network, the account and the rate limit. A client uses a whole answer or nothing of it.
    pub const BASIC: &'static [Self] = Self::ALL.split_at(Self::Odd400 as usize + 1).0;

    /// The name of the kind in a fault list.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The status of a gateway's refusal.
    pub(super) fn gateway_status(self) -> Option<u16> {
        self.name().strip_prefix("gateway-")?.parse().ok()
    }

    /// Whether the fault can happen to requests of this kind.
    pub(super) fn applies_to(self, request: RequestKind) -> bool {
        let changes_a_person = matches!(request, RequestKind::Create | RequestKind::Delete);
        match self {
            Self::PaymentRequired | Self::Twice | Self::TwiceDiffers | Self::Flat | Self::Nested | Self::OpenEnd => {
                changes_a_person
            }
            Self::OpenLink
            | Self::IdNumber
            | Self::IdNone
            | Self::IdLong
            | Self::IdNul
            | Self::LinkNone
            | Self::LinkNull
            | Self::LinkRenamed
            | Self::LinkObject
            | Self::LinkScript
            | Self::LinkHttp
            | Self::LinkFormula
            | Self::LinkNul
            | Self::LinkLong => request == RequestKind::Create,
            _ => true,
        }
    }
}
