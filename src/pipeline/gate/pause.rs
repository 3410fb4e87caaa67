//! Pause: an account problem stops all requests but one probe at growing intervals. Pure: time is passed in.
//!
//! | event | probe is due | probe is in flight | probe is in flight, then retry |
//! | --- | --- | --- | --- |
//! | the due time is reached | in flight | | |
//! | an operator resumes | due now | in flight, then retry | in flight, then retry |
//! | the probe is refused or unanswered | | due after twice the interval | due now, first interval |
//! | the probe is dropped unsent | | due now | due now |
//! | another request is refused for another reason | due after the interval | no change | no change |
//! | the probe's answer is about a job | | the pause ends | the pause ends |
//!
//! What is logged:
//!
//! | event | not logged yet | logged for this reason | logged for another reason |
//! | --- | --- | --- | --- |
//! | a request is refused, not by a page | paused | | |
//! | a request is answered by a page | | | |
//! | the probe is refused | paused | still paused, if an operator asked | paused |
//!
//! A page is an answer by something other than the API, for example a gateway: HTML, a refusal in another shape, or
//! 421. One page among good answers is not logged: only the probe shows whether the API is down.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::AccountReason;
use crate::domain::answer::UnreachableReason;
use crate::pipeline::gate::request::{DELETE_DELAY, ProbeDelays, Request};
use crate::pipeline::wait_until::WaitUntil;
use crate::telemetry::GateChanged;

/// Delay from a page to the first probe. Short, because a single page is a gateway's hiccup.
pub(super) const PROBE_AFTER_PAGE: Duration = Duration::from_millis(250);

/// How long a creation leaves the probe to a page of the user list where a creation may lose its link.
pub(super) const PAGE_FIRST: Duration = Duration::from_millis(50);

/// From this many unanswered probes in a row on, the reason of the pause is that there is no answer.
const UNANSWERED_MAX: u32 = 2;

/// When probes are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeSchedule {
    /// Delay from the start of a pause to the first probe.
    pub initial: Duration,
    /// Longest delay between probes. Each failed probe doubles the delay up to this.
    pub max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// The next probe may be sent from this time on.
    DueAt(Instant),
    /// It has its permit, and no result yet.
    InFlight,
    /// An operator resumed while it was in flight: the next probe follows at once.
    InFlightThenRetry,
}

/// Whether the pause was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PauseLog {
    NotLogged,
    LoggedFor(AccountReason),
}

/// Whether an operator resumed and has no result yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum OperatorRequest {
    #[default]
    None,
    WaitsForProbe,
}

/// What the partner refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PauseScope {
    /// Only pages of the user list were refused, so a page that can be read ends the pause.
    UserListOnly,
    /// Creations, perhaps pages too.
    Creations,
}

/// What a pause admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PauseAdmission {
    Probe,
    /// A page of the user list: the list is free, so it can be read without a balance.
    Page,
}

/// A pause that has begun and not ended.
#[derive(Debug)]
pub(super) struct Pause {
    schedule: ProbeSchedule,
    reason: AccountReason,
    probe: Probe,
    interval: Duration,
    log: PauseLog,
    operator: OperatorRequest,
    scope: PauseScope,
    /// Probes in a row without an answer.
    unanswered: u32,
}

impl Pause {
    /// Begins a pause because a request was refused. Returns what to log.
    pub(super) fn begin(
        schedule: ProbeSchedule,
        reason: AccountReason,
        request: Request,
        now: Instant,
    ) -> (Self, Option<GateChanged>) {
        let interval = if is_page(reason) { PROBE_AFTER_PAGE } else { schedule.initial };
        let mut pause = Self {
            schedule,
            reason,
            probe: Probe::DueAt(now + interval),
            interval,
            log: PauseLog::NotLogged,
            operator: OperatorRequest::None,
            scope: PauseScope::UserListOnly,
            unanswered: 0,
        };
        pause.set_reason(reason, request);
        let changed = (!is_page(reason)).then(|| pause.log_for(reason));
        (pause, changed)
    }

    pub(super) fn logged_reason(&self) -> Option<AccountReason> {
        match self.log {
            PauseLog::NotLogged => None,
            PauseLog::LoggedFor(_) => Some(self.reason),
        }
    }

    /// Returns whether pages of the user list may be read.
    pub(super) fn admits_pages(&self) -> bool {
        self.reason == AccountReason::PaymentRequired
    }

    /// Returns whether a page that can be read proves that the reason is gone. Where creations may lose their links,
    /// it ends the pause too: from then on the circuit breaker and the in-flight limit decide.
    pub(super) const fn ends_with_page(&self) -> bool {
        matches!(self.scope, PauseScope::UserListOnly)
            || matches!(self.reason, AccountReason::Unreachable(_))
            || self.may_lose_links()
    }

    /// Returns whether a creation that gets the same answer again may lose its link.
    pub(super) const fn may_lose_links(&self) -> bool {
        self.reason.may_have_created()
    }

    /// Returns whether a page of the user list is the probe, unless no page is read. If pages fail until the interval
    /// is the longest, a creation is the probe: perhaps only the list is down.
    fn reads_page_first(&self) -> bool {
        self.may_lose_links() && self.interval < self.schedule.max
    }

    /// Admits a request, as the probe if one is due. `delays`: how long it leaves the probe to others.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn admit(
        &mut self,
        request: Request,
        delays: ProbeDelays,
        now: Instant,
    ) -> Result<PauseAdmission, WaitUntil> {
        if request == Request::Read && self.admits_pages() {
            return Ok(PauseAdmission::Page);
        }
        let is_deletion = matches!(request, Request::Delete(_));
        let reads_page_first = self.reads_page_first();
        let delay = match self.reason {
            // A deletion is free, so it would show nothing, unless deletions alone were refused.
            AccountReason::PaymentRequired if is_deletion && self.scope == PauseScope::Creations => {
                return Err(WaitUntil::Change);
            }
            _ if is_deletion => DELETE_DELAY,
            // That costs no link, and perhaps one job alone gets it.
            AccountReason::Unreachable(UnreachableReason::NotProcessed) => delays.probe,
            // A network that comes back may still lose the answer.
            AccountReason::Unreachable(_) => delays.probe.max(delays.trial),
            // So may a gateway.
            _ if reads_page_first => delays.probe.max(delays.trial),
            _ => delays.probe,
        };
        let delay = if reads_page_first && request.is_creation() { delay.max(PAGE_FIRST) } else { delay };
        match self.probe {
            Probe::DueAt(_) if request == Request::ReadProbe && !reads_page_first => Err(WaitUntil::Change),
            Probe::DueAt(at) if at + delay <= now => {
                self.probe = Probe::InFlight;
                Ok(PauseAdmission::Probe)
            }
            Probe::DueAt(at) => Err(WaitUntil::Time(at + delay)),
            Probe::InFlight | Probe::InFlightThenRetry => Err(WaitUntil::Change),
        }
    }

    /// A request that is not the probe was refused: it was sent before the pause began. Returns what to log.
    pub(super) fn refused(&mut self, reason: AccountReason, request: Request, now: Instant) -> Option<GateChanged> {
        if reason == self.reason || is_page(reason) {
            return None;
        }
        self.unanswered = 0;
        self.set_reason(reason, request);
        if self.log == PauseLog::NotLogged {
            self.interval = self.schedule.initial;
        }
        if matches!(self.probe, Probe::DueAt(_)) {
            self.probe = Probe::DueAt(now + self.interval);
        }
        match self.log {
            PauseLog::NotLogged => Some(self.log_for(reason)),
            // The probe will show which of the reasons holds.
            PauseLog::LoggedFor(_) => None,
        }
    }

    /// The probe was refused. Returns what to log.
    pub(super) fn probe_refused(
        &mut self,
        reason: AccountReason,
        request: Request,
        now: Instant,
    ) -> Option<GateChanged> {
        self.unanswered = 0;
        self.probe_failed(reason, request, now)
    }

    /// The probe had no answer, which says nothing about the account at first. Returns what to log.
    pub(super) fn probe_unanswered(&mut self, request: Request, now: Instant) -> Option<GateChanged> {
        self.unanswered += 1;
        // For a page that is read as a probe, "no answer" includes an answer by something other than the API.
        let reason = if self.unanswered >= UNANSWERED_MAX && request != Request::ReadProbe {
            AccountReason::Unreachable(UnreachableReason::NoAnswer)
        } else {
            self.reason
        };
        self.probe_failed(reason, request, now)
    }

    /// The probe was not sent, or proves nothing: another request may be the probe.
    pub(super) const fn probe_dropped(&mut self, now: Instant) {
        self.probe = Probe::DueAt(now);
    }

    /// An operator resumes: a probe is sent at once.
    pub(super) const fn resume(&mut self, now: Instant) {
        self.interval = self.schedule.initial;
        self.operator = OperatorRequest::WaitsForProbe;
        self.probe = match self.probe {
            Probe::DueAt(_) => Probe::DueAt(now),
            // It was sent before the operator changed anything.
            Probe::InFlight | Probe::InFlightThenRetry => Probe::InFlightThenRetry,
        };
    }

    fn probe_failed(&mut self, reason: AccountReason, request: Request, now: Instant) -> Option<GateChanged> {
        self.set_reason(reason, request);
        let operator = if self.probe == Probe::InFlightThenRetry {
            self.interval = self.schedule.initial;
            self.probe = Probe::DueAt(now);
            // The next probe is the one that answers the operator.
            OperatorRequest::None
        } else {
            self.interval = (self.interval * 2).min(self.schedule.max);
            self.probe = Probe::DueAt(now + self.interval);
            std::mem::take(&mut self.operator)
        };
        if self.log != PauseLog::LoggedFor(reason) {
            return Some(self.log_for(reason));
        }
        (operator == OperatorRequest::WaitsForProbe).then_some(GateChanged::StillPaused(reason))
    }

    fn set_reason(&mut self, reason: AccountReason, request: Request) {
        self.reason = reason;
        if request.is_creation() {
            self.scope = PauseScope::Creations;
        }
    }

    const fn log_for(&mut self, reason: AccountReason) -> GateChanged {
        self.log = PauseLog::LoggedFor(reason);
        GateChanged::Paused(reason)
    }
}

fn is_page(reason: AccountReason) -> bool {
    reason.may_be_chance()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Lane;

    const SCHEDULE: ProbeSchedule = ProbeSchedule { initial: Duration::from_secs(2), max: Duration::from_secs(7) };
    const CREATE: Request = Request::Create(Lane::Bulk);

    fn begin(reason: AccountReason, now: Instant) -> (Pause, Option<GateChanged>) {
        Pause::begin(SCHEDULE, reason, CREATE, now)
    }

    /// A pause whose probe is in flight, and the time.
    fn probing(reason: AccountReason) -> (Pause, Instant) {
        let (mut pause, _) = begin(reason, Instant::now());
        let Probe::DueAt(now) = pause.probe else { unreachable!("a pause begins without a probe") };
        assert_eq!(pause.admit(CREATE, ProbeDelays::default(), now), Ok(PauseAdmission::Probe));
        (pause, now)
    }

    #[tokio::test]
    async fn one_probe_at_a_time_is_admitted_when_it_is_due() {
        let now = Instant::now();
        let (mut pause, changed) = begin(AccountReason::Unauthorized, now);
        assert_eq!(changed, Some(GateChanged::Paused(AccountReason::Unauthorized)));
        let due = now + SCHEDULE.initial;
        let delay = Duration::from_millis(100);
        assert_eq!(pause.admit(CREATE, ProbeDelays::default(), now), Err(WaitUntil::Time(due)));
        assert_eq!(pause.admit(CREATE, delay.into(), due), Err(WaitUntil::Time(due + delay)));
        assert_eq!(pause.admit(CREATE, delay.into(), due + delay), Ok(PauseAdmission::Probe));
        assert_eq!(pause.admit(CREATE, ProbeDelays::default(), due + delay), Err(WaitUntil::Change));
    }

    #[tokio::test]
    async fn each_event_moves_the_probe_as_the_table_says() {
        type Event = fn(&mut Pause, Instant) -> Option<GateChanged>;
        let resume: Event = |pause, now| {
            pause.resume(now);
            None
        };
        let fails: Event = |pause, now| pause.probe_refused(AccountReason::Forbidden, CREATE, now);
        let dropped: Event = |pause, now| {
            pause.probe_dropped(now);
            None
        };
        let other: Event = |pause, now| pause.refused(AccountReason::PaymentRequired, CREATE, now);
        let (_, now) = probing(AccountReason::Forbidden);
        let second = |n| Probe::DueAt(now + Duration::from_secs(n));
        let table = [
            (second(1), resume, second(0)),
            (second(1), other, second(2)),
            (Probe::InFlight, resume, Probe::InFlightThenRetry),
            (Probe::InFlight, fails, second(4)),
            (Probe::InFlight, dropped, second(0)),
            (Probe::InFlight, other, Probe::InFlight),
            (Probe::InFlightThenRetry, resume, Probe::InFlightThenRetry),
            (Probe::InFlightThenRetry, fails, second(0)),
            (Probe::InFlightThenRetry, dropped, second(0)),
            (Probe::InFlightThenRetry, other, Probe::InFlightThenRetry),
        ];
        for (row, (before, event, after)) in table.into_iter().enumerate() {
            let (mut pause, _) = probing(AccountReason::Forbidden);
            pause.probe = before;
            event(&mut pause, now);
            assert_eq!(pause.probe, after, "row {row}");
        }
    }

    #[tokio::test]
    async fn each_refusal_is_logged_as_the_table_says() {
        use AccountReason::{NotTheApi, PaymentRequired, Unauthorized};
        let now = Instant::now();
        assert_eq!(begin(NotTheApi, now).1, None);
        let (mut pause, _) = begin(NotTheApi, now);
        assert_eq!(pause.refused(NotTheApi, CREATE, now), None);
        assert_eq!(pause.refused(Unauthorized, CREATE, now), Some(GateChanged::Paused(Unauthorized)));
        assert_eq!(pause.refused(PaymentRequired, CREATE, now), None);
        assert_eq!(pause.logged_reason(), Some(PaymentRequired));
        let (mut pause, now) = probing(Unauthorized);
        assert_eq!(pause.probe_refused(Unauthorized, CREATE, now), None);
        assert_eq!(pause.probe_refused(NotTheApi, CREATE, now), Some(GateChanged::Paused(NotTheApi)));
        pause.resume(now);
        assert_eq!(pause.probe_refused(NotTheApi, CREATE, now), Some(GateChanged::StillPaused(NotTheApi)));
        assert_eq!(pause.probe_refused(NotTheApi, CREATE, now), None);
    }

    #[tokio::test]
    async fn the_second_unanswered_probe_changes_the_reason() {
        let (mut pause, now) = probing(AccountReason::Unauthorized);
        let no_answer = AccountReason::Unreachable(UnreachableReason::NoAnswer);
        assert_eq!(pause.probe_unanswered(CREATE, now), None);
        assert_eq!(pause.probe_unanswered(CREATE, now), Some(GateChanged::Paused(no_answer)));
        assert_eq!(pause.logged_reason(), Some(no_answer));
    }

    #[tokio::test]
    async fn a_page_ends_a_pause_of_the_list_only_and_of_the_network() {
        use AccountReason::{Forbidden, Unreachable};
        let now = Instant::now();
        let begin = |reason, request| Pause::begin(SCHEDULE, reason, request, now).0;
        let mut list_only = begin(Forbidden, Request::Read);
        assert!(list_only.ends_with_page());
        list_only.refused(AccountReason::Unauthorized, CREATE, now);
        assert!(!list_only.ends_with_page());
        assert!(!begin(Forbidden, CREATE).ends_with_page());
        assert!(begin(Unreachable(UnreachableReason::Dns), CREATE).ends_with_page());
    }
}
