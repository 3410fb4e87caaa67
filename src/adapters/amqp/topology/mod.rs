//! Exchanges, queues and bindings that the program needs on the broker, as data.
//!
//! ```text
//! upstream ─> PREFIX.jobs (direct) ─> PREFIX.jobs.signup, PREFIX.jobs.bulk (quorum)
//!                ^                         │ delay           │ failed, or not a job
//!                └── TTL ── PREFIX.delay.LANE.SECONDS        └─> PREFIX.dead
//! worker ─> PREFIX.events (topic) ─> bound queues; without any: PREFIX.events.unrouted
//! ```
//!
//! `establish` declares or verifies the topology on each new connection, `watch` checks it while a connection is
//! open, [`definitions`] prints it for import by the broker's operators, and [`depth`] counts the messages on its
//! queues.
//!
//! **Invariants**
//! - Every queue is a durable quorum queue.
//! - Every queue that dead-letters does so at least once: with `reject-publish`, without which RabbitMQ falls back to
//!   at most once without an error.

pub mod definitions;
pub mod depth;
pub(crate) mod establish;
pub(crate) mod watch;

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::domain::Lane;

/// Steps of the delay queues, in seconds. A job is delayed on the shortest one that is long enough.
///
/// The wait for an idempotency key to expire (five minutes) fits into the step of 400 s.
pub const DELAY_STEPS_S: [u64; 6] = [5, 15, 60, 180, 400, 1_200];

/// Deliveries of a job after which the broker dead-letters it. A backstop for jobs that kill the worker, whose own
/// count of attempts is lost then.
const DELIVERY_LIMIT: i32 = 100;

/// Names of the exchanges and queues in one virtual host.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
    /// Built once, because every outcome is published to it.
    events_exchange: String,
}

impl Names {
    /// Names that begin with `prefix`, for example `plu.onboarding`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), events_exchange: format!("{prefix}.events") }
    }

    /// Direct exchange that upstreams publish jobs to. The routing key is the lane's name.
    pub fn jobs_exchange(&self) -> String {
        format!("{}.jobs", self.prefix)
    }

    pub fn jobs_queue(&self, lane: Lane) -> String {
        format!("{}.jobs.{}", self.prefix, lane.name())
    }

    /// Queue on which jobs of a lane are delayed for `seconds`.
    pub fn delay_queue(&self, lane: Lane, seconds: u64) -> String {
        format!("{}.delay.{}.{seconds}", self.prefix, lane.name())
    }

    /// Dead letter queue.
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// Topic exchange of events. The routing key is the event's type.
    pub fn events_exchange(&self) -> &str {
        &self.events_exchange
    }

    /// Exchange and queue of events for which no other queue is bound.
    pub fn unrouted(&self) -> String {
        format!("{}.events.unrouted", self.prefix)
    }
}

/// A durable exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub name: String,
    /// Type.
    pub kind: ExchangeKind,
    /// Optional arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// A durable quorum queue.
#[derive(Debug, Clone)]
pub struct QueueDeclaration {
    pub name: String,
    /// Optional arguments, `x-queue-type` included.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Source.
    pub exchange: String,
    /// Destination.
    pub queue: String,
    /// Messages with this routing key are routed to the queue.
    pub routing_key: String,
}

/// Value of an optional argument.
#[derive(Debug, Clone)]
pub enum Argument {
    Text(String),
    Number(i32),
}

/// What must exist on the broker. The default is empty.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// Exchanges, declared in this order: an exchange may name an earlier one as its alternate.
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<QueueDeclaration>,
    /// Bindings, declared last.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// Returns the topology under these names.
    pub fn new(names: &Names) -> Self {
        let exchanges = vec![
            Exchange { name: names.jobs_exchange(), kind: ExchangeKind::Direct, arguments: Vec::new() },
            Exchange { name: names.unrouted(), kind: ExchangeKind::Fanout, arguments: Vec::new() },
            Exchange {
                name: names.events_exchange().to_owned(),
                kind: ExchangeKind::Topic,
                arguments: vec![("alternate-exchange", Argument::Text(names.unrouted()))],
            },
        ];
        let mut queues = vec![quorum(names.dead_queue(), Vec::new()), quorum(names.unrouted(), Vec::new())];
        let mut bindings =
            vec![Binding { exchange: names.unrouted(), queue: names.unrouted(), routing_key: String::new() }];
        for lane in Lane::ALL {
            let jobs = names.jobs_queue(lane);
            // Past the delivery limit the broker dead-letters a job, through the default exchange.
            let to_dead_queue = dead_lettering(String::new(), names.dead_queue());
            let limit = ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT));
            queues.push(quorum(jobs.clone(), to_dead_queue.into_iter().chain([limit]).collect()));
            bindings.push(Binding {
                exchange: names.jobs_exchange(),
                queue: jobs,
                routing_key: lane.name().to_owned(),
            });
            for seconds in DELAY_STEPS_S {
                let to_lane = dead_lettering(names.jobs_exchange(), lane.name().to_owned());
                let ttl_ms = i32::try_from(seconds * 1_000).unwrap_or(i32::MAX);
                let ttl = ("x-message-ttl", Argument::Number(ttl_ms));
                queues.push(quorum(names.delay_queue(lane, seconds), to_lane.into_iter().chain([ttl]).collect()));
            }
        }
        Self { exchanges, queues, bindings }
    }
}

/// Returns the shortest delay step that is long enough, else the longest, in seconds.
pub fn delay_step(delay: Duration) -> u64 {
    let longest = DELAY_STEPS_S[DELAY_STEPS_S.len() - 1];
    DELAY_STEPS_S.into_iter().find(|step| Duration::from_secs(*step) >= delay).unwrap_or(longest)
}

fn quorum(name: String, mut arguments: Vec<(&'static str, Argument)>) -> QueueDeclaration {
    arguments.insert(0, ("x-queue-type", Argument::Text("quorum".to_owned())));
    QueueDeclaration { name, arguments }
}

/// Arguments for dead-lettering at least once. Without `reject-publish` RabbitMQ falls back to at most once.
fn dead_lettering(exchange: String, routing_key: String) -> [(&'static str, Argument); 4] {
    [
        ("x-dead-letter-exchange", Argument::Text(exchange)),
        ("x-dead-letter-routing-key", Argument::Text(routing_key)),
        ("x-dead-letter-strategy", Argument::Text("at-least-once".to_owned())),
        ("x-overflow", Argument::Text("reject-publish".to_owned())),
    ]
}

pub(crate) fn table(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
            Argument::Number(number) => AMQPValue::LongInt(*number),
        };
        table.insert(short(name), value);
    }
    table
}

/// Converts a name to AMQP's short string of at most 255 bytes. The settings refuse longer names.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_step_is_the_shortest_that_is_long_enough() {
        for (delay_s, step) in [(0, 5), (5, 5), (6, 15), (60, 60), (61, 180), (330, 400), (99_999, 1_200)] {
            assert_eq!(delay_step(Duration::from_secs(delay_s)), step, "{delay_s} s");
        }
    }

    #[test]
    fn queues_are_quorum_queues_and_bindings_join_declared_exchanges_and_queues() {
        let topology = Topology::new(&Names::new("p"));
        for queue in &topology.queues {
            assert!(matches!(&queue.arguments[0], ("x-queue-type", Argument::Text(kind)) if kind == "quorum"));
        }
        for binding in &topology.bindings {
            assert!(topology.exchanges.iter().any(|exchange| exchange.name == binding.exchange));
            assert!(topology.queues.iter().any(|queue| queue.name == binding.queue));
        }
    }
}
