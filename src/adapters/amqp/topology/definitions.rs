//! The topology as RabbitMQ definitions, which `rabbitmqctl import_definitions` and the management plugin read.

use lapin::ExchangeKind;
use serde_json::{Map, Value, json};

use crate::adapters::amqp::topology::{Argument, Topology};

/// Returns the definitions for `vhost`, with the virtual host itself, and without users and permissions.
pub fn definitions(topology: &Topology, vhost: &str) -> Value {
    let exchanges = topology.exchanges.iter().map(|exchange| {
        json!({
            "name": exchange.name, "vhost": vhost, "type": kind(&exchange.kind), "durable": true, "auto_delete": false,
            "internal": false, "arguments": arguments(&exchange.arguments),
        })
    });
    let queues = topology.queues.iter().map(|queue| {
        json!({
            "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
            "arguments": arguments(&queue.arguments),
        })
    });
    let bindings = topology.bindings.iter().map(|binding| {
        json!({
            "source": binding.exchange, "vhost": vhost, "destination": binding.queue, "destination_type": "queue",
            "routing_key": binding.routing_key, "arguments": {},
        })
    });
    json!({
        "vhosts": [{"name": vhost}],
        "exchanges": exchanges.collect::<Vec<_>>(),
        "queues": queues.collect::<Vec<_>>(),
        "bindings": bindings.collect::<Vec<_>>(),
    })
}

fn kind(kind: &ExchangeKind) -> &str {
    match kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Headers => "headers",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Custom(name) => name,
    }
}

fn arguments(arguments: &[(&'static str, Argument)]) -> Map<String, Value> {
    let value = |argument: &Argument| match argument {
        Argument::Text(text) => Value::from(text.as_str()),
        Argument::Number(number) => Value::from(*number),
    };
    arguments.iter().map(|(name, argument)| ((*name).to_owned(), value(argument))).collect()
}
