//! The gate: whether requests may leave at all; the one place where they wait for it.
//!
//! | state | what leaves | how it opens |
//! | --- | --- | --- |
//! | open | everything, at the pace | |
//! | throttled (429) | nothing | at the moment that the partner named |
//! | paused, because every job would be answered alike | one probe at growing intervals | by the first answer that is about a job |
//! | broken, because hardly anything is answered | a few trials at growing intervals | by as many good answers |
//! | halted, because the outcomes aren't what was planned | people who sign up, look-ups | by a person |
//!
//! While outcomes can't be told ([`Gate::set_event_sink`]) nobody is created: a worker that ends then would lose the links.
//!
//! A worker's first request leaves alone, so that one that begins with a revoked key finds out with one and not with as many as
//! may be on their way.
//!
//! [`Gate::go_on`] is that person: probe and trials leave at once.
//!
//! **Invariant:** nobody's attempt is spent on a closed gate.

pub(crate) mod breaker;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::domain::answer::NoConnection;
use crate::domain::{AccountReason, Lane};
use crate::pipeline::gate::breaker::{BreakerChanged, BreakerPolicy, BreakerTicket, CircuitBreaker, Health};
use crate::telemetry::GateChanged;

/// While it is throttled, a wait that ends so much later than the one that was told is told too.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// It is told to be over once no 429 has come for so long: a partner whose limit is below the pace asks for patience every
/// other second, which is one thing to tell and not a line a second.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// When probes leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeSchedule {
    /// From the pause to the first probe.
    pub initial: Duration,
    /// Longest time between probes; each failed probe doubles it up to this.
    pub max: Duration,
}

/// What the gate looks like from outside. Where several hold, the first of: paused, broken, halted, throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateState {
    /// Requests leave at the pace.
    Open,
    /// The partner asked for patience until then.
    Throttled(Instant),
    /// Nothing but a probe leaves.
    Paused(AccountReason),
    /// The circuit breaker is open: nothing but a few trials leaves.
    CircuitOpen,
    /// Bulk jobs wait for a person to say that the outcomes are as they should be.
    Halted,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// A creation.
    Create(Lane),
    /// A page of the user list.
    Read,
}

/// From a page of something else than the API to the first probe. Among good answers it is a gateway's hiccup, which
/// must not hold everybody up for long: only where the probe fares no better the pause is told and goes by the schedule.
const PROBE_AFTER_PAGE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Pause {
    reason: AccountReason,
    /// For which reason the pause was told; `None`: not yet.
    told: Option<AccountReason>,
    interval: Duration,
    /// `None` while a probe is on its way.
    probe_at: Option<Instant>,
    /// Somebody said to go on while a probe was on its way: the next one follows at once.
    hurries: bool,
    /// Somebody said to go on, and wants to know what came of it.
    is_asked: bool,
    /// Only pages of the list were refused so: a page that comes is the proof that it is over.
    is_the_lists: bool,
    /// Probes in a row that got no answer.
    unanswered: u32,
}

/// Probes in a row without an answer after which the pause is about that, and no longer about what was said before it.
const UNANSWERED_MAX: u32 = 2;

/// How long a worker's first request leaves alone, where its answer takes longer.
const FIRST_ALONE: Duration = Duration::from_secs(2);

/// The first request of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// Nobody has left yet.
    Waits,
    /// Somebody has its pass, and waits for the pace.
    Taken,
    /// It is on its way.
    Left(Instant),
    /// Something came of it.
    Over,
}

#[derive(Debug)]
struct State {
    first: First,
    /// How often it opened after a pause.
    openings: u64,
    throttled_until: Option<Instant>,
    /// Throttled answers without advice since the last other answer.
    throttled_in_a_row: u32,
    /// Until when it was told to be throttled; `None`: it is told that it isn't.
    told_until: Option<Instant>,
    /// When the last 429 came.
    throttled_at: Instant,
    pause: Option<Pause>,
    breaker: CircuitBreaker,
    is_halted: bool,
    /// Outcomes can't be told at the moment.
    is_event_sink_shut: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    schedule: ProbeSchedule,
    state: Mutex<State>,
    changed: Notify,
}

/// The right to send one request. Give it back with what came of it; a probe that is dropped is probed again.
#[derive(Debug)]
#[must_use]
pub(crate) struct SendPermit<'g> {
    gate: &'g Gate,
    request: Request,
    is_probe: bool,
    is_first: bool,
    /// `None`: doesn't count for the breaker.
    ticket: Option<BreakerTicket>,
}

impl Gate {
    /// An open gate.
    pub(crate) fn new(schedule: ProbeSchedule, breaker: BreakerPolicy) -> Self {
        let state = State {
            first: First::Over,
            openings: 0,
            throttled_until: None,
            throttled_in_a_row: 0,
            told_until: None,
            throttled_at: Instant::now(),
            pause: None,
            breaker: CircuitBreaker::new(breaker, Instant::now()),
            is_halted: false,
            is_event_sink_shut: false,
        };
        Self { schedule, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Nothing has been sent yet: the first request leaves alone.
    #[must_use]
    pub(crate) fn beginning(self) -> Self {
        self.lock().first = First::Waits;
        self
    }

    /// What it looks like now.
    pub(crate) fn state(&self) -> GateState {
        let state = self.lock();
        match (&state.pause, state.throttled_until) {
            (Some(pause), _) if pause.told.is_some() => GateState::Paused(pause.reason),
            _ if state.breaker.is_open() => GateState::CircuitOpen,
            _ if state.is_halted => GateState::Halted,
            (_, Some(until)) if until > Instant::now() => GateState::Throttled(until),
            _ => GateState::Open,
        }
    }

    /// How often it has opened after a pause: whether others fared better in between.
    pub(crate) fn openings(&self) -> u64 {
        self.lock().openings
    }

    /// Waits until a request may leave. Cancel-safe.
    #[cfg(test)]
    pub(crate) async fn pass(&self, request: Request) -> SendPermit<'_> {
        self.permit_after(request, Duration::ZERO).await
    }

    /// The same for a job that was refused: leaves a probe to others for so long, so that a job that alone is at fault
    /// doesn't keep probing for all.
    pub(crate) async fn permit_after(&self, request: Request, courtesy: Duration) -> SendPermit<'_> {
        loop {
            let changed = self.changed.notified();
            match self.try_permit(request, courtesy) {
                Ok(pass) => return pass,
                Err(Some(at)) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = changed => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    /// Takes a pass, or says when to try again (`None`: when something has changed).
    fn try_permit(&self, request: Request, courtesy: Duration) -> Result<SendPermit<'_>, Option<Instant>> {
        let now = Instant::now();
        let mut state = self.lock();
        let is_first = match state.first {
            First::Over => false,
            First::Waits => true,
            First::Taken => return Err(None),
            First::Left(at) if now < at + FIRST_ALONE => return Err(Some(at + FIRST_ALONE)),
            First::Left(_) => false,
        };
        let pass = |is_probe, ticket| Ok(SendPermit { gate: self, request, is_probe, is_first, ticket });
        if let Some(until) = state.throttled_until {
            if until > now {
                return Err(Some(until));
            }
            state.throttled_until = None;
        }
        if state.holds(request) {
            return Err(None);
        }
        let passed = match &mut state.pause {
            // Reading costs nothing.
            Some(pause) if request == Request::Read && pause.reason == AccountReason::PaymentRequired => {
                pass(false, None)
            }
            Some(pause) => match pause.probe_at.map(|at| at + courtesy) {
                Some(at) if at <= now => {
                    pause.probe_at = None;
                    pass(true, None)
                }
                other => Err(other),
            },
            // Says too little about creations to be counted or to be a trial.
            None if request == Request::Read => match state.breaker.closed_to_all_until(now) {
                Some(until) => Err(Some(until)),
                None => pass(false, None),
            },
            None => state.breaker.admit(now).map(Some).and_then(|ticket| pass(false, ticket)),
        };
        if is_first && passed.is_ok() {
            state.first = First::Taken;
        }
        passed
    }

    /// Nobody sends for as long as the partner advises; without advice, for as long as `backoff` says of the number of
    /// such answers in a row. Answers to requests that left before the first of them count once. Returns the wait, where
    /// it is news.
    pub(crate) fn throttle(&self, advice: Option<Duration>, backoff: impl FnOnce(u32) -> Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        let is_throttled = state.throttled_until.is_some_and(|until| until > now);
        state.throttled_at = now;
        let wait = match advice {
            Some(wait) => wait,
            None if is_throttled => Duration::ZERO,
            None => {
                state.throttled_in_a_row += 1;
                backoff(state.throttled_in_a_row)
            }
        };
        let until = now + wait;
        state.throttled_until = Some(state.throttled_until.map_or(until, |other| other.max(until)));
        let is_news = state.told_until.is_none_or(|told| until > told + TELL_AGAIN);
        is_news.then(|| {
            state.told_until = Some(until);
            wait
        })
    }

    /// Outcomes can be told, or can't at the moment.
    pub(crate) fn set_event_sink(&self, is_open: bool) {
        self.lock().is_event_sink_shut = !is_open;
        self.changed.notify_waiters();
    }

    /// Holds bulk jobs back until [`Self::go_on`].
    pub(crate) fn halt(&self) {
        self.lock().is_halted = true;
    }

    /// A person says to go on: a halt is over, and what is paused or broken is tried at once. Whether it was halted.
    pub(crate) fn go_on(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let was_halted = std::mem::take(&mut state.is_halted);
        state.breaker.try_now(now);
        if let Some(pause) = &mut state.pause {
            pause.interval = self.schedule.initial;
            pause.is_asked = true;
            match &mut pause.probe_at {
                Some(at) => *at = now,
                None => pause.hurries = true,
            }
        }
        drop(state);
        self.changed.notify_waiters();
        was_halted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn holds(&self, request: Request) -> bool {
        let is_outcome = request != Request::Read;
        self.is_halted && request == Request::Create(Lane::Bulk) || self.is_event_sink_shut && is_outcome
    }

    /// A request was answered: the wait is over, if no later one was asked for.
    fn answered(&mut self) -> Option<GateChanged> {
        self.throttled_in_a_row = 0;
        let now = Instant::now();
        let is_quiet = now.saturating_duration_since(self.throttled_at) >= QUIET_FOR;
        let is_over = is_quiet && self.throttled_until.is_none_or(|until| until <= now);
        self.told_until.take_if(|_| is_over).map(|_| GateChanged::Unthrottled)
    }
}

impl SendPermit<'_> {
    /// Whether it is still good: the gate may have closed while its holder waited for the pace.
    pub(crate) fn is_valid(&self) -> bool {
        let state = self.gate.lock();
        if state.is_event_sink_shut && self.request != Request::Read {
            return false;
        }
        if state.throttled_until.is_some_and(|until| until > Instant::now()) || state.holds(self.request) {
            return self.is_probe;
        }
        match (&state.pause, self.ticket) {
            (Some(pause), _) => {
                self.is_probe || self.request == Request::Read && pause.reason == AccountReason::PaymentRequired
            }
            (None, Some(ticket)) => state.breaker.is_valid(ticket),
            (None, None) => true,
        }
    }

    /// Whether it is there to find out whether the account or the API works again: a failure is not the job's.
    pub(crate) const fn is_trial(&self) -> bool {
        self.is_probe || matches!(self.ticket, Some(BreakerTicket { is_trial: true, .. }))
    }

    /// The request leaves now.
    pub(crate) fn leaves(&self) {
        if self.is_first {
            self.gate.lock().first = First::Left(Instant::now());
            self.gate.changed.notify_waiters();
        }
    }

    /// The answer was about a job: the account is well, and so is the API, unless it took too long.
    pub(crate) fn answered(mut self, is_slow: bool) -> Option<GateChanged> {
        self.is_over();
        let unthrottled = self.gate.lock().answered();
        let changed = self.health(if is_slow { Health::Bad } else { Health::Good });
        self.opened().or(changed).or(unthrottled)
    }

    /// A page of the list came. That the list can be read proves that the API is there, not that creations are welcome.
    pub(crate) fn page_came(mut self) -> Option<GateChanged> {
        self.is_over();
        let mut state = self.gate.lock();
        let unthrottled = state.answered();
        let is_proof = |pause: &Pause| pause.is_the_lists || matches!(pause.reason, AccountReason::Unreachable(_));
        let is_over = state.pause.as_ref().is_some_and(is_proof);
        drop(state);
        // Dropping a probe leaves the next one to a creation.
        if is_over { self.answered(false) } else { unthrottled }
    }

    /// The answer asked for patience: the account is well, and in a hurry.
    pub(crate) fn throttled(mut self) -> Option<GateChanged> {
        self.is_over();
        self.opened()
    }

    /// Something came of the first request: nobody waits for it any more.
    fn is_over(&mut self) {
        if std::mem::take(&mut self.is_first) {
            self.gate.lock().first = First::Over;
            self.gate.changed.notify_waiters();
        }
    }

    fn opened(&mut self) -> Option<GateChanged> {
        if !std::mem::take(&mut self.is_probe) {
            return None;
        }
        let mut state = self.gate.lock();
        let pause = state.pause.take();
        state.openings += u64::from(pause.is_some());
        // What was true before the pause need not be true now.
        let was_broken = state.breaker.reset();
        drop(state);
        self.gate.changed.notify_waiters();
        match pause {
            Some(Pause { told: Some(_), .. }) => Some(GateChanged::Opened),
            _ => was_broken.then_some(GateChanged::CircuitClosed),
        }
    }

    /// There was no answer: it says nothing about the account, and a probe must be sent again, later.
    pub(crate) fn unanswered(mut self) -> Option<GateChanged> {
        self.is_over();
        let changed = self.health(Health::Bad);
        let before = self.gate.lock().pause.as_ref().map(|pause| (pause.reason, pause.unanswered + 1));
        match before {
            Some((_, unanswered)) if self.is_probe && unanswered >= UNANSWERED_MAX => {
                self.pauses(AccountReason::Unreachable(NoConnection::NoAnswer), unanswered)
            }
            Some((reason, unanswered)) if self.is_probe => self.pauses(reason, unanswered),
            _ => changed,
        }
    }

    fn health(&mut self, health: Health) -> Option<GateChanged> {
        let ticket = self.ticket.take()?;
        let changed = self.gate.lock().breaker.record(ticket, health, Instant::now());
        if ticket.is_trial || changed.is_some() {
            self.gate.changed.notify_waiters();
        }
        changed.map(|changed| match changed {
            BreakerChanged::Opened { failures, requests } => GateChanged::CircuitOpened { failures, requests },
            BreakerChanged::Closed => GateChanged::CircuitClosed,
        })
    }

    /// The answer was about everybody.
    pub(crate) fn refused(self, reason: AccountReason) -> Option<GateChanged> {
        self.pauses(reason, 0)
    }

    fn pauses(mut self, reason: AccountReason, unanswered: u32) -> Option<GateChanged> {
        self.is_over();
        let was_probe = std::mem::take(&mut self.is_probe);
        let is_certain = was_probe || reason != AccountReason::NotTheApi;
        let ProbeSchedule { initial, max } = self.gate.schedule;
        let mut state = self.gate.lock();
        let hurries = was_probe && state.pause.as_ref().is_some_and(|pause| pause.hurries);
        let told = state.pause.as_ref().and_then(|pause| pause.told);
        let interval = match &state.pause {
            // Requests that were on their way when the gate closed say nothing new.
            Some(pause) if !was_probe && (pause.reason == reason || !is_certain) => return None,
            Some(pause) if was_probe && !hurries => (pause.interval * 2).min(max),
            Some(pause) if told.is_some() => pause.interval,
            _ if is_certain => initial,
            _ => PROBE_AFTER_PAGE,
        };
        let is_news = is_certain && (told.is_none() || was_probe && told != Some(reason));
        // A probe that was on its way when somebody said to go on answers for nothing.
        let is_asked = state.pause.as_ref().is_some_and(|pause| pause.is_asked);
        let is_answered = is_asked && was_probe && !hurries;
        // A probe on its way is not joined by a second one.
        let probe_on_its_way = !was_probe && state.pause.as_ref().is_some_and(|pause| pause.probe_at.is_none());
        let wait = if hurries { Duration::ZERO } else { interval };
        let probe_at = (!probe_on_its_way).then(|| Instant::now() + wait);
        let still_hurries = !was_probe && state.pause.as_ref().is_some_and(|pause| pause.hurries);
        let told = if is_news { Some(reason) } else { told };
        let is_asked = is_asked && !is_answered;
        let is_the_lists = self.request == Request::Read && state.pause.as_ref().is_none_or(|pause| pause.is_the_lists);
        let hurries = still_hurries;
        state.pause = Some(Pause { reason, told, interval, probe_at, hurries, is_asked, is_the_lists, unanswered });
        // The end of the pause is told instead.
        state.told_until = None;
        drop(state);
        self.gate.changed.notify_waiters();
        match (is_news, is_answered) {
            (true, _) => Some(GateChanged::Paused(reason)),
            (false, true) => Some(GateChanged::StillPaused(reason)),
            (false, false) => None,
        }
    }
}

impl Drop for SendPermit<'_> {
    fn drop(&mut self) {
        if self.is_first {
            // It never left: the next one is the first.
            self.gate.lock().first = First::Waits;
            self.gate.changed.notify_waiters();
        }
        let is_trial = self.is_trial();
        if let Some(ticket) = self.ticket.take() {
            self.gate.lock().breaker.record(ticket, Health::Unknown, Instant::now());
        }
        if self.is_probe
            && let Some(pause) = &mut self.gate.lock().pause
        {
            pause.probe_at = Some(Instant::now());
        }
        if self.is_probe || is_trial {
            self.gate.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
