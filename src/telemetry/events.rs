//! The notable events.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::Metrics;
use crate::domain::answer::looks_like_a_code;
use crate::domain::{AccountReason, Answer, Event, Lane, Problem};

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

/// The partner answered a creation, or didn't.
#[derive(Debug)]
pub struct ApiAnswered<'a> {
    /// What came of it.
    pub answer: &'a Answer,
    /// From sending to knowing.
    pub duration: Duration,
    /// The job.
    pub key: &'a uuid::Uuid,
}

impl ApiAnswered<'_> {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        let answer = self.answer.label();
        metrics.requests.with_label_values(&["create", answer]).inc();
        metrics.request_duration.observe(self.duration.as_secs_f64());
        debug!(key = %self.key, answer, duration_ms = self.duration.as_millis(), "the API answered");
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
        let key = self.event.idempotency_key.map(|key| key.to_string());
        let codes: Vec<&str> = self.event.errors.iter().map(loggable_code).collect();
        info!(
            event = %id, key, outcome = event_type.short(), attempts, recovered, lane = self.lane.name(),
            errors = codes.join(","), "job finished"
        );
    }
}

/// The code of a problem, if it looks like one: the API's own text must never get into a log through a field
/// that was meant for a code.
fn loggable_code(problem: &Problem) -> &str {
    if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" }
}

/// A message that is no valid job.
#[derive(Debug)]
pub struct JobInvalid {
    /// How many problems it has.
    pub problems: usize,
    /// Where it waited.
    pub lane: Lane,
}

impl JobInvalid {
    /// Log line; the outcome counts the metric.
    pub fn emit(self) {
        warn!(problems = self.problems, lane = self.lane.name(), "a job is invalid and was not sent");
    }
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
    /// The job.
    pub key: &'a uuid::Uuid,
}

impl RetryScheduled<'_> {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retries.with_label_values(&[self.reason]).inc();
        info!(
            key = %self.key, reason = self.reason, delay_ms = self.delay.as_millis(), attempts = self.attempts,
            "will be tried again"
        );
    }
}

/// The partner asked for patience.
#[derive(Debug)]
pub struct Throttled {
    /// Nobody sends for this long.
    pub wait: Duration,
    /// Whether the partner said how long.
    pub advised: bool,
}

impl Throttled {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retries.with_label_values(&["throttled"]).inc();
        if self.wait.is_zero() && !self.advised {
            // An answer of the same moment as one that was told already.
            return;
        }
        info!(wait_ms = self.wait.as_millis(), advised = self.advised, "the API asks for patience (429)");
    }
}

/// The gate closed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChanged {
    /// It was paused and is open.
    Opened,
    /// It was open, or paused for another reason.
    Paused(AccountReason),
}

impl GateChanged {
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::Paused(reason) => {
                metrics.paused.with_label_values(&[reason.code()]).inc();
                warn!(reason = reason.code(), "paused, every job is kept: {}", reason.advice());
            }
            Self::Opened => info!("the account answers again: going on"),
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
}

impl BrokerLink<'_> {
    /// Log line.
    pub fn emit(self) {
        match self {
            Self::Connected { name } => info!(name, "connected to the broker"),
            Self::Away { name, reason } => warn!(name, reason, "can't connect to the broker; trying again"),
            Self::Broken { name, reason } => warn!(name, reason, "the connection to the broker broke; connecting anew"),
        }
    }
}

/// The partner answered a request for a page of the user list, or didn't.
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
    /// Log line and metric.
    pub fn emit(self, metrics: &Metrics) {
        let answer = self.label();
        metrics.requests.with_label_values(&["list", answer]).inc();
        debug!(answer, "the API answered for a page of the user list");
    }
}

impl IntoLabel for PageRead {
    fn label(&self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Throttled => "throttled",
            Self::Account(reason) => reason.code(),
            Self::Failed => "failed",
        }
    }
}

/// A sweep of the user list ended.
#[derive(Debug)]
pub struct SweepFinished {
    /// `Ok`: the list was read as far as it was needed.
    pub result: Result<(), &'static str>,
    /// Pages read.
    pub pages: u64,
    /// Jobs that waited for it.
    pub waiting: usize,
    /// How many of them it found.
    pub found: usize,
}

impl SweepFinished {
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

impl IntoLabel for AccountReason {
    fn label(&self) -> &'static str {
        self.code()
    }
}
