//! One struct for each section. Defaults, ranges and reasons: `config/default.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::QueueUrl;
use crate::domain::Lane;
use crate::sandbox::FaultPlan;
use crate::telemetry::logging::LogFormat;

/// `[api]`: the partner API and what is assumed about it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiSettings {
    /// Base URL, `http` or `https`, with or without a slash at its end: append paths, don't [`Url::join`] them.
    pub url: Url,
    /// File that holds the API key, relative to the working directory. Empty: none.
    pub key_file: PathBuf,
    /// Longest wait for a connection, in seconds.
    pub connect_timeout_s: u64,
    /// Longest wait for a whole answer, in seconds.
    pub timeout_s: u64,
    /// Longest answer that is read, in bytes.
    pub body_bytes_max: usize,
    /// How long the partner remembers an idempotency key, in seconds. 0: it replays.
    pub key_ttl_s: u64,
    /// Error codes for "key already used".
    pub key_used_codes: Vec<String>,
    /// Words for "key already used".
    pub key_used_words: Vec<String>,
    /// Error codes for "a user with this email exists".
    pub user_exists_codes: Vec<String>,
    /// How far the partner's clock may be from ours, in seconds.
    pub clock_skew_s: u64,
    /// Users on one page of the user list.
    pub page_size: u32,
    /// How long a user who was seen in the list needn't be looked up again, in seconds. 0: not at all.
    pub look_up_cache_s: u64,
    /// How long a verification link lives, in hours. 0: events don't say.
    pub link_ttl_h: u64,
}

/// `[queue]`: where jobs wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSettings {
    /// Which queue. Serialized without its password.
    pub url: QueueUrl,
    /// How often a local queue is looked at, in milliseconds.
    pub poll_ms: u64,
    /// Largest file of a local queue, in mebibytes.
    pub size_mib_max: u64,
    /// Longest message that is taken for a job, in bytes.
    pub message_bytes_max: usize,
}

/// Whose the exchanges and queues are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TopologyMode {
    /// Ours: what is missing is declared.
    Declare,
    /// The broker's operators': only checked to be there.
    Verify,
}

/// `[amqp]`: RabbitMQ, where `queue.url` names one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AmqpSettings {
    /// What the names of its exchanges and queues begin with.
    pub prefix: String,
    /// Whether they are declared or only verified.
    pub topology: TopologyMode,
    /// Longest wait for a connection and its topology, in seconds.
    pub connect_timeout_s: u64,
    /// Longest wait for a confirm, in seconds.
    pub confirm_timeout_s: u64,
    /// Longest silence on a connection before it is taken for broken is twice this, in seconds. 0: for ever.
    pub heartbeat_s: u16,
    /// User; wins over the one in `queue.url`. Empty: that one.
    pub user: String,
    /// File that holds the password and nothing else; wins over the one in `queue.url`. Empty: that one.
    pub password_file: PathBuf,
    /// PEM file with the certificates to trust for `amqps://`. Empty: the system's.
    pub ca_file: PathBuf,
    /// PEM file with the certificate that is shown to the broker, and its chain. Empty: none.
    pub client_cert_file: PathBuf,
    /// PEM file with that certificate's private key. Empty: none.
    pub client_key_file: PathBuf,
}

/// `[rate_limit]`: how fast requests leave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimitSettings {
    /// Most requests per second. 0: no limit.
    pub rate: u32,
    /// Most requests per minute. 0: no limit.
    pub rate_per_minute: u32,
    /// By how much a 429 without advice lowers the pace.
    pub cut_percent: u32,
    /// How much of it comes back in a minute.
    pub climb_percent_per_minute: u32,
    /// Users created in any 24 hours from which on `bulk` is held. 0: no limit.
    pub per_day: u64,
    /// Times of day outside of which `bulk` is held. Empty: always active.
    pub active_hours: String,
    /// Where those times of day are read off the wall.
    pub time_zone: String,
}

/// `[worker]`: how jobs are worked on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSettings {
    /// Most requests on their way at once.
    pub concurrency: usize,
    /// Most jobs in hand at once; at least `concurrency`. 0: four times as many.
    pub window: usize,
    /// Of the turns, the share of `bulk` while `signup` is never empty, in percent.
    pub bulk_share_percent: u32,
    /// Most attempts for a job.
    pub attempts_max: u32,
    /// Longest time from a job's first request to giving up, in seconds.
    pub give_up_after_s: u64,
    /// Wait before the second attempt, in milliseconds.
    pub backoff_initial_ms: u64,
    /// Longest wait between attempts, in seconds.
    pub backoff_max_s: u64,
    /// Longer waits are spent on the queue, in seconds.
    pub wait_in_hand_max_s: u64,
    /// From a pause to the first probe, in seconds.
    pub probe_initial_s: u64,
    /// Longest time between probes, in seconds.
    pub probe_max_s: u64,
    /// How long requests on their way may take after a stop, in seconds.
    pub shutdown_grace_s: u64,
}

/// `[breaker]`: when an API that answers badly is left alone.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakerSettings {
    /// How far back answers count, in seconds.
    pub window_s: u64,
    /// Answers below which their share says nothing.
    pub requests_min: u32,
    /// Failures in a row from which on it opens where there are fewer answers than that.
    pub failures_in_a_row: u32,
    /// Share of failures from which on it opens.
    pub failure_share: f64,
    /// Answers that take longer are failures, in seconds.
    pub slow_after_s: u64,
    /// From opening to the first trials, in seconds.
    pub open_s: u64,
    /// Longest time between trials, in seconds.
    pub open_max_s: u64,
    /// Requests that must be answered well before it closes.
    pub trials: u32,
}

/// `[retry]`: how many repetitions there may be.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetrySettings {
    /// Repetitions for each first attempt.
    pub budget_share: f64,
    /// Repetitions per second that are always allowed.
    pub budget_per_s_min: f64,
}

/// `[halt]`: when the outcomes are too bad to go on.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HaltSettings {
    /// How many of the last outcomes are looked at.
    pub window: usize,
    /// Share of rejected and failed jobs over which it halts.
    pub on_rejected_share: f64,
    /// The same for users who were there before.
    pub on_existing_share: f64,
}

/// `[import]`: how files become jobs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportSettings {
    /// The lane that rows wait in.
    pub lane: Lane,
    /// Longest CSV record, in bytes.
    pub record_bytes_max: usize,
}

/// `[plan]`: what `check` calculates with.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanSettings {
    /// Price of one new user, in `currency`.
    pub fee_per_user: f64,
    /// Three letters, such as `USD`.
    pub currency: String,
}

/// How the signature of a webhook is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SignatureEncoding {
    /// Hexadecimal digits.
    Hex,
    /// With padding.
    Base64,
}

/// `[webhooks]`: what the partner says of people's verification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSettings {
    /// Path that they are posted to.
    pub path: String,
    /// File that holds the secret, relative to the working directory. Empty: none.
    pub secret_file: PathBuf,
    /// Header that holds the signature.
    pub signature_header: String,
    /// How the signature is written.
    pub signature_encoding: SignatureEncoding,
    /// Longest body that is read, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for an event to be recorded, in seconds.
    pub publish_timeout_s: u64,
}

/// `[log]`: log lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`. Empty: the command decides.
    pub filter: String,
}

/// `[sandbox]`: the built-in simulated API.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxSettings {
    /// How long it remembers an idempotency key, in seconds.
    pub key_ttl_s: u64,
    /// How long it takes to answer, in milliseconds.
    pub latency_ms: u64,
    /// Requests per second over which it answers 429. 0: no limit.
    pub rate_limit: u32,
    /// What goes wrong with it.
    pub faults: FaultPlan,
    /// Seed of its ids and of its chance.
    pub seed: u64,
}
