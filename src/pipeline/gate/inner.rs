//! State of the gate: composes first request, throttle, pause, circuit breaker and in-flight limit. Pure: time is
//! passed in.
//!
//! A request is admitted if each part admits it, asked in this order: first request, throttle, halt and event sink,
//! pause, circuit breaker. During a pause the breaker isn't asked. The in-flight limit is asked right before a creation
//! is sent; a probe and a trial are the only ones of their kind, so they don't need room.
//!
//! **Invariants:** a permit of kind [`PermitKind::Probe`] exists only while a pause has its probe in flight. When the
//! breaker closes, the streak of losses ends: else no creation would have room, and none could end it.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{AccountReason, Lane};
use crate::pipeline::gate::breaker::{BreakerChanged, BreakerPolicy, BreakerTicket, CircuitBreaker, CreationHealth};
use crate::pipeline::gate::first_request::{FirstRequest, FirstRequestRole};
use crate::pipeline::gate::in_flight_limit::{InFlightLimit, LOSING_FROM, SentCreation};
use crate::pipeline::gate::loss_log::LossLog;
use crate::pipeline::gate::pause::{Pause, PauseAdmission, ProbeSchedule};
use crate::pipeline::gate::request::{DELETE_DELAY, ProbeDelays, Request};
use crate::pipeline::gate::throttle::Throttle;
use crate::pipeline::wait_until::WaitUntil;
use crate::telemetry::GateChanged;

/// How long a job that got an answer about the account leaves the trial to others when pages were read for long. It
/// goes first until then, because it can't lose another link; but perhaps it alone gets that answer. Longer than a job
/// that was never sent waits.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(2);

/// State of the gate as others see it. If several apply: the first of paused, circuit open, halted, throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateState {
    /// Requests are sent at the rate limit.
    Open,
    /// No request is sent before this time, which a 429 gave.
    Throttled(Instant),
    /// Only probes are sent.
    Paused(AccountReason),
    /// The circuit breaker is open: pages of the user list are read, and a creation is tried when one is answered.
    CircuitOpen,
    /// Bulk jobs wait until an operator resumes.
    Halted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PermitKind {
    /// Finds out whether the pause can end.
    Probe,
    /// Creates a user; its result counts for the circuit breaker and the in-flight limit.
    Creation(BreakerTicket),
    /// Reads a page of the user list, which says too little about creations to count.
    Page,
    /// Reads a page to find out whether an open circuit breaker can try a creation.
    ReadProbe(BreakerTicket),
}

/// An admitted request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    request: Request,
    kind: PermitKind,
    role: FirstRequestRole,
    /// Number of a creation that was sent.
    number: Option<u64>,
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
    in_flight: InFlightLimit,
    loss_log: LossLog,
    is_halted: bool,
    is_event_sink_open: bool,
    pauses_ended: u64,
}

impl GateInner {
    /// `in_flight_max`: most creations in flight.
    pub(super) fn new(schedule: ProbeSchedule, breaker: BreakerPolicy, in_flight_max: usize, now: Instant) -> Self {
        Self {
            schedule,
            first_request: FirstRequest::Done,
            throttle: Throttle::new(now),
            pause: None,
            breaker: CircuitBreaker::new(breaker, now),
            in_flight: InFlightLimit::new(in_flight_max),
            loss_log: LossLog::default(),
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
        if self.breaker.is_known_open() {
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

    /// Returns how many creations in a row were lost, if they are too many to be chance.
    pub(super) fn links_being_lost(&self, now: Instant) -> Option<usize> {
        Some(self.in_flight.losses_in_a_row(now)).filter(|losses| *losses >= LOSING_FROM)
    }

    /// Returns how many creations may be in flight.
    pub(super) fn in_flight_allowed(&self, now: Instant) -> usize {
        self.in_flight.allowed(now)
    }

    /// Admits a request. `delays`: how long it leaves a probe to others.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn admit(&mut self, request: Request, delays: ProbeDelays, now: Instant) -> Result<Admitted, WaitUntil> {
        let role = self.first_request.admit(now)?;
        if let Some(until) = self.throttle.closed_until(now) {
            return Err(WaitUntil::Time(until));
        }
        if self.holds(request) {
            return Err(WaitUntil::Change);
        }
        // Without losses, there is no job that can't lose another link.
        let trial = if self.in_flight.losses_in_a_row(now) > 0 { delays.trial } else { Duration::ZERO };
        let kind = match &mut self.pause {
            Some(pause) => match pause.admit(request, ProbeDelays { trial, ..delays }, now)? {
                PauseAdmission::Probe => PermitKind::Probe,
                PauseAdmission::Page => PermitKind::Page,
            },
            None => self.admit_unpaused(request, delays, now)?,
        };
        if role == FirstRequestRole::First {
            self.first_request = FirstRequest::Permitted;
        }
        Ok(Admitted { request, kind, role, number: None })
    }

    fn admit_unpaused(&mut self, request: Request, delays: ProbeDelays, now: Instant) -> Result<PermitKind, WaitUntil> {
        match request {
            Request::Create(_) => {
                let was_refused = !delays.probe.is_zero();
                let is_left = was_refused && self.breaker.is_interval_longest();
                let delay = if is_left { LEFT_TO_OTHERS.max(delays.trial) } else { delays.trial };
                self.breaker.admit_creation(delay, now).map(PermitKind::Creation)
            }
            Request::Delete(_) => self.breaker.admit_creation(DELETE_DELAY, now).map(PermitKind::Creation),
            Request::Read if self.breaker.admits_pages() => Ok(PermitKind::Page),
            Request::Read => Err(WaitUntil::Change),
            Request::ReadProbe => self.breaker.admit_probe(now).map(PermitKind::ReadProbe),
        }
    }

    /// Returns whether an admitted request may still be sent.
    pub(super) fn is_valid(&self, admitted: Admitted, now: Instant) -> bool {
        let Admitted { request, kind, .. } = admitted;
        if self.throttle.closed_until(now).is_some() || self.holds(request) {
            return false;
        }
        match (&self.pause, kind) {
            (_, PermitKind::Probe) => true,
            (Some(pause), _) => request == Request::Read && pause.admits_pages(),
            (None, PermitKind::Creation(ticket) | PermitKind::ReadProbe(ticket)) => self.breaker.is_valid(ticket),
            (None, PermitKind::Page) => true,
        }
    }

    /// Returns whether the in-flight limit allows an admitted request to be sent.
    pub(super) fn has_room(&mut self, admitted: Admitted, now: Instant) -> bool {
        !admitted.request.is_creation() || admitted.is_trial() || self.in_flight.has_room(now)
    }

    fn holds(&self, request: Request) -> bool {
        self.is_halted && matches!(request, Request::Create(Lane::Bulk) | Request::Delete(Lane::Bulk))
            || self.waits_for_event_sink(request)
    }

    fn waits_for_event_sink(&self, request: Request) -> bool {
        !self.is_event_sink_open && matches!(request, Request::Create(_) | Request::Delete(_))
    }

    pub(super) const fn set_event_sink_open(&mut self, is_open: bool) {
        self.is_event_sink_open = is_open;
    }

    pub(super) const fn halt(&mut self) {
        self.is_halted = true;
    }

    /// Ends a halt, and admits a probe at once. Returns whether it was halted.
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
    pub(super) fn sent(&mut self, admitted: &mut Admitted, now: Instant) {
        if admitted.request.is_creation() {
            admitted.number = Some(self.in_flight.sent(now));
        }
        if admitted.role == FirstRequestRole::First {
            self.first_request = FirstRequest::InFlight(now);
        }
    }

    /// The answer was about a job, so the account works.
    pub(super) fn answered(&mut self, admitted: Admitted, is_slow: bool, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let throttle_ended = self.throttle_answered(now);
        let health = if is_slow { CreationHealth::Slow } else { CreationHealth::Good };
        let changed = self.record(admitted, health, now);
        self.end_pause(admitted).or(changed).or(throttle_ended)
    }

    /// A page of the user list was read. It proves that the API can be reached, but not that users can be created.
    pub(super) fn page_read(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let throttle_ended = self.throttle_answered(now);
        if let PermitKind::ReadProbe(ticket) = admitted.kind {
            self.breaker.page_answered(ticket, now);
        }
        self.probe_reached(admitted, now).or(throttle_ended)
    }

    /// The answer was a 429: the account works, but nothing says that users can be created.
    pub(super) fn throttled(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        if let PermitKind::ReadProbe(ticket) = admitted.kind {
            self.breaker.page_answered(ticket, now);
        }
        self.record(admitted, CreationHealth::Unknown, now);
        self.probe_reached(admitted, now)
    }

    /// There was no answer, which says nothing about the account.
    pub(super) fn unanswered(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let changed = self.record(admitted, CreationHealth::Lost, now);
        match (&mut self.pause, admitted.kind) {
            (_, PermitKind::ReadProbe(ticket)) => self.breaker.page_failed(ticket, now).map(gate_changed),
            (Some(pause), PermitKind::Probe) => {
                self.throttle.cancel_end_log();
                pause.probe_unanswered(admitted.request, now)
            }
            _ => changed,
        }
    }

    /// The answer was about the account, so every request would get it.
    pub(super) fn refused(&mut self, admitted: Admitted, reason: AccountReason, now: Instant) -> Option<GateChanged> {
        self.first_request_done(admitted);
        let is_lost = admitted.request.is_creation() && reason.may_have_created();
        let health = if is_lost { CreationHealth::Lost } else { CreationHealth::Unknown };
        let loss_changed = self.record(admitted, health, now);
        self.throttle.cancel_end_log();
        let changed = match (&mut self.pause, admitted.kind) {
            (Some(pause), PermitKind::Probe) => pause.probe_refused(reason, admitted.request, now),
            (Some(pause), _) => pause.refused(reason, admitted.request, now),
            (None, _) => {
                let (pause, changed) = Pause::begin(self.schedule, reason, admitted.request, now);
                self.pause = Some(pause);
                changed
            }
        };
        changed.or(loss_changed)
    }

    /// The request was not sent, or its result says nothing.
    pub(super) fn dropped(&mut self, admitted: Admitted, now: Instant) {
        if admitted.role == FirstRequestRole::First {
            self.first_request = FirstRequest::NotSent;
        }
        self.record(admitted, CreationHealth::Unknown, now);
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

    /// Records the result of a creation that was sent, or that was not. Returns what to log.
    fn record(&mut self, admitted: Admitted, health: CreationHealth, now: Instant) -> Option<GateChanged> {
        let sent = admitted.number.and_then(|number| self.in_flight.ended(number));
        let counts = match admitted.kind {
            PermitKind::Creation(ticket) => self.breaker.is_valid(ticket),
            // Its failures count for the pause.
            PermitKind::Probe => health != CreationHealth::Lost,
            PermitKind::Page => false,
            PermitKind::ReadProbe(ticket) => {
                if health == CreationHealth::Unknown {
                    self.breaker.page_dropped(ticket, now);
                }
                false
            }
        };
        let sent = sent.filter(|_| counts);
        let (loss_changed, is_streak_over) = self.record_in_flight(sent, health, now);
        let PermitKind::Creation(ticket) = admitted.kind else { return None };
        let was_closed = self.breaker.is_closed();
        let breaker_changed = self.breaker.record(ticket, health, now);
        if !was_closed && self.breaker.is_closed() {
            self.in_flight.end_streak();
        }
        if is_streak_over && self.breaker.is_closed() {
            self.breaker.open_after_losses(self.in_flight.losses_in_a_row(now), now);
        }
        if !self.breaker.is_closed() {
            self.in_flight.restrict();
        }
        breaker_changed.map(gate_changed).or(loss_changed)
    }

    /// Returns what to log, and whether the streak of losses has cost what it may.
    fn record_in_flight(
        &mut self,
        sent: Option<SentCreation>,
        health: CreationHealth,
        now: Instant,
    ) -> (Option<GateChanged>, bool) {
        match (sent, health) {
            (None, _) | (_, CreationHealth::Unknown) => (None, false),
            (Some(creation), CreationHealth::Good | CreationHealth::Slow) => {
                self.in_flight.answered(creation, now);
                (self.loss_log.answered(), false)
            }
            (Some(creation), CreationHealth::Lost) => {
                let is_streak_over = self.in_flight.lost(creation, now);
                (self.loss_log.lost(self.in_flight.losses_in_a_row(now), now), is_streak_over)
            }
        }
    }

    fn probe_dropped(&mut self, admitted: Admitted, now: Instant) {
        if let (Some(pause), PermitKind::Probe) = (&mut self.pause, admitted.kind) {
            pause.probe_dropped(now);
        }
    }

    /// The API answered, which ends the pause if the request was its probe and the reason is gone. It says nothing
    /// about creations, so a circuit breaker tries one. Returns what to log.
    fn probe_reached(&mut self, admitted: Admitted, now: Instant) -> Option<GateChanged> {
        if admitted.kind != PermitKind::Probe {
            return None;
        }
        let pause = self.pause.take_if(|pause| admitted.request.is_creation() || pause.ends_with_page());
        let Some(pause) = pause else {
            self.probe_dropped(admitted, now);
            return None;
        };
        self.pauses_ended += 1;
        if !pause.may_lose_links() {
            self.breaker.reached(now);
        }
        pause.logged_reason().map(|_| GateChanged::Resumed)
    }

    /// Ends the pause if the request was its probe. Returns what to log.
    fn end_pause(&mut self, admitted: Admitted) -> Option<GateChanged> {
        if admitted.kind != PermitKind::Probe {
            return None;
        }
        let pause = self.pause.take()?;
        self.pauses_ended += 1;
        // The failures before the pause may have had the same cause.
        if !self.breaker.is_closed() {
            self.in_flight.end_streak();
        }
        let breaker_changed = self.breaker.reset();
        match pause.logged_reason() {
            Some(_) => Some(GateChanged::Resumed),
            None => breaker_changed.map(gate_changed),
        }
    }
}

const fn gate_changed(changed: BreakerChanged) -> GateChanged {
    match changed {
        BreakerChanged::Opened { failures, requests, open_for } => {
            GateChanged::CircuitOpened { failures, requests, open_for }
        }
        BreakerChanged::Closed => GateChanged::CircuitClosed,
    }
}
