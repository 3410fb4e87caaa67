//! Looking users up by email: one sweep of the user list answers for all jobs that wait.
//!
//! The partner documents no filter by email and no order of the list. A sweep therefore reads every page, from
//! the first on, until the list ends; a user is found the moment a page shows them, and is missing only when a
//! sweep that began after the question has read the list to its end. Requests of a sweep go through the same
//! gate and the same pace as creations.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::Context;
use crate::domain::Lane;
use crate::domain::decide::{Found, FoundUser};
use crate::domain::private::debug_redacted;
use crate::ports::{ListError, Page, PartnerApi, UserList};
use crate::telemetry::{PageRead, SweepFinished, Throttled};

/// Consecutive failures of one page after which a sweep is broken off.
const PAGE_FAILURES_MAX: u32 = 5;

/// How long a sweep waits for more questions before it begins: they come in bunches after a crash.
const GATHER: Duration = Duration::from_millis(100);

/// The questions that wait, by lower-case email.
type Questions = HashMap<String, Vec<oneshot::Sender<Found>>>;

/// See the module. Memory is bounded by the jobs in hand: each asks one question.
#[derive(Default)]
pub struct LookUp {
    waiting: Mutex<Questions>,
    asked: Notify,
}

debug_redacted!(LookUp);

impl LookUp {
    /// What the user list says about this email (lower case). Waits for a whole sweep at worst.
    pub async fn find(&self, email: &str) -> Found {
        let (answer, answered) = oneshot::channel();
        self.lock().entry(email.to_owned()).or_default().push(answer);
        self.asked.notify_one();
        answered.await.unwrap_or(Found::Unavailable)
    }

    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sweeps whenever somebody asks. Never returns; drop it to stop.
pub async fn sweep_on_demand<A: PartnerApi + UserList>(context: &Context<A>) {
    loop {
        context.look_up.asked.notified().await;
        sleep(GATHER).await;
        let mut questions = std::mem::take(&mut *context.look_up.lock());
        questions.retain(|_, askers| {
            askers.retain(|asker| !asker.is_closed());
            !askers.is_empty()
        });
        if !questions.is_empty() {
            sweep(context, questions).await;
        }
    }
}

async fn sweep<A: PartnerApi + UserList>(context: &Context<A>, mut questions: Questions) {
    let waiting = questions.len();
    let mut pages = 0;
    let result = read_list(context, &mut questions, &mut pages).await;
    let found = waiting - questions.len();
    let rest = if result.is_ok() { Found::Nobody } else { Found::Unavailable };
    for asker in questions.into_values().flatten() {
        // An asker that is gone was told to stop.
        let _ = asker.send(rest.clone());
    }
    SweepFinished { result, pages, waiting, found }.emit(&context.metrics);
}

async fn read_list<A: PartnerApi + UserList>(
    context: &Context<A>,
    questions: &mut Questions,
    pages: &mut u64,
) -> Result<(), &'static str> {
    let (mut skip, mut total_max) = (0, 0);
    while !questions.is_empty() {
        let Page { users, total } = read_page(context, skip).await?;
        *pages += 1;
        if total < total_max {
            // Users moved to pages that were read already; what was not seen may still be there.
            return Err("the list shrank while it was read");
        }
        total_max = total;
        let count = users.len() as u64;
        for (email, user) in users {
            answer(questions, &email, &user);
        }
        skip += count;
        if count == 0 || skip >= total {
            return if skip >= total { Ok(()) } else { Err("the list ended before its total") };
        }
    }
    Ok(())
}

fn answer(questions: &mut Questions, email: &str, user: &FoundUser) {
    for asker in questions.remove(&email.to_lowercase()).into_iter().flatten() {
        let _ = asker.send(Found::User(user.clone()));
    }
}

/// Reads one page, patiently: a pause or a throttled answer is waited out.
async fn read_page<A: PartnerApi + UserList>(context: &Context<A>, skip: u64) -> Result<Page, &'static str> {
    let mut failures = 0;
    loop {
        let pass = context.gate.pass().await;
        context.pace.turn(Lane::Bulk).await;
        if !pass.is_valid() {
            continue;
        }
        let page = context.api.page(skip).await;
        page_read(&page).emit(&context.metrics);
        let transition = match page {
            Ok(page) => {
                if let Some(transition) = pass.answered() {
                    transition.emit(&context.metrics);
                }
                return Ok(page);
            }
            Err(ListError::Account(reason)) => pass.refused(reason),
            Err(ListError::Throttled(advice)) => {
                let wait = context.gate.throttle(advice, |n| context.delay_before_attempt(n));
                Throttled { wait, advised: advice.is_some() }.emit(&context.metrics);
                pass.throttled()
            }
            Err(ListError::Failed(reason)) => {
                pass.unanswered();
                failures += 1;
                if failures == PAGE_FAILURES_MAX {
                    return Err(reason);
                }
                sleep(context.delay_before_attempt(failures)).await;
                None
            }
        };
        if let Some(transition) = transition {
            transition.emit(&context.metrics);
        }
    }
}

fn page_read(page: &Result<Page, ListError>) -> PageRead {
    match page {
        Ok(_) => PageRead::Read,
        Err(ListError::Throttled(_)) => PageRead::Throttled,
        Err(ListError::Account(reason)) => PageRead::Account(*reason),
        Err(ListError::Failed(_)) => PageRead::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::decide::Limits;
    use crate::domain::{AccountReason, Answer, IdempotencyKey, Timestamp};
    use crate::pipeline::{Backoff, Pace, Policy, ProbeSchedule};
    use crate::telemetry::Metrics;

    const SECOND: Duration = Duration::from_secs(1);
    const POLICY: Policy = Policy {
        concurrency: 1,
        window: 1,
        limits: Limits { attempts_max: 3, give_up_after: SECOND, key_ttl: SECOND, clock_skew: SECOND },
        backoff: Backoff { initial: SECOND, max: SECOND },
        wait_in_hand_max: SECOND,
        probes: ProbeSchedule { initial: SECOND, max: SECOND },
        shutdown_grace: SECOND,
        seed: 1,
    };

    /// Answers from a script.
    #[derive(Debug)]
    struct List(Mutex<VecDeque<Result<Page, ListError>>>);

    impl PartnerApi for List {
        async fn create(&self, _key: &IdempotencyKey, _body: &str) -> Answer {
            unreachable!("nobody is created here")
        }
    }

    impl UserList for List {
        async fn page(&self, _skip: u64) -> Result<Page, ListError> {
            self.0.lock().unwrap().pop_front().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_request_for_a_page_is_counted_with_its_answer() {
        let script = [
            Err(ListError::Failed("timeout")),
            Err(ListError::Throttled(None)),
            Err(ListError::Account(AccountReason::KeyRefused)),
            Err(ListError::Failed("timeout")),
            Ok(Page::default()),
        ];
        let (clock, metrics) = (Clock::simulated(Timestamp::from_unix_ms(0)), Metrics::new().unwrap());
        let list = List(Mutex::new(script.into_iter().collect()));
        let context = Context::new(list, POLICY, Pace::new(None), clock, metrics, CancellationToken::new());
        assert!(read_page(&context, 0).await.is_ok());
        let text = context.metrics.render();
        let account = AccountReason::KeyRefused.code();
        for (answer, count) in [("failed", 2), ("throttled", 1), (account, 1), ("read", 1)] {
            let line = format!("plu_onboard_api_requests_total{{answer=\"{answer}\",endpoint=\"list\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
