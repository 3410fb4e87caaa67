//! Whether to log that links are being lost. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::gate::in_flight_limit::LOSING_FROM;
use crate::telemetry::GateChanged;

/// It isn't logged again sooner. An API that loses every tenth answer at random loses three in a row once in a thousand
/// requests, which must not become a log line a minute.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What was logged.
#[derive(Debug, Default)]
pub(super) struct LossLog {
    /// When it was last logged that links are being lost.
    logged_at: Option<Instant>,
    /// The end of it wasn't logged yet.
    is_losing: bool,
}

impl LossLog {
    /// This many creations in a row were lost. Returns what to log.
    pub(super) fn lost(&mut self, in_a_row: usize, now: Instant) -> Option<GateChanged> {
        let is_recent = self.logged_at.is_some_and(|at| now.saturating_duration_since(at) < LOG_AGAIN_AFTER);
        if in_a_row < LOSING_FROM || is_recent {
            return None;
        }
        (self.logged_at, self.is_losing) = (Some(now), true);
        Some(GateChanged::LinksBeingLost { in_a_row })
    }

    /// A creation was answered. Returns what to log.
    pub(super) const fn answered(&mut self) -> Option<GateChanged> {
        if std::mem::replace(&mut self.is_losing, false) { Some(GateChanged::LinksKept) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_logged_from_the_third_loss_in_a_row_on_once_in_ten_minutes() {
        let now = Instant::now();
        let mut log = LossLog::default();
        let losing = |in_a_row| Some(GateChanged::LinksBeingLost { in_a_row });
        assert_eq!([1, 2, 3, 4].map(|in_a_row| log.lost(in_a_row, now)), [None, None, losing(3), None]);
        assert_eq!((log.answered(), log.answered()), (Some(GateChanged::LinksKept), None));
        assert_eq!((log.lost(3, now), log.answered()), (None, None));
        assert_eq!(log.lost(64, now + LOG_AGAIN_AFTER), losing(64));
    }
}
