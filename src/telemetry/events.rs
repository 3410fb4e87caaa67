//! The notable events.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use tracing::field::display;
use tracing::{debug, info, warn};

use crate::domain::answer::looks_like_a_code;
use crate::domain::decide::Row;
use crate::domain::job::MEMBERS;
use crate::domain::private::{HIDDEN, shown_id};
use crate::domain::{AccountReason, Answer, Event, Field, Lane, Problem, Timestamp};
use crate::telemetry::{BrokerConnection, Metrics};

/// Where `run`, which shows warnings only, finds the good news that it shows too.
pub const NEWS_TARGET: &str = "plu_onboard::news";

/// A number in JSON too: `as_millis` has more bits than JSON's readers, and becomes a text there.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A name for a label: from a closed set.
pub trait IntoLabel {
    /// The label's value.
    fn label(&self) -> &'static str;
}

impl IntoLabel for Answer {
    fn label(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::AlreadyThere => "already_there",
            Self::KeyAlreadyUsed => "key_already_used",
            Self::Rejected { .. } => "rejected",
            Self::Account(reason) => reason.code(),
            Self::Throttled { .. } => "throttled",
            Self::Unknown(reason) => reason.code(),
            Self::NotSent(_) => "not_sent",
        }
    }
}

impl Answer {
    /// Its name as an error that isn't the job's; `None`: it is none.
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Account(_) | Self::Throttled { .. } | Self::Unknown(_) => Some(self.label()),
            Self::NotSent(why) => Some(why.code()),
            _ => None,
        }
    }
}

/// The partner answered a request, or didn't.
#[derive(Debug)]
pub struct ApiAnswered<'a> {
    /// What came of it, and its name as an error that isn't the job's.
    pub answer: (&'static str, Option<&'static str>),
    /// HTTP status; `None`: no answer.
    pub status: Option<u16>,
    /// From sending to knowing.
    pub duration: Duration,
    /// The job, for a creation; `None` for a page of the user list.
    pub key: Option<&'a uuid::Uuid>,
    /// When.
    pub at: Timestamp,
}

impl ApiAnswered<'_> {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        let Self { answer: (answer, trouble), status, duration, key, at } = self;
        let endpoint = if key.is_some() { "create" } else { "list" };
        let label = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        metrics.requests.with_label_values(&[endpoint, answer, &label]).inc();
        metrics.request_duration.with_label_values(&[endpoint]).observe(duration.as_secs_f64());
        if let Some(trouble) = trouble {
            metrics.facts.error(&trouble.to_uppercase(), at);
        }
        let key = key.map(display);
        debug!(key, endpoint, answer, trouble, status, duration_ms = ms(duration), "the API answered");
    }
}

/// A look-up led to a decision.
#[derive(Debug)]
pub struct Decided<'a> {
    /// Which.
    pub row: Row,
    /// The job.
    pub key: &'a uuid::Uuid,
}

impl Decided<'_> {
    /// The target of its log line, by which the simulation finds it.
    pub const TARGET: &'static str = "plu_onboard::protocol";

    /// Log line.
    pub fn emit(self) {
        debug!(target: Decided::TARGET, key = %self.key, row = self.row.code(), "decided by looking up");
    }
}

/// A job ended.
#[derive(Debug)]
pub struct JobFinished<'a> {
    /// Its outcome.
    pub event: &'a Event,
    /// Where it waited.
    pub lane: Lane,
}

impl JobFinished<'_> {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        let Event { event_type, id, attempts, recovered, .. } = self.event;
        metrics.completed.with_label_values(&[event_type.short(), self.lane.name()]).inc();
        metrics.recovered.inc_by(u64::from(*recovered));
        for problem in &self.event.errors {
            metrics.facts.error(loggable_code(problem), self.event.time);
        }
        let key = self.event.idempotency_key.map(display);
        let errors: Vec<String> = self.event.errors.iter().map(loggable).collect();
        info!(
            job = shown_id(&self.event.job_id), event = %id, key, outcome = event_type.short(), attempts, recovered,
            lane = self.lane.name(), errors = errors.join(","), "job finished"
        );
    }
}

/// A problem's field and code. Whoever made a message may have named its members after people.
fn loggable(problem: &Problem) -> String {
    let code = loggable_code(problem);
    let is_known = |field: &str| Field::from_name(field).is_some() || MEMBERS.contains(&field);
    match problem.field.as_deref() {
        None => code.to_owned(),
        Some(field) if is_known(field) => format!("{field}:{code}"),
        Some(_) => format!("{HIDDEN}:{code}"),
    }
}

/// The code of a problem, if it looks like one: the API's own text must never get into a log through a field
/// that was meant for a code.
fn loggable_code(problem: &Problem) -> &str {
    if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" }
}

/// A job will be tried again.
#[derive(Debug)]
pub struct RetryScheduled<'a> {
    /// Why.
    pub reason: &'static str,
    /// How long it waits.
    pub delay: Duration,
    /// Attempts so far.
    pub attempts: u32,
    /// The upstream's reference.
    pub job: Option<&'a str>,
    /// The job.
    pub key: &'a uuid::Uuid,
}

impl RetryScheduled<'_> {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retries.with_label_values(&[self.reason]).inc();
        info!(
            job = self.job.map(shown_id), key = %self.key, reason = self.reason, delay_ms = ms(self.delay), attempts = self.attempts,
            "will be tried again"
        );
    }
}

/// The partner asked for patience.
#[derive(Debug)]
pub struct Throttled {
    /// Nobody sends for this long; `None`: that was told already.
    pub news: Option<Duration>,
    /// Whether the partner said how long.
    pub advised: bool,
}

impl Throttled {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retries.with_label_values(&["throttled"]).inc();
        if let Some(wait) = self.news {
            info!(wait_ms = ms(wait), advised = self.advised, "the API asks for patience (429)");
        }
    }
}

/// There is nothing to take from the queue, or there is again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEmpty(pub bool);

impl QueueEmpty {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.waiting_for_jobs.set(i64::from(self.0));
        match self {
            Self(true) => info!("no job is due: waiting for jobs"),
            Self(false) => info!("jobs came in: going on"),
        }
    }
}

/// The gate closed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChanged {
    /// It was paused and is open.
    Opened,
    /// It was open, or paused for another reason.
    Paused(AccountReason),
    /// Somebody said to go on, and the probe that followed fared no better.
    StillPaused(AccountReason),
    /// The circuit breaker opened.
    CircuitOpened {
        /// Requests without an answer in time.
        failures: u32,
        /// Of so many.
        requests: u32,
    },
    /// The circuit breaker closed.
    CircuitClosed,
    /// After a 429 a request was answered again.
    Unthrottled,
}

impl GateChanged {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::Paused(reason) => {
                metrics.paused.with_label_values(&[reason.code()]).inc();
                warn!(
                    reason = reason.code(),
                    "paused, every job is kept: {}",
                    reason.advice(metrics.facts.key_source())
                );
            }
            Self::StillPaused(reason) => {
                warn!(
                    reason = reason.code(),
                    "still paused, it was tried at once: {}",
                    reason.advice(metrics.facts.key_source())
                );
            }
            Self::Opened => {
                metrics.breaker_open.set(0);
                info!(target: NEWS_TARGET, "the account answers again: going on");
            }
            Self::CircuitOpened { failures, requests } => {
                metrics.breaker_open.set(1);
                warn!(
                    failures,
                    requests,
                    "the API is down or slow: requests are kept back but for a few trials, no attempt is used up"
                );
            }
            Self::CircuitClosed => {
                metrics.breaker_open.set(0);
                info!(target: NEWS_TARGET, "the API answers again: going on");
            }
            Self::Unthrottled => info!("the API takes requests again after a 429: going on"),
        }
    }
}

/// A repetition must wait for longer: there were too many in proportion to first attempts.
#[derive(Debug)]
pub struct RetryPostponed;

impl RetryPostponed {
    /// Metric; the log line is that of the repetition.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retry_budget_exhausted.inc();
    }
}

/// The partner's clock and ours differ by more than the settings allow for.
#[derive(Debug, Clone, Copy)]
pub struct ClocksDiffer {
    /// By how much theirs is ahead; negative: behind.
    pub seconds: i64,
    /// `api.clock_skew_s`.
    pub tolerance: Duration,
}

impl ClocksDiffer {
    /// Log line; the metric is that of every answer.
    pub fn emit(self) {
        warn!(
            seconds = self.seconds,
            clock_skew_s = self.tolerance.as_secs(),
            "the partner's clock is further from this machine's than api.clock_skew_s allows: whose user somebody is, is reckoned \
             with the difference that its answers show; mend the clock (NTP), or set api.clock_skew_s"
        );
    }
}

/// A job alone is answered like the whole account.
#[derive(Debug)]
pub struct OutlierDelayed<'a> {
    /// How often this has happened to it.
    pub rounds: u32,
    /// The job.
    pub key: &'a uuid::Uuid,
}

impl OutlierDelayed<'_> {
    /// Log line.
    pub fn emit(self) {
        warn!(key = %self.key, rounds = self.rounds, "one job alone is answered like the whole account: set aside");
    }
}

/// The mix of outcomes was looked at. `mix` holds counts, fields and codes.
#[derive(Debug)]
pub enum OutcomeMixChecked {
    /// The canary went well.
    CanaryWell {
        /// In words.
        mix: String,
    },
    /// It isn't as planned.
    Halted {
        /// In words.
        mix: String,
    },
}

impl OutcomeMixChecked {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::CanaryWell { mix } => info!(mix, "the canary went well: going on"),
            Self::Halted { mix } => {
                metrics.paused.with_label_values(&["halted"]).inc();
                warn!(mix, "halted: the outcomes are not what was planned");
            }
        }
    }
}

/// SIGHUP: the settings were read again.
#[derive(Debug)]
pub enum Reloaded {
    /// They hold.
    Applied {
        /// Whether the API key is another one.
        is_key_new: bool,
        /// Most requests per second; `None`: no limit.
        rate: Option<NonZeroU32>,
        /// Whether that lifts a halt.
        was_halted: bool,
    },
    /// They can't be used; everything stays as it was.
    Refused {
        /// Why, without secrets.
        reason: String,
    },
}

impl Reloaded {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::Applied { is_key_new, rate, was_halted } => {
                metrics.reloads.with_label_values(&["applied"]).inc();
                let key = if is_key_new { "another one" } else { "as before" };
                let rate = rate.map_or_else(|| "no limit".to_owned(), |rate| format!("{rate}/s"));
                info!(
                    target: NEWS_TARGET,
                    key, rate, "read the settings and the API key again: key and pace hold from now on, and what is paused is tried at once"
                );
                if was_halted {
                    warn!("that lifts the halt: bulk goes on, and the next outcomes are judged anew");
                }
            }
            Self::Refused { reason } => {
                metrics.reloads.with_label_values(&["refused"]).inc();
                warn!(reason, "the settings can't be used and stay as they were");
            }
        }
    }
}

/// Something on the broker is missing or different, while the connection works.
#[derive(Debug)]
pub struct TopologyMismatch<'a> {
    /// What, and what to do about it; `None`: everything is there.
    pub reason: Option<&'a str>,
}

impl TopologyMismatch<'_> {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.observed.set_topology_amiss(self.reason.is_some());
        match self.reason {
            Some(reason) => warn!(reason, "something that is needed on the broker is missing or different"),
            None => info!("everything that is needed on the broker is there again"),
        }
    }
}

/// The connection to a broker changed.
#[derive(Debug, Clone, Copy)]
pub enum BrokerLink<'a> {
    /// It is up.
    Connected {
        /// Which connection.
        name: &'a str,
    },
    /// It can't be made. Told once for each reason.
    Away {
        /// Which connection.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// It was up and is not.
    Broken {
        /// Which connection.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// It is up, and the broker takes nothing on it (`connection.blocked`).
    Blocked {
        /// Which connection.
        name: &'a str,
        /// The alarm, as the broker calls it.
        reason: &'a str,
    },
    /// It was blocked and is not.
    Unblocked {
        /// Which connection.
        name: &'a str,
    },
    /// It is up, and the broker refused a message, or has no queue for it.
    Refusing {
        /// Which connection.
        name: &'a str,
        /// Where the message should have gone, and what is wrong there.
        reason: &'a str,
    },
    /// It took such a message after all.
    Accepting {
        /// Which connection.
        name: &'a str,
    },
}

impl BrokerLink<'_> {
    /// Log line and metric.
    pub fn emit(self, connection: BrokerConnection, metrics: &Metrics) {
        self.show(connection, metrics);
        self.tell();
    }

    /// The metric, where the log has the line already.
    pub fn show(&self, connection: BrokerConnection, metrics: &Metrics) {
        match self {
            Self::Connected { .. } => metrics.set_connected(connection, Ok(())),
            Self::Away { reason, .. } | Self::Broken { reason, .. } => {
                metrics.set_connected(connection, Err(reason));
                // Whatever alarm there was, the next connection tells it anew.
                metrics.set_blocked(connection, None);
            }
            Self::Blocked { reason, .. } => metrics.set_blocked(connection, Some(reason)),
            Self::Unblocked { .. } => metrics.set_blocked(connection, None),
            Self::Refusing { reason, .. } => metrics.set_refusal(Some(reason)),
            Self::Accepting { .. } => metrics.set_refusal(None),
        }
    }

    fn tell(self) {
        match self {
            Self::Connected { name } => info!(name, "connected to the broker"),
            Self::Away { name, reason } => warn!(name, reason, "can't connect to the broker; trying again"),
            Self::Broken { name, reason } => warn!(name, reason, "the connection to the broker broke; connecting anew"),
            Self::Blocked { name, reason } => warn!(
                name,
                reason,
                "the broker has an alarm (connection.blocked) and takes no messages: free memory or disk there; every \
                 job is kept"
            ),
            Self::Unblocked { name } => info!(name, "the broker's alarm is over: going on"),
            Self::Refusing { name, reason } => {
                warn!(
                    name,
                    reason, "the broker doesn't take a message; trying again, one at a time, and every job is kept"
                );
            }
            Self::Accepting { name } => info!(name, "the broker takes such messages again: going on"),
        }
    }
}

/// The rows of an import can't get on, or can again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportPaused {
    /// `connection.blocked`: memory or disk alarm.
    Blocked,
    /// Negative confirms.
    Refused,
    /// It goes on.
    Over,
}

impl ImportPaused {
    /// Log line.
    pub fn emit(self) {
        match self {
            Self::Blocked => warn!(
                "the broker takes no messages for now, because it is short of memory or disk space; waiting, nothing is lost"
            ),
            Self::Refused => {
                warn!("the broker refuses rows: is the queue full? Sending them again until it takes them")
            }
            Self::Over => info!("the broker takes messages again"),
        }
    }
}

/// What came of a request for a page of the user list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRead {
    /// The page.
    Read,
    /// 429.
    Throttled,
    /// No request would be answered.
    Account(AccountReason),
    /// Anything else.
    Failed,
}

impl PageRead {
    /// Its name as an error; `None`: it is none.
    pub fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Read => None,
            Self::Account(AccountReason::Unreachable(why)) => Some(why.code()),
            _ => Some(self.label()),
        }
    }
}

impl IntoLabel for PageRead {
    fn label(&self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Throttled => "throttled",
            Self::Account(reason) => reason.code(),
            // Not "failed", which is an outcome: nobody's job failed by it.
            Self::Failed => "list_not_read",
        }
    }
}

/// The user list alone is refused, for a reason that would be everybody's, or is read again.
#[derive(Debug, Clone, Copy)]
pub struct ListRefused(pub Option<AccountReason>);

impl ListRefused {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.list_refused.set(i64::from(self.0.is_some()));
        match self.0 {
            Some(reason) => warn!(
                reason = reason.code(),
                "the user list is refused while creations are not: jobs that have to be looked up wait for it, nobody is charged                  for it; ask Plu to let this key read the list (GET v1/partner/card/users)"
            ),
            None => info!(target: NEWS_TARGET, "the user list is read again"),
        }
    }
}

/// A sweep of a long list is under way.
#[derive(Debug)]
pub struct ScanProgressed {
    /// Users read.
    pub read: u64,
    /// Users in the list.
    pub total: u64,
    /// Jobs that wait for it.
    pub waiting: usize,
}

impl ScanProgressed {
    /// Log line.
    pub fn emit(self) {
        let Self { read, total, waiting } = self;
        info!(target: NEWS_TARGET, read, total, waiting, "still reading the user list");
    }
}

/// A sweep of the user list ended.
#[derive(Debug)]
pub struct ScanFinished {
    /// `Ok`: the list was read as far as it was needed.
    pub result: Result<(), &'static str>,
    /// Pages read.
    pub pages: u64,
    /// Jobs that waited for it.
    pub waiting: usize,
    /// How many of them it found.
    pub found: usize,
}

impl ScanFinished {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        let Self { result, pages, waiting, found } = self;
        match result {
            Ok(()) => {
                metrics.sweeps.with_label_values(&["complete"]).inc();
                info!(pages, waiting, found, "looked users up");
            }
            Err(reason) => {
                metrics.sweeps.with_label_values(&["broken_off"]).inc();
                warn!(pages, waiting, found, reason, "looking users up was broken off");
            }
        }
    }
}

/// Users who were seen can't be remembered any more.
#[derive(Debug)]
pub struct CacheLost<'a> {
    /// What the system said about the temporary file.
    pub error: &'a std::io::Error,
}

impl CacheLost<'_> {
    /// Log line.
    pub fn emit(self) {
        warn!(error = %self.error, "a temporary file can't be used: users are looked up without remembering others");
    }
}

/// The events file holds what the queue doesn't, and was not written over.
#[derive(Debug)]
pub struct EventsFileSetAside<'a> {
    /// What was its name, and is that of the new file.
    pub file: &'a Path,
    /// Its name now.
    pub aside: &'a Path,
}

impl EventsFileSetAside<'_> {
    /// Log line.
    pub fn emit(self) {
        warn!(
            file = %self.file.display(),
            aside = %self.aside.display(),
            "the events file holds events that the queue doesn't know, as after restoring a copy of the queue: set aside, a \
             new file is begun"
        );
    }
}

impl IntoLabel for AccountReason {
    fn label(&self) -> &'static str {
        self.code()
    }
}

/// The pace lowered itself: the partner answered 429 and didn't say how long to wait.
#[derive(Debug, Clone, Copy)]
pub struct RateLowered {
    /// Requests per second from now on; it climbs again.
    pub per_second: f64,
}

impl RateLowered {
    /// Log line.
    pub fn emit(self) {
        let per_second = (self.per_second * 10.0).round() / 10.0;
        info!(per_second, "too fast for the API: slower, and faster again bit by bit");
    }
}

/// The lane `bulk` is held, or goes on.
#[derive(Debug)]
pub struct BulkHeld {
    /// Why; `None`: it goes on.
    pub why: Option<String>,
}

impl BulkHeld {
    /// Log line.
    pub fn emit(self) {
        match self.why {
            Some(why) => info!("bulk is held: {why}"),
            None => info!("bulk goes on"),
        }
    }
}

/// The number of workers that share the pace has changed.
#[derive(Debug, Clone, Copy)]
pub struct FleetCounted {
    /// How many there are, this one included.
    pub workers: u32,
}

impl FleetCounted {
    /// Log line.
    pub fn emit(self) {
        info!(workers = self.workers, "the pace is shared by the workers on this queue");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::domain::Field;

    /// The fields of the one line that is logged meanwhile, as machines read it.
    fn line(tell: impl FnOnce()) -> serde_json::Value {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let written = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || buffer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, tell);
        let bytes = written.0.lock().unwrap().clone();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn an_upstreams_id_that_looks_like_a_person_is_hidden_and_an_error_says_its_field() {
        for (id, shown) in [
            ("crm-0012:7/b.c_d", "crm-0012:7/b.c_d"),
            ("jane@example.com", HIDDEN),
            ("+14155550132", HIDDEN),
            ("Jane Doe", HIDDEN),
            ("jané", HIDDEN),
        ] {
            let identity = crate::domain::job::Identity { job_id: Some(id.to_owned()), ..Default::default() };
            let problems = vec![
                Problem::of(Field::Email, "INVALID_EMAIL", "no"),
                Problem { field: Some("batchId".to_owned()), ..Problem::whole("INVALID_ID", "no") },
                Problem { field: Some("Jane Doe".to_owned()), ..Problem::whole("UNKNOWN_FIELD", "no") },
                Problem::whole("14155550199", "no"),
            ];
            let key = crate::domain::IdempotencyKey::of_canonical(b"x");
            let event = Event::of_invalid(problems, identity, key, Timestamp::from_unix_ms(0));
            let metrics = Metrics::new().unwrap();
            let line = line(|| JobFinished { event: &event, lane: Lane::Bulk }.emit(&metrics));
            assert_eq!(
                (line["job"].as_str(), line["errors"].as_str()),
                (Some(shown), Some("email:INVALID_EMAIL,batchId:INVALID_ID,(hidden):UNKNOWN_FIELD,OTHER"))
            );
        }
    }

    #[test]
    fn numbers_are_numbers_for_machines() {
        let (metrics, key, wait) = (Metrics::new().unwrap(), uuid::Uuid::nil(), Duration::from_millis(1_500));
        let retry = RetryScheduled { reason: "throttled", delay: wait, attempts: 2, job: None, key: &key };
        assert_eq!(line(|| retry.emit(&metrics))["delay_ms"], 1_500);
        assert_eq!(line(|| Throttled { news: Some(wait), advised: true }.emit(&metrics))["wait_ms"], 1_500);
        let at = Timestamp::from_unix_ms(0);
        let told = ApiAnswered { answer: ("created", None), status: Some(201), duration: wait, key: Some(&key), at };
        let line = line(|| told.emit(&metrics));
        assert_eq!((&line["duration_ms"], &line["status"]), (&1_500.into(), &201.into()));
    }

    #[test]
    fn no_class_of_an_answer_reads_like_the_outcome_of_a_job() {
        for read in [PageRead::Read, PageRead::Throttled, PageRead::Failed] {
            assert!(!["existing", "rejected", "failed"].contains(&read.label()), "{read:?}");
        }
    }
}
