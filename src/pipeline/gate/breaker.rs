//! The circuit breaker: whether an API that answers badly is to be left alone. Pure: time is passed in.
//!
//! ```text
//! closed ── too large a share of failures in the window ──> open
//!   ^                                                        │ open_for, doubling up to open_for_max
//!   └──── enough trials are answered well ── half-open <─────┘
//!                                                └── too many trials fail ──> open
//! ```
//!
//! A failure is a request without a definite answer (timeout, lost connection, 5xx) or one that took too long. Answers
//! about a job, the pace or the account are no failures: the API works, or the gate is closed for another reason.
//!
//! It opens for too large a share of failures in the window. Where there are too few answers in it for a share to say
//! anything, as with a short queue or a slow pace, it opens for some failures in a row, unless they came all at once: then
//! more answers are about to come.
//!
//! Trials that all fare alike decide at once. Where some are answered and some aren't, more of them leave, and the same
//! share decides that opened it: an API that loses half of its answers is worked with, and doesn't have to be lucky for that.
//!
//! **Invariant:** an answer counts only towards the state in which its request left.

use std::time::Duration;

use tokio::time::Instant;

/// When the breaker opens and closes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakerPolicy {
    /// How far back answers count.
    pub window: Duration,
    /// Answers in the window below which their share says nothing.
    pub requests_min: u32,
    /// Failures without a good answer in between, from which on it opens where there are fewer answers than that.
    pub failures_in_a_row: u32,
    /// Share of failures among them, from 0 to 1, from which on it opens. Over 1: never, for failures in a row neither.
    pub failure_share: f64,
    /// An answer that took longer counts as a failure.
    pub slow_after: Duration,
    /// From opening to the first trials.
    pub open_for: Duration,
    /// Each failed trial doubles that up to this.
    pub open_for_max: Duration,
    /// So many trials that fare alike close it, or open it anew. At least 1.
    pub trials: u32,
}

impl BreakerPolicy {
    /// The defaults of the settings: an API that loses every third answer is worked with, a dead one is left alone.
    #[cfg(test)]
    pub(crate) const DEFAULT: Self = Self {
        window: Duration::from_secs(30),
        requests_min: 20,
        failures_in_a_row: 5,
        failure_share: 0.7,
        slow_after: Duration::from_secs(20),
        open_for: Duration::from_secs(5),
        open_for_max: Duration::from_secs(60),
        trials: 3,
    };

    /// How many trials decide, where so many were answered well and badly so far.
    const fn trials_wanted(&self, good: u32, bad: u32) -> u32 {
        if good == 0 || bad == 0 { self.trials } else { self.trials * TRIALS_MIXED }
    }
}

/// What a request was let through as; goes back with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakerTicket {
    /// How often the state had changed.
    era: u64,
    /// Whether it is one of the few that try the API while the breaker is half-open.
    pub is_trial: bool,
}

/// What the answer to a request says about the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Answered in time.
    Good,
    /// Not answered, or too late.
    Bad,
    /// Nothing; a trial must be repeated.
    Unknown,
}

/// The breaker changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerChanged {
    /// It opened.
    Opened {
        /// Failures in the window, or in a row.
        failures: u32,
        /// Answers in the window, or those in a row.
        requests: u32,
    },
    /// It closed.
    Closed,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant, pause: Duration },
    HalfOpen { in_flight: u32, good: u32, bad: u32, pause: Duration },
}

/// Where trials fare differently, so many times as many decide.
const TRIALS_MIXED: u32 = 4;

/// Failures in a row that came within less time than this say nothing: they may be one hiccup that met all that were on their
/// way, and whoever sends so fast has enough answers for a share in a moment.
const IN_A_ROW_FOR: Duration = Duration::from_secs(2);

/// Parts of the window: it moves on by one of them at a time.
const PARTS: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    number: u64,
    requests: u32,
    failures: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    policy: BreakerPolicy,
    origin: Instant,
    parts: [Part; PARTS],
    failures_in_a_row: u32,
    /// When the first of those was noted.
    in_a_row_since: Instant,
    state: State,
    era: u64,
}

impl CircuitBreaker {
    /// A closed breaker.
    pub(crate) fn new(policy: BreakerPolicy, now: Instant) -> Self {
        Self {
            policy,
            origin: now,
            parts: [Part::default(); PARTS],
            failures_in_a_row: 0,
            in_a_row_since: now,
            state: State::Closed,
            era: 0,
        }
    }

    /// Whether it keeps requests back, but for trials.
    pub(crate) const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// Lets a request through, or says when to ask again (`None`: when something has changed).
    ///
    /// # Errors
    /// It has to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<BreakerTicket, Option<Instant>> {
        match &mut self.state {
            State::Closed => Ok(BreakerTicket { era: self.era, is_trial: false }),
            State::Open { until, .. } if now < *until => Err(Some(*until)),
            State::Open { pause, .. } => {
                self.state = State::HalfOpen { in_flight: 1, good: 0, bad: 0, pause: *pause };
                self.era += 1;
                Ok(BreakerTicket { era: self.era, is_trial: true })
            }
            State::HalfOpen { in_flight, good, bad, .. }
                if *in_flight + *good + *bad < self.policy.trials_wanted(*good, *bad) =>
            {
                *in_flight += 1;
                Ok(BreakerTicket { era: self.era, is_trial: true })
            }
            State::HalfOpen { .. } => Err(None),
        }
    }

    /// Until when nothing at all may leave, trials included.
    pub(crate) fn closed_to_all_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } if now < until => Some(until),
            _ => None,
        }
    }

    /// Whether a request that was let through may still leave.
    pub(crate) const fn is_valid(&self, ticket: BreakerTicket) -> bool {
        ticket.era == self.era
    }

    /// Notes what came of a request.
    pub(crate) fn record(&mut self, ticket: BreakerTicket, health: Health, now: Instant) -> Option<BreakerChanged> {
        if ticket.era != self.era {
            return None;
        }
        match &mut self.state {
            State::Closed => self.count(health, now),
            State::Open { .. } => None,
            State::HalfOpen { in_flight, good, bad, pause } => {
                *in_flight = in_flight.saturating_sub(1);
                match health {
                    Health::Unknown => return None,
                    Health::Good => *good += 1,
                    Health::Bad => *bad += 1,
                }
                let answered = *good + *bad;
                if answered < self.policy.trials_wanted(*good, *bad) {
                    return None;
                }
                if f64::from(*bad) < self.policy.failure_share * f64::from(answered) {
                    self.close();
                    return Some(BreakerChanged::Closed);
                }
                let pause = (*pause * 2).min(self.policy.open_for_max);
                self.open(pause, now);
                None
            }
        }
    }

    /// The API is known to work: forgets everything. Whether it was open.
    pub(crate) fn reset(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.close();
        }
        was_open
    }

    /// Somebody believes that it works again: trials may leave at once.
    pub(crate) fn try_now(&mut self, now: Instant) {
        if let State::Open { until, pause } = &mut self.state {
            (*until, *pause) = (now, self.policy.open_for);
        }
    }

    fn count(&mut self, health: Health, now: Instant) -> Option<BreakerChanged> {
        if health == Health::Unknown {
            return None;
        }
        let part_length = (self.policy.window / PARTS as u32).max(Duration::from_millis(1));
        let number = (now.saturating_duration_since(self.origin).as_nanos() / part_length.as_nanos()) as u64;
        let part = &mut self.parts[(number % PARTS as u64) as usize];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part.requests += 1;
        part.failures += u32::from(health == Health::Bad);
        let current = self.parts.iter().filter(|part| part.number + PARTS as u64 > number);
        let (requests, failures) = current.fold((0, 0), |(r, f), part| (r + part.requests, f + part.failures));
        if self.failures_in_a_row == 0 {
            self.in_a_row_since = now;
        }
        self.failures_in_a_row = if health == Health::Bad { self.failures_in_a_row + 1 } else { 0 };
        let (is_dead, failures, requests) = if requests >= self.policy.requests_min {
            (f64::from(failures) >= self.policy.failure_share * f64::from(requests), failures, requests)
        } else {
            let in_a_row = self.failures_in_a_row;
            let is_off = self.policy.failure_share > 1.0;
            let lasts = now.saturating_duration_since(self.in_a_row_since) >= IN_A_ROW_FOR;
            (!is_off && lasts && in_a_row >= self.policy.failures_in_a_row, in_a_row, in_a_row)
        };
        is_dead.then(|| {
            self.open(self.policy.open_for, now);
            BreakerChanged::Opened { failures, requests }
        })
    }

    fn open(&mut self, pause: Duration, now: Instant) {
        self.state = State::Open { until: now + pause, pause };
        self.era += 1;
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.parts = [Part::default(); PARTS];
        self.failures_in_a_row = 0;
        self.era += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        window: Duration::from_secs(10),
        requests_min: 4,
        // Its own test.
        failures_in_a_row: 100,
        failure_share: 0.5,
        open_for: Duration::from_secs(5),
        open_for_max: Duration::from_secs(15),
        trials: 2,
        ..BreakerPolicy::DEFAULT
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A breaker that these answers met, one a second, and what the last one changed.
    fn after(answers: &[Health]) -> (CircuitBreaker, Instant, Option<BreakerChanged>) {
        let mut now = Instant::now();
        let mut breaker = CircuitBreaker::new(POLICY, now);
        let mut changed = None;
        for health in answers {
            now += seconds(1);
            let ticket = breaker.admit(now).unwrap();
            changed = breaker.record(ticket, *health, now);
        }
        (breaker, now, changed)
    }

    use Health::{Bad, Good};

    #[tokio::test]
    async fn it_opens_from_a_share_of_failures_on_and_not_before_there_are_enough_answers() {
        assert_eq!(after(&[Bad, Bad, Bad]).2, None);
        assert_eq!(after(&[Good, Bad, Good, Good, Bad]).2, None);
        let (breaker, _, changed) = after(&[Good, Bad, Good, Bad]);
        assert_eq!(changed, Some(BreakerChanged::Opened { failures: 2, requests: 4 }));
        assert!(breaker.is_open());
    }

    #[tokio::test]
    async fn a_few_failures_in_a_row_open_it_where_there_are_too_few_answers_unless_they_came_all_at_once() {
        let policy = BreakerPolicy { failures_in_a_row: 3, requests_min: 100, ..POLICY };
        let changes = |answers: &[Health], apart: Duration| {
            let mut now = Instant::now();
            let mut breaker = CircuitBreaker::new(policy, now);
            let mut record = |health| {
                now += apart;
                let ticket = breaker.admit(now).unwrap();
                breaker.record(ticket, health, now)
            };
            answers.iter().map(|health| record(*health)).collect::<Vec<_>>()
        };
        let opened = Some(BreakerChanged::Opened { failures: 3, requests: 3 });
        for apart in [seconds(1), seconds(100)] {
            assert_eq!(changes(&[Good, Bad, Bad, Bad], apart), [None, None, None, opened]);
            assert_eq!(changes(&[Bad, Bad, Good, Bad, Bad], apart), [None; 5], "a good answer in between");
            assert_eq!(changes(&[Bad, Bad, Health::Unknown, Bad], apart), [None, None, None, opened]);
        }
        let at_once = changes(&[Bad; 99], Duration::from_millis(1));
        assert!(at_once.iter().all(Option::is_none), "so many were on their way in one hiccup");
        // Where there are enough answers, a burst of failures among many good ones is none of its business.
        let burst = [[Good; 100].as_slice(), &[Bad; 50]].concat();
        assert!(changes(&burst, Duration::from_millis(1)).iter().all(Option::is_none));
    }

    #[tokio::test]
    async fn failures_before_it_closed_do_not_count_towards_the_next_ones_in_a_row() {
        let policy = BreakerPolicy { failures_in_a_row: 2, requests_min: 100, trials: 1, ..POLICY };
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new(policy, now);
        let mut record = |health, at| {
            let ticket = breaker.admit(at).unwrap();
            breaker.record(ticket, health, at)
        };
        assert_eq!((record(Bad, now), record(Bad, now + seconds(2)).is_some()), (None, true));
        let later = now + seconds(7);
        assert_eq!(record(Good, later), Some(BreakerChanged::Closed));
        assert_eq!((record(Bad, later), record(Bad, later + seconds(2)).is_some()), (None, true));
    }

    #[tokio::test]
    async fn what_is_older_than_the_window_does_not_count() {
        let (mut breaker, now, _) = after(&[Bad, Bad, Bad]);
        let later = now + seconds(11);
        let ticket = breaker.admit(later).unwrap();
        assert_eq!(breaker.record(ticket, Bad, later), None);
    }

    #[tokio::test]
    async fn nothing_leaves_an_open_breaker_before_its_time_and_then_only_trials() {
        let (mut breaker, now, _) = after(&[Bad, Bad, Bad, Bad]);
        assert_eq!(breaker.admit(now + seconds(4)), Err(Some(now + seconds(5))));
        let later = now + seconds(5);
        let trials = [breaker.admit(later).unwrap(), breaker.admit(later).unwrap()];
        assert!(trials.iter().all(|trial| trial.is_trial));
        assert_eq!(breaker.admit(later), Err(None));
        assert_eq!(breaker.record(trials[0], Good, later), None);
        assert_eq!(breaker.admit(later), Err(None), "one good answer is not enough, and no third trial is needed");
        assert_eq!(breaker.record(trials[1], Good, later), Some(BreakerChanged::Closed));
        assert!(!breaker.admit(later).unwrap().is_trial);
    }

    #[tokio::test]
    async fn each_failed_trial_waits_longer_up_to_a_limit() {
        let (mut breaker, mut now, _) = after(&[Bad, Bad, Bad, Bad]);
        now += seconds(5);
        for pause in [10, 15, 15] {
            let trials = [breaker.admit(now).unwrap(), breaker.admit(now).unwrap()];
            let told = trials.map(|trial| breaker.record(trial, Bad, now));
            assert_eq!(told, [None; 2], "it was open already");
            assert_eq!(breaker.admit(now), Err(Some(now + seconds(pause))));
            now += seconds(pause);
        }
    }

    #[tokio::test]
    async fn trials_that_fare_differently_are_followed_by_more_and_their_share_decides() {
        for (bad_in_all, closes) in [(3, true), (4, false)] {
            let (mut breaker, now, _) = after(&[Bad, Bad, Bad, Bad]);
            let later = now + seconds(5);
            let mut told = Vec::new();
            for n in 0..8 {
                assert!(breaker.is_open() && told.iter().all(Option::is_none), "decided by {n} of 8");
                let trial = breaker.admit(later).unwrap();
                // The first fails, the second doesn't.
                let health = if n == 0 || (2..=bad_in_all).contains(&n) { Bad } else { Good };
                told.push(breaker.record(trial, health, later));
            }
            assert_eq!((told[7] == Some(BreakerChanged::Closed), breaker.is_open()), (closes, !closes));
        }
    }

    #[tokio::test]
    async fn an_api_that_loses_three_answers_in_five_is_worked_with_and_a_dead_one_is_not() {
        // 50 answers a second for ten minutes, as they leave while it is closed or for a trial.
        let answered = |lost_percent: u64| {
            let mut rng = fastrand::Rng::with_seed(lost_percent);
            let mut now = Instant::now();
            let mut breaker = CircuitBreaker::new(BreakerPolicy::DEFAULT, now);
            let mut answered = 0;
            for _ in 0..30_000 {
                now += Duration::from_millis(20);
                let Ok(ticket) = breaker.admit(now) else { continue };
                let health = if rng.u64(0..100) < lost_percent { Bad } else { Good };
                breaker.record(ticket, health, now);
                answered += 1;
            }
            answered
        };
        assert!(answered(33) == 30_000 && answered(60) > 27_000, "{} {}", answered(33), answered(60));
        assert!(answered(100) < 100, "{}", answered(100));
    }

    #[tokio::test]
    async fn a_trial_that_says_nothing_is_repeated() {
        let (mut breaker, now, _) = after(&[Bad, Bad, Bad, Bad]);
        let later = now + seconds(5);
        let (first, _second) = (breaker.admit(later).unwrap(), breaker.admit(later).unwrap());
        assert_eq!(breaker.record(first, Health::Unknown, later), None);
        assert!(breaker.admit(later).unwrap().is_trial);
    }

    #[tokio::test]
    async fn answers_to_requests_of_an_earlier_state_say_nothing() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new(POLICY, now);
        let tickets: Vec<BreakerTicket> = (0..8).map(|_| breaker.admit(now).unwrap()).collect();
        let opened = tickets.iter().filter_map(|ticket| breaker.record(*ticket, Bad, now)).count();
        assert_eq!(opened, 1, "told once");
        let later = now + seconds(5);
        let trial = breaker.admit(later).unwrap();
        assert_eq!(breaker.record(tickets[7], Good, later), None);
        assert!(breaker.is_open() && breaker.is_valid(trial) && !breaker.is_valid(tickets[0]));
    }

    #[tokio::test]
    async fn whoever_says_that_it_works_again_is_believed_enough_for_a_trial() {
        let (mut breaker, now, _) = after(&[Bad, Bad, Bad, Bad]);
        breaker.try_now(now);
        assert!(breaker.admit(now).unwrap().is_trial);
    }
}
