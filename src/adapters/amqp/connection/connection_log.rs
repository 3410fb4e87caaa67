//! Logs the changes of one connection, over all its rebuilds.
//!
//! **Invariant:** "connected" is logged once until the next logged failure, and each reason for a failure once, however
//! often the connection is rebuilt. The metrics follow every change.

use std::collections::VecDeque;
use std::time::Duration;

use crate::adapters::amqp::connection::backoff::SHORT_LIFETIME;
use crate::telemetry::{BrokerConnection, BrokerConnectionChanged, Metrics};

/// Logged reasons that are remembered: one mistake may show as two or three reasons in turn.
const LOGGED_REASONS_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct ConnectionLog {
    name: String,
    part: BrokerConnection,
    metrics: Metrics,
    logged_reasons: VecDeque<String>,
    is_connected_logged: bool,
}

impl ConnectionLog {
    pub(crate) fn new(name: String, part: BrokerConnection, metrics: Metrics) -> Self {
        Self { name, part, metrics, logged_reasons: VecDeque::new(), is_connected_logged: false }
    }

    /// Name in the broker's list of connections.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The connection does its work.
    pub(crate) fn connected(&mut self) {
        let up = BrokerConnectionChanged::Connected { name: &self.name };
        if std::mem::replace(&mut self.is_connected_logged, true) {
            up.show(self.part, &self.metrics);
        } else {
            up.emit(self.part, &self.metrics);
        }
    }

    /// The connection can't be opened.
    pub(crate) fn connect_failed(&mut self, reason: &str) {
        let is_new = self.is_new(reason);
        self.report(BrokerConnectionChanged::ConnectFailed { name: &self.name, reason }, is_new);
    }

    /// The connection broke after this lifetime. After a long one every reason is logged again.
    pub(crate) fn lost(&mut self, lifetime: Duration, reason: &str) {
        if lifetime >= SHORT_LIFETIME {
            self.logged_reasons.clear();
        }
        let is_new = self.is_new(reason);
        self.report(BrokerConnectionChanged::Lost { name: &self.name, reason }, is_new);
    }

    fn report(&self, change: BrokerConnectionChanged<'_>, is_new: bool) {
        if is_new { change.emit(self.part, &self.metrics) } else { change.show(self.part, &self.metrics) }
    }

    fn is_new(&mut self, reason: &str) -> bool {
        if self.logged_reasons.iter().any(|logged| logged == reason) {
            return false;
        }
        self.is_connected_logged = false;
        self.logged_reasons.push_back(reason.to_owned());
        if self.logged_reasons.len() > LOGGED_REASONS_MAX {
            self.logged_reasons.pop_front();
        }
        true
    }
}
