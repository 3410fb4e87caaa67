//! The refusals of the partner: the answer to each, and the counter that it increments.

use std::num::NonZeroU32;

use crate::sandbox::model_config::{KeyReuse, ModelConfig};
use crate::sandbox::reply::SandboxReply;
use crate::sandbox::stats::ModelStats;

#[derive(Debug)]
pub(super) enum SandboxRefusal {
    Throttled {
        retry_after_s: Option<NonZeroU32>,
    },
    Unauthorized,
    Forbidden,
    PaymentRequired,
    KeyMissing,
    KeyMalformed,
    KeyUsed,
    ContentType,
    NotJson,
    /// The text names every wrong field or parameter.
    Invalid(String),
    InvalidProgram,
    Duplicate,
    Blacklisted,
    ListRefused(u16),
    UserNotFound,
    /// The number of cards.
    ActiveCards(u32),
}

impl SandboxRefusal {
    /// The answer, with the configured codes.
    pub(super) fn reply(&self, config: &ModelConfig) -> SandboxReply {
        match self {
            Self::Throttled { retry_after_s } => {
                SandboxReply::throttled(retry_after_s.map(|seconds| seconds.to_string()))
            }
            Self::Unauthorized => SandboxReply::error(401, "UNAUTHORIZED", "Missing or invalid API key"),
            Self::Forbidden => SandboxReply::error(403, "ACCOUNT_SUSPENDED", "The partner account is suspended"),
            Self::PaymentRequired => SandboxReply::error(
                402,
                "INSUFFICIENT_WALLET_BALANCE",
                "The wallet balance is too low to create a user",
            ),
            Self::KeyMissing => {
                SandboxReply::error(400, "IDEMPOTENCY_KEY_REQUIRED", "The idempotency-key header is required")
            }
            Self::KeyMalformed => {
                SandboxReply::error(400, "INVALID_IDEMPOTENCY_KEY", "The idempotency-key must be a UUID")
            }
            Self::KeyUsed => {
                let status = if config.key_reuse == KeyReuse::Refused409 { 409 } else { 400 };
                // With a configured code the text has none of the words that `api.key_used_words` looks for, so that
                // only the code identifies this answer.
                let is_default = config.key_used_code == ModelConfig::default().key_used_code;
                let text = if is_default { "This idempotency key was already used" } else { "This was sent before" };
                SandboxReply::error(status, &config.key_used_code, text)
            }
            Self::ContentType => {
                SandboxReply::error(400, "INVALID_CONTENT_TYPE", "The content-type header must be application/json")
            }
            Self::NotJson => SandboxReply::error(400, "INVALID_JSON", "The body is not JSON"),
            Self::Invalid(text) => SandboxReply::error(422, "VALIDATION_ERROR", text),
            Self::InvalidProgram => {
                SandboxReply::error(400, "INVALID_PROGRAM", "program must be custodial or non_custodial")
            }
            Self::Duplicate => SandboxReply::error(400, &config.dup_user_code, "A user with this email already exists"),
            Self::Blacklisted => SandboxReply::error(400, "USER_BLACKLISTED", "This user cannot be onboarded"),
            Self::ListRefused(status) => SandboxReply::error(*status, "FORBIDDEN", "This key may not list users"),
            Self::UserNotFound => {
                SandboxReply::error(config.user_not_found_status, "USER_NOT_FOUND", "The user does not exist")
            }
            Self::ActiveCards(cards) => SandboxReply::active_cards(*cards),
        }
    }

    /// Increments the counter of this refusal.
    pub(super) fn count(&self, stats: &mut ModelStats) {
        let counter = match self {
            Self::Throttled { .. } => &mut stats.throttled,
            Self::Unauthorized => &mut stats.unauthorized,
            Self::Forbidden | Self::PaymentRequired | Self::ListRefused(_) => &mut stats.account_refused,
            Self::KeyUsed => &mut stats.keys_refused,
            Self::Duplicate => &mut stats.duplicates_refused,
            Self::UserNotFound | Self::ActiveCards(_) => &mut stats.deletions_refused,
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
