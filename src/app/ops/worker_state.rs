//! The state of a worker: one word, a reason, and a sentence with what to do.
//!
//! Several conditions may hold at once. [`WorkerState::of`] returns the most severe: what stops all work comes before
//! what slows it down. To add a state: a variant, its place in [`WorkerState::of`], and its texts.

use tokio::time::Instant;

use crate::domain::{AccountReason, KeySource, Timestamp};
use crate::pipeline::gate::GateState;
use crate::pipeline::rate::rate_limiter::BulkHold;
use crate::telemetry::status::WorkerStatus;
use crate::telemetry::{BrokerConnection, HALT_CAUSE, QueueTrouble};

#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum WorkerState {
    /// A signal has stopped it.
    Stopping,
    /// A connection to the broker is down, for this reason.
    Disconnected(BrokerConnection, String),
    /// The broker has this alarm.
    #[strum(serialize = "blocked")]
    BrokerAlarm(String),
    /// The broker doesn't confirm outcomes.
    #[strum(serialize = "blocked")]
    BrokerSilent,
    /// Outcomes can't be written to the embedded queue or its events file, for this reason.
    #[strum(serialize = "blocked")]
    StorageFailure(String),
    /// The broker refuses outcomes, for this reason.
    #[strum(serialize = "refused")]
    BrokerRefusal(String),
    /// The account can't be used, or the API can't be reached.
    Paused(AccountReason),
    /// Too many bad outcomes, which are these; an operator must look.
    Halted(String),
    CircuitOpen,
    /// The API asked to wait this many seconds more (429).
    Throttled(u64),
    /// The workers that share the rate limit are being counted; no request is sent meanwhile.
    Starting,
    /// The lane `bulk` is held by a setting.
    #[strum(serialize = "held")]
    BulkHold(BulkHold),
    /// There is no job to take; this many wait for their delayed retry.
    Waiting(u64),
    Working,
}

impl WorkerState {
    /// The most severe condition. `is_counted`: whether the number of workers that share the rate limit is known.
    /// `waiting`: there is no job to take, and this many are delayed. `mix`: the outcomes for which it halted.
    pub(crate) fn of(
        is_stopping: bool,
        broker: Option<QueueTrouble>,
        gate: GateState,
        is_counted: bool,
        held: Option<BulkHold>,
        waiting: Option<u64>,
        mix: impl FnOnce() -> String,
    ) -> Self {
        match (broker, gate) {
            _ if is_stopping => Self::Stopping,
            (Some(QueueTrouble::Down(connection, why)), _) => Self::Disconnected(connection, why),
            (Some(QueueTrouble::Alarm(why)), _) => Self::BrokerAlarm(why),
            (Some(QueueTrouble::Refusal(why)), _) => Self::BrokerRefusal(why),
            (Some(QueueTrouble::Silent), _) => Self::BrokerSilent,
            (Some(QueueTrouble::Storage(why)), _) => Self::StorageFailure(why),
            (None, GateState::Paused(reason)) => Self::Paused(reason),
            (None, GateState::Halted) => Self::Halted(mix()),
            (None, GateState::CircuitOpen) => Self::CircuitOpen,
            (None, GateState::Throttled(until)) => {
                Self::Throttled(until.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64)
            }
            (None, GateState::Open) if !is_counted => Self::Starting,
            (None, GateState::Open) => match (held, waiting) {
                (Some(held), _) => Self::BulkHold(held),
                (None, Some(delayed)) => Self::Waiting(delayed),
                (None, None) => Self::Working,
            },
        }
    }

    /// The state in one word.
    pub(crate) const fn state(&self) -> &'static str {
        self.into_str()
    }

    /// Why it is in this state, as a code.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Disconnected(BrokerConnection::Consumer, _) => Some("broker_consumer_down"),
            Self::Disconnected(BrokerConnection::Publisher, _) => Some("broker_publisher_down"),
            Self::BrokerAlarm(_) => Some("broker_alarm"),
            Self::BrokerSilent => Some("broker_silent"),
            Self::StorageFailure(_) => Some("queue_unwritable"),
            Self::BrokerRefusal(_) => Some("broker_refuses"),
            Self::Paused(reason) => Some(reason.code()),
            Self::Halted(_) => Some("halted"),
            Self::CircuitOpen => Some("api_down_or_slow"),
            Self::Throttled(_) => Some("rate_limited"),
            Self::Starting => Some("counting_workers"),
            Self::BulkHold(held) => Some(held.code()),
            Self::Stopping | Self::Waiting(_) | Self::Working => None,
        }
    }

    /// Whether jobs can be processed: the answer of `/readyz`.
    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::BulkHold(_) | Self::Waiting(_) | Self::Working)
    }

    fn message(&self, key: KeySource) -> String {
        match self {
            Self::Stopping => "Stopping: requests in flight are finished, the other jobs stay on the queue".to_owned(),
            Self::Disconnected(BrokerConnection::Consumer, _) => {
                "No connection to the broker: no jobs are received".to_owned()
            }
            Self::Disconnected(BrokerConnection::Publisher, _) => {
                "No connection to the broker: outcomes wait to be published".to_owned()
            }
            Self::BrokerAlarm(_) => "The broker has an alarm: outcomes wait to be published".to_owned(),
            Self::BrokerRefusal(_) => "The broker refuses outcomes: they wait to be published".to_owned(),
            Self::BrokerSilent => "The broker doesn't confirm outcomes: they wait to be confirmed".to_owned(),
            Self::StorageFailure(_) => "Outcomes can't be written: they wait in memory".to_owned(),
            Self::Paused(reason) => format!("Paused: {}", meaning_and_advice(*reason, key).0),
            Self::Halted(_) => format!("Halted: {HALT_CAUSE}"),
            Self::CircuitOpen => {
                "Circuit breaker open: the API is down or slow, and no creation is sent until it answers a page of the \
                 user list"
                    .to_owned()
            }
            Self::Throttled(_) => "Throttled: the API asks to wait".to_owned(),
            Self::Starting => "Starting: the workers that share the rate limit are being counted".to_owned(),
            Self::BulkHold(BulkHold::ActiveHours { local, .. }) => {
                format!("Bulk is held until {local}: outside of the active hours")
            }
            Self::BulkHold(BulkHold::DailyQuota { .. }) => {
                "Bulk is held: the daily quota of users is used up".to_owned()
            }
            Self::Waiting(0) => "Waiting: the queue is empty".to_owned(),
            Self::Waiting(_) => "Waiting: the remaining jobs wait for their delayed retry".to_owned(),
            Self::Working => "Working".to_owned(),
        }
    }

    fn advice(&self, key: KeySource) -> Option<String> {
        match self {
            Self::Disconnected(_, why) => Some(format!("nothing: it reconnects by itself. Last error: {why}")),
            Self::BrokerAlarm(why) => Some(format!("free memory or disk on the broker ({why}): it resumes by itself")),
            Self::BrokerRefusal(why) => Some(format!("{why}: it resumes by itself. No user is created meanwhile")),
            Self::BrokerSilent => Some(
                "look at the broker and the network to it: it resumes by itself. No user is created meanwhile"
                    .to_owned(),
            ),
            Self::StorageFailure(why) => {
                Some(format!("{why}. It resumes by itself; don't kill it before that. No user is created meanwhile"))
            }
            Self::Paused(reason) => Some(meaning_and_advice(*reason, key).1),
            Self::Halted(mix) => Some(format!(
                "look at the last outcomes: {mix}. If they are as expected, send SIGHUP to resume, or start it with \
                 --yes so that it doesn't halt again. Signups continue meanwhile"
            )),
            Self::CircuitOpen => {
                Some("nothing: it resumes by itself when the API answers well, and no attempt is used up".to_owned())
            }
            Self::Starting => Some("nothing: it starts within seconds".to_owned()),
            Self::BulkHold(held) => Some(format!(
                "nothing: signups continue, and bulk resumes by itself. To change it, set rate_limit.{} and send \
                 SIGHUP",
                held.code()
            )),
            Self::Throttled(seconds) => {
                Some(format!("nothing: it resumes in {seconds} s. If this happens often, lower rate_limit.rate"))
            }
            Self::Stopping | Self::Waiting(_) | Self::Working => None,
        }
    }

    /// The state with its texts. `key`: where the API key is from, which decides how it can be changed.
    pub(crate) fn status(&self, since: Timestamp, key: KeySource) -> WorkerStatus {
        WorkerStatus {
            ready: self.is_ready(),
            state: self.state(),
            reason: self.reason(),
            since,
            until: match self {
                Self::BulkHold(held) => Some(held.until()),
                _ => None,
            },
            message: self.message(key),
            advice: self.advice(key),
            warning: None,
        }
    }
}

/// The warning that links are being lost: this many creations in a row had no answer.
pub(super) fn links_being_lost(in_a_row: usize) -> String {
    format!(
        "Links are being lost: {in_a_row} creations in a row had no answer. Fewer requests are in flight until one is \
         answered; look at the network, and ask Plu"
    )
}

/// Splits the text of a reason into what it means and what to do.
fn meaning_and_advice(reason: AccountReason, key: KeySource) -> (String, String) {
    let text = reason.advice(key);
    let (meaning, advice) = text.split_once(": ").unwrap_or((&text, &text));
    (meaning.to_owned(), advice.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_most_severe_condition_is_shown() {
        let down = || Some(QueueTrouble::Down(BrokerConnection::Publisher, "it broke".to_owned()));
        let alarm = || Some(QueueTrouble::Alarm("low on disk".to_owned()));
        let refusal = || Some(QueueTrouble::Refusal("a queue is full".to_owned()));
        let storage = || Some(QueueTrouble::Storage("the disk is full".to_owned()));
        let paused = GateState::Paused(AccountReason::PaymentRequired);
        let held = || Some(BulkHold::DailyQuota { until: Timestamp::from_unix_ms(0) });
        let throttled = GateState::Throttled(Instant::now() + Duration::from_millis(2_500));
        let mix = || "3 created, 17 existing".to_owned();
        for (worker_state, state, ready) in [
            (WorkerState::of(true, down(), paused, true, held(), Some(0), mix), "stopping", false),
            (WorkerState::of(false, down(), paused, true, held(), Some(0), mix), "disconnected", false),
            (WorkerState::of(false, alarm(), paused, true, held(), Some(0), mix), "blocked", false),
            (WorkerState::of(false, refusal(), paused, true, held(), Some(0), mix), "refused", false),
            (WorkerState::of(false, Some(QueueTrouble::Silent), paused, true, held(), None, mix), "blocked", false),
            (WorkerState::of(false, storage(), paused, true, held(), Some(0), mix), "blocked", false),
            (WorkerState::of(false, None, paused, true, held(), Some(0), mix), "paused", false),
            (WorkerState::of(false, None, GateState::Halted, true, held(), Some(0), mix), "halted", false),
            (WorkerState::of(false, None, GateState::CircuitOpen, true, held(), Some(0), mix), "circuit_open", false),
            (WorkerState::of(false, None, throttled, true, held(), Some(0), mix), "throttled", true),
            (WorkerState::of(false, None, GateState::Open, false, held(), Some(0), mix), "starting", false),
            (WorkerState::of(false, None, GateState::Open, true, held(), Some(0), mix), "held", true),
            (WorkerState::of(false, None, GateState::Open, true, None, Some(0), mix), "waiting", true),
            (WorkerState::of(false, None, GateState::Open, true, None, None, mix), "working", true),
        ] {
            assert_eq!((worker_state.state(), worker_state.is_ready()), (state, ready), "{worker_state:?}");
        }
        assert_eq!(WorkerState::of(false, None, throttled, true, None, None, mix), WorkerState::Throttled(3));
    }

    #[test]
    fn every_pause_has_a_code_and_says_what_to_do() {
        let since = Timestamp::from_unix_ms(0);
        for reason in AccountReason::ALL {
            let status = WorkerState::Paused(reason).status(since, KeySource::Variable);
            assert_eq!(status.reason, Some(reason.code()));
            let whole = format!("{}: {}", status.message, status.advice.unwrap());
            assert_eq!(whole, format!("Paused: {}", reason.advice(KeySource::Variable)));
            assert!(!status.ready);
        }
        let disconnected = WorkerState::Disconnected(BrokerConnection::Consumer, "no answer".to_owned())
            .status(since, KeySource::Variable);
        assert_eq!(disconnected.reason, Some("broker_consumer_down"));
        assert_eq!(disconnected.advice.unwrap(), "nothing: it reconnects by itself. Last error: no answer");
        let halted = WorkerState::Halted("3 created, 17 existing".to_owned()).status(since, KeySource::Variable);
        assert!(halted.advice.unwrap().starts_with("look at the last outcomes: 3 created, 17 existing. If"));
    }
}
