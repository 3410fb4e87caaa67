//! The user list scan: one pass over the list that answers all look-ups that wait.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ScanProgress;
use super::coverage::ScanCoverage;
use super::digest::EmailDigest;
use super::known_order::KnownOrder;
use super::page_reader::{PageReader, read_page};
use super::pending::{PendingLookUps, PendingUser};
use super::reading_plan::{NextPage, ReadingPlan};
use super::rows::{ListRow, ReadPage};
use crate::domain::decide::{FoundUser, LookUpResult, LookUpScope};
use crate::pipeline::Context;
use crate::ports::{PartnerApi, UserList, UserListPage};
use crate::telemetry::{ScanFinished, ScanProgressed};

/// How long to wait for more look-ups before a scan: after a crash, many come at once.
const GATHER_FOR: Duration = Duration::from_millis(100);

/// How often a running scan is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Scans the list whenever a look-up needs it. Never returns; drop the future to stop.
pub(crate) async fn scan_on_demand<A: PartnerApi + UserList>(context: &Context<A>) {
    let mut reader = PageReader::default();
    let mut known = KnownOrder::default();
    loop {
        context.look_up.requested.notified().await;
        sleep(GATHER_FOR).await;
        let pending = context.look_up.take_pending();
        if !pending.is_empty() {
            let mut scan = Scan::new(pending, &mut known);
            let result = scan.read_list(context, &mut reader).await;
            scan.finish(context, result);
        }
    }
}

/// A scan that is running.
struct Scan<'k> {
    began: Instant,
    /// Look-ups requested before the scan began. If it reads the whole list, the rest of them are missing.
    early: PendingLookUps,
    /// Look-ups requested since. Pages to come may answer them, but the scan can't prove their users missing.
    late: PendingLookUps,
    known: &'k mut KnownOrder,
    plan: ReadingPlan,
    coverage: ScanCoverage,
    pages: u64,
    waiting: usize,
    found: usize,
}

impl<'k> Scan<'k> {
    fn new(pending: PendingLookUps, known: &'k mut KnownOrder) -> Self {
        Self {
            began: Instant::now(),
            waiting: pending.len(),
            early: pending,
            late: PendingLookUps::default(),
            plan: ReadingPlan::new(known),
            known,
            coverage: ScanCoverage::default(),
            pages: 0,
            found: 0,
        }
    }

    /// Reads pages until all early look-ups are answered or the list ends. Returns whether the whole list was read.
    ///
    /// With late look-ups only, it reads on in an unsorted list if that takes fewer pages than were read already: for
    /// them alone, the list would be read again from the start.
    async fn read_list<A: PartnerApi + UserList>(
        &mut self,
        context: &Context<A>,
        reader: &mut PageReader,
    ) -> Result<bool, &'static str> {
        let mut logged_at = self.began;
        let mut is_half_read = false;
        while !self.early.is_empty() || is_half_read && !self.late.is_empty() {
            let skip = self.plan.next_skip();
            let page = read_page(context, skip, &self.early, reader).await?;
            self.pages += 1;
            let total = page.total;
            if self.record_page(context, skip, page)? == NextPage::Nothing {
                self.coverage.check_whole()?;
                return Ok(true);
            }
            self.answer_missing(context);
            let read = self.coverage.read();
            is_half_read = self.plan.order().is_none() && total.saturating_sub(read) <= read;
            context.look_up.lock().progress = Some(ScanProgress { read, total });
            if logged_at.elapsed() >= LOG_EVERY {
                logged_at = Instant::now();
                ScanProgressed { read, total, waiting: self.early.len() }.emit();
            }
        }
        Ok(false)
    }

    /// Answers the look-ups of users on the page, and remembers what it shows about the list.
    fn record_page<A>(
        &mut self,
        context: &Context<A>,
        skip: u64,
        page: UserListPage,
    ) -> Result<NextPage, &'static str> {
        let UserListPage { users, unusable, total, .. } = page;
        let users: Vec<(EmailDigest, FoundUser)> =
            users.into_iter().map(|(email, user)| (EmailDigest::of(&email), user)).collect();
        let digests: Vec<EmailDigest> = users.iter().map(|(digest, _)| *digest).collect();
        let readable = users.iter().map(|(digest, user)| (Some(*digest), user.created_at));
        let rows: Vec<ListRow> = readable
            .chain((0..unusable).map(|_| (None, None)))
            .map(|(digest, created_at)| ListRow { digest, created_at })
            .collect();
        self.add_pending(context.look_up.take_pending());
        self.answer_found(context, users);
        self.coverage.record_page(&digests, unusable, total)?;
        let page = ReadPage { skip, rows: &rows, total };
        self.known.compare(page);
        let next = self.plan.record(page)?;
        if next == NextPage::FromStart {
            self.coverage = ScanCoverage::default();
        }
        Ok(next)
    }

    /// Adds look-ups that came during the scan. One that was requested before the scan began belongs to a job that was
    /// redelivered meanwhile: the scan has looked for its user all the time.
    fn add_pending(&mut self, pending: PendingLookUps) {
        for (digest, PendingUser { waiters, scope }) in pending {
            let is_early = self.early.contains(&digest);
            let (early, late): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|waiter| is_early && waiter.since() <= self.began);
            if early.is_empty() || !late.is_empty() {
                self.late.add(digest, PendingUser { waiters: late, scope });
            }
            if !early.is_empty() {
                self.early.add(digest, PendingUser { waiters: early, scope });
            }
        }
    }

    /// Answers the look-ups of users on a page, and remembers the users.
    fn answer_found<A>(&mut self, context: &Context<A>, users: Vec<(EmailDigest, FoundUser)>) {
        let mut state = context.look_up.lock();
        for (digest, user) in users {
            let result = LookUpResult::User(user.clone());
            let is_early = self.early.answer(&digest, &result);
            self.found += usize::from(is_early);
            if self.late.answer(&digest, &result) || is_early {
                state.interrupted.keep_answer(digest, self.began, &result, LookUpScope::WholeList);
            }
            state.cache.insert(digest, user);
        }
    }

    /// Answers the early look-ups whose users would be among the newest ones, which were all read.
    fn answer_missing<A>(&mut self, context: &Context<A>) {
        let is_proven = self.plan.order().is_some_and(|order| self.known.is_proven(order));
        if let Some(time) = self.plan.run().complete_after().filter(|_| is_proven) {
            let missing = self.early.take_covered(LookUpScope::CreatedAfter(time));
            self.report_missing(context, missing);
        }
    }

    fn report_missing<A>(&self, context: &Context<A>, missing: PendingLookUps) {
        let mut state = context.look_up.lock();
        for (digest, user) in missing {
            state.interrupted.keep_answer(digest, self.began, &LookUpResult::NotFound, user.scope);
            user.answer(&LookUpResult::NotFound);
        }
    }

    /// Answers the early look-ups that are left, and leaves the late ones to the next scan.
    fn finish<A>(mut self, context: &Context<A>, result: Result<bool, &'static str>) {
        let early = std::mem::take(&mut self.early);
        match result {
            Ok(_) => self.report_missing(context, early),
            Err(_) => early.into_iter().for_each(|(_, user)| user.answer(&LookUpResult::Unavailable)),
        }
        self.known.learn(result.ok().and_then(|is_whole_list| self.plan.found_order(is_whole_list)));
        let mut state = context.look_up.lock();
        state.progress = None;
        let cached = state.cache.len();
        drop(state);
        context.metrics.cached_users.set(i64::try_from(cached).unwrap_or(i64::MAX));
        let Self { late, pages, waiting, found, .. } = self;
        context.look_up.defer(late);
        ScanFinished { result: result.map(drop), pages, waiting, found }.emit(&context.metrics);
    }
}
