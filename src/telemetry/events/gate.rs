//! Events of the send gate and the rate limiter: what may be sent, and how fast.

use std::time::Duration;

use tracing::{info, warn};

use super::{NOTICE_TARGET, ms};
use crate::domain::AccountReason;
use crate::telemetry::Metrics;

/// The API answered 429.
#[derive(Debug)]
pub struct ApiThrottled {
    /// Time until requests are sent again; `None` if this throttling was logged already.
    pub delay: Option<Duration>,
    /// Whether the answer had a `Retry-After`.
    pub advised: bool,
}

impl ApiThrottled {
    /// Writes the log line and updates the metric.
    pub fn emit(self, metrics: &Metrics) {
        metrics.retries.with_label_values(&["throttled"]).inc();
        if let Some(delay) = self.delay {
            info!(
                wait_ms = ms(delay),
                advised = self.advised,
                "throttled (429): no request for {:.1} s",
                delay.as_secs_f64()
            );
        }
    }
}

/// The gate closed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChanged {
    /// A pause ended.
    Opened,
    /// A pause began, or its reason changed.
    Paused(AccountReason),
    /// An operator resumed, and the probe that was sent at once got an account-level answer too.
    StillPaused(AccountReason),
    /// The circuit breaker opened.
    CircuitOpened {
        /// Requests that had no answer in time.
        failures: u32,
        /// Requests that were counted.
        requests: u32,
        /// Time to the first trial requests.
        open_for: Duration,
    },
    /// The circuit breaker closed.
    CircuitClosed,
    /// No 429 came for a while.
    ThrottleEnded,
}

impl GateChanged {
    /// Writes the log line and updates the metric.
    pub fn emit(self, metrics: &Metrics) {
        match self {
            Self::Paused(reason) => {
                metrics.paused.with_label_values(&[reason.code()]).inc();
                let advice = reason.advice(metrics.health.key_source());
                warn!(reason = reason.code(), "paused: {advice}; every job is kept");
            }
            Self::StillPaused(reason) => {
                let advice = reason.advice(metrics.health.key_source());
                warn!(reason = reason.code(), "still paused after an immediate probe: {advice}");
            }
            Self::Opened => {
                metrics.circuit_breaker_open.set(0);
                info!(target: NOTICE_TARGET, "resumed: the account works again");
            }
            Self::CircuitOpened { failures, requests, open_for } => {
                metrics.circuit_breaker_open.set(1);
                warn!(
                    failures,
                    requests,
                    "circuit breaker open: {failures} of {requests} requests had no answer in time; next trial in {} s",
                    open_for.as_secs()
                );
            }
            Self::CircuitClosed => {
                metrics.circuit_breaker_open.set(0);
                info!(target: NOTICE_TARGET, "circuit breaker closed: the API answers again");
            }
            Self::ThrottleEnded => info!("no longer throttled: the API accepts requests again"),
        }
    }
}

/// The rate limiter lowered its rate, because of a 429 without `Retry-After`.
#[derive(Debug, Clone, Copy)]
pub struct RateLowered {
    /// Requests per second from now on; the rate rises again by itself.
    pub per_second: f64,
}

impl RateLowered {
    /// Writes the log line.
    pub fn emit(self) {
        let per_second = (self.per_second * 10.0).round() / 10.0;
        info!(per_second, "rate lowered after a 429 without Retry-After; it rises again step by step");
    }
}

/// The lane `bulk` was held or resumed.
#[derive(Debug)]
pub struct BulkHoldChanged {
    /// Why it is held; `None` if it resumed.
    pub why: Option<String>,
}

impl BulkHoldChanged {
    /// Writes the log line.
    pub fn emit(self) {
        match self.why {
            Some(why) => info!("bulk held: {why}"),
            None => info!("bulk resumed"),
        }
    }
}

/// The number of workers that share the rate limit changed.
#[derive(Debug, Clone, Copy)]
pub struct WorkersCounted {
    /// All workers on this queue, this one included.
    pub workers: u32,
}

impl WorkersCounted {
    /// Writes the log line.
    pub fn emit(self) {
        info!(workers = self.workers, "rate limit is shared by the workers on this queue");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::events::logged;

    #[test]
    fn a_wait_is_logged_as_a_number_and_in_words() {
        let metrics = Metrics::new().unwrap();
        let throttled = ApiThrottled { delay: Some(Duration::from_millis(1_500)), advised: true };
        let line = logged(|| throttled.emit(&metrics));
        assert_eq!(line["wait_ms"], 1_500);
        assert_eq!(line["message"], "throttled (429): no request for 1.5 s");
    }
}
