//! The exchanges and queues, as data: declared or verified by `establish`, printed by [`crate::adapters::amqp::topology::definitions`].
//!
//! ```text
//! upstream ─> PREFIX.jobs (direct) ─> PREFIX.jobs.signup, PREFIX.jobs.bulk (quorum)
//!                ^                         │ wait            │ given up, not a job
//!                └── TTL ── PREFIX.delay.LANE.SECONDS        └─> PREFIX.dead
//! worker ─> PREFIX.events (topic) ─> whoever is bound; nobody: PREFIX.events.unrouted
//! ```

pub mod definitions;
pub mod depth;
pub(crate) mod establish;

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::domain::Lane;

/// The steps of the delay queues, in seconds. A job that has to wait goes to the shortest one that is long enough,
/// so it waits at most twice as long as it must (five minutes for a key to expire fit between the last two).
pub const DELAY_STEPS_S: [u64; 6] = [5, 15, 60, 180, 400, 1_200];

/// How often the broker delivers a job before it gives up on it: a net under the worker's own count of attempts,
/// for jobs that kill the worker.
const DELIVERY_LIMIT: i32 = 100;

/// Names in one virtual host.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
    /// Made once: every outcome goes there.
    events_exchange: String,
}

impl Names {
    /// Names that begin with `prefix`, such as `plu.onboarding`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), events_exchange: format!("{prefix}.events") }
    }

    /// The direct exchange that upstreams publish jobs to; the routing key is the lane's name.
    pub fn jobs_exchange(&self) -> String {
        format!("{}.jobs", self.prefix)
    }

    /// A lane's queue.
    pub fn jobs_queue(&self, lane: Lane) -> String {
        format!("{}.jobs.{}", self.prefix, lane.name())
    }

    /// The queue in which a lane's jobs wait for `seconds`.
    pub fn delay_queue(&self, lane: Lane, seconds: u64) -> String {
        format!("{}.delay.{}.{seconds}", self.prefix, lane.name())
    }

    /// The queue of jobs that a person must look at.
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The topic exchange of events; the routing key is the event's type.
    pub fn events_exchange(&self) -> &str {
        &self.events_exchange
    }

    /// Exchange and queue of events that nobody is bound to.
    pub fn unrouted(&self) -> String {
        format!("{}.events.unrouted", self.prefix)
    }
}

/// An exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ExchangeKind,
    /// Its optional arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// A queue. All are durable quorum queues.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its optional arguments, `x-queue-type` included.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone)]
pub struct Binding {
    /// From.
    pub exchange: String,
    /// To.
    pub queue: String,
    /// For these.
    pub routing_key: String,
}

/// The value of an argument.
#[derive(Debug, Clone)]
pub enum Argument {
    /// Text.
    Text(String),
    /// A number.
    Number(i32),
}

/// Everything that has to be there; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// In the order in which they can be declared.
    pub exchanges: Vec<Exchange>,
    /// In any order.
    pub queues: Vec<Queue>,
    /// After both.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// The topology under these names.
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
            // A job that the broker gives up on goes to the dead letters through the default exchange.
            let to_the_dead = dead_lettering(String::new(), names.dead_queue());
            let limit = ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT));
            queues.push(quorum(jobs.clone(), to_the_dead.into_iter().chain([limit]).collect()));
            bindings.push(Binding {
                exchange: names.jobs_exchange(),
                queue: jobs,
                routing_key: lane.name().to_owned(),
            });
            for seconds in DELAY_STEPS_S {
                let back = dead_lettering(names.jobs_exchange(), lane.name().to_owned());
                let ttl_ms = i32::try_from(seconds * 1_000).unwrap_or(i32::MAX);
                let ttl = ("x-message-ttl", Argument::Number(ttl_ms));
                queues.push(quorum(names.delay_queue(lane, seconds), back.into_iter().chain([ttl]).collect()));
            }
        }
        Self { exchanges, queues, bindings }
    }
}

/// The delay step for a wait: the shortest that is long enough, else the longest.
pub fn delay_step(wait: Duration) -> u64 {
    let longest = DELAY_STEPS_S[DELAY_STEPS_S.len() - 1];
    DELAY_STEPS_S.into_iter().find(|step| Duration::from_secs(*step) >= wait).unwrap_or(longest)
}

fn quorum(name: String, mut arguments: Vec<(&'static str, Argument)>) -> Queue {
    arguments.insert(0, ("x-queue-type", Argument::Text("quorum".to_owned())));
    Queue { name, arguments }
}

/// At least once: without `reject-publish` RabbitMQ silently falls back to at most once.
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

/// A name of at most 255 bytes; longer ones are refused by the settings.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_goes_to_the_shortest_delay_that_is_long_enough() {
        for (wait, step) in [(0, 5), (5, 5), (6, 15), (60, 60), (61, 180), (330, 400), (99_999, 1_200)] {
            assert_eq!(delay_step(Duration::from_secs(wait)), step, "{wait} s");
        }
    }

    #[test]
    fn every_queue_is_a_quorum_queue_and_every_binding_leads_from_and_to_what_is_there() {
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
