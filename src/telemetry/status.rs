//! What the status page shows, as `/status.json` gives it. Numbers, codes and the program's own words: nothing about
//! anybody.

use serde::Serialize;

use crate::domain::Timestamp;
use crate::telemetry::facts::ErrorSeen;
use crate::telemetry::history::Minute;

/// Everything that the page shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The program's version.
    pub version: &'static str,
    /// When this was looked at.
    pub at: Timestamp,
    /// When the worker started.
    pub started: Timestamp,
    /// How it is.
    pub standing: Standing,
    /// Jobs that ended: of a file all of them, else since the start.
    pub ended: Ended,
    /// Of these, how many had ended before the start.
    pub ended_before: u64,
    /// Of those created since the start, how many have no link because their answer was lost.
    pub recovered: u64,
    /// Jobs in hand.
    pub in_flight: u64,
    /// Jobs that end in a second, over the last minute.
    pub jobs_per_second: f64,
    /// Requests.
    pub rate: RateShown,
    /// How fast the API answers; `None`: it wasn't asked in the last minutes.
    pub latency: Option<Latency>,
    /// `None`: it can't be read at the moment.
    pub queue: Option<QueueShown>,
    /// The last errors by code, the most recent first.
    pub errors: Vec<ErrorSeen>,
    /// What ended in each minute of the last hour: created, existing, rejected, failed.
    pub minutes: Vec<Minute>,
}

/// How the worker is, and what a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Whether it can work: the answer of `/readyz`.
    pub ready: bool,
    /// One word.
    pub state: &'static str,
    /// Why, as a code; `None` where the state says it all.
    pub reason: Option<&'static str>,
    /// Since when it has been so.
    pub since: Timestamp,
    /// Until when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What it is doing, for people.
    pub message: String,
    /// What to do; `None`: nothing.
    pub advice: Option<String>,
}

/// Jobs by outcome.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the outcomes")]
pub struct Ended {
    pub created: u64,
    pub existing: u64,
    pub rejected: u64,
    pub failed: u64,
}

/// Requests in a second.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateShown {
    /// What this worker may send; 0: no limit. `None`: not known, workers are being counted.
    pub allowed_per_second: Option<f64>,
    /// What it sent, over the last minute.
    pub used_per_second: f64,
    /// Workers that share the pace, this one among them; 0: not known.
    pub workers: u64,
}

/// Times of answers to creations over the last minutes, from the histogram.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of them were faster.
    pub p50_s: f64,
    /// All but one in a hundred were faster.
    pub p99_s: f64,
}

/// What lies on the queue.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueShown {
    /// Ready, lane `signup`.
    pub signup: u64,
    /// Ready, lane `bulk`.
    pub bulk: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events that no reader is bound to; `None` where there is no such queue.
    pub unrouted: Option<u64>,
    /// Rows, or deliveries, that are neither finished nor waiting: must be 0. `None`: not known at the moment.
    pub unaccounted: Option<i64>,
    /// Seconds until everything is done if all workers go on as fast as this one; `None`: nothing moves, or nothing is left.
    pub left_s: Option<u64>,
}
