//! The faults that can happen to a single request.

use std::time::Duration;

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
    /// 402, for creations only.
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
}

impl FaultKind {
    /// Every kind.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name of the kind in a fault list.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
