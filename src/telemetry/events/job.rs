//! Events of single jobs, and of the outcome mix.

use std::time::Duration;

use tracing::field::display;
use tracing::{debug, info, warn};

use super::ms;
use crate::domain::answer::looks_like_a_code;
use crate::domain::decide::LookUpCase;
use crate::domain::job::MEMBERS;
use crate::domain::private::{HIDDEN, shown_id};
use crate::domain::{Event, Field, Lane, Problem};
use crate::telemetry::Metrics;

/// A look-up decided what to do with a job.
#[derive(Debug)]
pub struct LookupDecided<'a> {
    /// Row of the decision table.
    pub row: LookUpCase,
    /// The job's idempotency key.
    pub key: &'a uuid::Uuid,
}

impl LookupDecided<'_> {
    /// Target of the log line. The simulation counts the rows by it.
    pub const TARGET: &'static str = "plu_onboard::protocol";

    /// Writes the log line.
    pub fn emit(self) {
        debug!(target: LookupDecided::TARGET, key = %self.key, row = self.row.code(), "job decided by look-up");
    }
}

/// A job finished.
#[derive(Debug)]
pub struct JobFinished<'a> {
    /// Its outcome.
    pub event: &'a Event,
    /// The lane it came from.
    pub lane: Lane,
}

impl JobFinished<'_> {
    /// Writes the log line and updates the metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Event { event_type, id, attempts, recovered, .. } = self.event;
        metrics.completed.with_label_values(&[event_type.short(), self.lane.name()]).inc();
        metrics.recovered.inc_by(u64::from(*recovered));
        for problem in &self.event.errors {
            metrics.health.error(loggable_code(problem), self.event.time);
        }
        let key = self.event.idempotency_key.map(display);
        // Left out where they say nothing: this is the one line of every job.
        let recovered = recovered.then_some(true);
        let errors = self.event.errors.iter().map(loggable).collect::<Vec<_>>();
        let errors = (!errors.is_empty()).then(|| errors.join(","));
        info!(
            job = shown_id(&self.event.job_id),
            event = %id,
            key,
            outcome = event_type.short(),
            attempts,
            recovered,
            lane = self.lane.name(),
            errors,
            "job finished"
        );
    }
}

/// A problem's field and code. A field that isn't known may be named after a person, and is hidden.
fn loggable(problem: &Problem) -> String {
    let code = loggable_code(problem);
    let is_known = |field: &str| Field::from_name(field).is_some() || MEMBERS.contains(&field);
    match problem.field.as_deref() {
        None => code.to_owned(),
        Some(field) if is_known(field) => format!("{field}:{code}"),
        Some(_) => format!("{HIDDEN}:{code}"),
    }
}

/// The problem's code; `OTHER` if it doesn't look like one, because the API may put text about a person there.
fn loggable_code(problem: &Problem) -> &str {
    if looks_like_a_code(&problem.code) { &problem.code } else { "OTHER" }
}

/// A retry of a job was scheduled.
#[derive(Debug)]
pub struct RetryScheduled<'a> {
    /// Why, as a code.
    pub reason: &'static str,
    /// Time until the retry.
    pub delay: Duration,
    /// Attempts so far.
    pub attempts: u32,
    /// The upstream's reference.
    pub job: Option<&'a str>,
    /// The job's idempotency key.
    pub key: &'a uuid::Uuid,
}

impl RetryScheduled<'_> {
    /// Writes the log line and updates the metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retries.with_label_values(&[self.reason]).inc();
        info!(
            job = self.job.map(shown_id),
            key = %self.key,
            reason = self.reason,
            delay_ms = ms(self.delay),
            attempts = self.attempts,
            "retry scheduled"
        );
    }
}

/// A job was delayed because it alone gets an account-level answer while other jobs succeed.
#[derive(Debug)]
pub struct OutlierDelayed<'a> {
    /// How often this job was delayed for it, this time included.
    pub rounds: u32,
    /// The job's idempotency key.
    pub key: &'a uuid::Uuid,
}

impl OutlierDelayed<'_> {
    /// Writes the log line.
    pub fn emit(self) {
        warn!(
            key = %self.key,
            rounds = self.rounds,
            "outlier job delayed: it alone gets an account-level answer, other jobs succeed"
        );
    }
}

/// The outcome mix was checked. `mix` holds counts, fields and codes.
#[derive(Debug)]
pub enum OutcomeMixChecked {
    /// The canary's outcomes are within the limits.
    CanaryPassed {
        /// The outcomes, in words.
        mix: String,
    },
    /// Too many outcomes are rejected or existing.
    Halted {
        /// The outcomes, in words.
        mix: String,
    },
}

impl OutcomeMixChecked {
    /// Writes the log line and updates the metric.
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::CanaryPassed { mix } => info!(mix, "canary passed: the other jobs are sent"),
            Self::Halted { mix } => {
                metrics.paused.with_label_values(&["halted"]).inc();
                warn!(mix, "halted: too many jobs were rejected or exist already");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{IdempotencyKey, Timestamp, job::Identity};
    use crate::telemetry::events::logged;

    #[test]
    fn ids_and_fields_that_may_name_a_person_are_hidden_in_the_log() {
        for (id, shown) in [
            ("crm-0012:7/b.c_d", "crm-0012:7/b.c_d"),
            ("jane@example.com", HIDDEN),
            ("+14155550132", HIDDEN),
            ("Jane Doe", HIDDEN),
            ("jané", HIDDEN),
        ] {
            let identity = Identity { job_id: Some(id.to_owned()), ..Default::default() };
            let problems = vec![
                Problem::of(Field::Email, "INVALID_EMAIL", "no"),
                Problem { field: Some("batchId".to_owned()), ..Problem::whole("INVALID_ID", "no") },
                Problem { field: Some("Jane Doe".to_owned()), ..Problem::whole("UNKNOWN_FIELD", "no") },
                Problem::whole("14155550199", "no"),
            ];
            let key = IdempotencyKey::of_canonical(b"x");
            let event = Event::of_invalid(problems, identity, key, Timestamp::from_unix_ms(0));
            let metrics = Metrics::new().unwrap();
            let line = logged(|| JobFinished { event: &event, lane: Lane::Bulk }.emit(&metrics));
            assert_eq!(
                (line["job"].as_str(), line["errors"].as_str()),
                (Some(shown), Some("email:INVALID_EMAIL,batchId:INVALID_ID,(hidden):UNKNOWN_FIELD,OTHER"))
            );
        }
    }

    #[test]
    fn a_delay_is_logged_as_a_number() {
        let (metrics, key) = (Metrics::new().unwrap(), uuid::Uuid::nil());
        let delay = Duration::from_millis(1_500);
        let retry = RetryScheduled { reason: "throttled", delay, attempts: 2, job: None, key: &key };
        assert_eq!(logged(|| retry.emit(&metrics))["delay_ms"], 1_500);
    }
}
