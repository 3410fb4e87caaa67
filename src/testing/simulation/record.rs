//! What happened in a run, as the promises and the coverage need it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strum::VariantArray as _;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};
use uuid::Uuid;

use crate::domain::Answer;
use crate::domain::decide::LookUpCase;
use crate::telemetry::LookUpDecided;

#[derive(Debug, Clone, Copy)]
pub(super) struct SentRequest {
    pub(super) at: Duration,
    /// `None`: a page of the user list.
    pub(super) key: Option<Uuid>,
}

#[derive(Debug, Default)]
pub(super) struct RunLog {
    pub(super) sent: Vec<SentRequest>,
    /// By key: requests that may have been counted as attempts.
    pub(super) attempts: BTreeMap<Uuid, u32>,
    /// Promises that a deletion broke.
    pub(super) broken: Vec<String>,
    /// Keys that were answered "created".
    pub(super) answered_created: BTreeSet<Uuid>,
    /// By key: the faults that its job has met so far.
    marks: BTreeMap<Uuid, BTreeSet<&'static str>>,
    /// Keys whose user may be looked up.
    looking_up: BTreeSet<Uuid>,
    /// Pairs of a fault that a job had met and a decision that followed.
    pub(super) met: BTreeSet<(&'static str, &'static str)>,
    /// Decisions of jobs that had met no fault.
    pub(super) met_without_fault: BTreeSet<&'static str>,
    /// Digest of everything that happened, with order and time.
    pub(super) digest: u64,
    pub(super) lines: Vec<String>,
}

/// The record of a run. Clones are the same record.
#[derive(Debug, Clone)]
pub(super) struct RunRecord {
    log: Arc<Mutex<RunLog>>,
    start: Instant,
    is_verbose: bool,
}

impl RunRecord {
    pub(super) fn new(is_verbose: bool) -> Self {
        Self { log: Arc::default(), start: Instant::now(), is_verbose }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RunLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line about something that happened.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>12.3} {what}", self.now().as_secs_f64());
        let mut log = self.lock();
        // FNV-1a.
        for byte in line.bytes() {
            log.digest = (log.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_verbose {
            log.lines.push(line);
        }
    }

    /// Marks that a job has met a fault.
    pub(super) fn mark(&self, key: Uuid, fault: &'static str) {
        self.lock().marks.entry(key).or_default().insert(fault);
    }

    /// Returns whether a job has met a fault.
    pub(super) fn is_marked(&self, key: Uuid, fault: &'static str) -> bool {
        self.lock().marks.get(&key).is_some_and(|marks| marks.contains(fault))
    }

    /// Marks that every job whose user may be looked up has met a fault.
    pub(super) fn mark_looking_up(&self, fault: &'static str) {
        let log = &mut *self.lock();
        for key in &log.looking_up {
            log.marks.entry(*key).or_default().insert(fault);
        }
    }

    /// Adds a request; without a key it is a page of the user list.
    pub(super) fn sent(&self, key: Option<Uuid>) {
        let at = self.now();
        self.lock().sent.push(SentRequest { at, key });
    }

    /// Adds the answer to a creation.
    pub(super) fn answered(&self, key: Uuid, answer: &Answer) {
        let decision = match answer {
            Answer::Created { .. } => "created",
            Answer::Rejected { .. } => "refused",
            Answer::UserExists => "exists",
            Answer::KeyAlreadyUsed => "key_used",
            Answer::Unknown(_) => "unknown",
            Answer::Throttled { .. } => "throttled",
            Answer::Account(reason) if reason.may_have_created() => "page",
            Answer::Account(_) => "account",
            Answer::NotSent(_) => "not_sent",
        };
        self.note(format_args!("{key} answered: {decision}"));
        {
            let mut log = self.lock();
            match answer {
                Answer::Created { .. } => drop(log.answered_created.insert(key)),
                Answer::UserExists | Answer::KeyAlreadyUsed | Answer::Unknown(_) | Answer::Rejected { .. } => {
                    log.looking_up.insert(key);
                }
                _ => {}
            }
        }
        self.decided(key, decision);
    }

    fn decided(&self, key: Uuid, decision: &'static str) {
        let log = &mut *self.lock();
        match log.marks.get(&key) {
            Some(marks) => log.met.extend(marks.iter().map(|fault| (*fault, decision))),
            None => drop(log.met_without_fault.insert(decision)),
        }
    }
}

/// Reads the decisions of look-ups from the pipeline's own log lines.
impl Subscriber for RunRecord {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == LookUpDecided::TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut decision = LoggedDecision::default();
        event.record(&mut decision);
        let case = LookUpCase::VARIANTS.iter().find(|case| case.code() == decision.row);
        if let (Some(case), Ok(key)) = (case, Uuid::parse_str(&decision.key)) {
            self.note(format_args!("{key} decided: {}", case.code()));
            self.decided(key, case.code());
            self.lock().looking_up.remove(&key);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The fields of a log line about a decision.
#[derive(Default)]
struct LoggedDecision {
    key: String,
    row: String,
}

impl Visit for LoggedDecision {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "key" {
            self.key = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "row" {
            value.clone_into(&mut self.row);
        }
    }
}
