//! One struct for each notable event. `emit` writes its log line and updates its metric together, so that neither can
//! be forgotten.
//!
//! | module | events |
//! | --- | --- |
//! | `job` | a job finished, is retried, is an outlier; the outcome mix |
//! | `gate` | paused, throttled, circuit breaker, bulk hold, rate limit |
//! | `api` | requests to the partner, its clock, the user list |
//! | `broker` | connections, topology, the queue and its events file |
//! | `import` | an import paused or resumed |
//! | `settings` | a reload |
//!
//! **Invariant:** at level `info` a job has one line when it finishes, and one for each delayed retry.

mod api;
mod broker;
mod gate;
mod import;
mod job;
mod settings;

use std::time::Duration;

pub use self::api::{
    ApiAnswered, ClocksDiffer, DeletionAnswered, ScanFinished, ScanProgressed, UserListPageResult, UserListRefused,
};
pub use self::broker::{
    BrokerConnectionChanged, EmergencyFileRead, EmergencyFileWritten, EventsFileMoved, LinkNotPublished,
    OutcomeStorageChanged, QueueEmpty, TopologyMismatch,
};
pub use self::gate::{ApiOverloaded, ApiThrottled, BulkHoldChanged, GateChanged, RateLowered, WorkersCounted};
pub use self::import::ImportStateChanged;
pub use self::job::{
    HALT_CAUSE, JobFinished, LookUpDecided, OutcomeMixChecked, OutlierDelayed, RetryScheduled, WrongUserAnswered,
};
pub use self::settings::SettingsReloaded;

/// Target of the `info` lines that `run` shows as well. Of other targets it shows warnings only.
pub const NOTICE_TARGET: &str = "plu_onboard::notice";

/// Milliseconds as `u64`: `tracing` writes the `u128` of `as_millis` as a text in JSON.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The fields of the one line that `emit` logs, as JSON.
#[cfg(test)]
fn logged(emit: impl FnOnce()) -> serde_json::Value {
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let buffer = LogBuffer::default();
    let written = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || buffer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, emit);
    let bytes = written.0.lock().unwrap().clone();
    serde_json::from_slice(&bytes).unwrap()
}
