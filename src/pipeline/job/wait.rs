//! Waits that a shutdown or a time limit ends.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::pipeline::job::action::Requeue;

/// Result of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited<T> {
    /// It is over, with this result.
    Done(T),
    /// The worker stops.
    Stopping,
    /// The time limit was reached.
    TookTooLong,
}

impl<T> Waited<T> {
    /// Returns the result.
    ///
    /// # Errors
    /// There is none: the job is to be requeued like this.
    pub(super) fn or_requeue(self) -> Result<T, Requeue> {
        match self {
            Self::Done(result) => Ok(result),
            Self::Stopping => Err(Requeue::STOPPING),
            Self::TookTooLong => Err(Requeue::WAITED_TOO_LONG),
        }
    }
}

/// Result of a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delayed {
    /// The time has passed.
    Elapsed,
    /// The worker stops.
    Stopping,
}

/// Waits for `what`, at most until this time.
pub(super) async fn wait_for<T>(stop: &CancellationToken, until: Instant, what: impl Future<Output = T>) -> Waited<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Waited::Stopping,
        result = what => Waited::Done(result),
        () = sleep_until(until) => Waited::TookTooLong,
    }
}

/// Waits for this time.
pub(super) async fn delay_for(stop: &CancellationToken, delay: Duration) -> Delayed {
    tokio::select! {
        biased;
        () = stop.cancelled() => Delayed::Stopping,
        () = sleep(delay) => Delayed::Elapsed,
    }
}
