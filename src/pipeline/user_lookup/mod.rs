//! Looking users up by email: one sweep of the user list answers for all jobs that wait.
//!
//! The partner documents no filter by email and no order of the list. A sweep therefore reads page after page, from
//! the first on, until everybody is found or the list ends. Whoever was seen is remembered for a while (`cache`), so
//! that the next question about them needs no request. Requests of a sweep go through the same gate and the same pace
//! as creations.
//!
//! A list may take longer to read than a job may be kept in hand: `interrupted` remembers who asked.
//!
//! **Invariants:** a user is missing only when a sweep that *began* after the question has read the whole list
//! (`coverage`); there is one sweep at a time. Memory is bounded by the jobs in hand, of which each asks one question,
//! and by a few bytes a user of the list.

mod cache;
mod coverage;
mod interrupted;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use self::cache::Cache;
use self::coverage::ScanCoverage;
pub(crate) use self::interrupted::InterruptedLookup;
use self::interrupted::InterruptedLookups;
use crate::domain::decide::{Found, FoundUser, LookUpReason};
use crate::domain::private::debug_redacted;
use crate::domain::{AccountReason, Lane};
use crate::pipeline::Context;
use crate::pipeline::gate::Request;
use crate::ports::{ListError, Page, PartnerApi, UserList};
use crate::telemetry::{CacheLost, ListRefused, ScanFinished, ScanProgressed, Throttled};

/// Consecutive failures of one page after which a sweep is broken off.
const PAGE_FAILURES_MAX: u32 = 5;

/// How long a sweep whose page was refused leaves the next probe to creations, which say more.
const COURTESY: Duration = Duration::from_millis(100);

/// How often it is told that a sweep goes on.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How long a sweep waits for more questions before it begins: they come in bunches after a crash.
const GATHER: Duration = Duration::from_millis(100);

/// An email without its case, as a hash: emails are not kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Digest([u8; 16]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

impl Digest {
    /// Letter by letter, because lower case depends on a letter's neighbours in Greek only, where one letter has two
    /// lower cases.
    fn of(email: &str) -> Self {
        let folded: String =
            email.trim().chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c }).nfc().collect();
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(folded.as_bytes())[..16]);
        Self(digest)
    }

    fn half(&self) -> u32 {
        (self.prefix() >> 32) as u32
    }

    fn prefix(&self) -> u64 {
        self.0.iter().take(8).fold(0, |prefix, byte| prefix << 8 | u64::from(*byte))
    }
}

/// Somebody who waits for an answer.
struct LookupWaiter {
    answer: oneshot::Sender<Found>,
    /// When they asked.
    since: Instant,
}

/// The questions that wait. Ordered, so that a simulation repeats itself exactly. Without an asker: they will be back.
type PendingLookups = BTreeMap<Digest, Vec<LookupWaiter>>;

/// How far a sweep has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanProgress {
    /// Users read.
    pub read: u64,
    /// Users in the list.
    pub total: u64,
}

/// See the module.
pub(crate) struct UserLookup {
    waiting: Mutex<PendingLookups>,
    interrupted: Mutex<InterruptedLookups>,
    reading: Mutex<Option<ScanProgress>>,
    cache: Mutex<Cache>,
    asked: Notify,
}

debug_redacted!(UserLookup);

impl UserLookup {
    /// Nobody has been seen. Whoever will be is remembered for so long.
    pub(crate) fn new(keep_for: Duration) -> Self {
        Self {
            waiting: Mutex::default(),
            interrupted: Mutex::default(),
            reading: Mutex::default(),
            cache: Mutex::new(Cache::new(keep_for)),
            asked: Notify::new(),
        }
    }

    /// What the user list says about this email, as of a sweep that began no earlier than `since`. Waits for two sweeps at
    /// worst.
    pub(crate) async fn find(&self, email: &str, since: Instant) -> Found {
        let digest = Digest::of(email);
        if let Some(found) = self.interrupted().take_answer(&digest, since) {
            return found;
        }
        let (answer, answered) = oneshot::channel();
        self.lock().entry(digest).or_default().push(LookupWaiter { answer, since });
        self.asked.notify_one();
        answered.await.unwrap_or(Found::Unavailable)
    }

    /// The job has to go back to the queue before its look-up is over.
    pub(crate) fn interrupt(&self, key: Uuid, email: &str, reason: LookUpReason, since: Instant) {
        self.interrupted().leave(key, Digest::of(email), InterruptedLookup { reason, since });
    }

    /// The job is in hand again, and what it was interrupted in.
    pub(crate) fn resume(&self, key: Uuid) -> Option<InterruptedLookup> {
        self.interrupted().come_back(key)
    }

    /// How far a sweep has got that is going on.
    pub(crate) fn reading(&self) -> Option<ScanProgress> {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_reading(&self, reading: Option<ScanProgress>) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }

    /// Takes the questions that somebody still waits for, and answers those that need no request.
    fn take(&self) -> PendingLookups {
        let mut questions = std::mem::take(&mut *self.lock());
        questions.retain(|digest, askers| {
            askers.retain(|asker| !asker.answer.is_closed());
            if let Ok(Some(user)) = self.cache().find(digest) {
                tell(std::mem::take(askers), &Found::User(user));
            }
            !askers.is_empty() || self.interrupted().wants(digest)
        });
        questions
    }

    /// They came too late for the sweep that is over.
    fn requeue(&self, late: PendingLookups) {
        if late.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        for (digest, askers) in late {
            waiting.entry(digest).or_default().extend(askers);
        }
        drop(waiting);
        self.asked.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, PendingLookups> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupted(&self) -> MutexGuard<'_, InterruptedLookups> {
        self.interrupted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(askers: Vec<LookupWaiter>, found: &Found) {
    for asker in askers {
        // An asker that is gone was told to stop, or will be back.
        let _ = asker.answer.send(found.clone());
    }
}

/// Sweeps whenever somebody asks. Never returns; drop it to stop.
pub(crate) async fn scan_on_demand<A: PartnerApi + UserList>(context: &Context<A>) {
    let mut refusals = Refusals::default();
    loop {
        context.look_up.asked.notified().await;
        sleep(GATHER).await;
        let questions = context.look_up.take();
        if !questions.is_empty() {
            scan(context, questions, &mut refusals).await;
        }
    }
}

async fn scan<A: PartnerApi + UserList>(context: &Context<A>, mut questions: PendingLookups, refusals: &mut Refusals) {
    let (waiting, began) = (questions.len(), Instant::now());
    let (mut late, mut pages) = (PendingLookups::new(), 0);
    let result = read_list(context, began, &mut questions, &mut late, &mut pages, refusals).await;
    context.look_up.set_reading(None);
    let found = waiting - questions.len();
    let rest = if result.is_ok() { Found::Nobody } else { Found::Unavailable };
    for (digest, askers) in questions {
        tell(askers, &rest);
        if rest == Found::Nobody {
            context.look_up.interrupted().answer(digest, began, rest.clone());
        }
    }
    let cached = {
        let mut cache = context.look_up.cache();
        cache.settle();
        cache.len()
    };
    context.metrics.cached_users.set(i64::try_from(cached).unwrap_or(i64::MAX));
    context.look_up.requeue(late);
    ScanFinished { result, pages, waiting, found }.emit(&context.metrics);
}

/// Reads pages until nobody waits any more who did at the beginning. Whoever asks meanwhile (`late`) may be found too; for them the
/// rest is read where that is shorter than what was read, because for them alone it would all be read once more.
async fn read_list<A: PartnerApi + UserList>(
    context: &Context<A>,
    began: Instant,
    questions: &mut PendingLookups,
    late: &mut PendingLookups,
    pages: &mut u64,
    refusals: &mut Refusals,
) -> Result<(), &'static str> {
    let mut coverage = ScanCoverage::default();
    let mut told_at = began;
    let mut is_nearly_over = false;
    while !questions.is_empty() || is_nearly_over && !late.is_empty() {
        let Page { users, unusable, total } = read_page(context, coverage.skip, questions, refusals).await?;
        *pages += 1;
        let users: Vec<(Digest, FoundUser)> =
            users.into_iter().map(|(email, user)| (Digest::of(&email), user)).collect();
        for (digest, askers) in context.look_up.take() {
            // Who asked before it began, and is back, has been looked for all the time.
            let (early, others): (Vec<_>, Vec<_>) = askers.into_iter().partition(|asker| asker.since <= began);
            match questions.get_mut(&digest) {
                Some(asked) => asked.extend(early),
                None => late.entry(digest).or_default().extend(early),
            }
            late.entry(digest).or_default().extend(others);
        }
        for (digest, user) in &users {
            for asked in [&mut *questions, &mut *late] {
                let Some(askers) = asked.remove(digest) else { continue };
                tell(askers, &Found::User(user.clone()));
                context.look_up.interrupted().answer(*digest, began, Found::User(user.clone()));
            }
        }
        remember(context, &users, total);
        let digests: Vec<Digest> = users.into_iter().map(|(digest, _)| digest).collect();
        if coverage.page(&digests, unusable, total)? {
            break;
        }
        is_nearly_over = total.saturating_sub(coverage.skip) <= coverage.skip;
        context.look_up.set_reading(Some(ScanProgress { read: coverage.skip, total }));
        if told_at.elapsed() >= TELL_EVERY {
            told_at = Instant::now();
            ScanProgressed { read: coverage.skip, total, waiting: questions.len() }.emit();
        }
    }
    Ok(())
}

/// A cache that can't be written is given up: without it, there are only more requests.
fn remember<A: PartnerApi + UserList>(context: &Context<A>, users: &[(Digest, FoundUser)], total: u64) {
    let mut cache = context.look_up.cache();
    cache.expect(total);
    let written = users.iter().try_for_each(|(digest, user)| cache.insert(digest, user)).and_then(|()| cache.write());
    if let Err(error) = written {
        *cache = Cache::new(Duration::ZERO);
        CacheLost { error: &error }.emit();
    }
}

/// Reads one page, patiently: a pause or a throttled answer is waited out, for as long as anybody waits for an answer.
async fn read_page<A: PartnerApi + UserList>(
    context: &Context<A>,
    skip: u64,
    questions: &PendingLookups,
    refusals: &mut Refusals,
) -> Result<Page, &'static str> {
    let mut failures = 0;
    loop {
        let pass = context.gate.permit_after(Request::Read, refusals.courtesy()).await;
        // Behind a window full of bulk jobs each page would wait for minutes, and people who sign up with it.
        context.rate_limiter.turn(Lane::Signup).await;
        if !pass.is_valid() {
            continue;
        }
        pass.leaves();
        let page = context.api.page(skip).await;
        if !matches!(page, Err(ListError::Failed(_))) {
            failures = 0;
        }
        let transition = match page {
            Ok(page) => {
                if let Some(transition) = pass.page_came() {
                    transition.emit(&context.metrics);
                }
                refusals.are_over(context);
                return Ok(page);
            }
            // Unreachable is so for everybody.
            Err(ListError::Account(reason))
                if !matches!(reason, AccountReason::Unreachable(_)) && refusals.are_the_lists(context) =>
            {
                drop(pass);
                refusals.wait(context, reason).await;
                if questions.values().flatten().all(|asker| asker.answer.is_closed()) {
                    return Err(reason.code());
                }
                None
            }
            Err(ListError::Account(reason)) => pass.refused(reason),
            Err(ListError::Throttled(advice)) => {
                let news = context.gate.throttle(advice, |n| context.delay_before_attempt(n));
                if advice.is_none() {
                    context.rate_limiter.throttled();
                }
                Throttled { news, advised: advice.is_some() }.emit(&context.metrics);
                pass.throttled()
            }
            Err(ListError::Failed(reason)) => {
                let transition = pass.unanswered();
                failures += 1;
                if failures == PAGE_FAILURES_MAX {
                    return Err(reason);
                }
                sleep(context.delay_before_attempt(failures)).await;
                transition
            }
        };
        if let Some(transition) = transition {
            transition.emit(&context.metrics);
        }
    }
}

/// Answers about the account that pages got since the last one that came. The first one pauses the work like that to a creation. Where creations fare
/// well nevertheless, the list alone is refused, as with a key that may not read it: then nobody but those who must be
/// looked up waits for it. It is asked for at the intervals of probes.
#[derive(Default)]
struct Refusals {
    /// How often the gate had opened at the last of them.
    openings: Option<u64>,
    /// Between two of them, once the list alone is refused.
    interval: Option<Duration>,
}

impl Refusals {
    const fn courtesy(&self) -> Duration {
        if self.openings.is_some() { COURTESY } else { Duration::ZERO }
    }

    /// Notes one more. Whether creations fare well in between.
    fn are_the_lists<A>(&mut self, context: &Context<A>) -> bool {
        let now = context.gate.openings();
        self.openings.replace(now).is_some_and(|then| now > then) || self.interval.is_some()
    }

    async fn wait<A>(&mut self, context: &Context<A>, reason: AccountReason) {
        let probes = &context.policy.probes;
        if self.interval.is_none() {
            ListRefused(Some(reason)).emit(&context.metrics);
        }
        let interval = self.interval.map_or(probes.initial, |interval| (interval * 2).min(probes.max));
        self.interval = Some(interval);
        sleep(interval).await;
    }

    fn are_over<A>(&mut self, context: &Context<A>) {
        if std::mem::take(self).interval.is_some() {
            ListRefused(None).emit(&context.metrics);
        }
    }
}

#[cfg(test)]
mod tests;
