//! The properties of the simulated partner: [`ModelConfig`].

use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::sandbox::money::Money;

/// The state of the partner account. It decides the answer to every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccountState {
    /// The account works.
    #[default]
    Ok,
    /// The API key is revoked: every request is answered 401.
    KeyRevoked,
    /// The wallet can't pay for a creation: every creation is answered 402.
    PaymentRequired,
    /// The account is suspended: every request is answered 403.
    Suspended,
}

/// The answer to the second use of an idempotency key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyReuse {
    /// 400, as documented. The default.
    #[default]
    Refused400,
    /// 409.
    Refused409,
    /// The first answer again.
    Replayed,
}

/// The order of the user list. The vendor documents none, so a client must work with all.
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
    /// In an order that looks random and doesn't change, as if sorted by a random id. A new user can be anywhere.
    Scattered,
}

/// The answer to a `limit` above the largest page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListOverLimit {
    /// The largest page. The default.
    #[default]
    Clipped,
    /// 422.
    Refused,
}

/// The properties of the simulated partner. `Debug` doesn't print the key.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The only API key that is accepted as a bearer token. Default `sk_staging_sandbox`.
    pub api_key: SecretString,
    /// The partner's slug, the first part of every `serviceId`. Default `sandbox`.
    pub slug: String,
    /// Seed of every id: the same seed and the same requests give the same replies. Default 0.
    pub seed: u64,
    /// How long a used idempotency key is remembered. Default 300 s, as documented. Zero: the partner replays the
    /// first answer for a day.
    pub key_ttl: Duration,
    /// The answer to a used key. Default: 400.
    pub key_reuse: KeyReuse,
    /// The code of the "key already used" answer, which the vendor doesn't document. Default
    /// `IDEMPOTENCY_KEY_ALREADY_USED`.
    pub key_used_code: String,
    /// The code of the answer to a taken email. Default `DUP_USER`, as documented.
    pub dup_user_code: String,
    /// How many seconds the partner's clock is ahead of ours, in `createdAt` and in the header `Date`. Default 0.
    pub clock_skew_s: i64,
    /// Whether the list has `createdAt`. Default: yes.
    pub shows_created_at: bool,
    /// How many users another client creates just before each page of the list is read. Default 0.
    pub list_grows: u32,
    /// How many seconds after its creation a user appears in the list, as in a list that is read from a replica.
    /// Default 0.
    pub list_lag_s: u64,
    /// The status that refuses every page of the list: 401, 403 or 404. Default `None`: the key may read the list.
    pub list_refused: Option<u16>,
    /// How long after its creation a user whose `lastName` ends in a staging keyword shows the KYC outcome. Default
    /// zero: in the next list.
    pub kyc_after: Duration,
    /// Whether the list has `status`. Default: yes.
    pub shows_status: bool,
    /// The order of the list. Default: newest first.
    pub list_order: ListOrder,
    /// Users on a page if the request has no `limit`. Default 50, as documented.
    pub list_limit_default: u32,
    /// Maximum number of users on a page. Default 100.
    pub list_limit_max: u32,
    /// The answer to a larger `limit`. Default: it is lowered to the maximum.
    pub list_over_limit: ListOverLimit,
    /// Other clients created users until at least this many existed. Their emails are `user0@elsewhere.example`
    /// onwards. At the start, the newest is a minute old, and the others were created a minute apart. Default 0.
    pub users_min: u32,
    /// Maximum number of requests of all kinds in any rolling second; requests above it are answered 429. Zero refuses
    /// everything. Default `None`: no limit.
    pub rate_limit: Option<u32>,
    /// The `Retry-After` of a 429, in seconds. Default 1, after which a rolling second has room again; `None` leaves
    /// the header out.
    pub retry_after_s: Option<NonZeroU32>,
    /// The state of the account at the start. Default [`AccountState::Ok`].
    pub account: AccountState,
    /// What a creation costs. Default 1.50 dollars.
    pub fee: Money,
    /// How many creations the wallet pays for at the start: its balance is this many fees. A creation that costs more
    /// than the balance is answered 402. Default `None`: any number.
    pub wallet: Option<u64>,
    /// The status of the answer to the deletion of a user who doesn't exist. The vendor's pages differ: 404 and 400.
    /// Default 404.
    pub user_not_found_status: u16,
}

impl ModelConfig {
    /// What the partner's clock shows at this time.
    pub(super) fn on_partner_clock(&self, time: Timestamp) -> Timestamp {
        let skew = Duration::from_secs(self.clock_skew_s.unsigned_abs());
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
            shows_status: true,
            list_order: ListOrder::default(),
            list_limit_default: 50,
            list_limit_max: 100,
            list_over_limit: ListOverLimit::default(),
            users_min: 0,
            rate_limit: None,
            retry_after_s: Some(NonZeroU32::MIN),
            account: AccountState::default(),
            fee: Money::from_cents(150),
            wallet: None,
            user_not_found_status: 404,
        }
    }
}
