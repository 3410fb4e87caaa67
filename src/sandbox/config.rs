//! Settings of the simulated partner: [`ModelConfig`] for its behaviour, [`SandboxConfig`] for the
//! network around it.

use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::sandbox::plan::FaultPlan;

/// The condition of the partner account, which decides every request alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccountState {
    /// Requests are judged on their own merits.
    #[default]
    Ok,
    /// The API key no longer works: every request is answered 401.
    KeyRevoked,
    /// The wallet can't pay for a creation: every creation is answered 402.
    WalletEmpty,
    /// The account is suspended: every request is answered 403.
    Suspended,
}

/// How the second use of an idempotency key is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyReuse {
    /// With 400, as documented. The default.
    #[default]
    Refused400,
    /// With 409.
    Refused409,
    /// With the first answer once more.
    Replayed,
}

/// The order in which users are listed. The vendor documents none, so a client must work with all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListOrder {
    /// The latest creation first, so that pages shift while users are being created. The default.
    #[default]
    NewestFirst,
    /// In the order of creation.
    OldestFirst,
    /// In another order at every request.
    Shuffled,
}

/// How the simulated partner behaves. `Debug` doesn't print the key.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The one API key that is accepted as a bearer token. Default `sk_staging_sandbox`.
    pub api_key: SecretString,
    /// The partner's slug, the first part of every `serviceId`. Default `sandbox`.
    pub slug: String,
    /// Decides every id: the same seed and the same requests give the same replies. Default 0.
    pub seed: u64,
    /// How long a used idempotency key is remembered. Default 300 s, as documented. Zero: a partner
    /// that replays the first answer, for a day.
    pub key_ttl: Duration,
    /// What is done about a used key. Default: refused with 400.
    pub key_reuse: KeyReuse,
    /// The code of the "key already used" answer, which the vendor doesn't document. Default
    /// `IDEMPOTENCY_KEY_ALREADY_USED`.
    pub key_used_code: String,
    /// The code of the answer to a taken email. Default `DUP_USER`, as documented.
    pub dup_user_code: String,
    /// How far the partner's clock is ahead of ours, in `createdAt` and in the header `Date`, in seconds. Default 0.
    pub clock_skew_s: i64,
    /// Whether the list shows `createdAt`. Default yes.
    pub shows_created_at: bool,
    /// How many users of somebody else are created just before each page of the list is read.
    /// Default 0.
    pub list_grows: u32,
    /// How long after its creation a user appears in the list, in seconds: one that is read from a copy. Default 0.
    pub list_lag_s: u64,
    /// With which status every page of the list is refused; 401, 403 or 404. Default `None`: the key may read it.
    pub list_refused: Option<u16>,
    /// How long after its creation a user whose `lastName` ends in a staging keyword shows the KYC
    /// outcome. Default zero: in the next list already.
    pub kyc_after: Duration,
    /// The order of the list. Default newest first.
    pub list_order: ListOrder,
    /// Users in a page when the request names no `limit`. Default 50, as documented.
    pub list_limit_default: u32,
    /// The most users in a page; a larger `limit` is lowered to this. Default 100.
    pub list_limit_max: u32,
    /// The most requests of all kinds that are admitted in any rolling second; the others are
    /// answered 429. Zero refuses everything. Default `None`: no limit.
    pub rate_limit: Option<u32>,
    /// What a 429 says in `Retry-After`, in seconds. Default 1, after which a rolling second has
    /// room again; `None` leaves the header out.
    pub retry_after_s: Option<NonZeroU32>,
    /// The condition of the account at the start. Default [`AccountState::Ok`].
    pub account: AccountState,
    /// How many creations the wallet still pays for; at zero creations are answered 402. Default
    /// `None`: any number.
    pub wallet: Option<u64>,
}

impl ModelConfig {
    /// What the partner's clock shows so long after `epoch`.
    pub(super) fn clock(&self, epoch: Timestamp, now: Duration) -> Timestamp {
        let (time, skew) = (epoch.plus(now), Duration::from_secs(self.clock_skew_s.unsigned_abs()));
        if self.clock_skew_s < 0 { time.minus(skew) } else { time.plus(skew) }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            api_key: SecretString::from("sk_staging_sandbox"),
            slug: "sandbox".to_owned(),
            seed: 0,
            key_ttl: Duration::from_secs(300),
            key_reuse: KeyReuse::default(),
            key_used_code: "IDEMPOTENCY_KEY_ALREADY_USED".to_owned(),
            dup_user_code: "DUP_USER".to_owned(),
            clock_skew_s: 0,
            shows_created_at: true,
            list_grows: 0,
            list_lag_s: 0,
            list_refused: None,
            kyc_after: Duration::ZERO,
            list_order: ListOrder::default(),
            list_limit_default: 50,
            list_limit_max: 100,
            rate_limit: None,
            retry_after_s: Some(NonZeroU32::MIN),
            account: AccountState::default(),
            wallet: None,
        }
    }
}

/// The simulated partner together with the network in front of it. `Debug` doesn't print the key.
#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    /// How the partner behaves.
    pub model: ModelConfig,
    /// The wall-clock time at which the sandbox starts, which `createdAt` counts from. Default
    /// `None`: the real time.
    pub epoch: Option<Timestamp>,
    /// How long every answer of the API is held back, after the request took effect. Default zero.
    pub latency: Duration,
    /// The most that is added to `latency`, drawn evenly from zero to this, by the model's seed.
    /// Default zero.
    pub latency_jitter: Duration,
    /// Every n-th creation takes effect, and its connection is closed without an answer. Wins over
    /// `error_every`. Default `None`: never.
    pub lose_every: Option<NonZeroU32>,
    /// Every n-th creation takes effect, and is answered 500. Default `None`: never.
    pub error_every: Option<NonZeroU32>,
    /// What else goes wrong. Default: nothing.
    pub faults: FaultPlan,
}

#[cfg(test)]
mod tests {
    use super::SandboxConfig;

    #[test]
    fn debug_output_does_not_hold_the_key() {
        let printed = format!("{:?}", SandboxConfig::default());
        assert!(printed.contains("REDACTED"), "{printed}");
        assert!(!printed.contains("sk_staging"), "{printed}");
    }
}
