//! Why a command ended early, and with which exit status.

use std::io::Write as _;

use serde_json::json;

use crate::adapters::amqp::dead::DeadQueueError;
use crate::adapters::csv::CsvError;
use crate::adapters::local_queue::export::ExportError;
use crate::adapters::local_queue::open::LocalQueueError;
use crate::clock::Clock;
use crate::ports::QueueError;

/// An error for the person at the terminal: what, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// Wrong usage, settings or an unreadable file. Status 2.
    #[error("{0}")]
    Usage(String),
    /// The work could not go on. Status 1.
    #[error("{0}")]
    CannotContinue(String),
}

impl From<CsvError> for AppError {
    fn from(error: CsvError) -> Self {
        match error {
            CsvError::Write { .. } => Self::CannotContinue(error.to_string()),
            _ => Self::Usage(error.to_string()),
        }
    }
}

impl From<LocalQueueError> for AppError {
    fn from(error: LocalQueueError) -> Self {
        match error {
            LocalQueueError::Full { .. } | LocalQueueError::Io { .. } | LocalQueueError::BulkHold { .. } => {
                Self::CannotContinue(error.to_string())
            }
            _ => Self::Usage(error.to_string()),
        }
    }
}

impl From<ExportError> for AppError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Queue(error) => error.into(),
            ExportError::File { .. } => Self::CannotContinue(error.to_string()),
        }
    }
}

impl From<DeadQueueError> for AppError {
    fn from(error: DeadQueueError) -> Self {
        match error {
            DeadQueueError::Missing { .. } => Self::Usage(error.to_string()),
            DeadQueueError::Queue(error) => error.into(),
        }
    }
}

impl From<QueueError> for AppError {
    fn from(error: QueueError) -> Self {
        Self::CannotContinue(error.to_string())
    }
}

impl AppError {
    /// A file or folder that could not be used.
    pub(crate) fn io(what: &std::path::Path, error: &std::io::Error) -> Self {
        let advice = if error.kind() == std::io::ErrorKind::StorageFull { ": make room and start again" } else { "" };
        Self::CannotContinue(format!("{}: {error}{advice}", what.display()))
    }
}

/// Tells the person at the terminal; or, as a log line in JSON, the machine that reads the log, which needs to know this most.
pub(crate) fn print(error: &AppError, as_json: bool) {
    let line = if as_json {
        json!({"timestamp": Clock::System.now(), "level": "ERROR", "message": error.to_string(), "target": "plu_onboard"})
            .to_string()
    } else {
        format!("error: {error}")
    };
    // Not eprintln, which panics where nobody reads any more; the status says it as well.
    let _ = writeln!(std::io::stderr(), "{line}");
}
