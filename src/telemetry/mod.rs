//! Log lines, metrics, traces, and the data of the status page.
//!
//! `events` has one struct for each notable event, which writes its log line and updates its metric together. `metrics`
//! and `observed` hold the metrics, `health_state` what the status page needs beside them, `history` the last hour. The
//! pipeline, the adapters and the commands emit events; `app::ops` serves metrics and status.
//!
//! **Invariant:** no personal data, no URL of a person and no secret is in a log line or a label. The structs take
//! codes, counts, ids and durations; no field can hold anything else.

mod events;
mod health_state;
pub(crate) mod history;
mod job_watch;
pub(crate) mod logging;
mod metrics;
mod observed;
mod registrar;
pub(crate) mod status;
pub(crate) mod trace;
mod webhooks;

pub use events::{
    ApiAnswered, ApiOverloaded, ApiThrottled, BrokerConnectionChanged, BulkHoldChanged, ClocksDiffer, DeletionAnswered,
    EmergencyFileRead, EmergencyFileWritten, EventsFileMoved, GateChanged, HALT_CAUSE, ImportStateChanged, JobFinished,
    LinkNotPublished, LookUpDecided, NOTICE_TARGET, OutcomeMixChecked, OutcomeStorageChanged, OutlierDelayed,
    QueueEmpty, RateLowered, RetryScheduled, ScanFinished, ScanProgressed, SettingsReloaded, TopologyMismatch,
    UserListPageResult, UserListRefused, WorkersCounted, WrongUserAnswered,
};
pub use health_state::{BrokerConnection, ErrorCount, HealthState, QueueTrouble};
pub use job_watch::{JobStage, JobWatch, RequeueReason};
pub use metrics::Metrics;
pub use observed::{GateStateName, ObservedMetrics, QueueDepth, RowCounts};
pub use webhooks::{WebhookMetrics, WebhookReceived, WebhookResult};
