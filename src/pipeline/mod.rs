//! Pipeline: takes jobs from the queue, creates their users at the partner API, and reports an outcome for each job.
//!
//! ```text
//! queue ──> worker ──> job: validate ── gate ── intent ── rate limit ── call ── decide ──> outcome
//!                           └─────────────── retry, look-up ──────────────────┘
//! ```
//!
//! | module | does |
//! | --- | --- |
//! | [`worker`] | takes jobs from both lanes, and keeps a bounded number of them in progress |
//! | [`job`] | processes one job |
//! | [`gate`] | decides whether requests may be sent now: throttled, paused, circuit open, halted |
//! | [`rate`] | decides when the next request may be sent, and from which lane; backoff |
//! | [`guards`] | halt, outlier jobs, identical jobs, per-person lock, user ownership |
//! | [`read_probe`] | finds out whether an API that lost creations answers again, without losing a link |
//! | [`user_lookup`] | finds users by email in the partner's user list, for all jobs together |
//! | [`wait_until`] | when to ask again for a permit |
//! | [`context`] | policy and shared state |
//!
//! **Architecture Invariant:** imports [`crate::domain`], [`crate::ports`] and [`crate::telemetry`], never an adapter
//! or the settings. Time is tokio's, so everything here runs on paused time.

pub(crate) mod context;
pub(crate) mod gate;
pub(crate) mod guards;
pub(crate) mod job;
mod job_slot;
pub(crate) mod rate;
mod read_probe;
pub(crate) mod user_lookup;
pub(crate) mod wait_until;
mod window;
pub(crate) mod worker;

pub(crate) use self::context::{Context, PipelinePolicy};

#[cfg(test)]
mod tests;
