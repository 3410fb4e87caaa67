//! Notices that the broker confirms no rows any more, and why.

use std::time::Duration;

use tokio::time::Instant;

use super::ProduceEnd;
use super::row::REFUSED_DELAY;
use crate::telemetry::ImportStateChanged;

/// Time with nothing but refusals after which the connection is rebuilt.
const RECONNECT_AFTER: Duration = Duration::from_secs(30);

/// Watches the confirms on one connection, and logs when the import pauses and resumes.
pub(super) struct ConfirmWatchdog {
    confirm_timeout: Duration,
    last_confirm: Instant,
    is_blocked: bool,
    /// Time of the last refusal, until the import resumes. A full queue accepts one row and refuses the next.
    refused_at: Option<Instant>,
    /// Time of the first refusal since a row was accepted.
    only_refused_since: Option<Instant>,
}

impl ConfirmWatchdog {
    pub(super) fn new(confirm_timeout: Duration) -> Self {
        Self {
            confirm_timeout,
            last_confirm: Instant::now(),
            is_blocked: false,
            refused_at: None,
            only_refused_since: None,
        }
    }

    /// A row is published while none is unconfirmed.
    pub(super) fn published_first(&mut self) {
        self.last_confirm = Instant::now();
    }

    /// A row was accepted.
    pub(super) fn acked(&mut self) {
        self.last_confirm = Instant::now();
        self.only_refused_since = None;
    }

    /// A row was refused.
    pub(super) fn nacked(&mut self) {
        self.last_confirm = Instant::now();
        self.only_refused_since.get_or_insert(self.last_confirm);
        if self.refused_at.replace(self.last_confirm).is_none() {
            ImportStateChanged::Refused.emit();
        }
    }

    /// Returns the reason if the connection has to be rebuilt.
    pub(super) fn check(&mut self, is_blocked: bool, has_unconfirmed: bool) -> Option<ProduceEnd> {
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            self.last_confirm = Instant::now();
            if is_blocked { ImportStateChanged::Blocked.emit() } else { ImportStateChanged::Resumed.emit() }
        }
        if self.refused_at.is_some_and(|at| at.elapsed() > REFUSED_DELAY * 3) {
            self.refused_at = None;
            ImportStateChanged::Resumed.emit();
        }
        if self.only_refused_since.is_some_and(|since| since.elapsed() >= RECONNECT_AFTER) {
            return Some(ProduceEnd::Reconnect);
        }
        let is_late = has_unconfirmed && !is_blocked && self.last_confirm.elapsed() >= self.confirm_timeout;
        is_late.then(|| ProduceEnd::Broken(format!("no confirm within {} s", self.confirm_timeout.as_secs())))
    }
}
