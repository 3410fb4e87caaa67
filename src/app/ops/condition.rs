//! How the worker is, in one word and in a sentence with what to do. The first that holds counts: what stops everything
//! comes before what slows it down.
//!
//! To add a condition: a variant, its place in [`Condition::of`], and its words.

use tokio::time::Instant;

use crate::domain::{AccountReason, KeySource, Timestamp};
use crate::pipeline::gate::GateState;
use crate::pipeline::rate::rate_limiter::BulkHold;
use crate::telemetry::status::Standing;
use crate::telemetry::{BrokerConnection, BrokerTrouble};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It was told to stop.
    Stopping,
    /// A connection to the broker is down.
    Disconnected(BrokerConnection, String),
    /// The broker has an alarm, and which.
    BrokerAlarm(String),
    /// The broker refuses outcomes, and where.
    BrokerRefusal(String),
    /// The account gets no answers.
    Paused(AccountReason),
    /// The outcomes aren't what was planned, and what they are; a person must look.
    Halted(String),
    /// The circuit breaker keeps requests back.
    CircuitOpen,
    /// The partner asked for patience, for so many seconds more.
    Throttled(u64),
    /// The workers that share the pace are being counted, and nothing leaves meanwhile.
    Starting,
    /// The lane `bulk` is held on purpose.
    BulkHold(BulkHold),
    /// There is no job to take; so many wait for their time.
    Waiting(u64),
    /// Jobs are on their way.
    Working,
}

impl Condition {
    /// What holds. `is_counted`: whether it knows with how many others it shares the pace. `mix`: the outcomes for which it
    /// halted, if it did.
    pub(crate) fn of(
        is_stopping: bool,
        broker: Option<BrokerTrouble>,
        gate: GateState,
        is_counted: bool,
        held: Option<BulkHold>,
        waiting: Option<u64>,
        mix: impl FnOnce() -> String,
    ) -> Self {
        match (broker, gate) {
            _ if is_stopping => Self::Stopping,
            (Some(BrokerTrouble::Down(connection, why)), _) => Self::Disconnected(connection, why),
            (Some(BrokerTrouble::Alarm(why)), _) => Self::BrokerAlarm(why),
            (Some(BrokerTrouble::Refusal(why)), _) => Self::BrokerRefusal(why),
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
        match self {
            Self::Stopping => "stopping",
            Self::Disconnected(..) => "disconnected",
            Self::BrokerAlarm(_) => "blocked",
            Self::BrokerRefusal(_) => "refused",
            Self::Paused(_) => "paused",
            Self::Halted(_) => "halted",
            Self::CircuitOpen => "broken",
            Self::Throttled(_) => "throttled",
            Self::Starting => "starting",
            Self::BulkHold(_) => "held",
            Self::Waiting(_) => "waiting",
            Self::Working => "working",
        }
    }

    /// Why, as a code.
    pub(crate) const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Disconnected(BrokerConnection::Consumer, _) => Some("broker_consumer_down"),
            Self::Disconnected(BrokerConnection::Publisher, _) => Some("broker_publisher_down"),
            Self::BrokerAlarm(_) => Some("broker_alarm"),
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

    /// Whether jobs can be worked on.
    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::BulkHold(_) | Self::Waiting(_) | Self::Working)
    }

    fn message(&self, key: KeySource) -> String {
        match self {
            Self::Stopping => "Stopping: what is on its way is finished, the rest stays on the queue".to_owned(),
            Self::Disconnected(BrokerConnection::Consumer, _) => {
                "No connection to the broker: no jobs come in".to_owned()
            }
            Self::Disconnected(BrokerConnection::Publisher, _) => {
                "No connection to the broker: outcomes wait to be published".to_owned()
            }
            Self::BrokerAlarm(_) => "The broker has an alarm: outcomes wait to be published".to_owned(),
            Self::BrokerRefusal(_) => "The broker refuses outcomes: they wait to be published".to_owned(),
            Self::Paused(reason) => format!("Paused: {}", split(*reason, key).0),
            Self::Halted(_) => "Halted: the outcomes are not what was planned".to_owned(),
            Self::CircuitOpen => "The API is down or slow: only a few trials are sent".to_owned(),
            Self::Throttled(_) => "The API asks for patience: going on by itself".to_owned(),
            Self::Starting => "Starting: the workers that share the pace are being counted".to_owned(),
            Self::BulkHold(BulkHold::ActiveHours { local, .. }) => {
                format!("Bulk waits until {local}: outside of the active hours")
            }
            Self::BulkHold(BulkHold::DailyQuota { .. }) => {
                "Bulk waits: the users of 24 hours have been created".to_owned()
            }
            Self::Waiting(0) => "Waiting: the queue is empty".to_owned(),
            Self::Waiting(_) => "Waiting: the jobs that are left are put off for later".to_owned(),
            Self::Working => "Working".to_owned(),
        }
    }

    fn advice(&self, key: KeySource) -> Option<String> {
        match self {
            Self::Disconnected(_, why) => Some(format!("it is tried again by itself: {why}")),
            Self::BrokerAlarm(why) => Some(format!("free memory or disk on the broker ({why}): it goes on by itself")),
            Self::BrokerRefusal(why) => Some(format!("{why}: it goes on by itself. Nobody is created meanwhile")),
            Self::Paused(reason) => Some(split(*reason, key).1),
            Self::Halted(mix) => Some(format!(
                "look at the last outcomes: {mix}. If they are all right, send SIGHUP to go on, or start it with --yes so that \
                 it doesn't halt again. Signups go on meanwhile"
            )),
            Self::CircuitOpen => {
                Some("nothing: it goes on by itself when the API is well, and no attempt is used up".to_owned())
            }
            Self::Starting => Some("nothing: it begins within seconds".to_owned()),
            Self::BulkHold(held) => Some(format!(
                "nothing: signups go on, and bulk by itself. To change it, set rate_limit.{} and send SIGHUP",
                held.code()
            )),
            Self::Throttled(seconds) => {
                Some(format!("nothing: it goes on in {seconds} s. If this comes often, lower rate_limit.rate"))
            }
            Self::Stopping | Self::Waiting(_) | Self::Working => None,
        }
    }

    /// For people and machines; `key`: where the API key is from.
    pub(crate) fn standing(&self, since: Timestamp, key: KeySource) -> Standing {
        Standing {
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
        }
    }
}

/// What a reason means, and what to do about it.
fn split(reason: AccountReason, key: KeySource) -> (String, String) {
    let advice = reason.advice(key);
    let (meaning, advice) = advice.split_once(": ").unwrap_or((&advice, &advice));
    (meaning.to_owned(), advice.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_stops_everything_comes_before_what_slows_it_down() {
        let broken = || Some(BrokerTrouble::Down(BrokerConnection::Publisher, "it broke".to_owned()));
        let alarm = || Some(BrokerTrouble::Alarm("low on disk".to_owned()));
        let refusal = || Some(BrokerTrouble::Refusal("a queue is full".to_owned()));
        let paused = GateState::Paused(AccountReason::PaymentRequired);
        let held = || Some(BulkHold::DailyQuota { until: Timestamp::from_unix_ms(0) });
        let throttled = GateState::Throttled(Instant::now() + Duration::from_millis(2_500));
        let mix = || "3 created, 17 existing".to_owned();
        for (condition, state, ready) in [
            (Condition::of(true, broken(), paused, true, held(), Some(0), mix), "stopping", false),
            (Condition::of(false, broken(), paused, true, held(), Some(0), mix), "disconnected", false),
            (Condition::of(false, alarm(), paused, true, held(), Some(0), mix), "blocked", false),
            (Condition::of(false, refusal(), paused, true, held(), Some(0), mix), "refused", false),
            (Condition::of(false, None, paused, true, held(), Some(0), mix), "paused", false),
            (Condition::of(false, None, GateState::Halted, true, held(), Some(0), mix), "halted", false),
            (Condition::of(false, None, GateState::CircuitOpen, true, held(), Some(0), mix), "broken", false),
            (Condition::of(false, None, throttled, true, held(), Some(0), mix), "throttled", true),
            (Condition::of(false, None, GateState::Open, false, held(), Some(0), mix), "starting", false),
            (Condition::of(false, None, GateState::Open, true, held(), Some(0), mix), "held", true),
            (Condition::of(false, None, GateState::Open, true, None, Some(0), mix), "waiting", true),
            (Condition::of(false, None, GateState::Open, true, None, None, mix), "working", true),
        ] {
            assert_eq!((condition.state(), condition.is_ready()), (state, ready), "{condition:?}");
        }
        assert_eq!(Condition::of(false, None, throttled, true, None, None, mix), Condition::Throttled(3));
    }

    #[test]
    fn whatever_keeps_it_from_working_has_a_code_and_says_what_to_do() {
        let since = Timestamp::from_unix_ms(0);
        for reason in AccountReason::ALL {
            let standing = Condition::Paused(reason).standing(since, KeySource::Variable);
            assert_eq!(standing.reason, Some(reason.code()));
            let whole = format!("{}: {}", standing.message, standing.advice.unwrap());
            assert_eq!(whole, format!("Paused: {}", reason.advice(KeySource::Variable)));
            assert!(!standing.ready);
        }
        let broken = Condition::Disconnected(BrokerConnection::Consumer, "no answer".to_owned())
            .standing(since, KeySource::Variable);
        assert_eq!(broken.reason, Some("broker_consumer_down"));
        assert_eq!(broken.advice.unwrap(), "it is tried again by itself: no answer");
        let halted = Condition::Halted("3 created, 17 existing".to_owned()).standing(since, KeySource::Variable);
        assert!(halted.advice.unwrap().starts_with("look at the last outcomes: 3 created, 17 existing. If"));
    }
}
