//! Declaring or verifying the topology on a broker, and saying everything that is wrong with it at once.

use std::collections::BTreeSet;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};

use crate::adapters::amqp::connection::refusal::{Difference, difference, explain, is_missing};
use crate::adapters::amqp::topology::{Binding, Exchange, Queue, Topology, short, table};

/// Problems named in one line; the others are counted.
const NAMED_MAX: usize = 8;

/// Arguments that an operator may have set on purpose: they bound or place a queue. With any other one missing or changed, jobs or
/// events could be lost: a queue that isn't a quorum queue, or that doesn't dead-letter.
const BOUNDS: [&str; 5] =
    ["x-delivery-limit", "x-max-length", "x-max-length-bytes", "x-quorum-initial-group-size", "x-queue-leader-locator"];

/// Makes sure that everything is there, and gives a channel to go on with. What is there already with the same
/// arguments stays as it is.
///
/// Verifying changes nothing and sees neither arguments nor bindings: RabbitMQ shows them to nobody over AMQP.
///
/// # Errors
/// In words: everything that is missing or different, or why the connection broke.
pub(crate) async fn establish(connection: &Connection, topology: &Topology, declares: bool) -> Result<Channel, String> {
    let mut channel = create_channel(connection).await?;
    let mut problems = Problems::default();
    for part in parts(topology) {
        let outcome = if declares { part.declare(&channel).await } else { part.verify(&channel).await };
        let Err(error) = outcome else { continue };
        if !error.is_amqp_soft_error() {
            return Err(explain(&error));
        }
        problems.add(&part, &error);
        // A refusal closes the channel.
        channel = create_channel(connection).await?;
    }
    if problems.is_empty() { Ok(channel) } else { Err(problems.describe(declares)) }
}

impl Topology {
    /// Declares everything on a channel, up to the first refusal.
    ///
    /// # Errors
    /// The broker's refusal, which has closed the channel.
    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        for part in parts(self) {
            part.declare(channel).await?;
        }
        Ok(())
    }
}

/// In an order in which they can be declared.
fn parts(topology: &Topology) -> impl Iterator<Item = Part<'_>> {
    let exchanges = topology.exchanges.iter().map(Part::Exchange);
    let queues = topology.queues.iter().map(Part::Queue);
    exchanges.chain(queues).chain(topology.bindings.iter().map(Part::Binding))
}

async fn create_channel(connection: &Connection) -> Result<Channel, String> {
    connection.create_channel().await.map_err(|error| explain(&error))
}

enum Part<'t> {
    Exchange(&'t Exchange),
    Queue(&'t Queue),
    Binding(&'t Binding),
}

impl Part<'_> {
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
            Self::Queue(Queue { name, arguments }) => {
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
            Self::Queue(Queue { name, .. }) => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(short(name), options, none).await.map(drop)
            }
            Self::Binding(_) => Ok(()),
        }
    }
}

/// What is wrong, sorted by what has to be done about it.
#[derive(Debug, Default)]
struct Problems {
    missing: Vec<String>,
    different: Vec<String>,
    /// Whether one of those takes away what is promised, so that it must not be used as it is.
    is_unfit: bool,
    /// Whether an exchange is among them.
    is_exchange: bool,
    /// What the user has no permission for, and RabbitMQ's word on the first of them.
    forbidden: Vec<String>,
    forbidden_word: String,
    /// A refusal that concerns everything is told once.
    other: BTreeSet<String>,
}

impl Problems {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty() && self.forbidden.is_empty() && self.other.is_empty()
    }

    fn add(&mut self, part: &Part<'_>, error: &lapin::Error) {
        let ErrorKind::ProtocolError(refusal) = error.kind() else { return };
        let text = refusal.get_message().as_str();
        match (refusal.get_id(), difference(text)) {
            _ if is_missing(error) => self.missing.push(part.name()),
            (406, Some(difference)) => {
                let Difference { argument, thing, has, wanted } = difference;
                let has = has.map_or("not set", shown);
                let wanted = wanted.map_or("must not be set".to_owned(), |value| format!("has to be {}", shown(value)));
                self.different.push(format!("{thing}: {argument} is {has} and {wanted}"));
                self.is_exchange |= matches!(part, Part::Exchange(_));
                self.is_unfit |= !BOUNDS.contains(&argument);
            }
            // Cut off before it says what differs.
            (406, None) if text.contains("inequivalent arg") => {
                self.different.push(format!("{}: {text}", part.name()));
                self.is_unfit = true;
            }
            (403, _) => {
                if self.forbidden.is_empty() {
                    text.clone_into(&mut self.forbidden_word);
                }
                self.forbidden.push(part.name());
            }
            _ => {
                self.other.insert(explain(error));
            }
        }
    }

    fn describe(&self, declares: bool) -> String {
        let mut sentences = Vec::new();
        if !self.missing.is_empty() {
            let remedy =
                "have its operators import what `plu-onboard topology` prints, or set amqp.topology to declare";
            sentences.push(format!("the broker lacks {}: {remedy}", named(self.missing.iter(), ", ")));
        }
        if !self.different.is_empty() {
            let remedy = if self.is_exchange {
                "delete it to have it made anew (a queue once it is empty; with an exchange go the bindings that others made to \
                 it, which they have to make again); or change amqp.prefix"
            } else {
                "delete it once it is empty, to have it made anew; or change amqp.prefix"
            };
            let as_it_is = if self.is_unfit { "" } else { "; or set amqp.topology to verify, to use it as it is" };
            sentences.push(format!("declared otherwise: {}: {remedy}{as_it_is}", named(self.different.iter(), "; ")));
        }
        if !self.forbidden.is_empty() {
            let remedy = if declares {
                "give it that permission; or have the broker's operators import what `plu-onboard topology` prints, and set \
                 amqp.topology to verify"
            } else {
                "give it that permission"
            };
            let (names, word) = (named(self.forbidden.iter(), ", "), &self.forbidden_word);
            sentences.push(format!("the user has no permission for {names} ({word}): {remedy}"));
        }
        if !self.other.is_empty() {
            sentences.push(named(self.other.iter(), "; "));
        }
        sentences.join(". ")
    }
}

/// The default exchange has an empty name.
const fn shown(value: &str) -> &str {
    if value.is_empty() { "an empty text" } else { value }
}

fn named<'n>(names: impl ExactSizeIterator<Item = &'n String>, separator: &str) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let named: Vec<&str> = names.take(NAMED_MAX).map(String::as_str).collect();
    let more = if more > 0 { format!("{separator}and {more} more") } else { String::new() };
    format!("{}{more}", named.join(separator))
}
