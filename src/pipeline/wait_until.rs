//! When to ask again for a permit that was refused. The gate and the rate limiter share it.

use tokio::time::{Instant, sleep_until};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitUntil {
    /// At this time, or sooner if the state changes.
    Time(Instant),
    /// When the state changes.
    Change,
}

impl WaitUntil {
    /// Waits. `changed` ends when the state changes. Cancel-safe.
    pub(crate) async fn wait(self, changed: impl Future<Output = ()>) {
        match self {
            Self::Time(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = changed => {}
            },
            Self::Change => changed.await,
        }
    }
}
