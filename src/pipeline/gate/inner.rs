//! State of the gate: composes first request, throttle, pause and circuit breaker. Pure: time is passed in.
//!
//! A request is admitted if each part admits it, asked in this order: first request, throttle, halt and event sink,
//! pause, circuit breaker. During a pause the breaker isn't asked.
//!
//! **Invariant:** a permit of kind [`PermitKind::Probe`] exists only while a pause has its probe in flight.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{AccountReason, Lane};
use crate::pipeline::gate::breaker::{BreakerChanged, BreakerPolicy, BreakerTicket, CircuitBreaker, RequestHealth};
use crate::pipeline::gate::first_request::{FirstRequest, FirstRequestRole};
use crate::pipeline::gate::pause::{Pause, PauseAdmission, ProbeSchedule};
use crate::pipeline::gate::request::Request;
use crate::pipeline::gate::throttle::Throttle;
use crate::telemetry::GateChanged;

/// State of the gate as others see it. If several apply: the first of paused, circuit open, halted, throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateState {
    /// Requests are sent at the rate limit.
    Open,
    /// No request is sent before this time, which a 429 gave.
    Throttled(Instant),
    /// Only probes are sent.
    Paused(AccountReason),
    /// The circuit breaker is open: only a few trials are sent.
    CircuitOpen,
    /// Bulk jobs wait until an operator resumes.
    Halted,
}

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PermitKind {
    /// Finds out whether the pause can end.
    Probe,
    /// Creates a user; its result counts for the circuit breaker.
    Creation(BreakerTicket),
    /// Reads a page of the user list, which says too little about creations to count.
    Page,
}

/// An admitted request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    request: Request,
    kind: PermitKind,
    role: FirstRequestRole,
}

impl Admitted {
    /// Returns whether the request is a probe or a trial of the circuit breaker.
    pub(super) const fn is_trial(&self) -> bool {
        matches!(self.kind, PermitKind::Probe | PermitKind::Creation(BreakerTicket { is_trial: true, .. }))
    }
}

#[derive(Debug)]
pub(super) struct GateInner {
    schedule: ProbeSchedule,
    first_request: FirstRequest,
    throttle: Throttle,
    pause: Option<Pause>,
    breaker: CircuitBreaker,
    is_halted: bool,
    is_event_sink_open: bool,
    pauses_ended: u64,
}

impl GateInner {
    pub(super) fn new(schedule: ProbeSchedule, breaker: BreakerPolicy, now: Instant) -> Self {
        Self {
            schedule,
            first_request: FirstRequest::Done,
            throttle: Throttle::new(now),
            pause: None,
            breaker: CircuitBreaker::new(breaker, now),
            is_halted: false,
            is_event_sink_open: true,
            pauses_ended: 0,
        }
    }

    pub(super) const fn expect_first_request(&mut self) {
        self.first_request = FirstRequest::NotSent;
    }

    pub(super) fn state(&self, now: Instant) -> GateState {
        if let Some(reason) = self.pause.as_ref().and_then(Pause::logged_reason) {
            return GateState::Paused(reason);
        }
        if self.breaker.is_open() {
            return GateState::CircuitOpen;
        }
        if self.is_halted {
            return GateState::Halted;
        }
        self.throttle.closed_until(now).map_or(GateState::Open, GateState::Throttled)
    }

    pub(super) const fn pauses_ended(&self) -> u64 {
        self.pauses_ended
    }

    /// Admits a request. `probe_delay`: see [`Pause::admit`].
    ///
    /// # Errors
    /// The request has to wait until this time; `None`: until the gate changes.
    pub(super) fn admit(
        &mut self,
        request: Request,
        probe_delay: Duration,
        now: Instant,
    ) -> Result<Admitted, Option<Instant>> {
        let role = self.first_request.admit(now)?;
        if let Some(until) = self.throttle.closed_until(now) {
            return Err(Some(until));
        }
        if self.holds(request) {
            return Err(None);
        }
        let kind = match &mut self.pause {
            Some(pause) => match pause.admit(request, probe_delay, now)? {
                PauseAdmission::Probe => PermitKind::Probe,
                PauseAdmission::Page => PermitKind::Page,
            },
            None => self.admit_unpaused(request, now)?,
        };
        if role == FirstRequestRole::First {
            self.first_request = FirstRequest::Permitted;
        }
        Ok(Admitted { request, kind, role })
    }

    fn admit_unpaused(&mut self, request: Request, now: Instant) -> Result<PermitKind, Option<Instant>> {
        match request {
            Request::Create(_) => self.breaker.admit(now).map(PermitKind::Creation),
            Request::Read => match self.breaker.admits_none_until(now) {
                Some(until) => Err(Some(until)),
                None => Ok(PermitKind::Page),
            },
        }
    }

    /// Returns whether an admitted request may still be sent.
    pub(super) fn is_valid(&self, admitted: Admitted, now: Instant) -> bool {
        let Admitted { request, kind, .. } = admitted;
        if self.waits_for_event_sink(request) {
            return false;
        }
        if kind == PermitKind::Probe {
            return true;
        }
        if self.throttle.closed_until(now).is_some() || self.holds(request) {
            return false;
        }
        match (&self.pause, kind) {
            (Some(pause), _) => request == Request::Read && pause.admits_pages(),
            (None, PermitKind::Creation(ticket)) => self.breaker.is_valid(ticket),
            (None, PermitKind::Probe | PermitKind::Page) => true,
        }
    }

    fn holds(&self, request: Request) -> bool {
        self.is_halted && request == Request::Create(Lane::Bulk) || self.waits_for_event_sink(request)
    }

    fn waits_for_event_sink(&self, request: Request) -> bool {
        !self.is_event_sink_open && request != Request::Read
    }

    pub(super) const fn set_event_sink_open(&mut self, is_open: bool) {
        self.is_event_sink_open = is_open;
    }

    pub(super) const fn halt(&mut self) {
        self.is_halted = true;
    }

    /// Ends a halt, and admits a probe or trials at once. Returns whether it was halted.
    pub(super) fn resume(&mut self, now: Instant) -> bool {
        self.breaker.resume(now);
        if let Some(pause) = &mut self.pause {
            pause.resume(now);
        }
        std::mem::take(&mut self.is_halted)
    }

    /// Records a 429. Returns the wait if it is to be logged. See [`Throttle::throttle`].
    pub(super) fn throttle(
        &mut self,
        advice: Option<Duration>,
        backoff: impl FnOnce(u32) -> Duration,
        now: Instant,
    ) -> Option<Duration> {
        self.throttle.throttle(advice, backoff, now)
    }

    /// The request was sent.
    pub(super) fn sent(&mut self, admitted: Admitted, now: Instant) {
        if admitted.role == FirstRequestRole::First {
            self.first_request = FirstRequest::InFlight(now);
        }
    }

    /// The answer was about a job, so the account works.
    pub(super) fn answered(&mut self, admitted: Admitted, is_slow: bool, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let throttle_ended = self.throttle_answered(now);
        let health = if is_slow { RequestHealth::Failed } else { RequestHealth::Good };
        let breaker_changed = self.record(admitted, health, now);
        self.end_pause(admitted).or(breaker_changed).or(throttle_ended)
    }

    /// A page of the user list was read. It proves that the API can be reached, but not that users can be created.
    pub(super) fn page_read(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let throttle_ended = self.throttle_answered(now);
        if self.pause.as_ref().is_some_and(Pause::ends_with_page) {
            return self.end_pause(admitted).or(throttle_ended);
        }
        self.probe_dropped(admitted, now);
        throttle_ended
    }

    /// The answer was a 429, so the account works.
    pub(super) fn throttled(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let pause_ended = self.end_pause(admitted);
        self.record(admitted, RequestHealth::Unknown, now);
        pause_ended
    }

    /// There was no answer, which says nothing about the account.
    pub(super) fn unanswered(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let breaker_changed = self.record(admitted, RequestHealth::Failed, now);
        match (&mut self.pause, admitted.kind) {
            (Some(pause), PermitKind::Probe) => {
                self.throttle.cancel_end_log();
                pause.probe_unanswered(admitted.request, now)
            }
            _ => breaker_changed,
        }
    }

    /// The answer was about the account, so every request would get it.
    pub(super) fn refused(&mut self, admitted: Admitted, reason: AccountReason, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        self.record(admitted, RequestHealth::Unknown, now);
        self.throttle.cancel_end_log();
        match (&mut self.pause, admitted.kind) {
            (Some(pause), PermitKind::Probe) => pause.probe_refused(reason, admitted.request, now),
            (Some(pause), PermitKind::Creation(_) | PermitKind::Page) => pause.refused(reason, admitted.request, now),
            (None, _) => {
                let (pause, changed) = Pause::begin(self.schedule, reason, admitted.request, now);
                self.pause = Some(pause);
                changed
            }
        }
    }

    /// The request was not sent, or its result says nothing.
    pub(super) fn dropped(&mut self, admitted: Admitted, now: Instant) {
        if admitted.role == FirstRequestRole::First {
            self.first_request = FirstRequest::NotSent;
        }
        self.record(admitted, RequestHealth::Unknown, now);
        self.probe_dropped(admitted, now);
    }

    fn first_request_done(&mut self, admitted: Admitted) {
        if admitted.role == FirstRequestRole::First {
            self.first_request = FirstRequest::Done;
        }
    }

    fn throttle_answered(&mut self, now: Instant) -> Option<GateChanged> {
        self.throttle.answered(now).then_some(GateChanged::ThrottleEnded)
    }

    fn record(&mut self, admitted: Admitted, health: RequestHealth, now: Instant) -> Option<GateChanged> {
        let PermitKind::Creation(ticket) = admitted.kind else { return None };
        Some(match self.breaker.record(ticket, health, now)? {
            BreakerChanged::Opened { failures, requests, open_for } => {
                GateChanged::CircuitOpened { failures, requests, open_for }
            }
            BreakerChanged::Closed => GateChanged::CircuitClosed,
        })
    }

    fn probe_dropped(&mut self, admitted: Admitted, now: Instant) {
        if let (Some(pause), PermitKind::Probe) = (&mut self.pause, admitted.kind) {
            pause.probe_dropped(now);
        }
    }

    /// Ends the pause if the request was its probe. Returns what to log.
    fn end_pause(&mut self, admitted: Admitted) -> Option<GateChanged> {
        if admitted.kind != PermitKind::Probe {
            return None;
        }
        let pause = self.pause.take()?;
        self.pauses_ended += 1;
        // The failures before the pause may have had the same cause.
        let was_circuit_open = self.breaker.reset();
        match pause.logged_reason() {
            Some(_) => Some(GateChanged::Opened),
            None => was_circuit_open.then_some(GateChanged::CircuitClosed),
        }
    }
}
