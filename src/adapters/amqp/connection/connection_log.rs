//! What is told of one connection, over all its lives: once when it works, once for each reason that it doesn't, however often
//! it is made anew.

use std::collections::VecDeque;
use std::time::Duration;

use crate::adapters::amqp::connection::link::SHORT_LIFE;
use crate::telemetry::{BrokerConnection, BrokerLink, Metrics};

/// Reasons that are remembered as told: one mistake may show itself in two or three ways by turns.
const TOLD_MAX: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct ConnectionLog {
    name: String,
    part: BrokerConnection,
    metrics: Metrics,
    told: VecDeque<String>,
    is_told_up: bool,
}

impl ConnectionLog {
    pub(crate) fn new(name: String, part: BrokerConnection, metrics: Metrics) -> Self {
        Self { name, part, metrics, told: VecDeque::new(), is_told_up: false }
    }

    /// What the broker's list of connections shows.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// It does what it is there for.
    pub(crate) fn works(&mut self) {
        let up = BrokerLink::Connected { name: &self.name };
        if std::mem::replace(&mut self.is_told_up, true) {
            up.show(self.part, &self.metrics);
        } else {
            up.emit(self.part, &self.metrics);
        }
    }

    /// It can't be made.
    pub(crate) fn away(&mut self, reason: &str) {
        let is_news = self.is_news(reason);
        self.down(BrokerLink::Away { name: &self.name, reason }, is_news);
    }

    /// It is no more, after a life of so long. After a long one everything is news.
    pub(crate) fn broke(&mut self, life: Duration, reason: &str) {
        if life >= SHORT_LIFE {
            self.told.clear();
        }
        let is_news = self.is_news(reason);
        self.down(BrokerLink::Broken { name: &self.name, reason }, is_news);
    }

    fn down(&self, down: BrokerLink<'_>, is_news: bool) {
        if is_news { down.emit(self.part, &self.metrics) } else { down.show(self.part, &self.metrics) }
    }

    fn is_news(&mut self, reason: &str) -> bool {
        if self.told.iter().any(|told| told == reason) {
            return false;
        }
        self.is_told_up = false;
        self.told.push_back(reason.to_owned());
        if self.told.len() > TOLD_MAX {
            self.told.pop_front();
        }
        true
    }
}
