//! Declares or verifies the topology on a broker, and reports everything that is wrong with it in one message.

use std::collections::BTreeSet;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};

use crate::adapters::amqp::connection::explain::{ArgumentMismatch, explain, is_missing, parse_argument_mismatch};
use crate::adapters::amqp::topology::{Binding, Exchange, QueueDeclaration, Topology, short, table};

/// Problems that one message names; it counts the others.
const NAMED_MAX: usize = 8;

/// Arguments that an operator may have set on purpose, because they only bound or place a queue.
///
/// A difference in any other argument could lose jobs or events: a queue that isn't a quorum queue, or that doesn't
/// dead-letter.
const OPERATOR_ARGUMENTS: [&str; 5] =
    ["x-delivery-limit", "x-max-length", "x-max-length-bytes", "x-quorum-initial-group-size", "x-queue-leader-locator"];

/// Declares or verifies the topology, and returns an open channel. Declaring changes nothing that exists.
///
/// Verifying changes nothing at all. It can't check arguments and bindings, which RabbitMQ doesn't show over AMQP.
///
/// # Errors
/// A message with everything that is missing or different, or why the connection broke.
pub(crate) async fn establish(connection: &Connection, topology: &Topology, declares: bool) -> Result<Channel, String> {
    let mut channel = create_channel(connection).await?;
    let mut problems = TopologyProblems::default();
    for item in items(topology) {
        let result = if declares { item.declare(&channel).await } else { item.verify(&channel).await };
        let Err(error) = result else { continue };
        if !error.is_amqp_soft_error() {
            return Err(explain(&error));
        }
        problems.add(&item, &error);
        // The broker has closed the channel.
        channel = create_channel(connection).await?;
    }
    if problems.is_empty() { Ok(channel) } else { Err(problems.describe(declares)) }
}

impl Topology {
    /// Declares everything on a channel, up to the first error.
    ///
    /// # Errors
    /// The broker's error, which has closed the channel.
    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        for item in items(self) {
            item.declare(channel).await?;
        }
        Ok(())
    }
}

/// Returns everything in an order in which it can be declared.
fn items(topology: &Topology) -> impl Iterator<Item = TopologyItem<'_>> {
    let exchanges = topology.exchanges.iter().map(TopologyItem::Exchange);
    let queues = topology.queues.iter().map(TopologyItem::Queue);
    exchanges.chain(queues).chain(topology.bindings.iter().map(TopologyItem::Binding))
}

async fn create_channel(connection: &Connection) -> Result<Channel, String> {
    connection.create_channel().await.map_err(|error| explain(&error))
}

/// One exchange, queue or binding.
enum TopologyItem<'t> {
    Exchange(&'t Exchange),
    Queue(&'t QueueDeclaration),
    Binding(&'t Binding),
}

impl TopologyItem<'_> {
    fn name(&self) -> String {
        match self {
            Self::Exchange(exchange) => format!("exchange {}", exchange.name),
            Self::Queue(queue) => format!("queue {}", queue.name),
            Self::Binding(binding) => format!("binding of {} to {}", binding.queue, binding.exchange),
        }
    }

    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        match self {
            Self::Exchange(Exchange { name, kind, arguments }) => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(short(name), kind.clone(), options, table(arguments)).await
            }
            Self::Queue(QueueDeclaration { name, arguments }) => {
                channel.queue_declare(short(name), QueueDeclareOptions::durable(), table(arguments)).await.map(drop)
            }
            Self::Binding(Binding { exchange, queue, routing_key }) => {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(short(queue), short(exchange), short(routing_key), options, FieldTable::default())
                    .await
            }
        }
    }

    async fn verify(&self, channel: &Channel) -> lapin::Result<()> {
        let none = FieldTable::default();
        match self {
            Self::Exchange(Exchange { name, kind, .. }) => {
                let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(short(name), kind.clone(), options, none).await
            }
            Self::Queue(QueueDeclaration { name, .. }) => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(short(name), options, none).await.map(drop)
            }
            Self::Binding(_) => Ok(()),
        }
    }
}

/// What is wrong with the topology, grouped by remedy.
#[derive(Debug, Default)]
struct TopologyProblems {
    missing: Vec<String>,
    different: Vec<String>,
    /// One of the differences could lose jobs or events: the topology must not be used as it is.
    is_unsafe: bool,
    /// One of the differences is about an exchange.
    is_exchange: bool,
    /// What the user has no permission for.
    forbidden: Vec<String>,
    /// RabbitMQ's text about the first missing permission.
    forbidden_text: String,
    /// Other errors. A set, because one error can concern every item.
    other: BTreeSet<String>,
}

impl TopologyProblems {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty() && self.forbidden.is_empty() && self.other.is_empty()
    }

    fn add(&mut self, item: &TopologyItem<'_>, error: &lapin::Error) {
        let ErrorKind::ProtocolError(refusal) = error.kind() else { return };
        let text = refusal.get_message().as_str();
        match (refusal.get_id(), parse_argument_mismatch(text)) {
            _ if is_missing(error) => self.missing.push(item.name()),
            (406, Some(mismatch)) => {
                let ArgumentMismatch { argument, entity, actual, expected } = mismatch;
                let actual = actual.map_or("not set", shown);
                let expected =
                    expected.map_or("must not be set".to_owned(), |value| format!("has to be {}", shown(value)));
                self.different.push(format!("{entity}: {argument} is {actual} and {expected}"));
                self.is_exchange |= matches!(item, TopologyItem::Exchange(_));
                self.is_unsafe |= !OPERATOR_ARGUMENTS.contains(&argument);
            }
            // RabbitMQ's text was cut off before it names the values.
            (406, None) if text.contains("inequivalent arg") => {
                self.different.push(format!("{}: {text}", item.name()));
                self.is_unsafe = true;
            }
            (403, _) => {
                if self.forbidden.is_empty() {
                    text.clone_into(&mut self.forbidden_text);
                }
                self.forbidden.push(item.name());
            }
            _ => {
                self.other.insert(explain(error));
            }
        }
    }

    fn describe(&self, declares: bool) -> String {
        let mut sentences = Vec::new();
        if !self.missing.is_empty() {
            let remedy = "have the broker's operators import what `plu-onboard topology` prints, or set amqp.topology \
                          to declare";
            sentences.push(format!("missing on the broker: {}: {remedy}", listed(&self.missing, ", ")));
        }
        if !self.different.is_empty() {
            let remedy = if self.is_exchange {
                "delete it, and the worker declares it again (a queue once it is empty; with an exchange the broker \
                 deletes the bindings that others made to it, which they have to make again); or change amqp.prefix"
            } else {
                "delete it once it is empty, and the worker declares it again; or change amqp.prefix"
            };
            let as_it_is = if self.is_unsafe { "" } else { "; or set amqp.topology to verify, to use it as it is" };
            sentences
                .push(format!("declared with other arguments: {}: {remedy}{as_it_is}", listed(&self.different, "; ")));
        }
        if !self.forbidden.is_empty() {
            let remedy = if declares {
                "give it that permission; or have the broker's operators import what `plu-onboard topology` prints, \
                 and set amqp.topology to verify"
            } else {
                "give it that permission"
            };
            let (names, text) = (listed(&self.forbidden, ", "), &self.forbidden_text);
            sentences.push(format!("the user has no permission for {names} ({text}): {remedy}"));
        }
        if !self.other.is_empty() {
            sentences.push(listed(&self.other, "; "));
        }
        sentences.join(". ")
    }
}

/// The name of the default exchange is empty.
const fn shown(value: &str) -> &str {
    if value.is_empty() { "an empty text" } else { value }
}

fn listed<'n>(names: impl IntoIterator<Item = &'n String, IntoIter: ExactSizeIterator>, separator: &str) -> String {
    let names = names.into_iter();
    let more = names.len().saturating_sub(NAMED_MAX);
    let named: Vec<&str> = names.take(NAMED_MAX).map(String::as_str).collect();
    let more = if more > 0 { format!("{separator}and {more} more") } else { String::new() };
    format!("{}{more}", named.join(separator))
}
