//! Send gate: decides whether requests to the partner may be sent. Every request waits here for its permit.
//!
//! | state | what is sent | it opens |
//! | --- | --- | --- |
//! | open | everything, at the rate limit | |
//! | throttled (429) | nothing | at the time that `Retry-After` or the backoff gives |
//! | paused (account problem, API not reachable) | one probe at growing intervals | on the first answer about a job |
//! | circuit open (links are being lost, or answers are late) | pages of the user list at growing intervals; then one creation | when the creation is answered |
//! | halted (too many bad outcomes) | signups and look-ups | when an operator resumes |
//!
//! No user is created while events can't be published ([`Gate::set_event_sink_open`]): a worker that died then would
//! lose the verification links.
//!
//! A worker sends its first request alone, so that a revoked key costs one request instead of a full window.
//!
//! An open gate still limits how many creations are in flight: fewer when they are lost in a row ([`in_flight_limit`]).
//!
//! | file | holds |
//! | --- | --- |
//! | `first_request`, `throttle`, `pause`, `breaker` | one state machine each; time is passed in |
//! | `in_flight_limit`, `loss_log` | how many creations may be in flight; whether to log losses |
//! | `inner` | their composition, time passed in too |
//! | this file | the mutex around it, waiting, and permits |
//!
//! **Invariant:** a closed gate never uses up an attempt of a job.

pub(crate) mod breaker;
mod first_request;
mod in_flight_limit;
mod inner;
mod loss_log;
mod pause;
mod request;
mod throttle;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::breaker::BreakerPolicy;
pub(crate) use self::inner::GateState;
use self::inner::{Admitted, GateInner};
pub(crate) use self::pause::ProbeSchedule;
pub(crate) use self::request::{ProbeDelays, Request};
use crate::domain::AccountReason;
use crate::telemetry::GateChanged;

/// The send gate of a worker.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Mutex<GateInner>,
    changed: Notify,
}

/// Permit to send one request. Its holder reports the result of the request, which consumes the permit. A permit that
/// is dropped counts as not sent.
#[derive(Debug)]
#[must_use]
pub(crate) struct SendPermit<'g> {
    gate: &'g Gate,
    admitted: Admitted,
    is_reported: bool,
}

impl Gate {
    /// Returns an open gate. `in_flight_max`: most creations in flight.
    pub(crate) fn new(schedule: ProbeSchedule, breaker: BreakerPolicy, in_flight_max: usize) -> Self {
        let inner = GateInner::new(schedule, breaker, in_flight_max, Instant::now());
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Sends the next request alone.
    #[must_use]
    pub(crate) fn with_first_request_alone(self) -> Self {
        self.lock().expect_first_request();
        self
    }

    /// Returns the state now.
    pub(crate) fn state(&self) -> GateState {
        self.lock().state(Instant::now())
    }

    /// Returns how many pauses have ended. If the number has grown, creations worked in between.
    pub(crate) fn pauses_ended(&self) -> u64 {
        self.lock().pauses_ended()
    }

    /// Returns how many creations in a row were lost, if they are too many to be chance: links are being lost.
    pub(crate) fn links_being_lost(&self) -> Option<usize> {
        self.lock().links_being_lost(Instant::now())
    }

    /// Returns how many creations may be in flight now.
    pub(crate) fn in_flight_allowed(&self) -> usize {
        self.lock().in_flight_allowed(Instant::now())
    }

    /// Waits until a request may be sent, apart from the room for it ([`SendPermit::wait_for_room`]). `delays`: how
    /// long it leaves a probe to others. Cancel-safe.
    pub(crate) async fn wait_for_permit(&self, request: Request, delays: impl Into<ProbeDelays>) -> SendPermit<'_> {
        let delays = delays.into();
        loop {
            let changed = self.changed.notified();
            let admission = self.lock().admit(request, delays, Instant::now());
            match admission {
                Ok(admitted) => return SendPermit { gate: self, admitted, is_reported: false },
                Err(until) => until.wait(changed).await,
            }
        }
    }

    /// Waits until a request may be sent.
    #[cfg(test)]
    pub(crate) async fn permit(&self, request: Request) -> SendPermit<'_> {
        self.wait_for_permit(request, ProbeDelays::default()).await
    }

    /// Sends nothing for as long as a 429 advises. Without advice, `backoff` gives the wait for the number of 429s in a
    /// row; answers to requests that were sent before the first of them count once. Returns the wait if it is to be
    /// logged.
    pub(crate) fn throttle(&self, advice: Option<Duration>, backoff: impl FnOnce(u32) -> Duration) -> Option<Duration> {
        self.change(|inner, now| inner.throttle(advice, backoff, now))
    }

    /// Holds creations while events can't be published.
    pub(crate) fn set_event_sink_open(&self, is_open: bool) {
        self.change(|inner, _| inner.set_event_sink_open(is_open));
    }

    /// Holds bulk jobs until an operator [resumes](Self::resume).
    pub(crate) fn halt(&self) {
        self.change(|inner, _| inner.halt());
    }

    /// An operator resumes: a halt ends, and a probe is sent at once. Returns whether it was halted.
    pub(crate) fn resume(&self) -> bool {
        self.change(GateInner::resume)
    }

    /// Changes the state and wakes every request that waits for a permit.
    fn change<T>(&self, change: impl FnOnce(&mut GateInner, Instant) -> T) -> T {
        let result = change(&mut self.lock(), Instant::now());
        self.changed.notify_waiters();
        result
    }

    fn lock(&self) -> MutexGuard<'_, GateInner> {
        // Every critical section leaves the state consistent, so a panic elsewhere doesn't matter here.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendPermit<'_> {
    /// Returns whether the request may still be sent: the gate may have closed while it waited for the rate limiter.
    pub(crate) fn is_valid(&self) -> bool {
        self.gate.lock().is_valid(self.admitted, Instant::now())
    }

    /// Returns whether the request may still be sent and the in-flight limit has room for it.
    pub(crate) fn is_valid_with_room(&self) -> bool {
        let (mut inner, now) = (self.gate.lock(), Instant::now());
        inner.is_valid(self.admitted, now) && inner.has_room(self.admitted, now)
    }

    /// Waits until the in-flight limit has room, or the request may not be sent any more. Cancel-safe.
    pub(crate) async fn wait_for_room(&self) {
        loop {
            let changed = self.gate.changed.notified();
            if !self.is_valid() || self.is_valid_with_room() {
                return;
            }
            changed.await;
        }
    }

    /// Returns whether the request finds out if the account or the API works again. Its failure isn't the job's.
    pub(crate) const fn is_trial(&self) -> bool {
        self.admitted.is_trial()
    }

    /// Reports that the request is sent now. The result is still to be reported; until then a creation is in flight.
    pub(crate) fn sent(&mut self) {
        self.gate.change(|inner, now| inner.sent(&mut self.admitted, now));
    }

    /// Reports an answer about a job: the account works, and the API too unless the answer took too long.
    pub(crate) fn answered(self, is_slow: bool) -> Option<GateChanged> {
        self.report(|inner, admitted, now| inner.answered(admitted, is_slow, now))
    }

    /// Reports a page of the user list: the API can be reached.
    pub(crate) fn page_read(self) -> Option<GateChanged> {
        self.report(GateInner::page_read)
    }

    /// Reports a 429: the account works. [`Gate::throttle`] is called separately.
    pub(crate) fn throttled(self) -> Option<GateChanged> {
        self.report(GateInner::throttled)
    }

    /// Reports that there was no answer.
    pub(crate) fn unanswered(self) -> Option<GateChanged> {
        self.report(GateInner::unanswered)
    }

    /// Reports an answer about the account: the gate pauses.
    pub(crate) fn refused(self, reason: AccountReason) -> Option<GateChanged> {
        self.report(|inner, admitted, now| inner.refused(admitted, reason, now))
    }

    fn report<T>(mut self, result: impl FnOnce(&mut GateInner, Admitted, Instant) -> T) -> T {
        self.is_reported = true;
        self.gate.change(|inner, now| result(inner, self.admitted, now))
    }
}

impl Drop for SendPermit<'_> {
    fn drop(&mut self) {
        if !self.is_reported {
            self.gate.change(|inner, now| inner.dropped(self.admitted, now));
        }
    }
}

#[cfg(test)]
mod tests;
