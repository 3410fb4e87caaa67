//! One struct for each section. `config/default.toml` has the defaults, the allowed values and the purposes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::QueueUrl;
use crate::domain::Lane;
use crate::domain::kyc::SignatureEncoding;
use crate::sandbox::FaultPlan;
use crate::telemetry::logging::LogFormat;

/// `[api]`: the partner API, and assumptions about it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiSettings {
    /// Base URL, `http` or `https`, with or without a slash at its end. Append paths to it; [`Url::join`] would replace
    /// its last part.
    pub url: Url,
    /// File that holds the API key, relative to the working directory. Empty: none.
    pub key_file: PathBuf,
    pub connect_timeout_s: u64,
    pub timeout_s: u64,
    /// How long the partner remembers an idempotency key, in seconds. 0: it replays the first answer.
    pub key_ttl_s: u64,
    pub key_used_codes: Vec<String>,
    pub key_used_words: Vec<String>,
    pub user_exists_codes: Vec<String>,
    pub clock_skew_s: u64,
    /// Lifetime of a verification link, in hours. 0: unknown, so events don't have it.
    pub link_ttl_h: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSettings {
    /// The queue. Serialized without its password.
    pub url: QueueUrl,
    pub size_mib_max: u64,
    pub message_bytes_max: usize,
}

/// What the program does if an exchange or a queue is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TopologyMode {
    /// Declares it.
    Declare,
    /// Reports it: the operators of the broker own the exchanges and queues.
    Verify,
}

/// `[amqp]`: RabbitMQ, if `queue.url` is on one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AmqpSettings {
    pub prefix: String,
    pub topology: TopologyMode,
    pub connect_timeout_s: u64,
    pub confirm_timeout_s: u64,
    /// Heartbeat, in seconds; a connection that is silent for twice this counts as broken. 0: no heartbeat.
    pub heartbeat_s: u16,
    /// User name; wins over the one in `queue.url`. Empty: the one in `queue.url`.
    pub user: String,
    /// File that holds only the password; wins over the one in `queue.url`. Empty: the one in `queue.url`.
    pub password_file: PathBuf,
    /// PEM file with the trusted certificates for `amqps://`. Empty: those of the system.
    pub ca_file: PathBuf,
    /// PEM file with the client certificate and its chain. Empty: none.
    pub client_cert_file: PathBuf,
    /// PEM file with the private key of the client certificate. Empty: none.
    pub client_key_file: PathBuf,
}

/// `[rate_limit]`: limits on requests and creations.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimitSettings {
    /// Maximum number of requests per second. 0: no limit.
    pub rate: u32,
    /// Maximum number of requests per minute. 0: no limit.
    pub rate_per_minute: u32,
    /// Maximum number of users created in any 24 hours before `bulk` is held. 0: no limit.
    pub per_day: u64,
    /// Times of day outside of which `bulk` is held. Empty: never.
    pub active_hours: String,
    pub time_zone: String,
}

/// `[worker]`: how jobs are processed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSettings {
    pub concurrency: usize,
    /// Maximum number of jobs in progress; at least `concurrency`. 0: four times as many.
    pub window: usize,
    pub bulk_share_percent: u32,
    pub attempts_max: u32,
    pub give_up_after_s: u64,
    pub backoff_initial_ms: u64,
    pub backoff_max_s: u64,
    pub delay_in_memory_max_s: u64,
    pub probe_initial_s: u64,
    pub probe_max_s: u64,
    pub shutdown_grace_s: u64,
}

/// `[circuit_breaker]`: when requests stop because the API is down or slow.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CircuitBreakerSettings {
    pub window_s: u64,
    pub failure_share: f64,
    pub slow_after_s: u64,
    pub open_s: u64,
    pub open_max_s: u64,
}

/// `[halt]`: when bad outcomes halt the work.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HaltSettings {
    pub window: usize,
    pub on_rejected_share: f64,
    pub on_existing_share: f64,
    pub on_lost_link_share: f64,
}

/// `[import]`: how files become jobs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportSettings {
    pub lane: Lane,
}

/// `[plan]`: the fee, for the plan of `check`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanSettings {
    pub fee_per_user: f64,
    pub currency: String,
}

/// `[webhooks]`: the partner's webhooks about verifications.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSettings {
    pub path: String,
    /// File that holds the secret, relative to the working directory. Empty: none.
    pub secret_file: PathBuf,
    pub signature_header: String,
    pub signature_encoding: SignatureEncoding,
    pub publish_timeout_s: u64,
}

/// `[log]`: log lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    pub format: LogFormat,
    /// Log filter in the syntax of `RUST_LOG`. Empty: the default of the command.
    pub filter: String,
}

/// `[sandbox]`: the built-in simulated API.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxSettings {
    pub key_ttl_s: u64,
    pub latency_ms: u64,
    /// Requests per second above which the answer is 429. 0: no limit.
    pub rate_limit: u32,
    pub faults: FaultPlan,
    pub seed: u64,
}
