//! Stops the work when its outcomes aren't what was planned, before thousands of rows are burnt.
//!
//! The last outcomes are watched: too large a share of rejected or of existing users halts. A canary is the same look at
//! the first rows, which go alone. Only jobs that were sent count: a row that validation refuses costs nothing.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::domain::answer::looks_like_a_code;
use crate::domain::{Event, EventType, Lane};

/// What halting does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HaltAction {
    /// The worker stops.
    Stop,
    /// Bulk jobs wait until somebody says to go on; people who sign up are neither counted nor held up.
    HoldBulk,
}

/// When to halt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HaltPolicy {
    /// How many outcomes are looked at; before there are so many, nothing is concluded. Bounds memory.
    pub window: usize,
    /// Share of rejected and failed jobs, from 0 to 1, over which it halts. 1: never.
    pub rejected_share: f64,
    /// The same for users who were there before.
    pub existing_share: f64,
    /// How many jobs go first and alone. 0: none.
    pub canary: usize,
    /// What halting does.
    pub halt_action: HaltAction,
    /// Whether the queue may forget that a job was given out, as a broker does that is killed: then a job that was sent
    /// unknown to it needn't be another run's.
    pub queue_forgets: bool,
}

impl HaltPolicy {
    /// Never halts.
    pub(crate) const NEVER: Self = Self {
        window: 1,
        rejected_share: 1.0,
        existing_share: 1.0,
        canary: 0,
        halt_action: HaltAction::HoldBulk,
        queue_forgets: false,
    };
}

/// What the outcomes looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutcomeMix {
    /// How many jobs ended so.
    pub outcomes: Vec<(EventType, u64)>,
    /// Errors by field and code, the most frequent first.
    pub clusters: Vec<(String, u64)>,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The canary went well.
    CanaryWell(OutcomeMix),
    /// It halted.
    Halted(OutcomeMix),
}

/// An outcome, reduced to what is counted.
struct Seen {
    outcome: EventType,
    cluster: Option<String>,
}

#[derive(Default)]
struct State {
    recent: VecDeque<Seen>,
    is_halted: bool,
}

/// See the module.
pub(crate) struct Halt {
    policy: HaltPolicy,
    state: Mutex<State>,
    /// The canary's; closed once everybody may go.
    canary_permits: Semaphore,
    notice: watch::Sender<Option<Notice>>,
}

impl fmt::Debug for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Halt").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The right of a job to go before the look at the canary. Given back where the job was never sent.
#[derive(Debug)]
#[must_use]
pub(crate) struct CanaryPermit<'h>(Option<SemaphorePermit<'h>>);

impl CanaryPermit<'_> {
    /// The job was sent: the seat is nobody else's.
    pub(crate) fn use_up(self) {
        if let Some(permit) = self.0 {
            permit.forget();
        }
    }
}

impl Halt {
    /// Nothing has been seen yet.
    pub(crate) fn new(policy: HaltPolicy) -> Self {
        let canary_permits = Semaphore::new(policy.canary);
        if policy.canary == 0 {
            canary_permits.close();
        }
        Self { policy, state: Mutex::default(), canary_permits, notice: watch::Sender::new(None) }
    }

    /// What halting does.
    pub(crate) const fn halt_action(&self) -> HaltAction {
        self.policy.halt_action
    }

    /// Whether the first jobs are still alone.
    pub(crate) fn is_canary_on_its_way(&self) -> bool {
        !self.canary_permits.is_closed()
    }

    /// Waits until the job may go: at once for one that was sent before, and for every one after the canary. Cancel-safe.
    pub(crate) async fn canary_permit(&self, was_sent: bool) -> CanaryPermit<'_> {
        CanaryPermit(if was_sent { None } else { self.canary_permits.acquire().await.ok() })
    }

    /// The last thing that was told.
    pub(crate) fn notices(&self) -> watch::Receiver<Option<Notice>> {
        self.notice.subscribe()
    }

    /// Notes an outcome. `is_repeat`: the same row was sent a moment ago and nobody here knows of it. That was another
    /// run, and counts like a user who was there; but see [`HaltPolicy::queue_forgets`].
    /// What is new about it is also told to [`Self::notices`].
    pub(crate) fn record(&self, lane: Lane, event: &Event, is_repeat: bool) -> Option<Notice> {
        let is_spared = self.policy.halt_action == HaltAction::HoldBulk && lane == Lane::Signup;
        if event.attempts == 0 || is_spared {
            return None;
        }
        let seen = if is_repeat && !self.policy.queue_forgets {
            Seen { outcome: EventType::Existing, cluster: Some(REPEAT.to_owned()) }
        } else {
            Seen { outcome: event.event_type, cluster: cluster(event) }
        };
        let notice = self.see(seen)?;
        self.notice.send_replace(Some(notice.clone()));
        Some(notice)
    }

    /// Somebody says to go on: what was seen so far doesn't halt again.
    pub(crate) fn clear(&self) {
        *self.lock() = State::default();
        self.canary_permits.close();
    }

    fn see(&self, seen: Seen) -> Option<Notice> {
        let is_canary = self.is_canary_on_its_way();
        let size = if is_canary { self.policy.canary } else { self.policy.window };
        let mut state = self.lock();
        if state.is_halted {
            return None;
        }
        state.recent.push_back(seen);
        if state.recent.len() < size {
            return None;
        }
        while state.recent.len() > size {
            state.recent.pop_front();
        }
        if self.is_too_bad(&state.recent) {
            state.is_halted = true;
            return Some(Notice::Halted(mix(&state.recent)));
        }
        is_canary.then(|| {
            self.canary_permits.close();
            Notice::CanaryWell(mix(&state.recent))
        })
    }

    fn is_too_bad(&self, recent: &VecDeque<Seen>) -> bool {
        let share = |outcomes: &[EventType]| {
            let count = recent.iter().filter(|seen| outcomes.contains(&seen.outcome)).count();
            count as f64 / recent.len() as f64
        };
        share(&[EventType::Rejected, EventType::Failed]) > self.policy.rejected_share
            || share(&[EventType::Existing]) > self.policy.existing_share
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster of rows that another run sent.
const REPEAT: &str = "sent minutes ago by another run, and told as created";

/// Field and code of the first problem. The API's own words stay out: they may hold personal data.
fn cluster(event: &Event) -> Option<String> {
    let problem = event.errors.first()?;
    let code = if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" };
    Some(problem.field.as_ref().map_or_else(|| code.to_owned(), |field| format!("{field}: {code}")))
}

fn mix(recent: &VecDeque<Seen>) -> OutcomeMix {
    let count = |outcome| recent.iter().filter(|seen| seen.outcome == outcome).count() as u64;
    let outcomes = EventType::ALL.map(|outcome| (outcome, count(outcome)));
    let mut clusters: HashMap<&String, u64> = HashMap::new();
    for seen in recent.iter().filter_map(|seen| seen.cluster.as_ref()) {
        *clusters.entry(seen).or_default() += 1;
    }
    let mut clusters: Vec<(String, u64)> = clusters.into_iter().map(|(name, count)| (name.clone(), count)).collect();
    clusters.sort_by(|(name_a, a), (name_b, b)| b.cmp(a).then_with(|| name_a.cmp(name_b)));
    OutcomeMix { outcomes: outcomes.into_iter().filter(|(_, count)| *count > 0).collect(), clusters }
}

/// Clusters that are shown.
const SHOWN_MAX: usize = 10;

impl fmt::Display for OutcomeMix {
    /// `18 created, 2 rejected (2 x USER_BLACKLISTED)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes: Vec<_> =
            self.outcomes.iter().map(|(outcome, count)| format!("{count} {}", outcome.short())).collect();
        f.write_str(&outcomes.join(", "))?;
        let mut clusters: Vec<_> =
            self.clusters.iter().take(SHOWN_MAX).map(|(name, count)| format!("{count} x {name}")).collect();
        if self.clusters.len() > SHOWN_MAX {
            clusters.push(format!("{} more kinds", self.clusters.len() - SHOWN_MAX));
        }
        if clusters.is_empty() { Ok(()) } else { write!(f, " ({})", clusters.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Identity;
    use crate::domain::{Field, IdempotencyKey, Outcome, Problem, Timestamp};

    const POLICY: HaltPolicy = HaltPolicy {
        window: 4,
        rejected_share: 0.5,
        existing_share: 0.75,
        canary: 0,
        halt_action: HaltAction::Stop,
        queue_forgets: false,
    };

    fn event(outcome: Outcome, attempts: u32) -> Event {
        let key = IdempotencyKey::of_canonical(b"somebody");
        Event::of(outcome, Identity::default(), key, attempts, Timestamp::from_unix_ms(0))
    }

    fn created() -> Event {
        event(Outcome::Created { service_id: "a-user-1".to_owned(), verification_url: None, recovered: false }, 1)
    }

    fn existing() -> Event {
        event(Outcome::Existing { service_id: None }, 1)
    }

    fn rejected(problem: Problem) -> Event {
        event(Outcome::Rejected(vec![problem]), 1)
    }

    fn blacklisted() -> Event {
        rejected(Problem::whole("USER_BLACKLISTED", "jane@example.com is blacklisted"))
    }

    fn told(halt: &Halt, events: &[Event]) -> Option<Notice> {
        events.iter().fold(None, |_, event| halt.record(Lane::Bulk, event, false))
    }

    #[test]
    fn too_many_rejected_among_the_last_halt_once_and_are_clustered_by_field_and_code() {
        let halt = Halt::new(POLICY);
        let invalid = rejected(Problem::of(Field::Email, "INVALID_EMAIL", "no"));
        assert_eq!(told(&halt, &[created(), blacklisted(), created(), blacklisted()]), None, "half is not over half");
        let Some(Notice::Halted(mix)) = told(&halt, &[invalid]) else { unreachable!("three of the last four") };
        assert_eq!(mix.to_string(), "1 created, 3 rejected (2 x USER_BLACKLISTED, 1 x email: INVALID_EMAIL)");
        assert_eq!(told(&halt, &[blacklisted()]), None, "told once");
    }

    #[test]
    fn a_file_that_was_run_before_halts_too() {
        let halt = Halt::new(POLICY);
        assert_eq!(told(&halt, &[created(), existing(), existing(), existing()]), None);
        assert!(matches!(told(&halt, &[existing()]), Some(Notice::Halted(_))));
        halt.clear();
        assert_eq!(told(&halt, &[existing(), existing(), existing()]), None, "a new window begins");
        let Some(Notice::Halted(mix)) = halt.record(Lane::Bulk, &created(), true) else {
            unreachable!("all four were there")
        };
        assert_eq!(mix.to_string(), "4 existing (1 x sent minutes ago by another run, and told as created)");
    }

    #[test]
    fn a_worker_whose_broker_forgot_what_it_had_given_out_goes_on() {
        let halt = Halt::new(HaltPolicy { queue_forgets: true, ..POLICY });
        assert!((0..10).all(|_| halt.record(Lane::Bulk, &created(), true).is_none()));
    }

    #[test]
    fn the_text_of_the_api_is_in_no_cluster() {
        let halt = Halt::new(POLICY);
        let wordy = rejected(Problem::whole("Jane is not welcome", "Jane is not welcome"));
        let notice = told(&halt, &[wordy.clone(), wordy.clone(), wordy.clone(), wordy]);
        assert!(format!("{notice:?}").contains("OTHER") && !format!("{notice:?}").contains("Jane"), "{notice:?}");
    }

    #[test]
    fn rows_that_were_not_sent_and_people_who_sign_up_at_a_worker_do_not_count() {
        let halt = Halt::new(HaltPolicy { halt_action: HaltAction::HoldBulk, ..POLICY });
        let unsent = event(Outcome::Rejected(vec![Problem::whole("INVALID_EMAIL", "no")]), 0);
        for _ in 0..10 {
            assert_eq!(halt.record(Lane::Bulk, &unsent, false), None);
            assert_eq!(halt.record(Lane::Signup, &blacklisted(), false), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_canary_goes_alone_and_everybody_follows_when_it_went_well() {
        let halt = Halt::new(HaltPolicy { canary: 2, ..POLICY });
        let waits = async |was_sent| {
            tokio::time::timeout(std::time::Duration::from_secs(1), halt.canary_permit(was_sent)).await
        };
        let (first, second) = (halt.canary_permit(false).await, halt.canary_permit(false).await);
        assert!(waits(false).await.is_err());
        assert!(waits(true).await.is_ok(), "who was sent before is part of it");
        // Put back unsent: another takes the seat.
        drop(first);
        let third = waits(false).await.unwrap();
        second.use_up();
        third.use_up();
        assert!(waits(false).await.is_err());
        assert_eq!(told(&halt, &[created()]), None);
        assert!(matches!(told(&halt, &[blacklisted()]), Some(Notice::CanaryWell(_))));
        waits(false).await.unwrap().use_up();
        waits(false).await.unwrap().use_up();
    }

    #[tokio::test(start_paused = true)]
    async fn a_canary_that_did_not_go_well_halts_before_anybody_follows() {
        let halt = Halt::new(HaltPolicy { canary: 1, ..POLICY });
        halt.canary_permit(false).await.use_up();
        assert!(matches!(told(&halt, &[blacklisted()]), Some(Notice::Halted(_))));
        let next = tokio::time::timeout(std::time::Duration::from_secs(3_600), halt.canary_permit(false)).await;
        assert!(next.is_err());
    }
}
