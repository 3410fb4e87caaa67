//! What is told about the work: one struct for each notable event, which writes its log line and counts its
//! metric together, so that neither is forgotten.
//!
//! **Invariant:** no personal data, no URL of a person and no secret is in a log line or a label. The structs
//! take codes, counts, ids and durations; there is no field that could hold anything else.

mod events;
mod facts;
pub mod history;
mod job_watch;
pub mod logging;
mod metrics;
mod observed;
mod register;
pub mod status;
pub mod trace;
mod webhooks;

pub use events::{
    ApiAnswered, BrokerLink, BulkHeld, CacheLost, ClocksDiffer, Decided, EventsFileSetAside, FleetCounted, GateChanged,
    ImportPaused, IntoLabel, JobFinished, ListRefused, NEWS_TARGET, OutcomeMixChecked, OutlierDelayed, PageRead,
    QueueEmpty, RateLowered, Reloaded, RetryPostponed, RetryScheduled, ScanFinished, ScanProgressed, Throttled,
    TopologyMismatch,
};
pub use facts::{BrokerConnection, BrokerTrouble, ErrorSeen, HealthState};
pub use job_watch::{JobWatch, RequeueReason, Stage};
pub use metrics::Metrics;
pub use observed::{Depth, GateStateName, Observed, Rows};
pub use webhooks::{WebhookMetrics, WebhookReceived, WebhookResult};
