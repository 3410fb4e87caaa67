//! A worker with a scripted partner and a queue in memory.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::answer::UnknownReason;
use crate::domain::decide::{FoundUser, Limits};
use crate::domain::{
    AccountReason, Answer, Event, EventType, IdempotencyKey, Lane, ServiceId, Timestamp, VerificationUrl,
};
use crate::pipeline::gate::ProbeSchedule;
use crate::pipeline::gate::breaker::BreakerPolicy;
use crate::pipeline::guards::halt::HaltPolicy;
use crate::pipeline::rate::backoff::Backoff;
use crate::pipeline::rate::rate_limiter::RateLimiter;
use crate::pipeline::worker::{WorkerEnd, work};
use crate::pipeline::{Context, PipelinePolicy};
use crate::ports::{ListError, PartnerApi, UserList, UserListPage};
use crate::telemetry::Metrics;
use crate::testing::memory::MemoryQueue;
use crate::testing::message::message;

pub(super) const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

pub(super) const POLICY: PipelinePolicy = PipelinePolicy {
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
    delay_in_memory_max: Duration::from_secs(5),
    probes: ProbeSchedule { initial: Duration::from_secs(10), max: Duration::from_secs(60) },
    shutdown_grace: Duration::from_secs(25),
    seed: 1,
    breaker: BreakerPolicy::DEFAULT,
    halt: HaltPolicy::NEVER,
};

/// Room for many requests in flight.
pub(super) const WIDE: PipelinePolicy = PipelinePolicy { concurrency: 16, window: 64, ..POLICY };

/// The job that most tests send.
pub(super) const JANE: &str = "jane@example.com";

/// A job with this email is always answered with 403, as by a firewall.
pub(super) const FIREWALLED: &str = "firewalled@example.com";

/// A job with this email is always answered by a page, as by a gateway.
pub(super) const PAGED: &str = "paged@example.com";

/// Answers from a script, then with creations, and records what was sent.
#[derive(Default)]
struct PartnerScript {
    answers: Mutex<VecDeque<Answer>>,
    pages: Mutex<VecDeque<Result<UserListPage, ListError>>>,
    latency: Duration,
    sent: Mutex<Vec<RequestRecord>>,
    in_flight: Mutex<InFlight>,
}

/// A creation that the partner received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestRecord {
    pub(super) at: Instant,
    pub(super) key: IdempotencyKey,
}

#[derive(Default)]
struct InFlight {
    now: usize,
    max: usize,
}

/// A scripted partner. Clones are the same partner.
#[derive(Clone, Default)]
pub(super) struct ScriptedPartner(Arc<PartnerScript>);

impl ScriptedPartner {
    /// Gives these answers, then creates users.
    pub(super) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::answering_after(Duration::ZERO, answers)
    }

    /// Gives each answer after this time.
    pub(super) fn answering_after(latency: Duration, answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect());
        Self(Arc::new(PartnerScript { answers, latency, ..PartnerScript::default() }))
    }

    /// Creates users, each after this time.
    pub(super) fn with_latency(latency: Duration) -> Self {
        Self::answering_after(latency, [])
    }

    /// Gives these pages of the user list, then empty ones.
    pub(super) fn listing(self, pages: impl IntoIterator<Item = Result<UserListPage, ListError>>) -> Self {
        *self.0.pages.lock().unwrap() = pages.into_iter().collect();
        self
    }

    pub(super) fn sent(&self) -> Vec<RequestRecord> {
        self.0.sent.lock().unwrap().clone()
    }

    /// Seconds from the first request to each request.
    pub(super) fn sent_at_seconds(&self) -> Vec<u64> {
        let sent = self.sent();
        sent.iter().map(|request| (request.at - sent[0].at).as_secs()).collect()
    }

    /// Most requests that were in flight at once.
    pub(super) fn in_flight_max(&self) -> usize {
        self.0.in_flight.lock().unwrap().max
    }
}

impl PartnerApi for ScriptedPartner {
    async fn create(&self, key: &IdempotencyKey, body: &Bytes) -> Answer {
        let body = String::from_utf8_lossy(body);
        if body.contains(FIREWALLED) {
            return Answer::Account(AccountReason::Forbidden);
        }
        if body.contains(PAGED) {
            return page();
        }
        self.0.sent.lock().unwrap().push(RequestRecord { at: Instant::now(), key: *key });
        {
            let mut in_flight = self.0.in_flight.lock().unwrap();
            in_flight.now += 1;
            in_flight.max = in_flight.max.max(in_flight.now);
        }
        sleep(self.0.latency).await;
        self.0.in_flight.lock().unwrap().now -= 1;
        let answer = self.0.answers.lock().unwrap().pop_front().unwrap_or_else(created);
        with_own_user(answer, &body)
    }
}

impl UserList for ScriptedPartner {
    async fn page(&self, _skip: u64, _limit: u32) -> Result<UserListPage, ListError> {
        self.0.pages.lock().unwrap().pop_front().unwrap_or_else(|| Ok(UserListPage::default()))
    }
}

/// Placeholder for the id of the user whose email was sent.
const OWN_USER: &str = "own";

/// The user with the email that was sent is created.
pub(super) fn created() -> Answer {
    created_as(OWN_USER)
}

pub(super) fn link() -> VerificationUrl {
    VerificationUrl::parse("https://v.example/1").unwrap()
}

pub(super) fn created_as(service_id: &str) -> Answer {
    Answer::Created { service_id: ServiceId::parse(service_id), link: Ok(link()) }
}

pub(super) fn id_of(email: &str) -> ServiceId {
    ServiceId::parse(&format!("id-of-{email}")).unwrap()
}

/// Fills in the id for [`OWN_USER`].
fn with_own_user(mut answer: Answer, body: &str) -> Answer {
    if let Answer::Created { service_id: Some(service_id), .. } = &mut answer
        && service_id.as_str() == OWN_USER
    {
        let user: serde_json::Value = serde_json::from_str(body).unwrap();
        *service_id = id_of(user["email"].as_str().unwrap());
    }
    answer
}

pub(super) fn lost() -> Answer {
    Answer::Unknown(UnknownReason::Timeout)
}

pub(super) fn page() -> Answer {
    Answer::Account(AccountReason::NotTheApi)
}

pub(super) fn blacklisted() -> Answer {
    Answer::Rejected { status: 400, code: "USER_BLACKLISTED".to_owned(), text: String::new() }
}

/// A page of the user list, which has `total` users.
pub(super) fn users(emails: &[&str], total: u64, created_at: Timestamp) -> Result<UserListPage, ListError> {
    let user = |email: &&str| {
        let found = FoundUser { service_id: id_of(email), created_at: Some(created_at), name: None };
        (email.to_uppercase(), found)
    };
    Ok(UserListPage { users: emails.iter().map(user).collect(), statuses: Vec::new(), unusable: 0, total })
}

/// A job message.
pub(super) fn job(email: &str) -> String {
    message(email, email).to_string()
}

pub(super) fn emails(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("p{n}@example.com")).collect()
}

/// The shared state of a worker without a fixture.
pub(super) fn context_with(
    partner: &ScriptedPartner,
    policy: PipelinePolicy,
    rate_limiter: RateLimiter,
) -> Arc<Context<ScriptedPartner>> {
    let (clock, metrics) = (Clock::simulated(T0), Metrics::new().unwrap());
    Arc::new(Context::new(partner.clone(), policy, rate_limiter, clock, metrics, CancellationToken::new()))
}

/// A worker, its partner and its queue.
pub(super) struct Fixture {
    pub(super) partner: ScriptedPartner,
    pub(super) queue: MemoryQueue,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) policy: PipelinePolicy,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) began: Instant,
}

impl Fixture {
    pub(super) fn new(partner: &ScriptedPartner) -> Self {
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

    /// A fixture with one job.
    pub(super) fn with_jane(partner: &ScriptedPartner) -> Self {
        Self::new(partner).with_jobs([JANE])
    }

    pub(super) fn with_jobs<E: AsRef<str>>(self, emails: impl IntoIterator<Item = E>) -> Self {
        for email in emails {
            self.queue.push(Lane::Bulk, job(email.as_ref()));
        }
        self
    }

    pub(super) fn with_rate(mut self, per_second: u32) -> Self {
        self.rate = NonZeroU32::new(per_second);
        self
    }

    pub(super) fn context(&self) -> Arc<Context<ScriptedPartner>> {
        let rate_limiter = RateLimiter::new(self.rate);
        let metrics = Metrics::new().unwrap();
        Arc::new(Context::new(self.partner.clone(), self.policy, rate_limiter, self.clock, metrics, self.stop.clone()))
    }

    /// Works until the queue is empty or the worker is stopped.
    pub(super) async fn work(&self) -> WorkerEnd {
        work(self.context(), self.queue.source(Lane::Signup), self.queue.source(Lane::Bulk)).await.unwrap()
    }

    /// Works until the queue is empty, and returns the event of its only job.
    pub(super) async fn event(&self) -> Event {
        assert_eq!(self.work().await, WorkerEnd::Drained);
        let mut events = self.queue.events();
        assert_eq!(events.len(), 1);
        events.remove(0)
    }

    /// Outcome and attempts of each finished job.
    pub(super) fn outcomes(&self) -> Vec<(EventType, u32)> {
        self.queue.events().iter().map(|event| (event.event_type, event.attempts)).collect()
    }
}
