//! Circuit breaker: stops creations at an API that gives no answers, and finds out when it works again. Pure: time is
//! passed in.
//!
//! | state | admits | event | next state |
//! | --- | --- | --- | --- |
//! | closed | everything | a streak of lost creations has cost what it may | open, a page is due at once |
//! | closed | everything | the failure share of the window is reached | open, a page is due after `open_for` |
//! | open | one page of the user list, when it is due | the page is requested | reading |
//! | reading | nothing | the page is answered | trial due |
//! | reading | nothing | the page isn't answered | open, a page is due after the interval |
//! | trial due | pages, one creation | the creation is admitted | trial |
//! | trial | pages | the creation is answered in time | closed |
//! | trial | pages | the creation is lost, or answered late | open, a page is due after the interval |
//! | open | | an operator resumes | open, a page is due at once |
//! | any but closed | | the account is known to work again | closed |
//!
//! A page is read first because a lost page costs nothing, and a lost creation costs a link. If pages fail until the
//! interval has reached its maximum, a creation is tried all the same: perhaps only the list is down.
//!
//! A failure is a creation that is lost (timeout, lost connection, 5xx), or answered too late. Answers about a job, the
//! rate limit or the account are no failures. [`super::in_flight_limit`] counts losses in a row.
//!
//! **Invariant:** a result counts only for the state in which its request was admitted.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::wait_until::WaitUntil;

/// Minimum number of answers in the window; with fewer, the failure share doesn't open the breaker. Of 20 answers of an
/// API that loses every fifth, 70 % are lost by chance in 2 of a million windows.
pub(crate) const REQUESTS_MIN: u32 = 20;

/// The window advances by one slice at a time.
const SLICES: usize = 10;

/// When the breaker opens and closes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakerPolicy {
    /// Age up to which answers count.
    pub window: Duration,
    /// Minimum number of answers in the window; with fewer, the failure share doesn't open it.
    pub requests_min: u32,
    /// Failure share, from 0 to 1, that opens it. Over 1: no share opens it.
    pub failure_share: f64,
    /// An answer that took longer than this counts as a failure.
    pub slow_after: Duration,
    /// Time between the first pages that are read while it is open.
    pub open_for: Duration,
    /// Failures double that time up to this.
    pub open_for_max: Duration,
}

impl BreakerPolicy {
    /// The default settings.
    #[cfg(test)]
    pub(crate) const DEFAULT: Self = Self {
        window: Duration::from_secs(30),
        requests_min: REQUESTS_MIN,
        failure_share: 0.7,
        slow_after: Duration::from_secs(20),
        open_for: Duration::from_secs(5),
        open_for_max: Duration::from_secs(60),
    };

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
    /// Whether it is the trial of an open breaker.
    pub(super) is_trial: bool,
}

/// What the result of a creation says about the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CreationHealth {
    /// Answered in time.
    Good,
    /// Answered too late.
    Slow,
    /// Not answered.
    Lost,
    /// Nothing. A trial must be repeated.
    Unknown,
}

impl CreationHealth {
    const fn is_failure(self) -> bool {
        matches!(self, Self::Slow | Self::Lost)
    }
}

/// A change that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerChanged {
    Opened {
        /// Failures in the window, or losses in a row.
        failures: u32,
        /// Answers in the window, or losses in a row.
        requests: u32,
        /// Time to the next page that is read.
        open_for: Duration,
    },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Closed,
    Open { page_due_at: Instant },
    Reading,
    TrialDue { since: Instant },
    Trial,
}

/// Why and since when the breaker isn't closed.
#[derive(Debug, Clone, Copy)]
struct Outage {
    failures: u32,
    requests: u32,
    /// The last time between two pages.
    waited: Duration,
    /// The next one.
    interval: Duration,
    is_logged: bool,
}

/// Answers in a part of the window.
#[derive(Debug, Clone, Copy, Default)]
struct WindowSlice {
    /// Slices since the breaker was made.
    number: u64,
    requests: u32,
    failures: u32,
}

#[derive(Debug)]
pub(super) struct CircuitBreaker {
    policy: BreakerPolicy,
    created_at: Instant,
    slices: [WindowSlice; SLICES],
    state: BreakerState,
    outage: Outage,
    generation: u64,
}

impl CircuitBreaker {
    /// Returns a closed breaker.
    pub(super) fn new(policy: BreakerPolicy, now: Instant) -> Self {
        let none = Duration::ZERO;
        Self {
            policy,
            created_at: now,
            slices: [WindowSlice::default(); SLICES],
            state: BreakerState::Closed,
            outage: Outage { failures: 0, requests: 0, waited: none, interval: none, is_logged: false },
            generation: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// Returns whether the time between two pages has reached its maximum.
    pub(super) fn is_interval_longest(&self) -> bool {
        self.outage.waited >= self.policy.open_for_max
    }

    /// Returns whether it is open and was logged: the first page or trial failed.
    pub(super) fn is_known_open(&self) -> bool {
        !self.is_closed() && self.outage.is_logged
    }

    /// Admits a creation. `trial_delay` leaves a trial to other creations for this long.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn admit_creation(&mut self, trial_delay: Duration, now: Instant) -> Result<BreakerTicket, WaitUntil> {
        match self.state {
            BreakerState::Closed => Ok(self.ticket(false)),
            BreakerState::TrialDue { since } if since + trial_delay <= now => {
                self.enter(BreakerState::Trial);
                Ok(self.ticket(true))
            }
            BreakerState::TrialDue { since } => Err(WaitUntil::Time(since + trial_delay)),
            BreakerState::Open { .. } | BreakerState::Reading | BreakerState::Trial => Err(WaitUntil::Change),
        }
    }

    /// Returns whether pages of the user list may be read, apart from the one that [`Self::admit_probe`] admits.
    pub(super) const fn admits_pages(&self) -> bool {
        matches!(self.state, BreakerState::Closed | BreakerState::TrialDue { .. } | BreakerState::Trial)
    }

    /// Admits the page of the user list whose result decides whether a creation is tried.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn admit_probe(&mut self, now: Instant) -> Result<BreakerTicket, WaitUntil> {
        match self.state {
            BreakerState::Open { page_due_at } if page_due_at <= now => {
                self.enter(BreakerState::Reading);
                Ok(self.ticket(true))
            }
            BreakerState::Open { page_due_at } => Err(WaitUntil::Time(page_due_at)),
            _ => Err(WaitUntil::Change),
        }
    }

    /// Returns whether an admitted request may still be sent.
    pub(super) const fn is_valid(&self, ticket: BreakerTicket) -> bool {
        ticket.generation == self.generation
    }

    /// Records the result of a creation. Returns the change that is to be logged.
    pub(super) fn record(
        &mut self,
        ticket: BreakerTicket,
        health: CreationHealth,
        now: Instant,
    ) -> Option<BreakerChanged> {
        if !self.is_valid(ticket) {
            return None;
        }
        match (self.state, health) {
            (BreakerState::Closed, health) => self.record_in_window(health, now),
            (BreakerState::Trial, CreationHealth::Good) => self.close(),
            (BreakerState::Trial, CreationHealth::Slow | CreationHealth::Lost) => self.wait_longer(now),
            (BreakerState::Trial, CreationHealth::Unknown) => {
                self.enter(BreakerState::TrialDue { since: now });
                None
            }
            (BreakerState::Open { .. } | BreakerState::Reading | BreakerState::TrialDue { .. }, _) => None,
        }
    }

    /// This many creations in a row were lost. Opens it; that is logged when the first page or trial fails too.
    pub(super) fn open_after_losses(&mut self, losses: usize, now: Instant) {
        let losses = u32::try_from(losses).unwrap_or(u32::MAX);
        let (waited, interval) = (Duration::ZERO, self.policy.open_for);
        self.outage = Outage { failures: losses, requests: losses, waited, interval, is_logged: false };
        self.enter(BreakerState::Open { page_due_at: now });
    }

    /// The page was answered, by whatever answer of the API.
    pub(super) fn page_answered(&mut self, ticket: BreakerTicket, now: Instant) {
        if self.is_valid(ticket) {
            self.enter(BreakerState::TrialDue { since: now });
        }
    }

    /// The page was not answered. Returns the change that is to be logged.
    pub(super) fn page_failed(&mut self, ticket: BreakerTicket, now: Instant) -> Option<BreakerChanged> {
        if !self.is_valid(ticket) {
            return None;
        }
        if self.outage.waited >= self.policy.open_for_max {
            self.enter(BreakerState::TrialDue { since: now });
            return None;
        }
        self.wait_longer(now)
    }

    /// The page was not sent, or its result says nothing.
    pub(super) fn page_dropped(&mut self, ticket: BreakerTicket, now: Instant) {
        if self.is_valid(ticket) {
            self.enter(BreakerState::Open { page_due_at: now });
        }
    }

    /// A page was answered although none was due: the API can be reached again.
    pub(super) fn reached(&mut self, now: Instant) {
        if matches!(self.state, BreakerState::Open { .. }) {
            self.enter(BreakerState::TrialDue { since: now });
        }
    }

    /// Closes it, because the API is known to work. Returns the change that is to be logged.
    pub(super) fn reset(&mut self) -> Option<BreakerChanged> {
        if self.is_closed() { None } else { self.close() }
    }

    /// Reads a page at once, because an operator resumes.
    pub(super) const fn resume(&mut self, now: Instant) {
        if let BreakerState::Open { page_due_at } = &mut self.state {
            *page_due_at = now;
            self.outage.interval = self.policy.open_for;
        }
    }

    const fn ticket(&self, is_trial: bool) -> BreakerTicket {
        BreakerTicket { generation: self.generation, is_trial }
    }

    const fn enter(&mut self, state: BreakerState) {
        self.state = state;
        self.generation += 1;
    }

    fn close(&mut self) -> Option<BreakerChanged> {
        self.slices = [WindowSlice::default(); SLICES];
        self.enter(BreakerState::Closed);
        self.outage.is_logged.then_some(BreakerChanged::Closed)
    }

    fn wait_longer(&mut self, now: Instant) -> Option<BreakerChanged> {
        let Outage { failures, requests, waited, interval, is_logged } = &mut self.outage;
        let open_for = *interval;
        *waited = open_for;
        *interval = (open_for * 2).min(self.policy.open_for_max);
        let changed = BreakerChanged::Opened { failures: *failures, requests: *requests, open_for };
        let is_news = !std::mem::replace(is_logged, true);
        self.enter(BreakerState::Open { page_due_at: now + open_for });
        is_news.then_some(changed)
    }

    fn record_in_window(&mut self, health: CreationHealth, now: Instant) -> Option<BreakerChanged> {
        if health == CreationHealth::Unknown {
            return None;
        }
        let (requests, failures) = self.count_in_window(health, now);
        if requests < self.policy.requests_min || !self.policy.is_share_reached(failures, requests) {
            return None;
        }
        let interval = self.policy.open_for;
        self.outage = Outage { failures, requests, waited: interval, interval, is_logged: false };
        self.wait_longer(now)
    }

    /// Counts an answer. Returns requests and failures in the window.
    fn count_in_window(&mut self, health: CreationHealth, now: Instant) -> (u32, u32) {
        let age = now.saturating_duration_since(self.created_at);
        let number = (age.as_nanos() / self.policy.slice_length().as_nanos()) as u64;
        let slice = &mut self.slices[(number % SLICES as u64) as usize];
        if slice.number != number {
            *slice = WindowSlice { number, ..WindowSlice::default() };
        }
        slice.requests += 1;
        slice.failures += u32::from(health.is_failure());
        let current = self.slices.iter().filter(|slice| slice.number + SLICES as u64 > number);
        current.fold((0, 0), |(requests, failures), slice| (requests + slice.requests, failures + slice.failures))
    }
}

#[cfg(test)]
mod tests;
