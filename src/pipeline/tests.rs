//! The pipeline on paused time, with a scripted partner and a queue in memory.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::gate::ProbeSchedule;
use super::pace::Pace;
use super::worker::{Ended, work};
use super::{Context, Policy};
use crate::adapters::memory::MemoryQueue;
use crate::clock::Clock;
use crate::domain::answer::UnknownReason;
use crate::domain::decide::{FoundUser, Limits};
use crate::domain::{AccountReason, Answer, Event, EventType, IdempotencyKey, Lane, Timestamp};
use crate::ports::{ListError, Page, PartnerApi, UserList};
use crate::telemetry::Metrics;

const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

const POLICY: Policy = Policy {
    concurrency: 4,
    window: 16,
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
    async fn create(&self, key: &IdempotencyKey, body: &str) -> Answer {
        if body.contains("poison@") {
            return Answer::Account(AccountReason::Suspended);
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
        let found = FoundUser { service_id: format!("id-of-{email}"), created_at: Some(created_at) };
        (email.to_uppercase(), found)
    };
    Ok(Page { users: emails.iter().map(user).collect(), total })
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
        }
    }

    fn with_jobs(self, emails: &[&str]) -> Self {
        for email in emails {
            self.queue.push(Lane::Bulk, job(email));
        }
        self
    }

    fn context(&self) -> Arc<Context<Partner>> {
        let pace = Pace::new(self.rate);
        let metrics = Metrics::new().unwrap();
        Arc::new(Context::new(self.partner.clone(), self.policy, pace, self.clock, metrics, self.stop.clone()))
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
        [(Answer::Account(AccountReason::WalletEmpty), "wallet"), (Answer::NotSent("no connection"), "network")]
    {
        let partner = Partner(Arc::new(Script {
            answers: Mutex::new(vec![answer; 5].into()),
            latency: Duration::from_millis(1),
            ..Script::default()
        }));
        let emails = ["a@example.com", "b@example.com", "c@example.com", "d@example.com", "e@example.com"];
        let bench = Bench::new(&partner).with_jobs(&emails);
        bench.work().await;
        let attempts: Vec<u32> = bench.queue.events().iter().map(|event| event.attempts).collect();
        assert_eq!(attempts, [1; 5], "{reason}");
        // Four were on their way; then one probe at a time, after 10 s and after 20 s more.
        let sent = partner.sent();
        let seconds: Vec<u64> = sent.iter().map(|(at, _)| (*at - sent[0].0).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 10, 30, 30, 30, 30, 30], "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_row_that_a_firewall_dislikes_does_not_hold_up_the_others() {
    let emails: Vec<String> = (0..200).map(|n| format!("p{n}@example.com")).collect();
    let emails: Vec<&str> = ["poison@example.com"].into_iter().chain(emails.iter().map(String::as_str)).collect();
    let mut bench = Bench::new(&Partner::default()).with_jobs(&emails);
    bench.rate = NonZeroU32::new(10);
    let ended = tokio::time::timeout(Duration::from_secs(240), bench.work()).await;
    assert!(ended.is_err(), "the row is over, and nobody can say how");
    assert_eq!(bench.queue.events().len(), 200);
    let waiting = bench.queue.waiting();
    assert_eq!((waiting.len(), waiting[0].attempts, waiting[0].first_sent_at), (1, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_alone_goes_on_with_the_first_probe_after_a_long_pause() {
    let partner = Partner::answering(vec![Answer::Account(AccountReason::KeyRefused); 5]);
    let event = Bench::new(&partner).with_jobs(&["jane@example.com"]).event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 1));
    let sent = partner.sent();
    let seconds: Vec<u64> = sent.iter().map(|(at, _)| (*at - sent[0].0).as_secs()).collect();
    assert_eq!(seconds, [0, 10, 30, 70, 130, 190]);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_and_jobs_in_hand_are_bounded() {
    let partner = Partner(Arc::new(Script { latency: Duration::from_secs(1), ..Script::default() }));
    let emails: Vec<String> = (0..100).map(|n| format!("p{n}@example.com")).collect();
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
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(bench.queue.events().len(), POLICY.concurrency);
    let waiting = bench.queue.waiting();
    assert_eq!(waiting.len(), 30 - POLICY.concurrency);
    assert!(waiting.iter().all(|history| history.attempts == 0));
    assert_eq!(partner.sent().len(), POLICY.concurrency);
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
