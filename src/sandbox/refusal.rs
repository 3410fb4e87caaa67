//! Every way the partner refuses a request, with the answer it gives and the counter it moves.

use std::num::NonZeroU32;

use crate::sandbox::config::{KeyReuse, ModelConfig};
use crate::sandbox::reply::Reply;
use crate::sandbox::stats::Stats;

#[derive(Debug)]
pub(super) enum Refusal {
    Throttled {
        retry_after_s: Option<NonZeroU32>,
    },
    Unauthorized,
    Suspended,
    WalletEmpty,
    KeyMissing,
    KeyMalformed,
    KeyUsed,
    ContentType,
    NotJson,
    /// The texts name every offending field or parameter.
    Invalid(String),
    InvalidProgram,
    Duplicate,
    Blacklisted,
    ListRefused(u16),
}

impl Refusal {
    /// The answer, with the codes of this partner.
    pub(super) fn reply(&self, config: &ModelConfig) -> Reply {
        match self {
            Self::Throttled { retry_after_s } => Reply::throttled(retry_after_s.map(|seconds| seconds.to_string())),
            Self::Unauthorized => Reply::error(401, "UNAUTHORIZED", "Missing or invalid API key"),
            Self::Suspended => Reply::error(403, "ACCOUNT_SUSPENDED", "The partner account is suspended"),
            Self::WalletEmpty => {
                Reply::error(402, "INSUFFICIENT_WALLET_BALANCE", "The wallet balance is too low to create a user")
            }
            Self::KeyMissing => Reply::error(400, "IDEMPOTENCY_KEY_REQUIRED", "The idempotency-key header is required"),
            Self::KeyMalformed => Reply::error(400, "INVALID_IDEMPOTENCY_KEY", "The idempotency-key must be a UUID"),
            Self::KeyUsed => {
                let status = if config.key_reuse == KeyReuse::Refused409 { 409 } else { 400 };
                // A partner with a word of its own says it in its own words too, by which alone nobody would know it.
                let is_usual = config.key_used_code == ModelConfig::default().key_used_code;
                let text = if is_usual { "This idempotency key was already used" } else { "This was sent before" };
                Reply::error(status, &config.key_used_code, text)
            }
            Self::ContentType => {
                Reply::error(400, "INVALID_CONTENT_TYPE", "The content-type header must be application/json")
            }
            Self::NotJson => Reply::error(400, "INVALID_JSON", "The body is not JSON"),
            Self::Invalid(text) => Reply::error(422, "VALIDATION_ERROR", text),
            Self::InvalidProgram => Reply::error(400, "INVALID_PROGRAM", "program must be custodial or non_custodial"),
            Self::Duplicate => Reply::error(400, &config.dup_user_code, "A user with this email already exists"),
            Self::Blacklisted => Reply::error(400, "USER_BLACKLISTED", "This user cannot be onboarded"),
            Self::ListRefused(status) => Reply::error(*status, "FORBIDDEN", "This key may not list users"),
        }
    }

    /// Moves the one counter this refusal belongs to.
    pub(super) fn count(&self, stats: &mut Stats) {
        let counter = match self {
            Self::Throttled { .. } => &mut stats.throttled,
            Self::Unauthorized => &mut stats.unauthorized,
            Self::Suspended | Self::WalletEmpty | Self::ListRefused(_) => &mut stats.account_refused,
            Self::KeyUsed => &mut stats.keys_refused,
            Self::Duplicate => &mut stats.duplicates_refused,
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::ContentType
            | Self::NotJson
            | Self::Invalid(_)
            | Self::InvalidProgram
            | Self::Blacklisted => &mut stats.rejected,
        };
        *counter += 1;
    }
}
