//! Errors that end a command: what is wrong, where, and what to do; each kind has its exit status.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use crate::adapters::amqp::dead::queue::DeadLetterQueueError;
use crate::adapters::csv::CsvError;
use crate::adapters::local_queue::error::LocalQueueError;
use crate::adapters::local_queue::export::ExportError;
use crate::clock::Clock;
use crate::ports::QueueError;

/// An error that ends a command. The text says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// Status 2: wrong usage or settings, or an unreadable file.
    #[error("{0}")]
    Usage(String),
    /// Status 1: the command started and could not continue.
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
            LocalQueueError::Full { .. } | LocalQueueError::Io { .. } | LocalQueueError::Locked { .. } => {
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

impl From<DeadLetterQueueError> for AppError {
    fn from(error: DeadLetterQueueError) -> Self {
        match error {
            DeadLetterQueueError::Missing { .. } => Self::Usage(error.to_string()),
            DeadLetterQueueError::Queue(error) => error.into(),
        }
    }
}

impl From<QueueError> for AppError {
    fn from(error: QueueError) -> Self {
        Self::CannotContinue(error.to_string())
    }
}

impl AppError {
    /// An operation on a file or folder that failed.
    pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        let advice =
            if error.kind() == std::io::ErrorKind::StorageFull { ": free some space and start again" } else { "" };
        Self::CannotContinue(format!("{}: {error}{advice}", path.display()))
    }

    /// A background task that panicked; `what` it was doing.
    pub(crate) fn panicked(what: &str, error: &tokio::task::JoinError) -> Self {
        Self::CannotContinue(format!("{what} ended abnormally: {error}"))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::CannotContinue(_) => ExitCode::FAILURE,
            Self::Usage(_) => ExitCode::from(2),
        }
    }
}

/// Prints an error on standard error: as text, or as a JSON log line where log lines are JSON.
pub(crate) fn print(error: &AppError, as_json: bool) {
    let line = if as_json {
        json!({
            "timestamp": Clock::System.now(),
            "level": "ERROR",
            "message": error.to_string(),
            "target": "plu_onboard",
        })
        .to_string()
    } else {
        format!("error: {error}")
    };
    // Not eprintln, which panics where standard error is closed; the exit status reports the error too.
    let _ = writeln!(std::io::stderr(), "{line}");
}
