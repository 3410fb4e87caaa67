//! Reads one page of the user list: waits for gate and rate limiter, and retries.

use std::time::Duration;

use tokio::time::sleep;

use super::page_limit::{DOCUMENTED_LIMIT, PageLimit};
use super::pending::PendingLookUps;
use crate::domain::{AccountReason, Lane};
use crate::pipeline::Context;
use crate::pipeline::gate::Request;
use crate::ports::{ListError, PartnerApi, UserList, UserListPage};
use crate::telemetry::{ApiThrottled, UserListRefused};

/// Failures of one page in a row that abort the scan.
const PAGE_FAILURES_MAX: u32 = 5;

/// How long a page that was refused leaves the next probe to creations, whose answer says more.
const PROBE_DELAY: Duration = Duration::from_millis(100);

/// Reads the page from the `skip`-th user on. Waits while the account is paused or throttled, for as long as a job
/// waits for the scan.
///
/// # Errors
/// The code of the reason why the page can't be read.
pub(super) async fn read_page<A: PartnerApi + UserList>(
    context: &Context<A>,
    skip: u64,
    pending: &PendingLookUps,
    reader: &mut PageReader,
) -> Result<UserListPage, &'static str> {
    let PageReader { refusals, limit } = reader;
    let mut failures = 0;
    loop {
        let mut permit = context.gate.wait_for_permit(Request::Read, refusals.probe_delay()).await;
        // As a signup: behind bulk jobs, each page would wait for minutes, and with it the signups that need a look-up.
        context.rate_limiter.acquire(Lane::Signup).await;
        if !permit.is_valid() {
            continue;
        }
        permit.sent();
        let requested = limit.get();
        let page = context.api.page(skip, requested).await;
        if !matches!(page, Err(ListError::Refused | ListError::Failed(_))) {
            failures = 0;
        }
        let transition = match page {
            Ok(page) => {
                if let Some(transition) = permit.page_read() {
                    transition.emit(&context.metrics);
                }
                refusals.end(context);
                limit.page_read(requested);
                return Ok(page);
            }
            // An unreachable API concerns creations too.
            Err(ListError::Account(reason))
                if !matches!(reason, AccountReason::Unreachable(_)) && refusals.concern_only_the_list(context) =>
            {
                drop(permit);
                refusals.wait(context, reason).await;
                if !pending.has_waiters() {
                    return Err(reason.code());
                }
                None
            }
            Err(ListError::Account(reason)) => {
                if reason == AccountReason::NotTheApi {
                    limit.page_failed();
                }
                permit.refused(reason)
            }
            Err(ListError::Throttled(advice)) => {
                let delay = context.gate.throttle(advice, |n| context.delay_before_attempt(n));
                if advice.is_none() {
                    context.rate_limiter.throttled();
                }
                ApiThrottled { delay, advised: advice.is_some() }.emit(&context.metrics);
                permit.throttled()
            }
            // The API answers, so it can be reached. Perhaps it refuses the limit.
            Err(ListError::Refused) if requested > DOCUMENTED_LIMIT => {
                limit.page_failed();
                permit.page_read()
            }
            Err(error @ (ListError::Refused | ListError::Failed(_))) => {
                let reason = if let ListError::Failed(reason) = error { reason } else { "refused" };
                limit.page_failed();
                let transition = permit.unanswered();
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

/// What reading pages has shown about the API.
#[derive(Default)]
pub(super) struct PageReader {
    refusals: ListRefusals,
    limit: PageLimit,
}

/// Account-level answers that pages got since the last page that could be read.
///
/// The first one pauses the account, like that to a creation. If creations are answered well nevertheless, only the
/// list is refused, as with a key that may not read it. Then only jobs that need a look-up wait, and the page is
/// requested again at the intervals of probes.
#[derive(Default)]
struct ListRefusals {
    /// Pauses that had ended at the last of these answers.
    pauses_ended: Option<u64>,
    /// Time to the next request, once only the list is refused.
    interval: Option<Duration>,
}

impl ListRefusals {
    const fn probe_delay(&self) -> Duration {
        if self.pauses_ended.is_some() { PROBE_DELAY } else { Duration::ZERO }
    }

    /// Records one more of these answers. Returns whether creations were answered well since the one before.
    fn concern_only_the_list<A>(&mut self, context: &Context<A>) -> bool {
        let now = context.gate.pauses_ended();
        self.pauses_ended.replace(now).is_some_and(|then| now > then) || self.interval.is_some()
    }

    async fn wait<A>(&mut self, context: &Context<A>, reason: AccountReason) {
        let probes = &context.policy.probes;
        if self.interval.is_none() {
            UserListRefused(Some(reason)).emit(&context.metrics);
        }
        let interval = self.interval.map_or(probes.initial, |interval| (interval * 2).min(probes.max));
        self.interval = Some(interval);
        sleep(interval).await;
    }

    /// A page could be read.
    fn end<A>(&mut self, context: &Context<A>) {
        if std::mem::take(self).interval.is_some() {
            UserListRefused(None).emit(&context.metrics);
        }
    }
}
