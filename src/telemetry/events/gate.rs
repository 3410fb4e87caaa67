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

/// The API answered 503 with `Retry-After`.
#[derive(Debug)]
pub struct ApiOverloaded {
    /// Time until requests are sent again; `None` if this delay was logged already.
    pub delay: Option<Duration>,
}

impl ApiOverloaded {
    pub fn emit(self) {
        if let Some(delay) = self.delay {
            info!(wait_ms = ms(delay), "API overloaded (503): no request for {:.1} s", delay.as_secs_f64());
        }
    }
}

/// The gate closed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChanged {
    /// A pause ended.
    Resumed,
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
        /// Time to the next page of the user list that is read.
        open_for: Duration,
    },
    /// The circuit breaker closed.
    CircuitClosed,
    /// Creations are lost in a row.
    LinksBeingLost {
        /// How many so far.
        in_a_row: usize,
    },
    /// A creation was answered after they were lost in a row.
    LinksKept,
    /// No 429 came for a while.
    ThrottleEnded,
}

impl GateChanged {
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
            Self::Resumed => {
                metrics.circuit_breaker_open.set(0);
                info!(target: NOTICE_TARGET, "resumed: the account works again");
            }
            Self::CircuitOpened { failures, requests, open_for } => {
                metrics.circuit_breaker_open.set(1);
                warn!(
                    failures,
                    requests,
                    "circuit breaker open: {failures} of {requests} creations had no answer in time; the API is asked for \
                     a page of the user list in {} s, and when it answers, one creation is tried",
                    open_for.as_secs()
                );
            }
            Self::CircuitClosed => {
                metrics.circuit_breaker_open.set(0);
                info!(target: NOTICE_TARGET, "circuit breaker closed: the API answers again");
            }
            Self::LinksBeingLost { in_a_row } => warn!(
                in_a_row,
                "links are being lost: {in_a_row} creations in a row had no answer; fewer requests are in flight until \
                 one is answered"
            ),
            Self::LinksKept => info!(target: NOTICE_TARGET, "links are no longer lost: a creation was answered"),
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
