//! The time of day. No other module reads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::Timestamp;

/// Wall-clock time, for what is stored and compared with the partner's times. Waiting and measuring use tokio's clock.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Starts at a fixed time and follows tokio's clock, so that a simulation on paused time is repeatable.
    Simulated {
        /// Tokio's time when the clock was created.
        origin: Instant,
        /// The wall-clock time at `origin`.
        start: Timestamp,
    },
}

impl Clock {
    /// Creates a clock that shows `start` now and follows tokio's clock.
    pub fn simulated(start: Timestamp) -> Self {
        Self::Simulated { origin: Instant::now(), start }
    }

    /// Returns the current time.
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
