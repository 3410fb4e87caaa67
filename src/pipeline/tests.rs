//! The pipeline on paused time, with a scripted partner and a queue in memory.

mod lanes;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::answer::{NoConnection, UnknownReason};
use crate::domain::decide::{FoundUser, Limits};
use crate::domain::{AccountReason, Answer, Event, EventType, IdempotencyKey, Lane, Timestamp};
use crate::pipeline::gate::breaker::BreakerPolicy;
use crate::pipeline::gate::{GateState, ProbeSchedule};
use crate::pipeline::guards::halt::{HaltAction, HaltPolicy};
use crate::pipeline::rate::backoff::Backoff;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::retry_budget::RetryBudgetPolicy;
use crate::pipeline::worker::{Ended, work};
use crate::pipeline::{Context, Policy};
use crate::ports::{Delivery, JobSource, ListError, Page, PartnerApi, QueueError, UserList};
use crate::telemetry::Metrics;
use crate::testing::memory::MemoryQueue;

const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

const POLICY: Policy = Policy {
    concurrency: 4,
    window: 16,
    message_bytes_max: 65_536,
    limits: Limits {
        attempts_max: 3,
        give_up_after: Duration::from_secs(86_400),
        key_ttl: Duration::from_secs(300),
        clock_skew: Duration::from_secs(30),
    },
    backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) },
    wait_in_hand_max: Duration::from_secs(5),
    probes: ProbeSchedule { initial: Duration::from_secs(10), max: Duration::from_secs(60) },
    shutdown_grace: Duration::from_secs(25),
    seed: 1,
    look_up_cache: Duration::from_secs(3_600),
    breaker: BreakerPolicy::DEFAULT,
    retry_budget: RetryBudgetPolicy::DEFAULT,
    halt: HaltPolicy::NEVER,
};

/// Answers from a script, then with creations; remembers what was sent when.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    pages: Mutex<VecDeque<Result<Page, ListError>>>,
    latency: Duration,
    sent: Mutex<Vec<(Instant, IdempotencyKey)>>,
    in_flight: Mutex<(usize, usize)>,
}

#[derive(Clone, Default)]
struct Partner(Arc<Script>);

impl Partner {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() }))
    }

    fn listing(self, pages: impl IntoIterator<Item = Result<Page, ListError>>) -> Self {
        *self.0.pages.lock().unwrap() = pages.into_iter().collect();
        self
    }

    fn sent(&self) -> Vec<(Instant, IdempotencyKey)> {
        self.0.sent.lock().unwrap().clone()
    }
}

impl PartnerApi for Partner {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        let body = String::from_utf8_lossy(body);
        if body.contains("poison@") {
            return Answer::Account(AccountReason::Forbidden);
        }
        if body.contains("disliked@") {
            return page();
        }
        self.0.sent.lock().unwrap().push((Instant::now(), *key));
        {
            let mut in_flight = self.0.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        sleep(self.0.latency).await;
        self.0.in_flight.lock().unwrap().0 -= 1;
        self.0.answers.lock().unwrap().pop_front().unwrap_or_else(created)
    }
}

impl UserList for Partner {
    async fn page(&self, _skip: u64) -> Result<Page, ListError> {
        self.0.pages.lock().unwrap().pop_front().unwrap_or_else(|| Ok(Page::default()))
    }
}

fn created() -> Answer {
    Answer::Created { service_id: "acme-user-1".to_owned(), verification_url: Some("https://v.example/1".to_owned()) }
}

fn lost() -> Answer {
    Answer::Unknown(UnknownReason::Timeout)
}

fn users(emails: &[&str], total: u64, created_at: Timestamp) -> Result<Page, ListError> {
    let user = |email: &&str| {
        let found = FoundUser { service_id: format!("id-of-{email}"), created_at: Some(created_at), name: None };
        (email.to_uppercase(), found)
    };
    Ok(Page { users: emails.iter().map(user).collect(), unusable: 0, total })
}

fn job(email: &str) -> String {
    json!({"jobId": email, "user": {
        "firstName": "Jane", "lastName": "Doe", "email": email, "phoneNumber": "+14155550132",
        "accountPurpose": "personal use", "ipAddress": "203.0.113.42", "isTermsOfServiceAccepted": true,
        "program": "custodial", "address": "123 Main Street", "city": "San Francisco", "region": "CA",
        "postalCode": "94105", "countryCode": "US",
    }})
    .to_string()
}

struct Bench {
    partner: Partner,
    queue: MemoryQueue,
    clock: Clock,
    stop: CancellationToken,
    policy: Policy,
    rate: Option<NonZeroU32>,
    began: Instant,
}

impl Bench {
    fn new(partner: &Partner) -> Self {
        let clock = Clock::simulated(T0);
        Self {
            partner: partner.clone(),
            queue: MemoryQueue::new(clock),
            clock,
            stop: CancellationToken::new(),
            policy: POLICY,
            rate: None,
            began: Instant::now(),
        }
    }

    fn with_jobs(self, emails: &[&str]) -> Self {
        for email in emails {
            self.queue.push(Lane::Bulk, job(email));
        }
        self
    }

    fn context(&self) -> Arc<Context<Partner>> {
        let rate_limiter = RateLimiter::new(self.rate);
        let metrics = Metrics::new().unwrap();
        Arc::new(Context::new(self.partner.clone(), self.policy, rate_limiter, self.clock, metrics, self.stop.clone()))
    }

    /// Works until the queue is empty or somebody stops it.
    async fn work(&self) -> Ended {
        work(self.context(), self.queue.source(Lane::Signup), self.queue.source(Lane::Bulk)).await.unwrap()
    }

    /// The one event of a queue with one job.
    async fn event(&self) -> Event {
        assert_eq!(self.work().await, Ended::Drained);
        let mut events = self.queue.events();
        assert_eq!(events.len(), 1);
        events.remove(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_created_user_becomes_an_event_with_its_link() {
    let event = Bench::new(&Partner::default()).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!(event.event_type, EventType::Created);
    assert_eq!(event.verification_url.as_deref(), Some("https://v.example/1"));
    assert_eq!((event.job_id.as_str(), event.attempts, event.recovered), ("jane@example.com", 1, false));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_job_is_rejected_without_a_request() {
    let partner = Partner::default();
    let bench = Bench::new(&partner);
    bench.queue.push(Lane::Bulk, job("jane"));
    bench.queue.push(Lane::Bulk, "not a job");
    assert_eq!(bench.work().await, Ended::Drained);
    let codes: Vec<String> = bench.queue.events().iter().map(|event| event.errors[0].code.clone()).collect();
    assert_eq!(codes, ["INVALID_EMAIL", "MALFORMED_JOB"]);
    assert_eq!(partner.sent(), []);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_recovered_by_looking_the_user_up() {
    let partner = Partner::answering([lost(), Answer::KeyAlreadyUsed])
        .listing([users(&["x@example.com", "y@example.com"], 3, T0), users(&["jane@example.com"], 3, T0)]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
    assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
    assert_eq!((event.verification_url, event.attempts), (None, 2));
    let sent = partner.sent();
    assert_eq!(sent[0].1, sent[1].1, "a repetition carries the same key");
}

#[tokio::test(start_paused = true)]
async fn a_used_key_without_a_user_waits_on_the_queue_until_the_key_has_expired() {
    let partner = Partner::answering([lost(), Answer::KeyAlreadyUsed]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let event = bench.event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 3));
    let sent = partner.sent();
    assert!(sent[2].0 - sent[1].0 >= Duration::from_secs(300), "sent again while the key was remembered");
}

#[tokio::test(start_paused = true)]
async fn an_email_that_was_there_before_is_existing() {
    let partner = Partner::answering([Answer::AlreadyThere]).listing([users(&["jane@example.com"], 1, T0)]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!(event.event_type, EventType::Existing);
    assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
}

#[tokio::test(start_paused = true)]
async fn an_existing_email_after_a_lost_answer_is_the_jobs_own_unless_the_user_is_older() {
    let old = T0.minus(Duration::from_secs(3_600));
    for (created_at, expected) in [(T0, (EventType::Created, true)), (old, (EventType::Existing, false))] {
        let partner =
            Partner::answering([lost(), Answer::AlreadyThere]).listing([users(&["jane@example.com"], 1, created_at)]);
        let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
        assert_eq!((event.event_type, event.recovered), expected);
        assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_whom_another_job_created_meanwhile_is_not_claimed() {
    // The first job's request got lost on its way there; its corrected copy came while it waited for its key to expire.
    let user = FoundUser {
        service_id: "acme-user-1".to_owned(),
        created_at: Some(T0.plus(Duration::from_secs(60))),
        name: None,
    };
    let listed = Page { users: vec![("jane@example.com".to_owned(), user)], unusable: 0, total: 1 };
    let partner = Partner::answering([lost(), Answer::KeyAlreadyUsed, created(), Answer::AlreadyThere])
        .listing([Ok(Page::default()), Ok(listed)]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let corrected = job("jane@example.com").replace("123 Main", "124 Main");
    let (ended, ()) = tokio::join!(bench.work(), async {
        sleep(Duration::from_secs(60)).await;
        bench.queue.push(Lane::Bulk, corrected);
    });
    assert_eq!(ended, Ended::Drained);
    let outcomes: Vec<_> = bench.queue.events().iter().map(|event| (event.event_type, event.recovered)).collect();
    assert_eq!(outcomes, [(EventType::Created, false), (EventType::Existing, false)]);
}

fn failing_list() -> Vec<Result<Page, ListError>> {
    (0..5).map(|_| Err(ListError::Failed("simulated"))).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_told_existing_while_the_list_fails_is_not_claimed_later() {
    // So new that it could be the job's own, had its first send not been told that the user exists.
    let newcomer = || users(&["jane@example.com"], 1, T0.plus(Duration::from_secs(60)));
    for second in [Answer::KeyAlreadyUsed, Answer::AlreadyThere] {
        let partner =
            Partner::answering([Answer::AlreadyThere, second]).listing(failing_list().into_iter().chain([newcomer()]));
        let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
        assert_eq!((event.event_type, event.recovered, event.attempts), (EventType::Existing, false, 2));
        assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_can_not_be_read_after_a_lost_answer_does_not_hide_the_user() {
    let odd = || Answer::Rejected { status: 400, code: "HTTP_400".to_owned(), text: String::new() };
    let partner = Partner::answering([lost(), odd(), odd()]).listing([users(&["jane@example.com"], 1, T0)]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
    let partner = Partner::answering([odd()]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, partner.sent().len()), (EventType::Rejected, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_broker_took_back_while_it_waited_is_sent_by_its_other_delivery_only() {
    let emails = ["a@example.com", "b@example.com", "c@example.com"];
    let partner = Partner::answering([Answer::Account(AccountReason::PaymentRequired)]);
    let mut bench = Bench::new(&partner);
    bench.queue = MemoryQueue::like_a_broker(bench.clock);
    bench.policy.concurrency = 1;
    let bench = bench.with_jobs(&emails);
    let connection_breaks = async {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(bench.queue.crash_of(0).len(), 3);
    };
    let (ended, ()) = tokio::join!(bench.work(), connection_breaks);
    assert_eq!(ended, Ended::Drained);
    assert_eq!(partner.sent().len(), 1 + 3, "somebody was sent by both deliveries");
    assert_eq!(bench.queue.events().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_leaves_nothing_running() {
    let bench = Bench::new(&Partner::default());
    let context = bench.context();
    let source = |lane| bench.queue.source(lane).for_ever();
    let working = work(Arc::clone(&context), source(Lane::Signup), source(Lane::Bulk));
    assert!(tokio::time::timeout(Duration::from_secs(5), working).await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&context), 1, "the sweeper is still there");
}

#[tokio::test(start_paused = true)]
async fn one_sweep_answers_for_all_that_wait() {
    let emails = ["a@example.com", "b@example.com", "c@example.com"];
    let partner = Partner::answering([Answer::AlreadyThere, Answer::AlreadyThere, Answer::AlreadyThere])
        .listing([users(&emails, 3, T0), Err(ListError::Failed("asked twice"))]);
    let bench = Bench::new(&partner).with_jobs(&emails);
    bench.work().await;
    let found: Vec<_> = bench.queue.events().into_iter().filter_map(|event| event.service_id).collect();
    assert_eq!(found.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_shrinks_while_it_is_read_proves_nobody_missing() {
    let partner = Partner::answering([lost(), Answer::KeyAlreadyUsed, Answer::KeyAlreadyUsed]).listing([
        users(&["x@example.com"], 3, T0),
        users(&["y@example.com"], 2, T0),
        users(&["x@example.com", "jane@example.com"], 2, T0),
    ]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_run_out_make_a_dead_letter() {
    let partner = Partner::answering([lost(), lost(), lost()]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let event = bench.event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Failed, 3));
    assert_eq!(event.errors[0].code, "ATTEMPTS_EXHAUSTED");
    assert_eq!(bench.queue.dead(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_reply_waits_for_retry_after_and_is_no_attempt() {
    let wait = Duration::from_secs(17);
    let partner = Partner::answering([Answer::Throttled { retry_after: Some(wait) }]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
    let sent = partner.sent();
    assert_eq!(sent[1].0 - sent[0].0, wait);
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_the_account_pauses_everybody_and_is_charged_to_nobody() {
    for (answer, reason) in
        [(Answer::Account(AccountReason::PaymentRequired), "wallet"), (Answer::NotSent(NoConnection::Other), "network")]
    {
        let partner = Partner(Arc::new(Script {
            // The first request leaves alone.
            answers: Mutex::new([vec![created()], vec![answer; 5]].concat().into()),
            latency: Duration::from_millis(1),
            ..Script::default()
        }));
        let emails = many(6);
        let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
        let bench = Bench::new(&partner).with_jobs(&emails);
        bench.work().await;
        let attempts: Vec<u32> = bench.queue.events().iter().map(|event| event.attempts).collect();
        assert_eq!(attempts, [1; 6], "{reason}");
        // Four were on their way; then one probe at a time, after 10 s and after 20 s more.
        let sent = partner.sent();
        let seconds: Vec<u64> = sent.iter().map(|(at, _)| (*at - sent[0].0).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 0, 10, 30, 30, 30, 30, 30], "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_to_be_counted_finds_out_with_one_request_that_the_key_is_revoked() {
    let partner = Partner(Arc::new(Script {
        answers: Mutex::new(vec![Answer::Account(AccountReason::Unauthorized); 60].into()),
        latency: Duration::from_millis(1_500),
        ..Script::default()
    }));
    let emails = many(40);
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&partner).with_jobs(&emails);
    bench.rate = NonZeroU32::new(100);
    let context = bench.context();
    context.rate_limiter.share_with_others();
    let counting = async {
        // Until a while after the first request may have left.
        for _ in 0..10 {
            sleep(Duration::from_secs(1)).await;
            context.rate_limiter.counted(Instant::now(), NonZeroU32::new(3).unwrap());
        }
    };
    let working = work(Arc::clone(&context), bench.queue.source(Lane::Signup), bench.queue.source(Lane::Bulk));
    tokio::select! { biased; () = counting => {}, _ = working => unreachable!("the key stays revoked") }
    let sent = partner.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].0 - bench.began > Duration::from_secs(2), "it was held up for longer than it is alone");
}

fn page() -> Answer {
    Answer::Account(AccountReason::NotTheApi)
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_gets_no_answer_is_charged_to_nobody() {
    let refused = Answer::Account(AccountReason::Unauthorized);
    let answers = [vec![refused; 2], vec![lost(); 40]].concat();
    let bench = Bench::new(&Partner::answering(answers)).with_jobs(&["jane@example.com", "joe@example.com"]);
    assert_eq!(bench.work().await, Ended::Drained);
    let outcomes: Vec<_> = bench.queue.events().iter().map(|event| (event.event_type, event.attempts)).collect();
    assert_eq!(outcomes, [(EventType::Created, 1); 2], "three attempts would have been the end");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_pays_now_and_then_ends_nobodys_job() {
    for reason in [AccountReason::PaymentRequired, AccountReason::Forbidden] {
        // Whenever it pays for one, all the others on their way are refused, and the probe some seconds later pays.
        let round = [vec![created()], vec![Answer::Account(reason); 3]].concat();
        let partner = Partner(Arc::new(Script {
            answers: Mutex::new((0..200).flat_map(|_| round.clone()).collect()),
            latency: Duration::from_millis(100),
            ..Script::default()
        }));
        let emails = many(100);
        let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
        let bench = Bench::new(&partner).with_jobs(&emails);
        assert_eq!(bench.work().await, Ended::Drained);
        let events = bench.queue.events();
        assert_eq!(events.len(), 100);
        assert!(events.iter().all(|event| event.event_type == EventType::Created), "{reason:?}: {events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_in_the_apis_place_is_no_attempt_and_does_not_hide_who_was_created() {
    for second in [Answer::AlreadyThere, Answer::KeyAlreadyUsed] {
        let partner = Partner::answering([page(), second]).listing([users(&["jane@example.com"], 1, T0)]);
        let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
        assert_eq!((event.event_type, event.recovered, event.attempts), (EventType::Created, true, 1));
    }
    // As many as one likes: the intervals grow, and the job survives a death in the middle of them as one that was sent.
    let partner = Partner::answering(vec![page(); 20]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    assert!(tokio::time::timeout(Duration::from_secs(400), bench.work()).await.is_err());
    bench.queue.crash();
    assert_eq!((bench.queue.waiting()[0].attempts, bench.queue.waiting()[0].first_sent_at), (0, Some(T0)));
    assert!((5..20).contains(&partner.sent().len()), "{}", partner.sent().len());
    let event = bench.event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
}

#[tokio::test(start_paused = true)]
async fn a_page_now_and_then_hardly_slows_a_run_down() {
    let answers = (1..=220).map(|n| if n % 20 == 0 { page() } else { created() });
    let partner = Partner::answering(answers);
    let mut bench = Bench::new(&partner).with_many(200);
    bench.rate = NonZeroU32::new(50);
    let start = Instant::now();
    assert_eq!(bench.work().await, Ended::Drained);
    assert_eq!(bench.outcomes(), vec![(EventType::Created, 1); 200]);
    // Four seconds' worth of pace, and ten pages.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_row_that_a_firewall_dislikes_does_not_hold_up_the_others() {
    let emails: Vec<String> = (0..200).map(|n| format!("p{n}@example.com")).collect();
    let emails: Vec<&str> = ["poison@example.com"].into_iter().chain(emails.iter().map(String::as_str)).collect();
    let mut bench = Bench::new(&Partner::default()).with_jobs(&emails);
    bench.rate = NonZeroU32::new(10);
    let start = Instant::now();
    let watched = async {
        sleep(Duration::from_secs(240)).await;
        (bench.queue.events().len(), bench.queue.waiting())
    };
    let (ended, (done, waiting)) = tokio::join!(bench.work(), watched);
    assert_eq!((done, waiting.len(), waiting[0].attempts, waiting[0].first_sent_at), (200, 1, 0, None));
    // Even with nobody left to compare it with, it comes to an end.
    assert_eq!(ended, Ended::Drained);
    assert!(start.elapsed() < Duration::from_secs(3_600), "{:?}", start.elapsed());
    let events = bench.queue.events();
    assert_eq!((events.len(), bench.queue.dead()), (201, 1));
    let given_up = &events[200];
    assert_eq!((given_up.event_type, given_up.may_have_been_created), (EventType::Failed, false));
    assert_eq!(given_up.errors[0].code, "SINGLED_OUT");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_alone_is_answered_with_pages_is_looked_up_before_it_is_given_up() {
    for (list, expected) in [
        (users(&["disliked@example.com"], 1, T0), (EventType::Created, false)),
        (Ok(Page::default()), (EventType::Failed, true)),
    ] {
        let emails: Vec<String> = ["disliked@example.com".to_owned()].into_iter().chain(many(50)).collect();
        let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
        let mut bench = Bench::new(&Partner::default().listing([list])).with_jobs(&emails);
        bench.rate = NonZeroU32::new(10);
        assert_eq!(bench.work().await, Ended::Drained);
        let events = bench.queue.events();
        let last = &events[50];
        assert_eq!((last.job_id.as_str(), last.attempts), ("disliked@example.com", 0));
        assert_eq!((last.event_type, last.may_have_been_created), expected);
        assert!(last.errors.iter().all(|problem| problem.code == "SINGLED_OUT"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_look_up_waits_until_the_last_request_is_over() {
    let partner = Partner::answering([lost(), lost(), lost()]).listing([users(&["jane@example.com"], 1, T0)]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let event = bench.event().await;
    let sent = partner.sent();
    assert_eq!((event.event_type, event.recovered, sent.len()), (EventType::Created, true, 3));
    assert!(sent[2].0.elapsed() >= Duration::from_secs(90), "{:?}", sent[2].0.elapsed());
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("p{n}@example.com")).collect()
}

impl Bench {
    fn with_many(self, count: usize) -> Self {
        let emails = many(count);
        self.with_jobs(&emails.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn outcomes(&self) -> Vec<(EventType, u32)> {
        self.queue.events().iter().map(|event| (event.event_type, event.attempts)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_nobodys_attempts_once_the_breaker_is_open() {
    let partner = Partner::answering(vec![lost(); 60]);
    let bench = Bench::new(&partner).with_many(30);
    assert_eq!(bench.work().await, Ended::Drained);
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.len(), 30);
    assert!(
        outcomes.iter().all(|(outcome, attempts)| *outcome == EventType::Created && *attempts <= 3),
        "{outcomes:?}"
    );
    let sent = partner.sent();
    // Five in a row prove that it is down. Then a few trials, at 5 s, 10 s later, 20 s later, ...
    let quiet: Vec<u64> = sent.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).filter(|s| *s >= 5).collect();
    assert_eq!(quiet[..4], [5, 10, 20, 40]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_nobodys_attempts_in_a_short_queue_either() {
    for jobs in [1, 2, 3] {
        // Hours of it: each attempt comes later than the one before.
        let partner = Partner::answering(vec![lost(); 200]);
        let mut bench = Bench::new(&partner).with_many(jobs);
        bench.policy.limits.attempts_max = 8;
        assert_eq!(bench.work().await, Ended::Drained);
        let outcomes = bench.outcomes();
        let is_well = |(outcome, attempts): &(EventType, u32)| *outcome == EventType::Created && *attempts <= 6;
        assert!(outcomes.len() == jobs && outcomes.iter().all(is_well), "{outcomes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_over_the_budget_are_put_off_and_nobody_fails_for_it() {
    let partner = Partner::answering(vec![lost(); 600]);
    let mut bench = Bench::new(&partner).with_many(600);
    (bench.policy.window, bench.policy.concurrency) = (800, 600);
    bench.policy.breaker.failure_share = 1.1;
    bench.policy.limits.attempts_max = 100;
    bench.policy.retry_budget = RetryBudgetPolicy { share: 0.0, per_second_min: 1.0 };
    let context = bench.context();
    let start = Instant::now();
    let ended = work(Arc::clone(&context), bench.queue.source(Lane::Signup), bench.queue.source(Lane::Bulk)).await;
    assert_eq!(ended.unwrap(), Ended::Drained);
    assert!(bench.outcomes().iter().all(|(outcome, _)| *outcome == EventType::Created));
    let repetitions = partner.sent().len() as u64 - 600;
    assert!(repetitions <= 256 + start.elapsed().as_secs() + 1, "{repetitions} in {:?}", start.elapsed());
    assert!(!context.metrics.render().contains("plu_onboard_retry_budget_exhausted_total 0\n"));
}

const HALT: HaltPolicy = HaltPolicy {
    window: 10,
    rejected_share: 0.5,
    existing_share: 0.5,
    canary: 0,
    halt_action: HaltAction::Stop,
    queue_forgets: false,
};

fn blacklisted() -> Answer {
    Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() }
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_were_not_planned_stop_the_work_before_all_rows_are_burnt() {
    let partner = Partner::answering(vec![blacklisted(); 100]);
    let mut bench = Bench::new(&partner).with_many(100);
    bench.policy.halt = HALT;
    assert_eq!(bench.work().await, Ended::Stopped);
    let burnt = bench.queue.events().len();
    assert!((10..=10 + POLICY.concurrency).contains(&burnt), "{burnt}");
    assert_eq!(bench.queue.waiting().len(), 100 - burnt);
}

#[tokio::test(start_paused = true)]
async fn a_halted_worker_holds_bulk_lets_signups_through_and_goes_on_when_told() {
    let partner = Partner::answering(vec![blacklisted(); 10]);
    let mut bench = Bench::new(&partner).with_many(100);
    bench.policy.halt = HaltPolicy { halt_action: HaltAction::HoldBulk, ..HALT };
    let context = bench.context();
    let queue = bench.queue.clone();
    let (signup, bulk) = (queue.source(Lane::Signup).for_ever(), queue.source(Lane::Bulk).for_ever());
    let working = tokio::spawn(work(Arc::clone(&context), signup, bulk));
    sleep(Duration::from_secs(60)).await;
    let halted = queue.events().len();
    assert!(halted < 20 && context.gate.state() == GateState::Halted, "{halted}");
    queue.push(Lane::Signup, job("late@example.com"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.events().len(), halted + 1);
    assert!(context.go_on());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.events().len(), 101);
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn the_canary_is_alone_until_its_outcomes_are_known() {
    let well = Partner(Arc::new(Script { latency: Duration::from_secs(1), ..Script::default() }));
    // One of the five is lost and waits for its key to expire; the others wait with it.
    *well.0.answers.lock().unwrap() = VecDeque::from([lost(), created(), created(), created(), Answer::KeyAlreadyUsed]);
    let mut bench = Bench::new(&well).with_many(50);
    bench.policy.halt = HaltPolicy { canary: 5, ..HALT };
    assert_eq!(bench.work().await, Ended::Drained);
    assert_eq!(bench.queue.events().len(), 50);
    let fifth = bench.queue.events()[4].time;
    let sent = well.sent();
    let before = sent.iter().filter(|(at, _)| T0.plus(*at - bench.began) < fifth).count();
    assert!((6..=8).contains(&before), "five and their repetitions went first: {before}");

    let badly = Partner::answering(vec![blacklisted(); 50]);
    let mut bench = Bench::new(&badly).with_many(50);
    bench.policy.halt = HaltPolicy { canary: 5, ..HALT };
    assert_eq!(bench.work().await, Ended::Stopped);
    assert_eq!(badly.sent().len(), 5);
    assert_eq!(bench.queue.waiting().len(), 45);
}

/// Counts what is taken from the queue.
struct Counted<S>(S, Arc<Mutex<u32>>);

impl<S: JobSource> JobSource for Counted<S> {
    type Handle = S::Handle;

    async fn receive(&mut self) -> Result<Option<Delivery<S::Handle>>, QueueError> {
        let delivery = self.0.receive().await;
        *self.1.lock().unwrap() += 1;
        delivery
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_not_held_through_a_long_pause_and_nothing_is_charged_to_it() {
    let partner = Partner::answering(vec![Answer::Account(AccountReason::PaymentRequired); 60]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let taken = Arc::new(Mutex::new(0));
    let bulk = Counted(bench.queue.source(Lane::Bulk), Arc::clone(&taken));
    let signup = Counted(bench.queue.source(Lane::Signup), Arc::default());
    let start = Instant::now();
    assert_eq!(work(bench.context(), signup, bulk).await.unwrap(), Ended::Drained);
    assert_eq!(bench.outcomes(), [(EventType::Created, 1)]);
    let deliveries = u64::from(*taken.lock().unwrap());
    assert!(deliveries >= start.elapsed().as_secs() / 660 && deliveries > 4, "{deliveries} in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_alone_goes_on_with_the_first_probe_after_a_long_pause() {
    let partner = Partner::answering(vec![Answer::Account(AccountReason::Unauthorized); 5]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
    let sent = partner.sent();
    let seconds: Vec<u64> = sent.iter().map(|(at, _)| (*at - sent[0].0).as_secs()).collect();
    assert_eq!(seconds, [0, 10, 30, 70, 130, 190]);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_and_jobs_in_hand_are_bounded() {
    let partner = Partner(Arc::new(Script { latency: Duration::from_secs(1), ..Script::default() }));
    // The first leaves alone, the others four at a time.
    let emails: Vec<String> = (0..97).map(|n| format!("p{n}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let bench = Bench::new(&partner).with_jobs(&emails);
    let start = Instant::now();
    bench.work().await;
    assert_eq!(partner.0.in_flight.lock().unwrap().1, POLICY.concurrency);
    assert_eq!(start.elapsed().as_secs(), 25);
}

#[tokio::test(start_paused = true)]
async fn the_pace_holds_for_creations() {
    let partner = Partner::default();
    let emails: Vec<String> = (0..50).map(|n| format!("p{n}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&partner).with_jobs(&emails);
    bench.rate = NonZeroU32::new(10);
    bench.work().await;
    let sent = partner.sent();
    for window in sent.windows(11) {
        assert!(window[10].0 - window[0].0 >= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn signups_go_before_a_migration() {
    let partner = Partner::default();
    let mut bench = Bench::new(&partner).with_jobs(&["b1@example.com", "b2@example.com"]);
    bench.queue.push(Lane::Signup, job("s1@example.com"));
    bench.queue.push(Lane::Signup, job("s2@example.com"));
    bench.rate = NonZeroU32::new(1);
    bench.work().await;
    let order: Vec<String> = bench.queue.events().into_iter().map(|event| event.job_id).collect();
    assert_eq!(order, ["s1@example.com", "s2@example.com", "b1@example.com", "b2@example.com"]);
}

#[tokio::test(start_paused = true)]
async fn who_signs_up_in_the_middle_of_a_migration_waits_for_a_turn_or_two() {
    let partner = Partner(Arc::new(Script { latency: Duration::from_millis(50), ..Script::default() }));
    let emails: Vec<String> = (0..200).map(|n| format!("p{n}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&partner).with_jobs(&emails);
    bench.rate = NonZeroU32::new(10);
    // Keeps the lane open, as a worker's is.
    let first = job("first@example.com");
    bench.queue.push(Lane::Signup, first);
    let queue = bench.queue.clone();
    let signs_up = async {
        sleep(Duration::from_secs(5)).await;
        queue.push(Lane::Signup, job("late@example.com"));
        let start = Instant::now();
        while !queue.events().iter().any(|event| event.job_id == "late@example.com") {
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    };
    bench.policy.window = 64;
    let (signup, bulk) = (queue.source(Lane::Signup).for_ever(), queue.source(Lane::Bulk).for_ever());
    let working = work(bench.context(), signup, bulk);
    let waited = tokio::select! { biased; waited = signs_up => waited, _ = working => unreachable!("it never ends") };
    assert!(waited <= Duration::from_millis(500), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_is_on_its_way_and_puts_the_rest_back() {
    let partner = Partner(Arc::new(Script { latency: Duration::from_secs(2), ..Script::default() }));
    let emails: Vec<String> = (0..30).map(|n| format!("p{n}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let bench = Bench::new(&partner).with_jobs(&emails);
    let stop = bench.stop.clone();
    let (ended, ()) = tokio::join!(bench.work(), async move {
        // The first request leaves alone, and takes two seconds.
        sleep(Duration::from_secs(3)).await;
        stop.cancel();
    });
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(bench.queue.events().len(), 1 + POLICY.concurrency);
    let waiting = bench.queue.waiting();
    assert_eq!(waiting.len(), 30 - 1 - POLICY.concurrency);
    assert!(waiting.iter().all(|history| history.attempts == 0));
    assert_eq!(partner.sent().len(), 1 + POLICY.concurrency);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_the_grace_leaves_its_job_on_the_queue_as_sent() {
    let partner = Partner(Arc::new(Script { latency: Duration::from_secs(3_600), ..Script::default() }));
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let stop = bench.stop.clone();
    let (ended, ()) = tokio::join!(bench.work(), async move {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    assert_eq!(ended, Ended::CutOff { jobs: 1 });
    assert_eq!(bench.queue.waiting()[0].first_sent_at, Some(T0));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_with_a_request_on_its_way_recovers_the_user_in_its_next_life() {
    let partner = Partner(Arc::new(Script { latency: Duration::from_secs(3_600), ..Script::default() }));
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let died = tokio::time::timeout(Duration::from_secs(1), bench.work()).await;
    assert!(died.is_err());
    bench.queue.crash();
    let reborn = Partner::answering([Answer::AlreadyThere]).listing([users(&["jane@example.com"], 1, T0)]);
    let bench = Bench { partner: reborn, ..bench };
    let event = bench.event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
}

/// A list that takes a second for each page of one user.
#[derive(Clone)]
struct LongList {
    partner: Partner,
    users: u64,
}

impl PartnerApi for LongList {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        self.partner.create(key, body).await
    }
}

impl UserList for LongList {
    async fn page(&self, skip: u64) -> Result<Page, ListError> {
        sleep(Duration::from_secs(1)).await;
        users(&[&format!("somebody{skip}@elsewhere.example")], self.users, T0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_takes_longer_than_a_job_may_be_in_hand_comes_to_its_end() {
    let partner = Partner::answering([lost(), lost(), lost()]);
    let bench = Bench::new(&partner).with_jobs(&["jane@example.com"]);
    let list = LongList { partner: partner.clone(), users: 3_000 };
    let (metrics, rate_limiter) = (Metrics::new().unwrap(), RateLimiter::new(None));
    let context = Context::new(list, POLICY, rate_limiter, bench.clock, metrics, bench.stop.clone());
    let start = Instant::now();
    work(Arc::new(context), bench.queue.source(Lane::Signup), bench.queue.source(Lane::Bulk)).await.unwrap();
    let events = bench.queue.events();
    assert_eq!((events.len(), events[0].event_type, events[0].attempts), (1, EventType::Failed, 3));
    assert_eq!(partner.sent().len(), 3, "it isn't sent anew for each look");
    assert!(start.elapsed() < Duration::from_secs(4_000), "{:?}", start.elapsed());
}
