//! Events of single jobs, and of the outcome mix.

use std::time::Duration;

use tracing::field::display;
use tracing::{debug, info, warn};

use super::ms;
use crate::domain::answer::looks_like_a_code;
use crate::domain::decide::LookUpCase;
use crate::domain::job::MEMBERS;
use crate::domain::private::{HIDDEN, shown_id};
use crate::domain::{Event, Field, Lane, LinkLoss, Problem};
use crate::telemetry::Metrics;

#[derive(Debug)]
pub struct LookUpDecided<'a> {
    /// Row of the decision table.
    pub row: LookUpCase,
    /// The job's idempotency key.
    pub key: &'a uuid::Uuid,
}

impl LookUpDecided<'_> {
    /// Target of the log line. The simulation counts the rows by it.
    pub const TARGET: &'static str = "plu_onboard::protocol";

    pub fn emit(self) {
        debug!(target: LookUpDecided::TARGET, key = %self.key, row = self.row.code(), "job decided by look-up");
    }
}

#[derive(Debug)]
pub struct JobFinished<'a> {
    /// Its outcome.
    pub event: &'a Event,
    /// The lane it came from.
    pub lane: Lane,
    /// Whether an identical job had this outcome before, so that no request was sent.
    pub is_repeat: bool,
}

impl JobFinished<'_> {
    /// Writes the log line and updates the metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Event { event_type, id, attempts, recovered, link_missing, .. } = self.event;
        metrics.completed.with_label_values(&[event_type.short(), self.lane.name()]).inc();
        metrics.recovered.inc_by(u64::from(*recovered && !self.is_repeat));
        if let (Some(reason), false) = (link_missing, self.is_repeat) {
            let lost = metrics.links_lost.with_label_values(&[reason.code()]);
            lost.inc();
            log_lost_link(*reason, lost.get());
        }
        metrics.repeated.inc_by(u64::from(self.is_repeat));
        for problem in &self.event.errors {
            metrics.health.error(loggable_code(problem), self.event.time);
        }
        let key = self.event.idempotency_key.map(display);
        // Left out where they say nothing: this is the one line of every job.
        let recovered = recovered.then_some(true);
        let repeated = self.is_repeat.then_some(true);
        let errors = self.event.errors.iter().map(loggable).collect::<Vec<_>>();
        let errors = (!errors.is_empty()).then(|| errors.join(","));
        info!(
            job = shown_id(&self.event.job_id),
            event = %id,
            key,
            outcome = event_type.short(),
            attempts,
            recovered,
            link_missing = link_missing.map(LinkLoss::code),
            repeated,
            lane = self.lane.name(),
            errors,
            "job finished"
        );
    }
}

/// Logs the first lost link, the tenth, the hundredth and so on: `run` shows warnings only, and each job has its own
/// line.
fn log_lost_link(reason: LinkLoss, count: u64) {
    if count == 10_u64.pow(count.checked_ilog10().unwrap_or_default()) {
        warn!(reason = reason.code(), count, "users were created without a link: {}", reason.meaning());
    }
}

/// The API answered with a user that this worker has reported for another person.
#[derive(Debug)]
pub struct WrongUserAnswered<'a> {
    /// `create`, or `list` for a look-up.
    pub endpoint: &'static str,
    pub key: &'a uuid::Uuid,
}

impl WrongUserAnswered<'_> {
    pub fn emit(self, metrics: &Metrics) {
        metrics.wrong_users.with_label_values(&[self.endpoint]).inc();
        warn!(
            key = %self.key,
            endpoint = self.endpoint,
            "wrong user in an answer: its serviceId was reported for another person, so it isn't reported for this one; \
             is one idempotencyKey used for several persons, or does a gateway replay answers?"
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
    pub fn emit(self) {
        warn!(
            key = %self.key,
            rounds = self.rounds,
            "outlier job delayed: it alone gets an account-level answer, other jobs succeed"
        );
    }
}

/// Why the work halts, as the log, the console and the status page say it.
pub const HALT_CAUSE: &str = "too many rows were rejected, failed, existed before or have no link";

/// The outcome mix was checked. `mix` holds counts, fields and codes.
#[derive(Debug)]
pub enum OutcomeMixChecked {
    /// The canary's outcomes are within the limits.
    CanaryPassed {
        /// The outcomes, in words.
        mix: String,
    },
    /// See [`HALT_CAUSE`].
    Halted {
        /// The outcomes, in words.
        mix: String,
    },
}

impl OutcomeMixChecked {
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::CanaryPassed { mix } => info!(mix, "canary passed: the other jobs are sent"),
            Self::Halted { mix } => {
                metrics.paused.with_label_values(&["halted"]).inc();
                warn!(mix, "halted: {HALT_CAUSE}");
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
            let line = logged(|| JobFinished { event: &event, lane: Lane::Bulk, is_repeat: false }.emit(&metrics));
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
