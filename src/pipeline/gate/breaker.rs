//! Circuit breaker: stops requests to an API that gives too few answers. Pure: time is passed in.
//!
//! | state | admits | event | next state |
//! | --- | --- | --- | --- |
//! | closed | every request | the failure share of the window is reached | open for `open_for` |
//! | closed | every request | few answers in the window, and enough failures in a row | open for `open_for` |
//! | open | no request | the time is over | half-open |
//! | half-open | a few trials | the failure share of the trials is not reached | closed |
//! | half-open | a few trials | that share is reached | open twice as long, at most `open_for_max` |
//! | open | no request | an operator resumes | half-open at the next request |
//! | any | | the account is known to work again | closed |
//!
//! A failure is a request without a definite answer (timeout, lost connection, 5xx), or one that took too long. Answers
//! about a job, the rate limit or the account are no failures.
//!
//! With a short queue or a low rate limit the window holds too few answers for a share. Then failures in a row open the
//! breaker, unless they came within [`FAILURES_SPAN_MIN`]: those may be one hiccup that hit all requests in flight.
//!
//! Trials with the same result decide at once. After mixed results more trials are sent, and the share of all of them
//! decides. So an API that loses half of its answers is still used.
//!
//! **Invariant:** an answer counts only towards the state in which its request was admitted.

use std::time::Duration;

use tokio::time::Instant;

/// Answers in the window below which their share says nothing. Of 20 answers of an API that loses every fifth, 70 % are
/// lost by chance in 2 of a million windows.
pub(crate) const REQUESTS_MIN: u32 = 20;

/// Failures in a row that open the breaker where the window holds fewer answers than [`REQUESTS_MIN`]. Less than the
/// eight attempts of a job by default, so that the only job of a queue keeps some of its attempts.
pub(crate) const FAILURES_IN_A_ROW: u32 = 5;

/// Trials with the same result that close the breaker or open it again. One would be decided by chance; more would
/// spend attempts on an API that is known to be down.
pub(crate) const TRIALS: u32 = 3;

/// After trials with mixed results, this many times as many trials decide.
const MIXED_TRIALS_FACTOR: u32 = 4;

/// Failures in a row open the breaker only if they took at least this long. A worker that sends faster has enough
/// answers for a share a moment later.
const FAILURES_SPAN_MIN: Duration = Duration::from_secs(2);

/// The window advances by one slice at a time.
const SLICES: usize = 10;

/// When the breaker opens and closes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakerPolicy {
    /// Age up to which answers count.
    pub window: Duration,
    /// Answers in the window below which their share says nothing.
    pub requests_min: u32,
    /// Failures in a row that open it when the window holds fewer answers than `requests_min`.
    pub failures_in_a_row: u32,
    /// Failure share, from 0 to 1, that opens it. Over 1: it never opens, not after failures in a row either.
    pub failure_share: f64,
    /// An answer that took longer than this counts as a failure.
    pub slow_after: Duration,
    /// Time from opening to the first trials.
    pub open_for: Duration,
    /// Failed trials double the time up to this.
    pub open_for_max: Duration,
    /// Trials with the same result that close it or open it again. At least 1.
    pub trials: u32,
}

impl BreakerPolicy {
    /// The default settings: an API that loses every third answer is used, one that is down is not.
    #[cfg(test)]
    pub(crate) const DEFAULT: Self = Self {
        window: Duration::from_secs(30),
        requests_min: REQUESTS_MIN,
        failures_in_a_row: FAILURES_IN_A_ROW,
        failure_share: 0.7,
        slow_after: Duration::from_secs(20),
        open_for: Duration::from_secs(5),
        open_for_max: Duration::from_secs(60),
        trials: TRIALS,
    };

    /// Returns how many trials decide after these results.
    const fn trials_wanted(&self, good: u32, failed: u32) -> u32 {
        if good == 0 || failed == 0 { self.trials } else { self.trials * MIXED_TRIALS_FACTOR }
    }

    fn is_share_reached(&self, failures: u32, requests: u32) -> bool {
        f64::from(failures) >= self.failure_share * f64::from(requests)
    }

    fn slice_length(&self) -> Duration {
        (self.window / SLICES as u32).max(Duration::from_millis(1))
    }
}

/// What a request was admitted as. The result of the request is recorded with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BreakerTicket {
    /// The state in which it was admitted: the number of state changes before.
    generation: u64,
    /// Whether it is a trial of a half-open breaker.
    pub(super) is_trial: bool,
}

/// What the result of a request says about the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestHealth {
    /// Answered in time.
    Good,
    /// Not answered, or too late.
    Failed,
    /// Nothing. A trial must be repeated.
    Unknown,
}

/// A change that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerChanged {
    Opened {
        /// Failures in the window, or in a row.
        failures: u32,
        /// Answers in the window, or failures in a row.
        requests: u32,
        /// Time to the first trials.
        open_for: Duration,
    },
    Closed,
}

#[derive(Debug, Clone, Copy)]
enum BreakerState {
    Closed,
    Open { until: Instant, open_for: Duration },
    HalfOpen { in_flight: u32, good: u32, failed: u32, open_for: Duration },
}

/// Answers in a part of the window.
#[derive(Debug, Clone, Copy, Default)]
struct WindowSlice {
    /// Slices since the breaker was made.
    number: u64,
    requests: u32,
    failures: u32,
}

/// A circuit breaker.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    policy: BreakerPolicy,
    created_at: Instant,
    slices: [WindowSlice; SLICES],
    failures_in_a_row: u32,
    /// Time of the first of them.
    in_a_row_since: Instant,
    state: BreakerState,
    generation: u64,
}

impl CircuitBreaker {
    /// Returns a closed breaker.
    pub(super) fn new(policy: BreakerPolicy, now: Instant) -> Self {
        Self {
            policy,
            created_at: now,
            slices: [WindowSlice::default(); SLICES],
            failures_in_a_row: 0,
            in_a_row_since: now,
            state: BreakerState::Closed,
            generation: 0,
        }
    }

    /// Returns whether it is open or half-open.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, BreakerState::Closed)
    }

    /// Admits a request.
    ///
    /// # Errors
    /// The request has to wait until this time; `None`: until the breaker changes.
    pub(super) fn admit(&mut self, now: Instant) -> Result<BreakerTicket, Option<Instant>> {
        match &mut self.state {
            BreakerState::Closed => Ok(BreakerTicket { generation: self.generation, is_trial: false }),
            BreakerState::Open { until, .. } if now < *until => Err(Some(*until)),
            BreakerState::Open { open_for, .. } => {
                self.state = BreakerState::HalfOpen { in_flight: 1, good: 0, failed: 0, open_for: *open_for };
                self.generation += 1;
                Ok(BreakerTicket { generation: self.generation, is_trial: true })
            }
            BreakerState::HalfOpen { in_flight, good, failed, .. }
                if *in_flight + *good + *failed < self.policy.trials_wanted(*good, *failed) =>
            {
                *in_flight += 1;
                Ok(BreakerTicket { generation: self.generation, is_trial: true })
            }
            BreakerState::HalfOpen { .. } => Err(None),
        }
    }

    /// Returns until when no request is admitted, trials included; `None`: some are.
    pub(super) fn admits_none_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            BreakerState::Open { until, .. } if now < until => Some(until),
            _ => None,
        }
    }

    /// Returns whether an admitted request may still be sent.
    pub(super) const fn is_valid(&self, ticket: BreakerTicket) -> bool {
        ticket.generation == self.generation
    }

    /// Records the result of a request. Returns the change that is to be logged.
    pub(super) fn record(
        &mut self,
        ticket: BreakerTicket,
        health: RequestHealth,
        now: Instant,
    ) -> Option<BreakerChanged> {
        if !self.is_valid(ticket) {
            return None;
        }
        match self.state {
            BreakerState::Closed => self.record_closed(health, now),
            BreakerState::Open { .. } => None,
            BreakerState::HalfOpen { .. } => self.record_trial(health, now),
        }
    }

    /// Closes it, because the API is known to work. Returns whether it was open.
    pub(super) fn reset(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.close();
        }
        was_open
    }

    /// Admits trials at once, because an operator resumes.
    pub(super) const fn resume(&mut self, now: Instant) {
        if let BreakerState::Open { until, open_for } = &mut self.state {
            *until = now;
            *open_for = self.policy.open_for;
        }
    }

    fn record_trial(&mut self, health: RequestHealth, now: Instant) -> Option<BreakerChanged> {
        let BreakerState::HalfOpen { in_flight, good, failed, open_for } = &mut self.state else { return None };
        *in_flight = in_flight.saturating_sub(1);
        match health {
            RequestHealth::Unknown => return None,
            RequestHealth::Good => *good += 1,
            RequestHealth::Failed => *failed += 1,
        }
        let (answered, failed, open_for) = (*good + *failed, *failed, *open_for);
        if answered < self.policy.trials_wanted(answered - failed, failed) {
            return None;
        }
        if !self.policy.is_share_reached(failed, answered) {
            self.close();
            return Some(BreakerChanged::Closed);
        }
        // Logged when it opened first.
        self.open((open_for * 2).min(self.policy.open_for_max), now);
        None
    }

    fn record_closed(&mut self, health: RequestHealth, now: Instant) -> Option<BreakerChanged> {
        if health == RequestHealth::Unknown {
            return None;
        }
        let (requests, failures) = self.count_in_window(health, now);
        self.count_in_a_row(health, now);
        let in_a_row = self.failures_in_a_row;
        let (opens, failures, requests) = if requests >= self.policy.requests_min {
            (self.policy.is_share_reached(failures, requests), failures, requests)
        } else {
            let is_enabled = self.policy.failure_share <= 1.0;
            let lasted = now.saturating_duration_since(self.in_a_row_since);
            let is_reached = in_a_row >= self.policy.failures_in_a_row && lasted >= FAILURES_SPAN_MIN;
            (is_enabled && is_reached, in_a_row, in_a_row)
        };
        opens.then(|| {
            let open_for = self.policy.open_for;
            self.open(open_for, now);
            BreakerChanged::Opened { failures, requests, open_for }
        })
    }

    /// Counts an answer. Returns requests and failures in the window.
    fn count_in_window(&mut self, health: RequestHealth, now: Instant) -> (u32, u32) {
        let age = now.saturating_duration_since(self.created_at);
        let number = (age.as_nanos() / self.policy.slice_length().as_nanos()) as u64;
        let slice = &mut self.slices[(number % SLICES as u64) as usize];
        if slice.number != number {
            *slice = WindowSlice { number, ..WindowSlice::default() };
        }
        slice.requests += 1;
        slice.failures += u32::from(health == RequestHealth::Failed);
        let current = self.slices.iter().filter(|slice| slice.number + SLICES as u64 > number);
        current.fold((0, 0), |(requests, failures), slice| (requests + slice.requests, failures + slice.failures))
    }

    const fn count_in_a_row(&mut self, health: RequestHealth, now: Instant) {
        if self.failures_in_a_row == 0 {
            self.in_a_row_since = now;
        }
        self.failures_in_a_row = if matches!(health, RequestHealth::Failed) { self.failures_in_a_row + 1 } else { 0 };
    }

    fn open(&mut self, open_for: Duration, now: Instant) {
        self.state = BreakerState::Open { until: now + open_for, open_for };
        self.generation += 1;
    }

    const fn close(&mut self) {
        self.state = BreakerState::Closed;
        self.slices = [WindowSlice { number: 0, requests: 0, failures: 0 }; SLICES];
        self.failures_in_a_row = 0;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests;
