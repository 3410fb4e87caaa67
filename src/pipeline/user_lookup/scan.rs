//! The user list scan: one pass over the list that answers all look-ups that wait.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ScanProgress;
use super::coverage::ScanCoverage;
use super::digest::EmailDigest;
use super::page_reader::{ListRefusals, read_page};
use super::pending::PendingLookups;
use crate::domain::decide::{FoundUser, LookUpResult};
use crate::pipeline::Context;
use crate::ports::{PartnerApi, UserList, UserListPage};
use crate::telemetry::{ScanFinished, ScanProgressed};

/// How long to wait for more look-ups before a scan: after a crash, many come at once.
const GATHER_FOR: Duration = Duration::from_millis(100);

/// How often a running scan is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Scans the list whenever a look-up needs it. Never returns; drop the future to stop.
pub(crate) async fn scan_on_demand<A: PartnerApi + UserList>(context: &Context<A>) {
    let mut refusals = ListRefusals::default();
    loop {
        context.look_up.requested.notified().await;
        sleep(GATHER_FOR).await;
        let pending = context.look_up.take_pending();
        if !pending.is_empty() {
            let waiting = pending.len();
            let mut scan = Scan::new(pending);
            let result = scan.read_list(context, &mut refusals).await;
            scan.finish(context, result, waiting);
        }
    }
}

/// A scan that is running.
struct Scan {
    began: Instant,
    /// Look-ups requested before the scan began. If it reads the whole list, the rest of them are missing.
    early: PendingLookups,
    /// Look-ups requested since. Pages to come may answer them, but the scan can't prove their users missing.
    late: PendingLookups,
    coverage: ScanCoverage,
    pages: u64,
}

impl Scan {
    fn new(pending: PendingLookups) -> Self {
        Self {
            began: Instant::now(),
            early: pending,
            late: PendingLookups::default(),
            coverage: ScanCoverage::default(),
            pages: 0,
        }
    }

    /// Reads pages until all early look-ups are answered or the list ends.
    ///
    /// With late look-ups only, it reads on if that takes fewer pages than were read already: for them alone, the list
    /// would be read again from the start.
    async fn read_list<A: PartnerApi + UserList>(
        &mut self,
        context: &Context<A>,
        refusals: &mut ListRefusals,
    ) -> Result<(), &'static str> {
        let mut logged_at = self.began;
        let mut is_half_read = false;
        while !self.early.is_empty() || is_half_read && !self.late.is_empty() {
            let UserListPage { users, unusable, total } =
                read_page(context, self.coverage.skip, &self.early, refusals).await?;
            self.pages += 1;
            let users: Vec<(EmailDigest, FoundUser)> =
                users.into_iter().map(|(email, user)| (EmailDigest::of(&email), user)).collect();
            let digests: Vec<EmailDigest> = users.iter().map(|(digest, _)| *digest).collect();
            self.add_pending(context.look_up.take_pending());
            self.answer_found(context, users);
            if self.coverage.record_page(&digests, unusable, total)? {
                break;
            }
            let read = self.coverage.skip;
            is_half_read = total.saturating_sub(read) <= read;
            context.look_up.lock().progress = Some(ScanProgress { read, total });
            if logged_at.elapsed() >= LOG_EVERY {
                logged_at = Instant::now();
                ScanProgressed { read, total, waiting: self.early.len() }.emit();
            }
        }
        Ok(())
    }

    /// Adds look-ups that came during the scan. One that was requested before the scan began belongs to a job that was
    /// redelivered meanwhile: the scan has looked for its user all the time.
    fn add_pending(&mut self, pending: PendingLookups) {
        for (digest, waiters) in pending {
            let is_early = self.early.contains(&digest);
            let (early, late): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|waiter| is_early && waiter.since() <= self.began);
            if early.is_empty() || !late.is_empty() {
                self.late.add(digest, late);
            }
            if !early.is_empty() {
                self.early.add(digest, early);
            }
        }
    }

    /// Answers the look-ups of users on a page, and remembers the users.
    fn answer_found<A>(&mut self, context: &Context<A>, users: Vec<(EmailDigest, FoundUser)>) {
        let mut state = context.look_up.lock();
        for (digest, user) in users {
            let result = LookUpResult::User(user.clone());
            for pending in [&mut self.early, &mut self.late] {
                if pending.answer(&digest, &result) {
                    state.interrupted.keep_answer(digest, self.began, &result);
                }
            }
            state.cache.insert(digest, user);
        }
    }

    /// Answers the early look-ups that are left, and leaves the late ones to the next scan.
    fn finish<A>(self, context: &Context<A>, result: Result<(), &'static str>, waiting: usize) {
        let Self { began, early, late, pages, .. } = self;
        let found = waiting - early.len();
        let rest = if result.is_ok() { LookUpResult::NotFound } else { LookUpResult::Unavailable };
        let mut state = context.look_up.lock();
        state.progress = None;
        for (digest, waiters) in early {
            waiters.into_iter().for_each(|waiter| waiter.answer(&rest));
            if rest == LookUpResult::NotFound {
                state.interrupted.keep_answer(digest, began, &rest);
            }
        }
        let cached = state.cache.len();
        drop(state);
        context.metrics.cached_users.set(i64::try_from(cached).unwrap_or(i64::MAX));
        context.look_up.defer(late);
        ScanFinished { result, pages, waiting, found }.emit(&context.metrics);
    }
}
