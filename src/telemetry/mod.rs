//! What is told about the work: one struct for each notable event, which writes its log line and counts its
//! metric together, so that neither is forgotten.
//!
//! **Invariant:** no personal data, no URL of a person and no secret is in a log line or a label. The structs
//! take codes, counts, ids and durations; there is no field that could hold anything else.

mod events;
pub mod logging;
mod metrics;

pub use events::{
    ApiAnswered, BrokerLink, GateChanged, IntoLabel, JobFinished, JobInvalid, PageRead, RetryScheduled, SweepFinished,
    Throttled,
};
pub use metrics::Metrics;
