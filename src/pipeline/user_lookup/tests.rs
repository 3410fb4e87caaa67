use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::decide::Limits;
use crate::domain::{AccountReason, Answer, IdempotencyKey, Timestamp};
use crate::pipeline::gate::GateState;
use crate::pipeline::user_lookup::*;
use crate::pipeline::{Backoff, BreakerPolicy, HaltPolicy, Policy, ProbeSchedule, RateLimiter, RetryBudgetPolicy};
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Policy = Policy {
    concurrency: 1,
    window: 1,
    message_bytes_max: 65_536,
    limits: Limits { attempts_max: 3, give_up_after: SECOND, key_ttl: SECOND, clock_skew: SECOND },
    backoff: Backoff { initial: SECOND, max: SECOND },
    wait_in_hand_max: SECOND,
    probes: ProbeSchedule { initial: SECOND, max: SECOND },
    shutdown_grace: SECOND,
    seed: 1,
    look_up_cache: Duration::from_secs(3_600),
    breaker: BreakerPolicy::DEFAULT,
    retry_budget: RetryBudgetPolicy::DEFAULT,
    halt: HaltPolicy::NEVER,
};

/// What a list gives for the `skip`-th user on, at its n-th request (from 1).
type Give = dyn FnMut(u64, u32) -> Result<Page, ListError> + Send;

/// A list, each page of which takes 100 ms.
struct List {
    give: Mutex<Box<Give>>,
    requests: Mutex<u32>,
}

impl PartnerApi for List {
    async fn create(&self, _key: &IdempotencyKey, _body: &bytes::Bytes) -> Answer {
        unreachable!("nobody is created here")
    }
}

impl UserList for List {
    async fn page(&self, skip: u64) -> Result<Page, ListError> {
        sleep(Duration::from_millis(100)).await;
        let number = {
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            *requests
        };
        (self.give.lock().unwrap())(skip, number)
    }
}

fn user(n: u64) -> (String, FoundUser) {
    (email(n).to_uppercase(), FoundUser { service_id: format!("acme-user-{n}"), created_at: None, name: None })
}

fn email(n: u64) -> String {
    format!("p{n}@example.com")
}

/// A page of a list of `p0`, `p1`, ... with this many users.
fn page(skip: u64, size: u64, total: u64) -> Page {
    Page { users: (skip..total.min(skip + size)).map(user).collect(), unusable: 0, total }
}

fn found(n: u64) -> Found {
    Found::User(user(n).1)
}

struct Bench {
    context: Arc<Context<List>>,
    scanner: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new(give: impl FnMut(u64, u32) -> Result<Page, ListError> + Send + 'static) -> Self {
        Self::with(POLICY, RateLimiter::new(None), give)
    }

    fn with(
        policy: Policy,
        rate_limiter: RateLimiter,
        give: impl FnMut(u64, u32) -> Result<Page, ListError> + Send + 'static,
    ) -> Self {
        let list = List { give: Mutex::new(Box::new(give)), requests: Mutex::new(0) };
        let (clock, metrics) = (Clock::simulated(Timestamp::from_unix_ms(0)), Metrics::new().unwrap());
        let context = Arc::new(Context::new(list, policy, rate_limiter, clock, metrics, CancellationToken::new()));
        let scanner = tokio::spawn({
            let context = Arc::clone(&context);
            async move { scan_on_demand(&context).await }
        });
        Self { context, scanner }
    }

    async fn find(&self, n: u64) -> Found {
        self.context.look_up.find(&email(n), Instant::now()).await
    }

    fn requests(&self) -> u32 {
        *self.context.api.requests.lock().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.scanner.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn one_sweep_answers_for_all_who_wait_and_the_next_questions_need_none() {
    let bench = Bench::new(|skip, _| Ok(page(skip, 50, 500)));
    let answers = tokio::join!(bench.find(3), bench.find(3), bench.find(120), bench.find(499));
    assert_eq!(answers, (found(3), found(3), found(120), found(499)));
    assert_eq!(bench.requests(), 10);
    for n in 0..500 {
        assert_eq!(bench.find(n).await, found(n));
    }
    assert_eq!(bench.requests(), 10);
    assert!(bench.context.metrics.render().contains("plu_onboard_look_up_cached_users 500\n"));
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_is_forgotten_after_its_time() {
    let policy = Policy { look_up_cache: Duration::from_secs(60), ..POLICY };
    let bench = Bench::with(policy, RateLimiter::new(None), |skip, _| Ok(page(skip, 50, 100)));
    assert_eq!(bench.find(99).await, found(99));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(bench.find(99).await, found(99));
    assert_eq!(bench.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn that_somebody_is_missing_is_never_remembered() {
    // Created between the first and the second question.
    let bench = Bench::new(|skip, number| Ok(page(skip, 50, if number == 1 { 10 } else { 11 })));
    assert_eq!(bench.find(10).await, Found::Nobody);
    assert_eq!(bench.find(10).await, found(10));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_in_the_middle_of_a_sweep_is_not_called_missing_by_it() {
    // p0 is on a page that is read when the question comes, and isn't in the list before that.
    let bench = Bench::new(|skip, number| {
        let users = if skip == 0 && number == 1 { vec![user(1), user(2)] } else { page(skip, 2, 6).users };
        Ok(Page { users, unusable: 0, total: 6 })
    });
    let late = async {
        sleep(Duration::from_millis(250)).await;
        (bench.find(0).await, bench.requests())
    };
    let (missing, (late, requests)) = tokio::join!(bench.find(77), late);
    assert_eq!((missing, late), (Found::Unavailable, found(0)));
    assert!(requests > 3, "it was answered by a second sweep: {requests}");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_in_the_middle_of_a_sweep_is_found_by_it_on_the_pages_to_come() {
    let bench = Bench::new(|skip, _| Ok(page(skip, 1, 10)));
    let late = async {
        sleep(Duration::from_millis(350)).await;
        bench.find(8).await
    };
    assert_eq!(tokio::join!(bench.find(9), late), (found(9), found(8)));
    assert_eq!(bench.requests(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_repeats_itself_proves_nobody_missing_and_is_told() {
    let bench = Bench::new(|_, _| Ok(Page { users: (0..50).map(user).collect(), unusable: 0, total: 100_000 }));
    assert_eq!(bench.find(70).await, Found::Unavailable);
    assert_eq!(bench.requests(), 4);
    let line = "plu_onboard_look_up_sweeps_total{result=\"broken_off\"} 1\n";
    assert!(bench.context.metrics.render().contains(line));
    assert_eq!(bench.find(7).await, found(7), "who was seen was seen");
}

#[tokio::test(start_paused = true)]
async fn emails_are_compared_without_case_in_any_alphabet() {
    for (listed, asked) in [
        ("Jane.DOE@Example.COM", "jane.doe@example.com"),
        ("ÉMILE@EXAMPLE.FR", "émile@example.fr"),
        // E and an accent of its own, as some systems write it.
        ("E\u{301}MILE@EXAMPLE.FR", "émile@example.fr"),
        ("ΝΙΚΟΣ@EXAMPLE.GR", "νικος@example.gr"),
        ("ΝΙΚΟΣ@EXAMPLE.GR", "νικοσ@example.gr"),
        ("ИВАН@ПРИМЕР.РФ", "иван@пример.рф"),
    ] {
        let bench =
            Bench::new(move |_, _| Ok(Page { users: vec![(listed.to_owned(), user(1).1)], unusable: 0, total: 1 }));
        assert_eq!(bench.context.look_up.find(asked, Instant::now()).await, found(1), "{listed}");
    }
    assert_ne!(Digest::of("strasse@example.de"), Digest::of("straße@example.de"), "two mailboxes");
}

#[tokio::test(start_paused = true)]
async fn pages_are_asked_for_at_the_pace() {
    let rate_limiter = RateLimiter::new(std::num::NonZeroU32::new(2));
    let bench = Bench::with(POLICY, rate_limiter, |skip, _| Ok(page(skip, 50, 1_000)));
    let start = Instant::now();
    assert_eq!(bench.find(999).await, found(999));
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
}

fn refused() -> Result<Page, ListError> {
    Err(ListError::Account(AccountReason::Forbidden))
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_like_the_account_pauses_the_work_and_goes_on_with_the_page_that_comes() {
    let bench = Bench::new(|skip, number| if number < 4 { refused() } else { Ok(page(skip, 50, 60)) });
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
    assert!(bench.context.metrics.render().contains("plu_onboard_look_up_refused 0\n"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_alone_is_refused_holds_up_nobody_else_and_is_asked_for_again_for_as_long_as_somebody_waits() {
    let mended_after = 20;
    let bench = Bench::new(move |skip, number| if number < mended_after { refused() } else { Ok(page(skip, 50, 60)) });
    // Creations fare well: one answers each probe.
    let context = Arc::clone(&bench.context);
    let creations = tokio::spawn(async move {
        loop {
            let _ = context.gate.pass(Request::Create(Lane::Signup)).await.answered(false);
            sleep(Duration::from_millis(10)).await;
        }
    });
    let pauses = |bench: &Bench| {
        let text = bench.context.metrics.render();
        let line = "plu_onboard_pauses_total{reason=\"forbidden\"} ";
        text.lines().find_map(|text| text.strip_prefix(line)).unwrap().parse::<u32>().unwrap()
    };
    let given_up = tokio::time::timeout(SECOND * 5, bench.find(55)).await;
    assert!(given_up.is_err(), "nobody is told that the list can't be read");
    sleep(SECOND * 2).await;
    let asked = bench.requests();
    sleep(SECOND * 60).await;
    assert_eq!(bench.requests(), asked, "nobody waits any more");
    assert!(bench.context.metrics.render().contains("plu_onboard_look_up_refused 1\n"));
    assert_eq!(bench.find(55).await, found(55));
    assert!(bench.context.metrics.render().contains("plu_onboard_look_up_refused 0\n"));
    assert_eq!(pauses(&bench), 1, "the work was paused once, to find out");
    creations.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_asked_before_the_sweep_began_and_comes_back_gets_its_answer_and_nobody_who_asked_later() {
    // A page of 100 ms for each of 100 users.
    let bench = Bench::new(|skip, _| Ok(page(skip, 1, 100)));
    let look_up = &bench.context.look_up;
    let key = Uuid::from_u128(7);
    let asked_at = Instant::now();
    let interrupted = |n: u64| look_up.interrupt(key, &email(n), LookUpReason::GivingUp, asked_at);
    let resumed = || look_up.resume(key).map(|interruption| (interruption.reason, interruption.since));
    for (n, expected) in [(777, Found::Nobody), (98, found(98))] {
        // Gone in the middle of the sweep, back after its end.
        let waited = tokio::time::timeout(SECOND * 5, look_up.find(&email(n), asked_at)).await;
        assert!(waited.is_err());
        assert_eq!(look_up.reading().map(|reading| reading.total), Some(100));
        interrupted(n);
        sleep(SECOND * 20).await;
        assert_eq!((look_up.reading(), resumed()), (None, Some((LookUpReason::GivingUp, asked_at))));
        let (requests, since) = (bench.requests(), Instant::now());
        assert_eq!(look_up.find(&email(n), asked_at).await, expected, "{n}");
        assert_eq!((bench.requests(), since.elapsed()), (requests, Duration::ZERO));
        assert_eq!(resumed(), None, "once");
        *look_up.cache() = Cache::new(SECOND * 3_600);
    }
    // Back in the middle of the sweep, beside somebody who asks only then: the former is looked for all the time.
    let began = bench.requests();
    let waited = tokio::time::timeout(SECOND * 3, look_up.find(&email(777), asked_at)).await;
    assert!(waited.is_err());
    interrupted(777);
    let (asked_again, requests) = tokio::join!(
        async {
            let found = look_up.find(&email(777), asked_at).await;
            (found, bench.requests() - began)
        },
        async {
            let found = look_up.find(&email(777), Instant::now()).await;
            (found, bench.requests() - began)
        }
    );
    assert_eq!(asked_again, (Found::Nobody, 100));
    assert_eq!(requests, (Found::Nobody, 200), "by the next sweep");
}
