//! In-flight limit: how many creations may be in flight, so that an outage costs few links. Pure: time is passed in.
//!
//! A creation without an answer may have created a user whose link is lost, and no link can be requested again. So what
//! counts is how many creations are lost *in a row*, whatever share of all requests they are.
//!
//! | event | losses in a row | in flight at most |
//! | --- | --- | --- |
//! | a creation is lost, the first one | a streak begins | no change |
//! | another one is lost | the streak grows | half as many, down to one |
//! | a creation is answered | the streak ends | [`REGAINED`] more, up to the setting |
//! | as many are lost as a streak may cost | the circuit breaker opens | one |
//!
//! A streak may cost the links of the creations that were in flight when the outage began and [`LOSSES_MORE`], but no
//! more than the largest number of creations in flight. So where connections break, new creations find out whether the
//! API works again; where they hang, no new creation takes the slot of one that timed out.
//!
//! A creation that takes much longer than the others counts as lost until it is answered: with a time limit of half a
//! minute, the first timeout comes when all slots hang.
//!
//! **Invariant:** no creation is sent if the losses in a row and the creations in flight together are as many as the
//! streak may cost.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What a streak may cost beyond the creations that were in flight when the outage began. An API that loses every tenth
/// answer at random loses as many in a row once in 10,000 creations that are sent one after the other; that costs a
/// page of the user list.
const LOSSES_MORE: usize = 4;

/// How many more creations may be in flight after each answer. With one, an API that loses every tenth answer at random
/// would be used at 0.93 of the allowed number on average; with four at 0.98 or more.
const REGAINED: usize = 4;

/// A creation that takes this many times the median counts as lost. Answers of an API vary by less.
const OVERDUE_FACTOR: u32 = 10;

/// No creation counts as lost sooner: a garbage collection or a fail-over on the other side takes up to a second.
const OVERDUE_MIN: Duration = Duration::from_secs(1);

/// A streak is forgotten this long after its last loss if nothing is in flight: the queue is empty, and no link is
/// being lost.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Losses in a row that are too many to be chance: if every tenth answer is lost at random, one creation in a thousand
/// begins a streak of this length.
pub(super) const LOSING_FROM: usize = 3;

/// Limits the creations in flight.
#[derive(Debug)]
pub(super) struct InFlightLimit {
    /// Most creations in flight: `worker.concurrency`.
    most: usize,
    /// What may be in flight when no streak lasts.
    allowed: usize,
    /// The creations in flight by their numbers, in the order of sending.
    in_flight: BTreeMap<u64, SentCreation>,
    /// Number of creations that were sent.
    sent: u64,
    answer_times: AnswerTimes,
    last_answer_at: Option<Instant>,
    streak: Option<LossStreak>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SentCreation {
    at: Instant,
    /// Creations that were in flight then, without this one.
    others: usize,
}

/// Losses in a row.
#[derive(Debug, Clone, Copy)]
struct LossStreak {
    /// Losses that are certain. Creations that take too long are counted when they are asked for.
    lost: usize,
    /// How many it may cost.
    lost_max: usize,
    last_loss_at: Instant,
}

impl InFlightLimit {
    /// `most`: most creations in flight.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            allowed: most,
            in_flight: BTreeMap::new(),
            sent: 0,
            answer_times: AnswerTimes::default(),
            last_answer_at: None,
            streak: None,
        }
    }

    /// Returns whether one more creation may be sent.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        self.forget_old_streak(now);
        let in_flight = self.in_flight.len();
        let first_overdue = self.overdue(now).next().copied();
        if let (None, Some(first)) = (&self.streak, first_overdue) {
            self.begin_streak(first, in_flight, now);
        }
        let is_affordable = self.streak.is_none_or(|streak| streak.lost + in_flight < streak.lost_max);
        is_affordable && in_flight < self.allowed(now)
    }

    /// A creation is sent. Returns its number.
    pub(super) fn sent(&mut self, now: Instant) -> u64 {
        self.sent += 1;
        self.in_flight.insert(self.sent, SentCreation { at: now, others: self.in_flight.len() });
        self.sent
    }

    /// A creation is no longer in flight.
    pub(super) fn ended(&mut self, number: u64) -> Option<SentCreation> {
        self.in_flight.remove(&number)
    }

    /// A creation that [ended](Self::ended) was answered.
    pub(super) fn answered(&mut self, creation: SentCreation, now: Instant) {
        self.allowed = (self.allowed(now) + REGAINED).min(self.most);
        self.streak = None;
        self.last_answer_at = Some(now);
        self.answer_times.add(now.saturating_duration_since(creation.at));
    }

    /// A creation that [ended](Self::ended) was lost. Returns whether the streak has cost what it may.
    pub(super) fn lost(&mut self, creation: SentCreation, now: Instant) -> bool {
        self.forget_old_streak(now);
        if self.streak.is_none() {
            self.begin_streak(creation, self.in_flight.len() + 1, now);
        }
        self.streak.as_mut().is_some_and(|streak| {
            streak.lost += 1;
            streak.last_loss_at = now;
            streak.lost >= streak.lost_max
        })
    }

    /// The API is known to work again, though no creation was answered.
    pub(super) const fn end_streak(&mut self) {
        self.streak = None;
    }

    /// Allows one creation at a time, until it is answered.
    pub(super) const fn restrict(&mut self) {
        self.allowed = 1;
    }

    /// Returns the losses since the last answer, creations that take too long included.
    pub(super) fn losses_in_a_row(&self, now: Instant) -> usize {
        let streak = self.streak.filter(|streak| !self.is_old(streak, now));
        streak.map_or(0, |streak| streak.lost) + self.overdue(now).count()
    }

    /// Returns what may be in flight.
    pub(super) fn allowed(&self, now: Instant) -> usize {
        let halvings = u32::try_from(self.losses_in_a_row(now).saturating_sub(1)).unwrap_or(u32::MAX);
        self.allowed.checked_shr(halvings).unwrap_or(0).max(1)
    }

    /// `in_flight`: creations in flight, the first loss included.
    fn begin_streak(&mut self, first: SentCreation, in_flight: usize, now: Instant) {
        // If answers were lost from some request on, `others` were in flight then. If all requests in flight were lost
        // at once, all of them still are.
        let in_flight_at_begin = first.others.min(in_flight);
        let lost_max = (in_flight_at_begin + LOSSES_MORE).min(self.most.max(LOSSES_MORE));
        self.streak = Some(LossStreak { lost: 0, lost_max, last_loss_at: now });
    }

    fn forget_old_streak(&mut self, now: Instant) {
        if self.streak.is_some_and(|streak| self.is_old(&streak, now)) {
            self.streak = None;
        }
    }

    fn is_old(&self, streak: &LossStreak, now: Instant) -> bool {
        self.in_flight.is_empty() && now.saturating_duration_since(streak.last_loss_at) >= FORGOTTEN_AFTER
    }

    /// Returns the creations in flight that have become overdue since the last answer.
    fn overdue(&self, now: Instant) -> impl Iterator<Item = &SentCreation> {
        // With too few answers, nothing is overdue.
        let overdue_after = self.answer_times.overdue_after().unwrap_or(Duration::MAX);
        let became_overdue = move |creation: &SentCreation| creation.at.checked_add(overdue_after);
        let overdue = self.in_flight.values().take_while(move |it| became_overdue(it).is_some_and(|at| at <= now));
        overdue.filter(move |it| self.last_answer_at.is_none_or(|answered_at| became_overdue(it) > Some(answered_at)))
    }
}

/// How long the last answers took.
#[derive(Debug, Default)]
struct AnswerTimes {
    last: [Duration; Self::KEPT],
    /// Number of answers.
    count: usize,
    overdue_after: Option<Duration>,
}

impl AnswerTimes {
    /// Answers whose median counts.
    const KEPT: usize = 15;

    /// With fewer answers, nothing is overdue.
    const WANTED: usize = 5;

    fn add(&mut self, took: Duration) {
        self.last[self.count % Self::KEPT] = took;
        self.count += 1;
        let known = self.count.min(Self::KEPT);
        if known >= Self::WANTED {
            let mut sorted = self.last;
            let (_, median, _) = sorted[..known].select_nth_unstable(known / 2);
            self.overdue_after = Some((*median * OVERDUE_FACTOR).max(OVERDUE_MIN));
        }
    }

    /// Returns after which time a creation counts as lost; `None`: there were too few answers.
    const fn overdue_after(&self) -> Option<Duration> {
        self.overdue_after
    }
}

#[cfg(test)]
mod tests;
