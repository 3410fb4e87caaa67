//! Events of the partner API: answers, its clock, the user list.

use std::time::Duration;

use tracing::field::display;
use tracing::{debug, info, warn};

use super::{NOTICE_TARGET, ms};
use crate::domain::{AccountReason, Answer, Timestamp};
use crate::telemetry::Metrics;

impl Answer {
    /// Error code if the API, the account or the network failed; `None` for an answer about the job.
    pub fn error_code(&self) -> Option<&'static str> {
        match self {
            Self::Account(_) | Self::Throttled { .. } | Self::Unknown(_) => Some(self.code()),
            Self::NotSent(why) => Some(why.code()),
            _ => None,
        }
    }
}

/// A request to the partner ended, with or without an answer.
#[derive(Debug)]
pub struct ApiAnswered<'a> {
    /// Code of the answer, and the error code if the API, the account or the network failed.
    pub answer: (&'static str, Option<&'static str>),
    /// HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
    /// Time from sending the request to its end.
    pub duration: Duration,
    /// Idempotency key of a creation; `None` for a page of the user list.
    pub key: Option<&'a uuid::Uuid>,
    /// When the request ended.
    pub at: Timestamp,
}

impl ApiAnswered<'_> {
    /// Writes the log line and updates the metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { answer: (answer, error_code), status, duration, key, at } = self;
        let endpoint = if key.is_some() { "create" } else { "list" };
        record(metrics, endpoint, (answer, error_code), status, duration, at);
        let key = key.map(display);
        debug!(key, endpoint, answer, error_code, status, duration_ms = ms(duration), "API request finished");
    }
}

/// A request to delete a user ended, with or without an answer.
#[derive(Debug)]
pub struct DeletionAnswered {
    /// Code of the answer, and the error code if the API, the account or the network failed.
    pub answer: (&'static str, Option<&'static str>),
    /// HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
    /// Time from sending the request to its end.
    pub duration: Duration,
    /// When the request ended.
    pub at: Timestamp,
}

impl DeletionAnswered {
    /// Writes the log line and updates the metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { answer, status, duration, at } = self;
        record(metrics, "delete", answer, status, duration, at);
        let (answer, error_code) = answer;
        debug!(endpoint = "delete", answer, error_code, status, duration_ms = ms(duration), "API request finished");
    }
}

fn record(
    metrics: &Metrics,
    endpoint: &'static str,
    (answer, error_code): (&'static str, Option<&'static str>),
    status: Option<u16>,
    duration: Duration,
    at: Timestamp,
) {
    let label = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    metrics.requests.with_label_values(&[endpoint, answer, &label]).inc();
    metrics.request_duration.with_label_values(&[endpoint]).observe(duration.as_secs_f64());
    if let Some(error_code) = error_code {
        metrics.health.error(&error_code.to_uppercase(), at);
    }
}

/// The partner's clock and this machine's differ by more than the settings allow.
#[derive(Debug, Clone, Copy)]
pub struct ClocksDiffer {
    /// Seconds by which the partner's clock is ahead; negative if it is behind.
    pub seconds: i64,
    /// The setting `api.clock_skew_s`.
    pub tolerance: Duration,
}

impl ClocksDiffer {
    /// Writes the log line. The metric is set with each answer.
    pub fn emit(self) {
        warn!(
            seconds = self.seconds,
            clock_skew_s = self.tolerance.as_secs(),
            "partner clock differs from this machine's by more than api.clock_skew_s: the ages of users are corrected by \
             the difference; synchronise this machine's clock (NTP) or raise api.clock_skew_s"
        );
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum UserListPageResult {
    Read,
    /// The API answered 429.
    Throttled,
    /// An account-level answer.
    #[strum(transparent)]
    Account(AccountReason),
    /// No answer, or one that can't be used. Not named "failed": that is the outcome of a job.
    #[strum(serialize = "list_not_read")]
    Failed,
}

impl UserListPageResult {
    /// Name in labels and log lines.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// Error code; `None` if the page was read.
    pub fn error_code(self) -> Option<&'static str> {
        match self {
            Self::Read => None,
            Self::Account(AccountReason::Unreachable(why)) => Some(why.code()),
            _ => Some(self.code()),
        }
    }
}

/// The partner refuses the user list with an account-level answer while it creates users (`Some`), or the list can be
/// read again (`None`).
#[derive(Debug, Clone, Copy)]
pub struct UserListRefused(pub Option<AccountReason>);

impl UserListRefused {
    pub fn emit(self, metrics: &Metrics) {
        metrics.user_list_refused.set(i64::from(self.0.is_some()));
        match self.0 {
            Some(reason) => warn!(
                reason = reason.code(),
                "user list refused, though users can be created: jobs that need a look-up wait, no attempt is used up; ask \
                 Plu to let this key read the list (GET v1/partner/card/users)"
            ),
            None => info!(target: NOTICE_TARGET, "user list can be read again"),
        }
    }
}

/// A user list scan is still running.
#[derive(Debug)]
pub struct ScanProgressed {
    /// Users read.
    pub read: u64,
    /// Users in the list.
    pub total: u64,
    /// Jobs that wait for the scan.
    pub waiting: usize,
}

impl ScanProgressed {
    pub fn emit(self) {
        let Self { read, total, waiting } = self;
        info!(target: NOTICE_TARGET, read, total, waiting, "user list scan in progress");
    }
}

/// A user list scan ended.
#[derive(Debug)]
pub struct ScanFinished {
    /// `Ok` if the list was read as far as it was needed; otherwise why not.
    pub result: Result<(), &'static str>,
    /// Pages read.
    pub pages: u64,
    /// Jobs that waited for the scan.
    pub waiting: usize,
    /// How many of them have a user in the list.
    pub found: usize,
}

impl ScanFinished {
    pub fn emit(self, metrics: &Metrics) {
        let Self { result, pages, waiting, found } = self;
        match result {
            Ok(()) => {
                metrics.user_list_scans.with_label_values(&["complete"]).inc();
                info!(pages, waiting, found, "user list scan complete");
            }
            Err(reason) => {
                metrics.user_list_scans.with_label_values(&["aborted"]).inc();
                warn!(pages, waiting, found, reason, "user list scan aborted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::events::logged;

    #[test]
    fn status_and_duration_are_logged_as_numbers() {
        let (metrics, key) = (Metrics::new().unwrap(), uuid::Uuid::nil());
        let answered = ApiAnswered {
            answer: ("created", None),
            status: Some(201),
            duration: Duration::from_millis(1_500),
            key: Some(&key),
            at: Timestamp::from_unix_ms(0),
        };
        let line = logged(|| answered.emit(&metrics));
        assert_eq!((&line["duration_ms"], &line["status"]), (&1_500.into(), &201.into()));
    }

    #[test]
    fn no_code_of_a_list_answer_is_the_name_of_a_job_outcome() {
        for result in [UserListPageResult::Read, UserListPageResult::Throttled, UserListPageResult::Failed] {
            assert!(!["existing", "rejected", "failed"].contains(&result.code()), "{result:?}");
        }
    }
}
