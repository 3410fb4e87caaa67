//! The user look-up, against scripted lists on paused time.

mod fake_list;
mod orders;
mod properties;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::decide::{FoundUser, Limits};
use crate::domain::{AccountReason, Answer, IdempotencyKey, Lane, ServiceId, Timestamp};
use crate::pipeline::gate::breaker::BreakerPolicy;
use crate::pipeline::gate::{GateState, ProbeSchedule, Request};
use crate::pipeline::guards::halt::HaltPolicy;
use crate::pipeline::rate::backoff::Backoff;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::user_lookup::*;
use crate::pipeline::{Context, PipelinePolicy};
use crate::ports::{ListError, PartnerApi, UserList, UserListPage};
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: PipelinePolicy = PipelinePolicy {
    concurrency: 1,
    window: 1,
    message_bytes_max: 65_536,
    limits: Limits { attempts_max: 3, give_up_after: SECOND, key_ttl: SECOND, clock_skew: SECOND },
    backoff: Backoff { initial: SECOND, max: SECOND },
    delay_in_memory_max: SECOND,
    probes: ProbeSchedule { initial: SECOND, max: SECOND },
    shutdown_grace: SECOND,
    seed: 1,
    breaker: BreakerPolicy::DEFAULT,
    halt: HaltPolicy::NEVER,
};

/// Returns the page from the `skip`-th user on, with at most `limit` users, for the n-th request (from 1).
type PageScript = dyn FnMut(u64, u32, u32) -> Result<UserListPage, ListError> + Send;

/// A scripted user list. Each page takes 100 ms.
struct ScriptedList {
    script: Mutex<Box<PageScript>>,
    requests: Mutex<u32>,
}

impl PartnerApi for ScriptedList {
    async fn create(&self, _key: &IdempotencyKey, _body: &bytes::Bytes) -> Answer {
        unreachable!("these tests create no user")
    }
}

impl UserList for ScriptedList {
    async fn page(&self, skip: u64, limit: u32) -> Result<UserListPage, ListError> {
        sleep(Duration::from_millis(100)).await;
        let number = {
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            *requests
        };
        (self.script.lock().unwrap())(skip, limit, number)
    }
}

fn user(n: u64) -> (String, FoundUser) {
    (
        email(n).to_uppercase(),
        FoundUser { service_id: ServiceId::parse(&format!("acme-user-{n}")).unwrap(), created_at: None, name: None },
    )
}

fn email(n: u64) -> String {
    format!("p{n}@example.com")
}

/// Returns the page from the `skip`-th user on of a list of `p0`, `p1`, and so on.
fn page(skip: u64, size: u64, total: u64) -> UserListPage {
    UserListPage { users: (skip..total.min(skip + size)).map(user).collect(), statuses: Vec::new(), unusable: 0, total }
}

fn found(n: u64) -> LookUpResult {
    LookUpResult::User(user(n).1)
}

struct LookUpBench {
    context: Arc<Context<ScriptedList>>,
    scanner: tokio::task::JoinHandle<()>,
}

impl LookUpBench {
    fn new(mut script: impl FnMut(u64, u32) -> Result<UserListPage, ListError> + Send + 'static) -> Self {
        Self::with(RateLimiter::new(None), move |skip, _, number| script(skip, number))
    }

    fn with(
        rate_limiter: RateLimiter,
        script: impl FnMut(u64, u32, u32) -> Result<UserListPage, ListError> + Send + 'static,
    ) -> Self {
        let list = ScriptedList { script: Mutex::new(Box::new(script)), requests: Mutex::new(0) };
        let (clock, metrics) = (Clock::simulated(Timestamp::from_unix_ms(0)), Metrics::new().unwrap());
        let context = Arc::new(Context::new(list, POLICY, rate_limiter, clock, metrics, CancellationToken::new()));
        let scanner = tokio::spawn({
            let context = Arc::clone(&context);
            async move { scan_on_demand(&context).await }
        });
        Self { context, scanner }
    }

    async fn find(&self, n: u64) -> LookUpResult {
        self.context.look_up.find(&email(n), Instant::now(), LookUpScope::WholeList).await
    }

    fn requests(&self) -> u32 {
        *self.context.api.requests.lock().unwrap()
    }
}

impl Drop for LookUpBench {
    fn drop(&mut self) {
        self.scanner.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn one_scan_answers_all_waiting_look_ups_and_later_ones_need_no_request() {
    let bench = LookUpBench::new(|skip, _| Ok(page(skip, 50, 500)));
    let answers = tokio::join!(bench.find(3), bench.find(3), bench.find(120), bench.find(499));
    assert_eq!(answers, (found(3), found(3), found(120), found(499)));
    assert_eq!(bench.requests(), 10);
    for n in 0..500 {
        assert_eq!(bench.find(n).await, found(n));
    }
    assert_eq!(bench.requests(), 10);
    assert!(bench.context.metrics.render().contains("plu_onboard_user_list_cached_users 500\n"));
}

#[tokio::test(start_paused = true)]
async fn a_user_is_looked_up_again_after_an_hour() {
    let bench = LookUpBench::new(|skip, _| Ok(page(skip, 50, 100)));
    assert_eq!(bench.find(99).await, found(99));
    sleep(SECOND * 3_500).await;
    assert_eq!((bench.find(99).await, bench.requests()), (found(99), 2));
    sleep(SECOND * 101).await;
    assert_eq!((bench.find(99).await, bench.requests()), (found(99), 4));
}

#[tokio::test(start_paused = true)]
async fn a_missing_user_is_never_remembered() {
    // The user is created between the first and the second look-up.
    let bench = LookUpBench::new(|skip, number| Ok(page(skip, 50, if number == 1 { 10 } else { 11 })));
    assert_eq!(bench.find(10).await, LookUpResult::NotFound);
    assert_eq!(bench.find(10).await, found(10));
}

#[tokio::test(start_paused = true)]
async fn a_scan_reports_no_user_missing_who_was_looked_up_after_it_began() {
    // p0 is added to a page that was read before the look-up was requested.
    let bench = LookUpBench::new(|skip, number| {
        let users = if skip == 0 && number == 1 { vec![user(1), user(2)] } else { page(skip, 2, 6).users };
        Ok(UserListPage { users, statuses: Vec::new(), unusable: 0, total: 6 })
    });
    let late = async {
        sleep(Duration::from_millis(250)).await;
        (bench.find(0).await, bench.requests())
    };
    let (missing, (late, requests)) = tokio::join!(bench.find(77), late);
    assert_eq!((missing, late), (LookUpResult::Unavailable, found(0)));
    assert!(requests > 3, "answered by a second scan: {requests} requests");
}

#[tokio::test(start_paused = true)]
async fn a_look_up_requested_during_a_scan_is_answered_by_its_later_pages() {
    let bench = LookUpBench::new(|skip, _| Ok(page(skip, 1, 10)));
    let late = async {
        sleep(Duration::from_millis(350)).await;
        bench.find(8).await
    };
    assert_eq!(tokio::join!(bench.find(9), late), (found(9), found(8)));
    assert_eq!(bench.requests(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_repeats_its_pages_reports_no_user_missing() {
    let bench = LookUpBench::new(|_, _| {
        Ok(UserListPage { users: (0..50).map(user).collect(), statuses: Vec::new(), unusable: 0, total: 100_000 })
    });
    assert_eq!(bench.find(70).await, LookUpResult::Unavailable);
    assert_eq!(bench.requests(), 4);
    let line = "plu_onboard_user_list_scans_total{result=\"aborted\"} 1\n";
    assert!(bench.context.metrics.render().contains(line));
    assert_eq!(bench.find(7).await, found(7), "users that were read are found");
}

#[tokio::test(start_paused = true)]
async fn emails_are_compared_without_case_in_any_alphabet() {
    for (listed, asked) in [
        ("Jane.DOE@Example.COM", "jane.doe@example.com"),
        ("ÉMILE@EXAMPLE.FR", "émile@example.fr"),
        // E and a combining accent, as some systems write it.
        ("E\u{301}MILE@EXAMPLE.FR", "émile@example.fr"),
        ("ΝΙΚΟΣ@EXAMPLE.GR", "νικος@example.gr"),
        ("ΝΙΚΟΣ@EXAMPLE.GR", "νικοσ@example.gr"),
        ("ИВАН@ПРИМЕР.РФ", "иван@пример.рф"),
    ] {
        let bench = LookUpBench::new(move |_, _| {
            Ok(UserListPage {
                users: vec![(listed.to_owned(), user(1).1)],
                statuses: Vec::new(),
                unusable: 0,
                total: 1,
            })
        });
        assert_eq!(
            bench.context.look_up.find(asked, Instant::now(), LookUpScope::WholeList).await,
            found(1),
            "{listed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_requested_at_the_rate_limit() {
    let rate_limiter = RateLimiter::new(std::num::NonZeroU32::new(2));
    let bench = LookUpBench::with(rate_limiter, |skip, _, _| Ok(page(skip, 50, 1_000)));
    let start = Instant::now();
    assert_eq!(bench.find(999).await, found(999));
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
}

fn refused() -> Result<UserListPage, ListError> {
    Err(ListError::Account(AccountReason::Forbidden))
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_pauses_the_account_until_a_page_can_be_read() {
    let bench = LookUpBench::new(|skip, number| if number < 4 { refused() } else { Ok(page(skip, 50, 60)) });
    let answer = async {
        let answer = bench.find(55).await;
        (answer, bench.context.gate.state())
    };
    let paused = async {
        sleep(SECOND).await;
        bench.context.gate.state()
    };
    let (answer, paused) = tokio::join!(answer, paused);
    assert_eq!(paused, GateState::Paused(AccountReason::Forbidden));
    assert_eq!(answer, (found(55), GateState::Open));
    assert!(bench.context.metrics.render().contains("plu_onboard_user_list_refused 0\n"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_alone_is_refused_pauses_no_creation_and_is_retried_while_a_job_waits() {
    let readable_from = 20;
    let bench =
        LookUpBench::new(move |skip, number| if number < readable_from { refused() } else { Ok(page(skip, 50, 60)) });
    // Creations are answered well: one of them answers each probe.
    let context = Arc::clone(&bench.context);
    let creations = tokio::spawn(async move {
        loop {
            let _ = context.gate.permit(Request::Create(Lane::Signup)).await.answered(false);
            sleep(Duration::from_millis(10)).await;
        }
    });
    let pauses = |bench: &LookUpBench| {
        let text = bench.context.metrics.render();
        let line = "plu_onboard_pauses_total{reason=\"forbidden\"} ";
        text.lines().find_map(|text| text.strip_prefix(line)).unwrap().parse::<u32>().unwrap()
    };
    let unanswered = tokio::time::timeout(SECOND * 5, bench.find(55)).await;
    assert!(unanswered.is_err(), "the job waits until the list can be read");
    sleep(SECOND * 2).await;
    let asked = bench.requests();
    sleep(SECOND * 60).await;
    assert_eq!(bench.requests(), asked, "no job waits any more");
    assert!(bench.context.metrics.render().contains("plu_onboard_user_list_refused 1\n"));
    assert_eq!(bench.find(55).await, found(55));
    assert!(bench.context.metrics.render().contains("plu_onboard_user_list_refused 0\n"));
    assert_eq!(pauses(&bench), 1, "creations were paused once, before it was clear that only the list is refused");
    creations.abort();
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_job_gets_the_answer_of_a_scan_that_began_after_its_look_up() {
    // 100 users, one a page: a scan takes 10 s.
    let bench = LookUpBench::new(|skip, _| Ok(page(skip, 1, 100)));
    let look_up = &bench.context.look_up;
    let key = Uuid::from_u128(7);
    let asked_at = Instant::now();
    let interrupted = |n: u64| look_up.interrupt(key, &email(n), LookUpReason::AttemptsExhausted, asked_at);
    let resumed = || look_up.resume(key).map(|interrupted| (interrupted.reason, interrupted.since));
    for (n, expected) in [(777, LookUpResult::NotFound), (98, found(98))] {
        // Requeued during the scan, redelivered after its end.
        let unanswered =
            tokio::time::timeout(SECOND * 5, look_up.find(&email(n), asked_at, LookUpScope::WholeList)).await;
        assert!(unanswered.is_err());
        assert_eq!(look_up.scan_progress().map(|progress| progress.total), Some(100));
        interrupted(n);
        sleep(SECOND * 20).await;
        assert_eq!((look_up.scan_progress(), resumed()), (None, Some((LookUpReason::AttemptsExhausted, asked_at))));
        let (requests, since) = (bench.requests(), Instant::now());
        assert_eq!(look_up.find(&email(n), asked_at, LookUpScope::WholeList).await, expected, "{n}");
        assert_eq!((bench.requests(), since.elapsed()), (requests, Duration::ZERO));
        assert_eq!(resumed(), None, "once");
        look_up.lock().cache = UserCache::default();
    }
    // Redelivered during the scan, beside another look-up: the scan has looked for the first user all the time.
    let began = bench.requests();
    let unanswered =
        tokio::time::timeout(SECOND * 3, look_up.find(&email(777), asked_at, LookUpScope::WholeList)).await;
    assert!(unanswered.is_err());
    interrupted(777);
    let (asked_again, requests) = tokio::join!(
        async {
            let found = look_up.find(&email(777), asked_at, LookUpScope::WholeList).await;
            (found, bench.requests() - began)
        },
        async {
            let found = look_up.find(&email(777), Instant::now(), LookUpScope::WholeList).await;
            (found, bench.requests() - began)
        }
    );
    assert_eq!(asked_again, (LookUpResult::NotFound, 100));
    assert_eq!(requests, (LookUpResult::NotFound, 200), "by the next scan");
}
