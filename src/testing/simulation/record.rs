//! What happened in a run, as the promises and the coverage need to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};
use uuid::Uuid;

use crate::domain::Answer;
use crate::telemetry::Decided;

/// A request that left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    pub(super) at: Duration,
    /// `None`: a page of the list.
    pub(super) key: Option<Uuid>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) departures: Vec<Departure>,
    /// By key: how many requests can have been counted as attempts.
    pub(super) attempts: BTreeMap<Uuid, u32>,
    /// By key: whether the answer "created" has come.
    pub(super) told: BTreeSet<Uuid>,
    /// By key: the faults that its job has met so far.
    marks: BTreeMap<Uuid, BTreeSet<&'static str>>,
    /// Keys whose user is being looked up.
    asking: BTreeSet<Uuid>,
    /// Which faults a job had met when it came to a decision.
    pub(super) met: BTreeSet<(&'static str, &'static str)>,
    /// Decisions that jobs came to without any fault.
    pub(super) unharmed: BTreeSet<&'static str>,
    /// A digest of everything that happened, in order and with its time.
    pub(super) digest: u64,
    pub(super) lines: Vec<String>,
}

/// The record of a run. Clones are the same record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    log: Arc<Mutex<Log>>,
    start: Instant,
    is_verbose: bool,
}

impl Record {
    pub(super) fn new(is_verbose: bool) -> Self {
        Self { log: Arc::default(), start: Instant::now(), is_verbose }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something happened.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>12.3} {what}", self.now().as_secs_f64());
        let mut log = self.lock();
        for byte in line.bytes() {
            log.digest = (log.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_verbose {
            log.lines.push(line);
        }
    }

    /// A job has met a fault.
    pub(super) fn mark(&self, key: Uuid, fault: &'static str) {
        self.lock().marks.entry(key).or_default().insert(fault);
    }

    /// Whether it has.
    pub(super) fn is_marked(&self, key: Uuid, fault: &'static str) -> bool {
        self.lock().marks.get(&key).is_some_and(|marks| marks.contains(fault))
    }

    /// All whose user is being looked up have.
    pub(super) fn mark_asking(&self, fault: &'static str) {
        let log = &mut *self.lock();
        for key in &log.asking {
            log.marks.entry(*key).or_default().insert(fault);
        }
    }

    pub(super) fn departed(&self, key: Option<Uuid>) {
        let at = self.now();
        self.lock().departures.push(Departure { at, key });
    }

    /// A creation was answered.
    pub(super) fn answered(&self, key: Uuid, answer: &Answer) {
        let row = match answer {
            Answer::Created { .. } => "created",
            Answer::Rejected { .. } => "refused",
            Answer::AlreadyThere => "exists",
            Answer::KeyAlreadyUsed => "key_used",
            Answer::Unknown(_) => "unknown",
            Answer::Throttled { .. } => "throttled",
            Answer::Account(reason) if reason.may_have_created() => "page",
            Answer::Account(_) => "account",
            Answer::NotSent(_) => "not_sent",
        };
        self.note(format_args!("{key} answered: {row}"));
        {
            let mut log = self.lock();
            match answer {
                Answer::Created { .. } => drop(log.told.insert(key)),
                Answer::AlreadyThere | Answer::KeyAlreadyUsed | Answer::Unknown(_) | Answer::Rejected { .. } => {
                    log.asking.insert(key);
                }
                _ => {}
            }
        }
        self.decided(key, row);
    }

    fn decided(&self, key: Uuid, row: &'static str) {
        let log = &mut *self.lock();
        match log.marks.get(&key) {
            Some(marks) => log.met.extend(marks.iter().map(|fault| (*fault, row))),
            None => drop(log.unharmed.insert(row)),
        }
    }
}

/// Reads the decisions off the pipeline's own log lines.
impl Subscriber for Record {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == Decided::TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut decision = Decision::default();
        event.record(&mut decision);
        let rows = crate::domain::decide::Row::ALL;
        let row = rows.into_iter().find(|row| row.code() == decision.row);
        if let (Some(row), Ok(key)) = (row, Uuid::parse_str(&decision.key)) {
            self.note(format_args!("{key} decided: {}", row.code()));
            self.decided(key, row.code());
            self.lock().asking.remove(&key);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Decision {
    key: String,
    row: String,
}

impl Visit for Decision {
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
