//! One struct for each section. Defaults, ranges and reasons: `config/default.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::QueueUrl;
use crate::domain::Lane;
use crate::telemetry::logging::LogFormat;

/// `[api]`: the partner API and what is assumed about it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
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
    /// How far the partner's clock may be from ours, in seconds.
    pub clock_skew_s: u64,
    /// Users on one page of the user list.
    pub page_size: u32,
}

/// `[queue]`: where jobs wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// Which queue. Serialized without its password.
    pub url: QueueUrl,
    /// How often a local queue is looked at, in milliseconds.
    pub poll_ms: u64,
    /// Largest file of a local queue, in mebibytes.
    pub size_mib_max: u64,
}

/// Whose the exchanges and queues are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TopologyMode {
    /// Ours: what is missing is declared.
    Declare,
    /// The broker's operators': only checked to be there.
    Verify,
}

/// `[amqp]`: RabbitMQ, where `queue.url` names one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AmqpSettings {
    /// What the names of its exchanges and queues begin with.
    pub prefix: String,
    /// Whether they are declared or only verified.
    pub topology: TopologyMode,
    /// Longest wait for a connection and its topology, in seconds.
    pub connect_timeout_s: u64,
    /// Longest wait for a confirm, in seconds.
    pub confirm_timeout_s: u64,
    /// PEM file with the certificates to trust for `amqps://`. Empty: the system's.
    pub ca_file: PathBuf,
}

/// `[pace]`: how fast requests leave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PaceSettings {
    /// Most requests per second. 0: no limit.
    pub rate: u32,
}

/// `[worker]`: how jobs are worked on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Most requests on their way at once.
    pub concurrency: usize,
    /// Most jobs in hand at once; at least `concurrency`. 0: four times as many.
    pub window: usize,
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

/// `[import]`: how files become jobs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSettings {
    /// The lane that rows wait in.
    pub lane: Lane,
    /// Longest CSV record, in bytes.
    pub record_bytes_max: usize,
}

/// `[plan]`: what `check` calculates with.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSettings {
    /// Price of one new user, in `currency`.
    pub fee_per_user: f64,
    /// Three letters, such as `USD`.
    pub currency: String,
}

/// `[log]`: log lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`. Empty: the command decides.
    pub filter: String,
}

/// `[sandbox]`: the built-in simulated API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxSettings {
    /// How long it remembers an idempotency key, in seconds.
    pub key_ttl_s: u64,
    /// How long it takes to answer, in milliseconds.
    pub latency_ms: u64,
    /// Requests per second over which it answers 429. 0: no limit.
    pub rate_limit: u32,
    /// Seed of its ids and of its chance.
    pub seed: u64,
}
