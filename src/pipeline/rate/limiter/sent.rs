//! What was sent lately: the exact times that the bounds need, and the number in a second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::{RateBound, SLACK};

/// When the last requests were sent. Holds at most as many as its bound allows.
#[derive(Debug, Default)]
pub(super) struct SendLog {
    sent: VecDeque<Instant>,
}

impl SendLog {
    /// Checks the bound, or returns when to ask again.
    pub(super) fn has_room(&mut self, now: Instant, bound: RateBound) -> Result<(), Instant> {
        let span = bound.span + SLACK;
        while self.sent.front().is_some_and(|at| now.duration_since(*at) >= span) {
            self.sent.pop_front();
        }
        match self.sent.len().checked_sub(bound.most.get() as usize) {
            None => Ok(()),
            Some(too_many) => Err(self.sent[too_many] + span),
        }
    }

    /// Adds a request. Without a bound, the log is emptied: nothing would bound its length.
    pub(super) fn record(&mut self, now: Instant, bound: Option<RateBound>) {
        match bound {
            Some(_) => self.sent.push_back(now),
            None => self.sent.clear(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }
}

/// Counts the requests of the current second and of the one before.
#[derive(Debug)]
pub(super) struct SendMeter {
    since: Instant,
    current: u32,
    previous: u32,
}

impl SendMeter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, current: 0, previous: 0 }
    }

    pub(super) fn count(&mut self, now: Instant) {
        self.advance(now);
        self.current = self.current.saturating_add(1);
    }

    /// Returns the requests in the busier of the two seconds.
    pub(super) fn busier(&mut self, now: Instant) -> f64 {
        self.advance(now);
        f64::from(self.current.max(self.previous))
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.duration_since(self.since).as_secs();
        if passed > 0 {
            self.previous = if passed == 1 { self.current } else { 0 };
            self.current = 0;
            self.since += Duration::from_secs(passed);
        }
    }
}
