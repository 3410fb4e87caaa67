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
    /// Time limit for a connection, in seconds.
    pub connect_timeout_s: u64,
    /// Time limit for a whole answer, in seconds.
    pub timeout_s: u64,
    /// How long the partner remembers an idempotency key, in seconds. 0: it replays the first answer.
    pub key_ttl_s: u64,
    /// Error codes for "key already used".
    pub key_used_codes: Vec<String>,
    /// Words for "key already used".
    pub key_used_words: Vec<String>,
    /// Error codes for "a user with this email exists".
    pub user_exists_codes: Vec<String>,
    /// Maximum difference between the partner's clock and ours, in seconds.
    pub clock_skew_s: u64,
    /// Users on one page of the user list.
    pub page_size: u32,
    /// Lifetime of a verification link, in hours. 0: unknown, so events don't have it.
    pub link_ttl_h: u64,
}

/// `[queue]`: the queue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSettings {
    /// The queue. Serialized without its password.
    pub url: QueueUrl,
    /// Maximum size of the file of a local queue, in mebibytes.
    pub size_mib_max: u64,
    /// Maximum size of a job's message, in bytes.
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
    /// Prefix of the names of exchanges and queues.
    pub prefix: String,
    /// Whether exchanges and queues are declared or only verified.
    pub topology: TopologyMode,
    /// Time limit for a connection and its topology, in seconds.
    pub connect_timeout_s: u64,
    /// Time limit for a publisher confirm, in seconds.
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
    /// Time zone of `active_hours`.
    pub time_zone: String,
}

/// `[worker]`: how jobs are processed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSettings {
    /// Maximum number of requests in flight.
    pub concurrency: usize,
    /// Maximum number of jobs in progress; at least `concurrency`. 0: four times as many.
    pub window: usize,
    /// Share of the requests for `bulk` while `signup` is never empty, in percent.
    pub bulk_share_percent: u32,
    /// Maximum number of attempts for a job.
    pub attempts_max: u32,
    /// Time limit from a job's first request until it becomes a dead letter, in seconds.
    pub give_up_after_s: u64,
    /// Delay before the second attempt, in milliseconds.
    pub backoff_initial_ms: u64,
    /// Maximum delay between attempts, in seconds.
    pub backoff_max_s: u64,
    /// Maximum delay that a job spends in memory; for a longer one it returns to the queue. In seconds.
    pub delay_in_memory_max_s: u64,
    /// Time from a pause to the first probe, in seconds.
    pub probe_initial_s: u64,
    /// Maximum time between probes, in seconds.
    pub probe_max_s: u64,
    /// Time limit for requests in flight after a stop, in seconds.
    pub shutdown_grace_s: u64,
}

/// `[circuit_breaker]`: when requests stop because the API is down or slow.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CircuitBreakerSettings {
    /// Length of the window in which answers count, in seconds.
    pub window_s: u64,
    /// Share of failures at which the breaker opens.
    pub failure_share: f64,
    /// An answer that takes longer is a failure, in seconds.
    pub slow_after_s: u64,
    /// Time from opening to the first trials, in seconds.
    pub open_s: u64,
    /// Maximum time between trials, in seconds.
    pub open_max_s: u64,
}

/// `[halt]`: when bad outcomes halt the work.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HaltSettings {
    /// Number of latest outcomes that count.
    pub window: usize,
    /// The work halts above this share of rejected and failed jobs.
    pub on_rejected_share: f64,
    /// The work halts above this share of users who existed before.
    pub on_existing_share: f64,
}

/// `[import]`: how files become jobs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportSettings {
    /// The lane of the rows.
    pub lane: Lane,
}

/// `[plan]`: the fee, for the plan of `check`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanSettings {
    /// Price of one new user, in `currency`.
    pub fee_per_user: f64,
    /// Three capital letters, such as `USD`.
    pub currency: String,
}

/// `[webhooks]`: the partner's webhooks about verifications.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSettings {
    /// Path that webhooks are posted to.
    pub path: String,
    /// File that holds the secret, relative to the working directory. Empty: none.
    pub secret_file: PathBuf,
    /// Header that holds the signature.
    pub signature_header: String,
    /// How the signature is written.
    pub signature_encoding: SignatureEncoding,
    /// Time limit for recording an event, in seconds.
    pub publish_timeout_s: u64,
}

/// `[log]`: log lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// Log filter in the syntax of `RUST_LOG`. Empty: the default of the command.
    pub filter: String,
}

/// `[sandbox]`: the built-in simulated API.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxSettings {
    /// How long the sandbox remembers an idempotency key, in seconds.
    pub key_ttl_s: u64,
    /// Delay of each answer, in milliseconds.
    pub latency_ms: u64,
    /// Requests per second above which the answer is 429. 0: no limit.
    pub rate_limit: u32,
    /// The fault list.
    pub faults: FaultPlan,
    /// Seed of the ids and of the random numbers.
    pub seed: u64,
}
