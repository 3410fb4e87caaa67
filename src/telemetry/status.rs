//! What the status page shows, as `/status.json` gives it.
//!
//! **Invariant:** numbers, codes and the program's own texts only; no personal data.

use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::link::LinkLossCounts;
use crate::telemetry::health_state::ErrorCount;
use crate::telemetry::history::MinuteTotals;

/// Everything that the status page shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusSnapshot {
    /// Version of the program.
    pub version: &'static str,
    /// Time of the snapshot.
    pub at: Timestamp,
    /// Start of the worker.
    pub started: Timestamp,
    /// State of the worker.
    pub status: WorkerStatus,
    /// Finished jobs: all of the file for `run`, otherwise since the start.
    pub ended: OutcomeTotals,
    /// Of these, the jobs that finished before the start.
    pub ended_before: u64,
    /// Recovered users since the start: created by a request whose answer was lost.
    pub recovered: u64,
    /// Created users without a usable link since the start, by reason.
    pub links_lost: LinkLossCounts,
    /// Jobs that the worker holds.
    pub in_flight: u64,
    /// Finished jobs per second, over the last minute.
    pub jobs_per_second: f64,
    /// Rate limit, and how much of it is used.
    pub rate: RateStatus,
    /// Latency of the API; `None` if no creation was sent in the last five minutes.
    pub latency: Option<ApiLatency>,
    /// Contents of the queue; `None` if it can't be read at the moment.
    pub queue: Option<QueueStatus>,
    /// The last errors by code, the most recent first.
    pub errors: Vec<ErrorCount>,
    /// Finished jobs in each minute of the last hour: created, existing, rejected, failed.
    pub minutes: Vec<MinuteTotals>,
}

/// State of the worker, and what an operator can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkerStatus {
    /// Whether it can work: the answer of `/readyz`.
    pub ready: bool,
    /// State in one word.
    pub state: &'static str,
    /// Why, as a code; `None` if the state says it all.
    pub reason: Option<&'static str>,
    /// Start of this state.
    pub since: Timestamp,
    /// End of this state, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The state in a sentence.
    pub message: String,
    /// What to do; `None` if nothing is wrong.
    pub advice: Option<String>,
    /// What is wrong beside the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Finished jobs by outcome.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct OutcomeTotals {
    pub created: u64,
    pub existing: u64,
    pub rejected: u64,
    pub failed: u64,
}

/// The rate limit and its use, in requests per second.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RateStatus {
    /// What this worker may send; 0: no limit. `None` while workers are being counted.
    pub allowed_per_second: Option<f64>,
    /// What it sent, over the last minute.
    pub used_per_second: f64,
    /// Workers that share the rate limit, this one included; 0: not known yet.
    pub workers: u64,
}

/// Latency of creations over the last five minutes, from the histogram.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiLatency {
    /// Median, in seconds.
    pub p50_s: f64,
    /// 99th percentile, in seconds.
    pub p99_s: f64,
}

/// Contents of the queue.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueueStatus {
    /// Jobs that are due, lane `signup`.
    pub signup: u64,
    /// Jobs that are due, lane `bulk`.
    pub bulk: u64,
    /// Jobs that wait for a delayed retry.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events without a bound reader; `None` if there is no queue for them.
    pub unrouted: Option<u64>,
    /// Rows or deliveries that are neither finished nor waiting; must be 0. `None` if it isn't known at the moment.
    pub unaccounted: Option<i64>,
    /// Seconds until the queue is empty if all workers are as fast as this one; `None` if no job finishes or none is
    /// left.
    pub left_s: Option<u64>,
}
