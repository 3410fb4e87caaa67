//! The one place where the time of day is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::Timestamp;

/// Wall-clock time. Waiting and measuring use tokio's clock; this one is for what is stored and compared with
/// the partner's times.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    System,
    /// A fixed start that moves with tokio's clock, so that a simulation on paused time is repeatable.
    Simulated {
        /// Tokio's time when the clock was made.
        origin: Instant,
        /// The wall-clock time at `origin`.
        start: Timestamp,
    },
}

impl Clock {
    /// A clock that starts at `start` now and moves with tokio's time.
    pub fn simulated(start: Timestamp) -> Self {
        Self::Simulated { origin: Instant::now(), start }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else must use")]
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                Timestamp::from_unix_ms(0).plus(since_epoch)
            }
            Self::Simulated { origin, start } => start.plus(origin.elapsed()),
        }
    }
}
