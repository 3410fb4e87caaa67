//! What the status page and `/readyz` need beside the metrics: why a broker connection is down, the last errors, and
//! where the API key comes from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strum::VariantArray;

use crate::domain::answer::looks_like_a_code;
use crate::domain::{KeySource, Timestamp};

/// Most error codes that are kept. The one that occurred longest ago is dropped first.
const CODES_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum BrokerConnection {
    /// Takes jobs.
    Consumer,
    /// Publishes outcomes.
    Publisher,
}

impl BrokerConnection {
    /// Both connections.
    pub const ALL: [Self; 2] = *Self::VARIANTS.as_array().unwrap();

    /// Name in labels and log lines.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// A problem with the queue: with the broker, or with the file of an embedded queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueTrouble {
    /// A connection is down, and why.
    Down(BrokerConnection, String),
    /// The broker has an alarm (`connection.blocked`), and which.
    Alarm(String),
    /// The broker refuses outcomes or has no queue for them: where, and what is wrong there.
    Refusal(String),
    /// The broker doesn't confirm outcomes, and the connection is open.
    Silent,
    /// Outcomes can't be written to the embedded queue or its events file, and why.
    Storage(String),
}

/// How often an error occurred.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorCount {
    /// The error's code. Never a text: that might be about a person.
    pub code: String,
    /// Occurrences since the worker started, or since the code was last dropped.
    pub count: u64,
    /// Time of the last occurrence.
    pub last: Timestamp,
}

#[derive(Debug, Default)]
struct HealthInner {
    /// Most recent last.
    errors: Vec<ErrorCount>,
    connections: [ConnectionHealth; 2],
    /// The broker's alarm on each connection.
    blocked: [Option<String>; 2],
    /// Where the broker refuses outcomes.
    refusal: Option<String>,
    /// Whether the broker doesn't confirm outcomes.
    is_silent: bool,
    /// Why outcomes can't be written to the embedded queue or its events file.
    storage_failure: Option<String>,
    key_source: KeySource,
}

#[derive(Debug, Default, Clone)]
struct ConnectionHealth {
    was_up: bool,
    /// Why the connection is down; `None` if it is up or not in use.
    down: Option<String>,
}

/// Health of the worker. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct HealthState(Arc<Mutex<HealthInner>>);

impl HealthState {
    /// Counts an error by its code.
    pub(super) fn error(&self, code: &str, at: Timestamp) {
        let code = if looks_like_a_code(code) { code } else { "OTHER" };
        let errors = &mut self.lock().errors;
        let known = errors.iter().position(|error| error.code == code).map(|index| errors.remove(index));
        let count = known.map_or(0, |error| error.count) + 1;
        if errors.len() == CODES_MAX {
            errors.remove(0);
        }
        errors.push(ErrorCount { code: code.to_owned(), count, last: at });
    }

    /// The errors, the most recent first.
    pub fn errors(&self) -> Vec<ErrorCount> {
        self.lock().errors.iter().rev().cloned().collect()
    }

    /// Sets where the API key in use comes from.
    pub fn set_key_source(&self, source: KeySource) {
        self.lock().key_source = source;
    }

    /// Where the API key in use comes from.
    pub fn key_source(&self) -> KeySource {
        self.lock().key_source
    }

    /// Sets a connection to up, or to down with the reason. Returns whether this is a reconnect.
    pub(super) fn set_connection(&self, connection: BrokerConnection, state: Result<(), &str>) -> bool {
        let health = &mut self.lock().connections[connection as usize];
        let is_reconnect = state.is_ok() && health.was_up && health.down.is_some();
        health.was_up |= state.is_ok();
        health.down = state.err().map(str::to_owned);
        is_reconnect
    }

    /// Sets the broker's alarm on a connection; `None` if it has none.
    pub(super) fn set_blocked(&self, connection: BrokerConnection, alarm: Option<&str>) {
        self.lock().blocked[connection as usize] = alarm.map(str::to_owned);
    }

    /// Sets where the broker refuses outcomes; `None` if it accepts them.
    pub(super) fn set_refusal(&self, refusal: Option<&str>) {
        self.lock().refusal = refusal.map(str::to_owned);
    }

    /// Sets whether the broker doesn't confirm outcomes.
    pub(super) fn set_silent(&self, is_silent: bool) {
        self.lock().is_silent = is_silent;
    }

    /// Sets why outcomes can't be written to the embedded queue or its events file; `None` if they can.
    pub(super) fn set_storage_failure(&self, failure: Option<&str>) {
        self.lock().storage_failure = failure.map(str::to_owned);
    }

    /// Whether the broker accepts no messages on a connection, because of an alarm, a refusal or silence.
    pub(super) fn is_blocked(&self, connection: BrokerConnection) -> bool {
        let inner = self.lock();
        inner.blocked[connection as usize].is_some()
            || connection == BrokerConnection::Publisher && (inner.refusal.is_some() || inner.is_silent)
    }

    /// The most important problem with the queue: a connection that is down, an alarm, a refusal, silence, or a file
    /// that can't be written.
    pub fn queue_trouble(&self) -> Option<QueueTrouble> {
        if let Some((connection, reason)) = self.broken_connection() {
            return Some(QueueTrouble::Down(connection, reason));
        }
        let inner = self.lock();
        let alarm = inner.blocked.iter().flatten().next().cloned().map(QueueTrouble::Alarm);
        alarm
            .or_else(|| inner.refusal.clone().map(QueueTrouble::Refusal))
            .or_else(|| inner.is_silent.then_some(QueueTrouble::Silent))
            .or_else(|| inner.storage_failure.clone().map(QueueTrouble::Storage))
    }

    /// The first connection that is down, and why.
    pub fn broken_connection(&self) -> Option<(BrokerConnection, String)> {
        let inner = self.lock();
        BrokerConnection::ALL.into_iter().find_map(|connection| {
            inner.connections[connection as usize].down.clone().map(|reason| (connection, reason))
        })
    }

    fn lock(&self) -> MutexGuard<'_, HealthInner> {
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
    fn errors_are_counted_by_code_and_the_oldest_is_dropped() {
        let health = HealthState::default();
        health.error("DUP_USER", at(0));
        health.error("jane@example.com is on a list", at(1));
        health.error("DUP_USER", at(2));
        let errors = health.errors();
        assert_eq!(errors[0], ErrorCount { code: "DUP_USER".to_owned(), count: 2, last: at(2) });
        assert_eq!(errors[1].code, "OTHER");
        for n in 0..CODES_MAX {
            health.error(&format!("CODE_{n}"), at(3));
        }
        assert_eq!(health.errors().len(), CODES_MAX);
        assert!(!health.errors().iter().any(|error| error.code == "DUP_USER"));
    }

    #[test]
    fn a_connection_counts_as_reconnected_only_after_it_was_up() {
        let health = HealthState::default();
        let consumer = BrokerConnection::Consumer;
        assert!(!health.set_connection(consumer, Err("not reachable")));
        assert_eq!(health.broken_connection(), Some((consumer, "not reachable".to_owned())));
        assert!(!health.set_connection(consumer, Ok(())));
        assert!(!health.set_connection(consumer, Err("reset")));
        assert!(health.set_connection(consumer, Ok(())));
        assert_eq!(health.broken_connection(), None);
    }
}
