//! What no number tells: why a connection is down, which errors came last, and where the API key is from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::answer::looks_like_a_code;
use crate::domain::{KeySource, Timestamp};

/// Most codes that are remembered. The least recent one makes room.
const CODES_MAX: usize = 16;

/// A connection to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerConnection {
    /// Takes jobs.
    Consumer,
    /// Publishes outcomes.
    Publisher,
}

impl BrokerConnection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Consumer, Self::Publisher];

    /// Its name in labels and log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Publisher => "publisher",
        }
    }
}

/// What is wrong with the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerTrouble {
    /// A connection is down, and why.
    Down(BrokerConnection, String),
    /// It takes no messages (`connection.blocked`), and why.
    Alarm(String),
    /// It refuses outcomes, or has no queue for them: where, and what is wrong there.
    Refusal(String),
}

/// An error that happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorSeen {
    /// Its code; never a text, which might be about somebody.
    pub code: String,
    /// How often since the worker started, or since it was last forgotten.
    pub count: u64,
    /// When it happened last.
    pub last: Timestamp,
}

#[derive(Debug, Default)]
struct Inner {
    /// Most recent last.
    errors: Vec<ErrorSeen>,
    links: [Link; 2],
    /// What alarm the broker has, as it says on a connection.
    blocked: [Option<String>; 2],
    /// Where it refuses outcomes.
    refusal: Option<String>,
    key_source: KeySource,
}

#[derive(Debug, Default, Clone)]
struct Link {
    was_up: bool,
    /// `None`: it is up, or not in use.
    down: Option<String>,
}

/// Shared by everything that tells and everything that shows.
#[derive(Debug, Clone, Default)]
pub struct HealthState(Arc<Mutex<Inner>>);

impl HealthState {
    /// Remembers an error by its code.
    pub(super) fn error(&self, code: &str, at: Timestamp) {
        let code = if looks_like_a_code(code) { code } else { "OTHER" };
        let errors = &mut self.lock().errors;
        let known = errors.iter().position(|error| error.code == code).map(|index| errors.remove(index));
        let count = known.map_or(0, |error| error.count) + 1;
        if errors.len() == CODES_MAX {
            errors.remove(0);
        }
        errors.push(ErrorSeen { code: code.to_owned(), count, last: at });
    }

    /// The errors, the most recent first.
    pub fn errors(&self) -> Vec<ErrorSeen> {
        self.lock().errors.iter().rev().cloned().collect()
    }

    /// Where the API key in use is from.
    pub fn set_key_source(&self, source: KeySource) {
        self.lock().key_source = source;
    }

    /// Where the API key in use is from.
    pub fn key_source(&self) -> KeySource {
        self.lock().key_source
    }

    /// A connection is up, or down for a reason. Returns whether it is up again.
    pub(super) fn set_link(&self, connection: BrokerConnection, state: Result<(), &str>) -> bool {
        let link = &mut self.lock().links[connection as usize];
        let is_again = state.is_ok() && link.was_up && link.down.is_some();
        link.was_up |= state.is_ok();
        link.down = state.err().map(str::to_owned);
        is_again
    }

    /// The broker takes nothing on a connection, and why; `None`: it does.
    pub(super) fn set_blocked(&self, connection: BrokerConnection, alarm: Option<&str>) {
        self.lock().blocked[connection as usize] = alarm.map(str::to_owned);
    }

    /// The broker refuses outcomes, and where; `None`: it takes them.
    pub(super) fn set_refusal(&self, refusal: Option<&str>) {
        self.lock().refusal = refusal.map(str::to_owned);
    }

    /// Whether the broker takes nothing on a connection that is up.
    pub(super) fn takes_nothing(&self, connection: BrokerConnection) -> bool {
        let inner = self.lock();
        inner.blocked[connection as usize].is_some()
            || connection == BrokerConnection::Publisher && inner.refusal.is_some()
    }

    /// What is wrong with the broker, if anything is: a connection that is down before an alarm, and that before a refusal.
    pub fn broker_trouble(&self) -> Option<BrokerTrouble> {
        if let Some((connection, reason)) = self.broken_link() {
            return Some(BrokerTrouble::Down(connection, reason));
        }
        let inner = self.lock();
        let alarm = inner.blocked.iter().flatten().next().cloned().map(BrokerTrouble::Alarm);
        alarm.or_else(|| inner.refusal.clone().map(BrokerTrouble::Refusal))
    }

    /// The first connection that is down, and why.
    pub fn broken_link(&self) -> Option<(BrokerConnection, String)> {
        let inner = self.lock();
        BrokerConnection::ALL
            .into_iter()
            .find_map(|connection| inner.links[connection as usize].down.clone().map(|reason| (connection, reason)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_ms(second * 1_000)
    }

    #[test]
    fn errors_are_counted_by_code_and_the_least_recent_is_forgotten() {
        let facts = HealthState::default();
        facts.error("DUP_USER", at(0));
        facts.error("somebody@example.com is on a list", at(1));
        facts.error("DUP_USER", at(2));
        let seen = facts.errors();
        assert_eq!(seen[0], ErrorSeen { code: "DUP_USER".to_owned(), count: 2, last: at(2) });
        assert_eq!(seen[1].code, "OTHER");
        for n in 0..CODES_MAX {
            facts.error(&format!("CODE_{n}"), at(3));
        }
        assert_eq!(facts.errors().len(), CODES_MAX);
        assert!(!facts.errors().iter().any(|error| error.code == "DUP_USER"));
    }

    #[test]
    fn a_connection_counts_as_made_anew_only_after_it_was_up() {
        let facts = HealthState::default();
        let consumer = BrokerConnection::Consumer;
        assert!(!facts.set_link(consumer, Err("away")));
        assert_eq!(facts.broken_link(), Some((consumer, "away".to_owned())));
        assert!(!facts.set_link(consumer, Ok(())));
        assert!(!facts.set_link(consumer, Err("broke")));
        assert!(facts.set_link(consumer, Ok(())));
        assert_eq!(facts.broken_link(), None);
    }
}
